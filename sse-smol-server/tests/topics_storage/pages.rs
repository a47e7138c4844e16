//! Subscribers that read pages and stall.

use std::sync::Arc;

use smol::Executor;
use sse_smol_server::Start;

use super::support::storage::Unreliable;
use super::support::topics::is_start;
use super::{event, next_data, open, run, small_window};

/// The memory of stalled subscribers is bounded, and others get on meanwhile.
#[test]
fn pages_are_small_while_subscribers_hold_much_memory() {
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 51)));
    let topics = open(&executor, &storage, small_window());
    let large = "x".repeat(1 << 20);
    for data in [&*large, "1", "2", "3", "4", "5"] {
        run(&executor, topics.publish("a", event(data))).unwrap();
    }
    let subscribe = || {
        let mut new = run(&executor, topics.subscribe(&["a"], Start::Earliest)).unwrap();
        assert!(is_start(&run(&executor, new.next_batch()).unwrap()[0]));
        new
    };
    let mut stalled: Vec<_> = (0..64)
        .map(|_| {
            let mut stalled = subscribe();
            assert_eq!(next_data(&executor, &mut stalled), [&*large]);
            assert_eq!(storage.page_bytes(), Some(64 << 10));
            stalled
        })
        .collect();
    // One that reads on gets all events. Its own page is released with each read.
    let mut other = subscribe();
    for data in [&[&*large][..], &["1", "2", "3"]] {
        assert_eq!(next_data(&executor, &mut other), data);
        assert_eq!(storage.page_bytes(), Some(8 << 10));
    }
    // What is left is in memory.
    assert_eq!(next_data(&executor, &mut other), ["4", "5"]);
    // Memory is released by the next read, and with the subscription.
    let mut first = stalled.pop().unwrap();
    assert_eq!(next_data(&executor, &mut first), ["1", "2", "3"]);
    assert_eq!(storage.page_bytes(), Some(64 << 10));
    drop(stalled);
    let mut again = subscribe();
    assert_eq!(next_data(&executor, &mut again), [&*large]);
    assert_eq!(storage.page_bytes(), Some(64 << 10));
}
