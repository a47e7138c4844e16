//! The signals that a client sends.

use http::{Method, StatusCode};
use serde::de::DeserializeOwned;

use crate::{Error, Request, RequestError};

/// The query parameter that contains the signals.
const PARAMETER: &str = "datastar";

/// Reads the signals that the client sent with a request: the query parameter `datastar` of `GET`
/// and `DELETE`, otherwise the body, and also the body of a `DELETE` without the parameter, as
/// clients before Datastar 1.0.1 send it. Both are JSON.
///
/// A `GET` without the parameter, or with an empty one, has no signals, and is read like `{}`. The
/// body cannot be read again.
///
/// ```
/// use sse_smol_server::datastar::{PatchSignals, read_signals};
/// use sse_smol_server::{Error, Request};
///
/// #[derive(serde::Deserialize, serde::Serialize)]
/// struct Signals {
///     count: u32,
/// }
///
/// async fn increment(mut request: Request) -> Result<(), Error> {
///     let Signals { count } = read_signals(&mut request).await?;
///     let patch = PatchSignals::from_value(&Signals { count: count + 1 })?;
///     request.open().await?.send(patch).await
/// }
/// # let server = sse_smol_server::Server::bind("127.0.0.1:0", Default::default())?;
/// # let address = server.local_addr()?;
/// # let drain = server.drain();
/// # let client = smol::unblock(move || {
/// #     use std::io::{Read, Write};
/// #     let mut socket = std::net::TcpStream::connect(address).unwrap();
/// #     let request = "POST / HTTP/1.0\r\nContent-Length: 11\r\n\r\n{\"count\":1}";
/// #     socket.write_all(request.as_bytes()).unwrap();
/// #     let mut answer = String::new();
/// #     socket.read_to_string(&mut answer).unwrap();
/// #     drain.begin();
/// #     answer
/// # });
/// # server.run(&smol::Executor::new(), increment)?;
/// # let answer = smol::block_on(client);
/// # assert!(answer.ends_with("\ndata: signals {\"count\":2}\n\n"), "{answer}");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// Returns an [`Error`] that the handler should return. If the signals are not JSON or not a `T`, it
/// is a [`RequestError`] with status 400 and the reason. If the body cannot be read, the errors are
/// those of [`Request::body`].
pub async fn read_signals<T: DeserializeOwned>(request: &mut Request) -> Result<T, Error> {
    let method = request.method();
    // Answers to `HEAD` are those to `GET`.
    let is_get = method == Method::GET || method == Method::HEAD;
    let has_parameter = is_get || method == Method::DELETE;
    let query = if has_parameter { Some(request.query_pairs()?) } else { None };
    let parameter = query.as_ref().and_then(|query| query.all(PARAMETER).next());
    let body;
    let json = match parameter.filter(|json| !json.is_empty()) {
        Some(json) => json.as_bytes(),
        None if is_get => b"{}",
        None => {
            body = request.body().await?;
            &body
        }
    };
    serde_json::from_slice(json).map_err(|error| {
        let why = format!("The signals cannot be read: {error}.");
        RequestError::new(StatusCode::BAD_REQUEST, why).into()
    })
}
