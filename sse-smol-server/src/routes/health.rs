//! `/healthz` and `/metrics`, for those who watch the server.

use std::sync::Arc;

use sse_smol_server::{End, Request};

use super::App;

pub(super) async fn healthz(request: Request) -> Result<(), End> {
    super::show(request, "text/plain; charset=utf-8", b"ok\n".to_vec()).await
}

pub(super) async fn metrics(app: Arc<App>, request: Request) -> Result<(), End> {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    super::show(request, OPEN_METRICS, app.metrics.to_string().into_bytes()).await
}
