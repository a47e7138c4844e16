//! The page that shows streams: `/`, or `/__sse` if files are served.

use sse_smol_server::{Error, Request};

use super::reply::show;

/// Serves the page, with links to the demos below the path `demos`.
pub(super) async fn serve(request: Request, demos: &str) -> Result<(), Error> {
    const PAGE: &str = include_str!("../../../../web/index.html");
    let page = PAGE.replace("{demos}", demos);
    show(request, "text/html; charset=utf-8", page.into()).await
}
