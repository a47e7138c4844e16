//! `/healthz`, `/readyz` and `/metrics`, for monitoring.

use std::sync::Arc;

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use sse_smol_server::{Error, MediaRange, Metrics, Request, RequestError, Topics};

use super::reply::show;

pub(super) async fn healthz(request: Request) -> Result<(), Error> {
    show(request, "text/plain; charset=utf-8", b"ok\n".to_vec()).await
}

/// Answers with 200 if events can be published and delivered, and otherwise with 503 and the reason.
pub(super) async fn readyz(
    topics: Topics,
    is_stopping: bool,
    request: Request,
) -> Result<(), Error> {
    let reason = if is_stopping {
        "The server is shutting down.".to_owned()
    } else {
        match topics.check().await {
            Ok(()) => return healthz(request).await,
            Err(error) => format!("{error}."),
        }
    };
    request.respond(RequestError::new(StatusCode::SERVICE_UNAVAILABLE, reason).response()).await
}

/// Answers in the `OpenMetrics` format if the client prefers it, and otherwise in the classic text
/// format of Prometheus, which every collector reads.
pub(super) async fn metrics(metrics: Arc<Metrics>, mut request: Request) -> Result<(), Error> {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
    request.response_headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
    let metrics = metrics.to_string();
    if prefers_open_metrics(request.headers()) {
        return show(request, OPEN_METRICS, metrics.into_bytes()).await;
    }
    show(request, CLASSIC, classic(&metrics).into_bytes()).await
}

/// Returns whether `Accept` names `OpenMetrics` with at least the weight of plain text.
fn prefers_open_metrics(headers: &HeaderMap) -> bool {
    let weight = |media_type: &str| {
        let ranges = MediaRange::accepted(headers).filter(|range| range.is(media_type));
        ranges.map(|range| range.weight()).fold(0.0, f32::max)
    };
    let open_metrics = weight("application/openmetrics-text");
    open_metrics > 0.0 && open_metrics >= weight("text/plain")
}

/// Converts the `OpenMetrics` format to the classic one, in which the metadata of a counter have the
/// name of its samples, with `_total`, and which has no end mark. Gauges and histograms are the same
/// in both.
fn classic(open_metrics: &str) -> String {
    let is_counter = |name: &str| {
        let line = format!("# TYPE {name} counter");
        open_metrics.lines().any(|other| other == line)
    };
    let mut classic = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(keyword @ ("HELP" | "TYPE")), Some(name), rest) => {
                let total = if is_counter(name) { "_total" } else { "" };
                let rest = rest.unwrap_or_default();
                classic.extend(["# ", keyword, " ", name, total, " ", rest, "\n"]);
            }
            _ => classic.extend([line, "\n"]),
        }
    }
    classic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classic_format_names_counters_like_their_samples() {
        let open_metrics = "# HELP a_requests Requests, by reason.\n\
            # TYPE a_requests counter\n\
            a_requests_total{reason=\"x y\"} 1\n\
            # HELP a_requests_open Open requests.\n\
            # TYPE a_requests_open gauge\n\
            a_requests_open 2\n\
            # EOF\n";
        let expected = "# HELP a_requests_total Requests, by reason.\n\
            # TYPE a_requests_total counter\n\
            a_requests_total{reason=\"x y\"} 1\n\
            # HELP a_requests_open Open requests.\n\
            # TYPE a_requests_open gauge\n\
            a_requests_open 2\n";
        assert_eq!(classic(open_metrics), expected);
    }

    #[test]
    fn open_metrics_are_sent_only_to_clients_that_prefer_them() {
        let prefers = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::ACCEPT, HeaderValue::from_static(value));
            }
            prefers_open_metrics(&headers)
        };
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
            application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for yes in [
            &[prometheus][..],
            &["application/openmetrics-text"],
            &["text/plain", "Application/OpenMetrics-Text; Q=1"],
        ] {
            assert!(prefers(yes), "{yes:?}");
        }
        for no in [
            &[][..],
            &["*/*"],
            &["text/plain;version=0.0.4;q=1, */*;q=0.1"],
            &["application/openmetrics-text;q=0"],
            &["application/openmetrics-text;q=x"],
            &["application/openmetrics-text;q=0.1, text/plain"],
        ] {
            assert!(!prefers(no), "{no:?}");
        }
    }
}
