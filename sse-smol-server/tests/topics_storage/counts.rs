//! The metrics of a storage.

use std::sync::Arc;

use smol::Executor;
use sse_smol_server::{Metrics, Start, Topics, TopicsConfig};

use super::support::storage::Unreliable;
use super::{event, next_data, open, poll, run, small_window};

#[test]
fn appends_errors_reads_lag_and_resets_are_counted() {
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 41)));
    let topics = open(&executor, &storage, small_window().with_gap_on_lag(true));
    let metrics = Metrics::default();
    metrics.watch(&topics);
    let holds = |lines: &[&str]| {
        let text = metrics.to_string();
        for line in lines {
            assert!(text.lines().any(|have| have == *line), "{line} in {text}");
        }
    };
    let mut behind = run(&executor, topics.subscribe(&["a"], Start::Earliest)).unwrap();
    for n in 0..5 {
        run(&executor, topics.publish("a", event(&n.to_string()))).unwrap();
    }
    // Pages of this storage have three events, of nine bytes each.
    assert_eq!(next_data(&executor, &mut behind), ["0", "1", "2"]);
    let permit = storage.stall_feed();
    let mut publish = Box::pin(topics.publish("a", event("5")));
    assert!(poll(&executor, publish.as_mut()).is_none());
    holds(&[
        "sse_storage_append_seconds_count 6",
        "sse_storage_append_seconds_bucket{le=\"+Inf\"} 6",
        "sse_storage_pages_read_total 1",
        "sse_storage_bytes_read_total 27",
        "sse_storage_feed_lag 1",
        "sse_storage_resets_total 0",
    ]);
    drop(permit);
    run(&executor, publish).unwrap();
    storage.fail(100);
    run(&executor, topics.publish("a", event("x"))).unwrap_err();
    run(&executor, topics.delete("a")).unwrap_err();
    run(&executor, topics.list(None, 1)).unwrap_err();
    storage.fail(0);
    storage.replace(0);
    run(&executor, topics.publish("a", event("y"))).unwrap();
    holds(&[
        "sse_storage_append_seconds_count 8",
        "sse_storage_errors_total{operation=\"append\",kind=\"unavailable\"} 1",
        "sse_storage_errors_total{operation=\"delete\",kind=\"unavailable\"} 1",
        "sse_storage_errors_total{operation=\"read\",kind=\"unavailable\"} 1",
        "sse_storage_feed_lag 0",
        "sse_storage_resets_total 1",
    ]);
    // This storage has no connection that it could lose.
    assert!(!metrics.to_string().contains("sse_storage_reconnects"));
}

#[test]
fn topics_in_memory_have_no_metrics_of_a_storage() {
    let metrics = Metrics::default();
    metrics.watch(&Topics::new(TopicsConfig::default()).unwrap());
    let text = metrics.to_string();
    assert!(text.contains("sse_topics 0") && !text.contains("sse_storage"), "{text}");
}
