//! A storage whose log is replaced while it is open.

use std::sync::Arc;

use smol::Executor;
use sse_smol_server::storage::{Storage, StorageErrorKind};
use sse_smol_server::{Frame, Start, SubscriptionError, TopicError, Topics};

use super::support::storage::Unreliable;
use super::support::topics::{is_start, parse};
use super::{event, next_data, open, poll, run, small_window};

fn gap(frame: &Frame) -> (String, String) {
    let (event_type, data, id) = parse(frame);
    assert_eq!(event_type, "gap");
    let data: serde_json::Value = serde_json::from_str(&data).unwrap();
    (data["reason"].as_str().unwrap().to_owned(), id)
}

#[test]
fn subscribers_get_a_gap_event_and_then_the_new_log() {
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 21)));
    let topics = open(&executor, &storage, small_window().with_gap_on_lag(true));
    let mut live = run(&executor, topics.subscribe(&["a"], Start::Latest)).unwrap();
    let mut idle = run(&executor, topics.subscribe(&["b"], Start::Latest)).unwrap();
    let ids: Vec<String> = (0..5)
        .map(|n| run(&executor, topics.publish("a", event(&n.to_string()))).unwrap().id)
        .collect();
    assert!(is_start(&run(&executor, idle.next_batch()).unwrap()[0]));
    let mut read = Vec::new();
    while read.len() < 5 {
        read.extend(next_data(&executor, &mut live));
    }
    // The new log has events with positions that the old one had, too.
    storage.replace(3);
    let frames = run(&executor, live.next_batch()).unwrap();
    let (reason, gap_id) = gap(&frames[0]);
    let before = format!("{}-{:012}", storage.epoch(), 0);
    assert_eq!((reason.as_str(), gap_id.as_str()), ("lagged", before.as_str()));
    let mut read = Vec::new();
    while read.len() < 3 {
        read.extend(next_data(&executor, &mut live));
    }
    assert_eq!(read, ["2", "3", "4"]);
    assert_eq!(gap(&run(&executor, idle.next_batch()).unwrap()[0]).0, "lagged");

    let id = run(&executor, topics.publish("a", event("new"))).unwrap().id;
    assert_eq!(id, format!("{}-{:012}", storage.epoch(), 4));
    assert_eq!(next_data(&executor, &mut live), ["new"]);
    let list = run(&executor, topics.list(None, 10)).unwrap();
    let row = list.topics.iter().find(|row| row.name == "a").unwrap();
    assert_eq!((row.events, &row.last_id), (4, &Some(id)));

    // IDs of the old log are unknown, and those of the new one are not.
    for old in &ids {
        let mut late = run(&executor, topics.subscribe(&["a"], Start::After(old))).unwrap();
        assert_eq!(gap(&run(&executor, late.next_batch()).unwrap()[0]).0, "unknown");
        assert_eq!(next_data(&executor, &mut late)[0], "2");
    }
    let mut late = run(&executor, topics.subscribe(&["a"], Start::After(&gap_id))).unwrap();
    assert_eq!(next_data(&executor, &mut late)[0], "2");
}

#[test]
fn publications_of_a_log_that_is_replaced_end_with_an_error() {
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 22)));
    let topics = open(&executor, &storage, small_window());
    let permit = storage.stall_feed();
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(topics.publish("a", event("x")))).collect();
    for publish in &mut waiting {
        assert!(poll(&executor, publish.as_mut()).is_none());
    }
    let mut deleting = Box::pin(topics.delete("a"));
    assert!(poll(&executor, deleting.as_mut()).is_none());
    storage.replace(0);
    drop(permit);
    // The first event may have been visible before.
    let mut errors: Vec<_> = waiting
        .into_iter()
        .filter_map(|publish| run(&executor, publish).err())
        .chain(run(&executor, deleting).err())
        .collect();
    assert!(errors.len() >= 3, "{errors:?}");
    for error in errors.drain(..) {
        assert_eq!(error.to_string(), "the storage is unavailable: its log was replaced meanwhile");
    }
    assert!(!run(&executor, topics.publish("a", event("y"))).unwrap().duplicate);
}

/// The feed may report a replacement later than other operations could notice it.
#[test]
fn operations_wait_until_the_feed_has_applied_a_replacement() {
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 23)));
    let topics = open(&executor, &storage, small_window());
    for n in 0..5 {
        run(&executor, topics.publish("a", event(&n.to_string()))).unwrap();
    }
    let old = run(&executor, topics.list(None, 1)).unwrap().topics[0].last_id.clone().unwrap();
    let mut behind = run(&executor, topics.subscribe(&["a"], Start::Earliest)).unwrap();
    assert!(is_start(&run(&executor, behind.next_batch()).unwrap()[0]));
    let permit = storage.stall_feed();
    storage.replace(5);
    let mut publish = Box::pin(topics.publish("a", event("new")));
    let mut list = Box::pin(topics.list(None, 10));
    let mut earliest = Box::pin(topics.subscribe(&["a"], Start::Earliest));
    let mut next = Box::pin(behind.next_batch());
    assert!(poll(&executor, publish.as_mut()).is_none());
    assert!(poll(&executor, list.as_mut()).is_none());
    assert!(poll(&executor, earliest.as_mut()).is_none());
    assert!(poll(&executor, next.as_mut()).is_none());
    drop(permit);
    let id = run(&executor, publish).unwrap().id;
    assert_eq!(id, format!("{}-{:012}", storage.epoch(), 6));
    let listed = run(&executor, list).unwrap().topics[0].last_id.clone().unwrap();
    assert!(listed.starts_with(&storage.epoch()), "{listed}");
    let mut earliest = run(&executor, earliest).unwrap();
    assert_eq!(next_data(&executor, &mut earliest)[0], "0");
    // What this subscriber would have read next is in both logs, but its position is not.
    assert_eq!(run(&executor, next).unwrap_err(), SubscriptionError::Lagged);
    let mut resumed = run(&executor, topics.subscribe(&["a"], Start::After(&old))).unwrap();
    assert_eq!(gap(&run(&executor, resumed.next_batch()).unwrap()[0]).0, "unknown");
}

/// Until a storage has reported a replacement that it has made, no operation can succeed.
#[test]
fn a_replacement_that_is_not_reported_is_an_error() {
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 24)));
    let topics = open(&executor, &storage, small_window());
    let _never_dropped = storage.stall_feed();
    storage.replace(0);
    let published = smol::block_on(executor.run(topics.publish("a", event("x"))));
    let Err(TopicError::Storage(error)) = published else {
        panic!("{published:?}");
    };
    assert_eq!(error.kind(), StorageErrorKind::Unavailable);
}

#[test]
fn topics_are_closed_when_the_log_was_replaced_more_often_than_positions_can_express() {
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 25)));
    let (topics, feed) =
        run(&executor, Topics::open(small_window(), Arc::clone(&storage) as Arc<dyn Storage>))
            .unwrap();
    let feed = executor.spawn(feed);
    for n in 0..255 {
        storage.replace(0);
        let id = run(&executor, topics.publish("a", event(&n.to_string()))).unwrap().id;
        assert_eq!(id, format!("{}-{:012}", storage.epoch(), 1));
        let mut late = run(&executor, topics.subscribe(&["a"], Start::Earliest)).unwrap();
        assert_eq!(next_data(&executor, &mut late)[0], n.to_string());
    }
    let mut connected = run(&executor, topics.subscribe(&["a"], Start::Latest)).unwrap();
    assert!(is_start(&run(&executor, connected.next_batch()).unwrap()[0]));
    storage.replace(0);
    let why = "its log was replaced more than 255 times: the topics have to be opened again";
    let error = run(&executor, feed).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
    let published = run(&executor, topics.publish("a", event("x"))).unwrap_err().to_string();
    let subscribed = run(&executor, topics.subscribe(&["a"], Start::Latest)).unwrap_err();
    let ended = run(&executor, connected.next_batch()).unwrap_err().to_string();
    for error in [published, subscribed.to_string(), ended] {
        assert!(error.contains(why), "{error}");
    }
}
