//! Responses that several routes give.

use std::future::Future;
use std::pin::Pin;

use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};
use sse_smol_server::{Error, Request, Response, not_allowed};

/// The future that answers a request. Boxed, so that a connection takes the memory that its route
/// needs, and not that of the largest route.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Answers `GET` and `HEAD` with a body of this type.
pub(super) async fn show(
    request: Request,
    content_type: &'static str,
    body: Vec<u8>,
) -> Result<(), Error> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return request.respond(not_allowed("GET, HEAD")).await;
    }
    request.respond(typed(content_type, body)).await
}

/// Returns a response with a body of this type.
pub(super) fn typed(content_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
