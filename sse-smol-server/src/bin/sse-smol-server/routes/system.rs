//! `/metrics.json`: counts of connections, streams, topics and events. With `?stream=true` they are
//! sent whenever they change.

use std::sync::Arc;

use serde_json::json;
use sse_smol_server::{Metrics, Polled, PolledConfig, Topics};

use super::reply::typed;

pub(super) fn source(metrics: Arc<Metrics>, topics: Topics) -> Polled {
    Polled::new(PolledConfig::default(), move || {
        let totals = topics.totals();
        let body = json!({
            "connections": metrics.connections(),
            "streams": metrics.streams(),
            "topics": totals.topics,
            "events": totals.events,
        });
        async move { Ok(typed("application/json", body.to_string().into_bytes())) }
    })
}
