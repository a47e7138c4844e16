//! What requests contain, decoded: path and query, the id to resume from, JSON, and what the client
//! accepts.

use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use super::Request;
use crate::Error;
use crate::http1::{Query, RequestError, Segments, accepted_weight, failure, list_members};

impl Request {
    /// Returns the segments of the path, decoded. They do not borrow from the request.
    ///
    /// A path can also be matched as it was sent, and the request be moved on.
    ///
    /// ```
    /// use sse_smol_server::http;
    /// use sse_smol_server::sse_proto::Event;
    /// use sse_smol_server::{Error, Request, RequestError};
    ///
    /// async fn handler(request: Request) -> Result<(), Error> {
    ///     match request.path() {
    ///         "/" => return request.no_content().await,
    ///         "/health" => return health(request).await,
    ///         _ => {}
    ///     }
    ///     let path = request.segments()?;
    ///     match path.to_vec()[..] {
    ///         ["rooms", room] => follow(request, room).await,
    ///         _ => Err(RequestError::new(http::StatusCode::NOT_FOUND, "No such path."))?,
    ///     }
    /// }
    ///
    /// # async fn health(request: Request) -> Result<(), Error> { request.no_content().await }
    /// async fn follow(request: Request, room: &str) -> Result<(), Error> {
    ///     request.open().await?.send(Event::new(room)).await
    /// }
    ///
    /// let server = sse_smol_server::testing::TestServer::new(handler);
    /// smol::block_on(async {
    ///     let mut answer = server.get("/rooms/caf%C3%A9").await;
    ///     assert_eq!(answer.event().await.unwrap().data(), "café");
    ///     assert_eq!(server.get("/rooms").await.status(), 404);
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error with status 400 if a segment is not UTF-8.
    pub fn segments(&self) -> Result<Segments, RequestError> {
        Segments::parse(self.path())
    }

    /// Returns the parameters in the query, decoded.
    ///
    /// # Errors
    ///
    /// Returns an error with status 400 if a name or value is not UTF-8.
    pub fn query_pairs(&self) -> Result<Query, RequestError> {
        Query::parse(self.query().unwrap_or_default())
    }

    /// Returns the id of the last event that the client has seen, or an empty string: that of the
    /// header `Last-Event-ID`, or else of the query parameter `lastEventId`, for clients that cannot
    /// set headers.
    ///
    /// The header takes precedence, since on reconnection it is newer than the URL. The last of
    /// several parameters counts, since clients append one each time they reconnect.
    ///
    /// ```
    /// use sse_smol_server::sse_proto::{Event, EventId};
    /// use sse_smol_server::{Error, Request};
    ///
    /// async fn numbers(request: Request) -> Result<(), Error> {
    ///     let last: u64 = request.last_event_id()?.parse().unwrap_or(0);
    ///     let mut stream = request.open().await?;
    ///     for n in last + 1..=10 {
    ///         let n = n.to_string();
    ///         stream.send(Event::new(&n).with_id(EventId::new(&n)?)).await?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let server = sse_smol_server::testing::TestServer::new(numbers);
    /// smol::block_on(async {
    ///     let mut answer = server.get("/?lastEventId=7").await;
    ///     assert_eq!(answer.event().await.unwrap().data(), "8");
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error with status 400 if the header or a parameter is not UTF-8.
    pub fn last_event_id(&self) -> Result<String, RequestError> {
        let query = self.query_pairs()?;
        let header = self.headers().get("last-event-id").map_or(&b""[..], HeaderValue::as_bytes);
        match std::str::from_utf8(header) {
            Ok("") => Ok(query.all("lastEventId").next_back().unwrap_or_default().to_owned()),
            Ok(id) => Ok(id.to_owned()),
            Err(_) => Err(RequestError::bad("The header Last-Event-ID is not UTF-8.")),
        }
    }

    /// Returns the first of the media types with the highest weight in the request's `Accept`
    /// (RFC 9110, section 12.5.1), or `None` if it excludes all of them.
    ///
    /// ```
    /// use sse_smol_server::http::{self, StatusCode};
    /// use sse_smol_server::{Error, Request, json};
    ///
    /// async fn either(request: Request) -> Result<(), Error> {
    ///     match request.preferred(&["application/json", "text/event-stream"]) {
    ///         Some("text/event-stream") => request.open().await.map(drop),
    ///         _ => request.respond(json(StatusCode::OK, &[0.7])?).await,
    ///     }
    /// }
    ///
    /// let server = sse_smol_server::testing::TestServer::new(either);
    /// let request = http::Request::get("/").header("accept", "application/json;q=0.5, text/*");
    /// let answer = smol::block_on(server.send(request.body("")?));
    /// assert_eq!(answer.headers()["content-type"], "text/event-stream");
    /// # Ok::<(), http::Error>(())
    /// ```
    pub fn preferred<'t>(&self, media_types: &[&'t str]) -> Option<&'t str> {
        let mut best = None;
        let mut highest = 0.0;
        for media_type in media_types {
            let weight = accepted_weight(self.headers(), media_type);
            if weight > highest {
                (best, highest) = (Some(*media_type), weight);
            }
        }
        best
    }

    /// Returns whether the request's `Accept` allows a media type. An absent or empty one does.
    pub fn accepts(&self, media_type: &str) -> bool {
        accepted_weight(self.headers(), media_type) > 0.0
    }

    /// Reads the [body](Self::body), and parses it as JSON.
    ///
    /// ```
    /// use serde::Deserialize;
    /// use sse_smol_server::http;
    /// use sse_smol_server::sse_proto::Event;
    /// use sse_smol_server::{Error, Request};
    ///
    /// #[derive(Deserialize)]
    /// struct Prompt {
    ///     prompt: String,
    /// }
    ///
    /// async fn echo(mut request: Request) -> Result<(), Error> {
    ///     request.allow(&[http::Method::POST])?;
    ///     let Prompt { prompt } = request.json().await?;
    ///     let mut stream = request.open().await?;
    ///     for word in prompt.split(' ') {
    ///         stream.send(Event::new(word)).await?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let server = sse_smol_server::testing::TestServer::new(echo);
    /// smol::block_on(async {
    ///     let post = || http::Request::post("/").header("content-type", "application/json");
    ///     let mut answer = server.send(post().body(r#"{"prompt":"a b"}"#)?).await;
    ///     assert_eq!(answer.event().await.unwrap().data(), "a");
    ///     let mut answer = server.send(post().body(r#"{"prompt":1}"#)?).await;
    ///     assert_eq!(answer.status(), 400);
    ///     assert!(answer.text().await.contains("at line 1 column 11"));
    ///     Ok::<(), http::Error>(())
    /// })?;
    /// # Ok::<(), http::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an [`Error`] that the handler should return: the request has already been answered.
    /// The status is 415 if the `Content-Type` is not `application/json` or another type that ends
    /// in `+json`, or if the body has a `Content-Encoding`; 413 if the body is too large; 400, with
    /// the line and column, if it is not valid JSON or not a `T`.
    ///
    /// A request without a `Content-Type` is refused, too: a page of another site may send one
    /// without the permission of the server, but not one with JSON.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        if let Err(why) = check_json(self.headers()) {
            let mut response = failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, why);
            let identity = HeaderValue::from_static("identity");
            response.headers_mut().insert(header::ACCEPT_ENCODING, identity);
            return Err(self.refuse(response));
        }
        let body = self.body().await?;
        serde_json::from_slice(&body).map_err(|error| {
            let why = format!("The body is not the JSON that is expected here: {error}.");
            self.refuse(failure(StatusCode::BAD_REQUEST, &why))
        })
    }
}

/// Checks that the headers of a body are those of JSON without a content coding.
fn check_json(headers: &HeaderMap) -> Result<(), &'static str> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let is_json = match (types.next().map(HeaderValue::to_str), types.next()) {
        (Some(Ok(value)), None) => {
            let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            essence == "application/json" || essence.ends_with("+json")
        }
        _ => false,
    };
    if !is_json {
        return Err("The body must be JSON, with the header Content-Type: application/json.");
    }
    let is_encoded = list_members(headers.get_all(header::CONTENT_ENCODING))
        .any(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    if is_encoded {
        return Err("A body with a Content-Encoding is not supported: send it without one.");
    }
    Ok(())
}
