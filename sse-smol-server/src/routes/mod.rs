//! What the binary serves: one file for each route.

mod counter;
mod page;

use http::StatusCode;
use sse_smol_server::{End, Request, text};

/// Routes a request.
pub(crate) async fn handle(request: Request) -> Result<(), End> {
    match request.path() {
        "/" => page::serve(request).await,
        "/counter" => counter::serve(request).await,
        _ => request.respond(text(StatusCode::NOT_FOUND, "Try / or /counter.")).await,
    }
}
