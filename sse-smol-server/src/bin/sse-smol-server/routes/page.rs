//! The page that shows streams: `/`, or `/__sse` if files are served.

use sse_smol_server::{Error, Request};

use super::reply::show;

pub(super) async fn serve(request: Request) -> Result<(), Error> {
    const PAGE: &str = include_str!("../../../../web/index.html");
    show(request, "text/html; charset=utf-8", PAGE.into()).await
}
