//! Middleware: code around a handler that runs before the response head is sent. One refuses
//! requests without a token, the other sets a header and logs how long each request took.
//!
//! ```text
//! cargo run -p sse-smol-server --example middleware
//! curl -N -H 'Authorization: Bearer secret' http://127.0.0.1:8080/
//! ```
//!
//! An argument is the address to listen on, instead of `127.0.0.1:8080`.

use std::env;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use sse_smol_server::http::{HeaderValue, StatusCode, header};
use sse_smol_server::sse_proto::Event;
use sse_smol_server::{Config, Error, Request, RequestError, Server};

/// Answers requests without the token with 401, and passes others on.
async fn authorized<F>(request: Request, handler: impl FnOnce(Request) -> F) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>>,
{
    let given = request.headers().get(header::AUTHORIZATION);
    if given.is_none_or(|given| given != "Bearer secret") {
        let mut response =
            RequestError::new(StatusCode::UNAUTHORIZED, "The token is missing or wrong.")
                .response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return request.respond(response).await;
    }
    handler(request).await
}

/// Lets pages of other sites read all answers, also those to errors, and logs the requests.
async fn shared_and_logged<F>(
    mut request: Request,
    handler: impl FnOnce(Request) -> F,
) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>>,
{
    let (path, start) = (request.path().to_owned(), Instant::now());
    let any = HeaderValue::from_static("*");
    request.response_headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
    let result = handler(request).await; // is dropped here if the client leaves
    println!("{path}: {:?} after {} ms", result.as_ref().err(), start.elapsed().as_millis());
    result
}

/// The handler in the middle.
async fn greet(request: Request, greeting: &str) -> Result<(), Error> {
    request.open().await?.send(Event::new(greeting)).await
}

fn main() -> std::io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    let server = Server::bind(address, Config::default())?;
    println!("listening on http://{}/", server.local_addr()?);
    let greeting = Arc::new("hello".to_owned()); // state that all requests share
    let handler = move |request| {
        let greeting = Arc::clone(&greeting);
        async move {
            let inner = async |request| greet(request, &greeting).await;
            shared_and_logged(request, |request| authorized(request, inner)).await
        }
    };
    server.run(&smol::Executor::new(), handler)
}
