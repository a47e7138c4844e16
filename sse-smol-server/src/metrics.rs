//! Metrics, in the text format of Prometheus.

use std::fmt;
use std::sync::OnceLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::net::queue::Sent;
use crate::{CloseReason, Topics};

/// The counters, gauges and times of a server. `Display` writes them in the text format of Prometheus.
#[derive(Debug, Default)]
pub struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) streams: Gauge,
    pub(crate) turned_away: Counter,
    requests: Family<Reason, Counter>,
    streams_ended: Family<Reason, Counter>,
    events_sent: Counter,
    bytes_sent: Counter,
    topics: OnceLock<Topics>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl Metrics {
    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("sse");
        registry.register("connections", "Open connections", self.connections.clone());
        registry.register("streams", "Open event streams", self.streams.clone());
        registry.register(
            "connections_turned_away",
            "Connections rejected because a limit was reached",
            self.turned_away.clone(),
        );
        registry.register("requests", "Requests that have ended, by reason", self.requests.clone());
        registry.register(
            "streams_ended",
            "Event streams that have ended, by reason",
            self.streams_ended.clone(),
        );
        registry.register("events_sent", "Events sent", self.events_sent.clone());
        registry.register("event_bytes_sent", "Bytes of the events sent", self.bytes_sent.clone());
        if let Some(topics) = self.topics.get() {
            let (counts, totals) = (topics.counts(), topics.totals());
            registry.register("events_published", "Events published", counts.published.clone());
            registry.register(
                "gaps",
                "Gap events for subscribers that missed events",
                counts.gaps.clone(),
            );
            let gauge = |count: usize| {
                let gauge: Gauge = Gauge::default();
                gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
                gauge
            };
            registry.register(
                "topics",
                "Topics that hold events or have subscribers",
                gauge(totals.topics),
            );
            registry.register("subscriptions", "Subscriptions", gauge(totals.subscriptions));
            registry.register(
                "events_held",
                "Events of all topics in memory",
                gauge(totals.events),
            );
            registry.register(
                "bytes_held",
                "Bytes of the events of all topics in memory",
                gauge(totals.bytes),
            );
            if let Some((counts, status)) = topics.storage_counts() {
                let storage = registry.sub_registry_with_prefix("storage");
                storage.register(
                    "append_seconds",
                    "Time of appending an event, or a part of a batch, to the storage",
                    counts.appends.clone(),
                );
                storage.register(
                    "errors",
                    "Errors of the storage, by operation and kind",
                    counts.errors.clone(),
                );
                storage.register(
                    "pages_read",
                    "Pages of events read for subscribers that are behind memory",
                    counts.pages.clone(),
                );
                storage.register(
                    "bytes_read",
                    "Bytes of the events in these pages",
                    counts.bytes.clone(),
                );
                storage.register(
                    "resets",
                    "Replacements of the log, after which event IDs from before are unknown",
                    counts.resets.clone(),
                );
                let lag = status.lag.unwrap_or_default();
                storage.register(
                    "feed_lag",
                    "Changes in the storage that are not visible to subscribers yet",
                    gauge(usize::try_from(lag).unwrap_or(usize::MAX)),
                );
                for (name, help, count) in [
                    (
                        "reconnects",
                        "Lost connections that were established again",
                        status.reconnects,
                    ),
                    (
                        "feed_resumes",
                        "Interruptions after which the feed has continued",
                        status.resumes,
                    ),
                ] {
                    if let Some(count) = count {
                        let counter: Counter = Counter::default();
                        counter.inc_by(count);
                        storage.register(name, help, counter);
                    }
                }
            }
        }
        registry
    }

    /// Returns the number of open connections.
    pub fn connections(&self) -> i64 {
        self.connections.get()
    }

    /// Returns the number of open event streams.
    pub fn streams(&self) -> i64 {
        self.streams.get()
    }

    /// Adds the metrics of these topics. Only the first call has an effect.
    pub fn watch(&self, topics: &Topics) {
        let _ = self.topics.set(topics.clone());
    }

    pub(crate) fn ended(&self, reason: &CloseReason, sent: &Sent, had_stream: bool) {
        let reason = Reason { reason: reason.label() };
        if had_stream {
            self.streams_ended.get_or_create(&reason).inc();
        }
        self.requests.get_or_create(&reason).inc();
        self.events_sent.inc_by(sent.events);
        self.bytes_sent.inc_by(sent.event_bytes);
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        encode(f, &self.registry())
    }
}
