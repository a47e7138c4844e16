//! `/`: the page that shows a stream as it comes.

use http::{Method, header::CONTENT_TYPE, header::HeaderValue};
use sse_smol_server::{End, Request, Response, not_allowed};

const PAGE: &str = include_str!("../../web/index.html");

pub(super) async fn serve(request: Request) -> Result<(), End> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return request.respond(not_allowed("GET, HEAD")).await;
    }
    let mut response = Response::new(PAGE.into());
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, html);
    request.respond(response).await
}
