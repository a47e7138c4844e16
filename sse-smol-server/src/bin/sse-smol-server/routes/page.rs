//! The page that shows streams: `/`, or `/__sse` if files are served; and its files.

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue};
use http::{Method, StatusCode};
use sse_smol_server::{Error, Request, RequestError, not_allowed};

use super::reply::typed;

/// The prefix of the paths of the page's files.
pub(super) const BELOW: &str = "/__sse/page/";

/// What the page may load and run: its own files, and data of this server. Text from events cannot
/// become a script, since inline scripts are not allowed.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Returns the content of a file by its name below `web/page`.
macro_rules! file {
    ($name:literal) => {
        include_str!(concat!("../../../../web/page/", $name))
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The names, types and contents of the files.
const FILES: [(&str, &str, &str); 13] = [
    ("style.css", CSS, file!("style.css")),
    ("main.js", SCRIPT, file!("main.js")),
    ("card.js", SCRIPT, file!("card.js")),
    ("chart.js", SCRIPT, file!("chart.js")),
    ("connections.js", SCRIPT, file!("connections.js")),
    ("curl.js", SCRIPT, file!("curl.js")),
    ("decoder.js", SCRIPT, file!("decoder.js")),
    ("json.js", SCRIPT, file!("json.js")),
    ("links.js", SCRIPT, file!("links.js")),
    ("publish.js", SCRIPT, file!("publish.js")),
    ("rows.js", SCRIPT, file!("rows.js")),
    ("source.js", SCRIPT, file!("source.js")),
    ("topics.js", SCRIPT, file!("topics.js")),
];

/// Serves the page, with links to the demos below the path `demos`.
pub(super) async fn serve(request: Request, demos: &str) -> Result<(), Error> {
    let page = file!("index.html").replace("{demos}", demos);
    show(request, HTML, page.into()).await
}

/// Serves a file of the page.
pub(super) async fn serve_file(request: Request) -> Result<(), Error> {
    let name = request.path().strip_prefix(BELOW).unwrap_or_default();
    let file = FILES.iter().find(|(file, ..)| *file == name);
    let Some((_, content_type, content)) = file else {
        let line = "The page has no file of this name.";
        return request.respond(RequestError::new(StatusCode::NOT_FOUND, line).response()).await;
    };
    show(request, content_type, (*content).into()).await
}

async fn show(request: Request, content_type: &'static str, body: Vec<u8>) -> Result<(), Error> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return request.respond(not_allowed("GET, HEAD")).await;
    }
    let mut response = typed(content_type, body);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY);
    // After an update of the server, files of different versions must not be mixed.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    request.respond(response).await
}
