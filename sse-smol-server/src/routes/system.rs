//! `/metrics.json`: what the server is doing, and with `?stream=true` whenever that changes.

use std::sync::Arc;

use serde_json::json;
use sse_smol_server::{Metrics, Polled, PolledConfig, Topics};

pub(super) fn source(metrics: Arc<Metrics>, topics: Topics) -> Polled {
    Polled::new(PolledConfig::default(), move || {
        let list = topics.list();
        let body = json!({
            "connections": metrics.connections(),
            "streams": metrics.streams(),
            "topics": list.len(),
            "events": list.iter().map(|topic| topic.events).sum::<usize>(),
        });
        async move { Ok(super::typed("application/json", body.to_string().into_bytes())) }
    })
}
