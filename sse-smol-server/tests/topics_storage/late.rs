//! A storage that does not answer in time, and the answers to its errors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{StatusCode, header};
use smol::future::block_on;
use smol::{Executor, Timer};
use sse_smol_server::storage::{StorageError, StorageErrorKind};
use sse_smol_server::{Error, Start, TopicError, http};

use super::support::storage::Unreliable;
use super::support::topics::is_start;
use super::{event, next_data, open, run, small_window};

#[test]
fn a_publication_fails_in_time_and_subscribers_stay() {
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 31)));
    let config = small_window().with_publish_timeout(Duration::from_millis(50));
    let topics = open(&executor, &storage, config);
    let mut subscription = run(&executor, topics.subscribe(&["a"], Start::Latest)).unwrap();
    assert!(is_start(&run(&executor, subscription.next_batch()).unwrap()[0]));
    // In the storage, and in its feed.
    for (stall, is_stored) in [
        (Unreliable::stall as fn(&Unreliable) -> _, false),
        (Unreliable::stall_feed as fn(&Unreliable) -> _, true),
    ] {
        let permit = stall(&storage);
        let published = block_on(executor.run(topics.publish("a", event("late"))));
        let error = published.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the storage is unavailable: it did not answer within 50ms; a change may be made \
             later"
        );
        let response = Error::from(error).response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key(header::RETRY_AFTER));
        let checked = block_on(executor.run(topics.check()));
        assert_eq!(checked.is_err(), is_stored, "the feed is behind");
        drop(permit);
        assert_eq!(run(&executor, topics.check()), Ok(()));
        if is_stored {
            assert_eq!(next_data(&executor, &mut subscription), ["late"]);
        }
        run(&executor, topics.publish("a", event("next"))).unwrap();
        assert_eq!(next_data(&executor, &mut subscription), ["next"]);
    }
    let permit = storage.stall();
    let deleted = block_on(executor.run(topics.delete("a")));
    assert!(matches!(deleted, Err(TopicError::Storage(_))), "{deleted:?}");
    drop(permit);
    assert_eq!(run(&executor, topics.delete("a")), Ok(true));
}

/// One timer serves all publications. It is still set for the first one when that is complete.
#[test]
fn each_publication_has_its_whole_time() {
    const TIMEOUT: Duration = Duration::from_millis(400);
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 32)));
    let topics = open(&executor, &storage, small_window().with_publish_timeout(TIMEOUT));
    run(&executor, topics.publish("a", event("in time"))).unwrap();
    let permit = storage.stall();
    let late = |after: Duration| {
        let topics = topics.clone();
        executor.spawn(async move {
            Timer::after(after).await;
            let begun = Instant::now();
            let error = topics.publish("a", event("late")).await.unwrap_err();
            assert!(matches!(error, TopicError::Storage(_)), "{error}");
            begun.elapsed()
        })
    };
    let tasks = [TIMEOUT / 2, TIMEOUT / 2, TIMEOUT].map(late);
    for task in tasks {
        let took = block_on(executor.run(task));
        assert!(took >= TIMEOUT, "{took:?}");
    }
    drop(permit);
    run(&executor, topics.publish("a", event("next"))).unwrap();
}

#[test]
fn errors_of_a_storage_are_answered_by_their_kind() {
    for (kind, status, retries) in [
        (StorageErrorKind::Full, StatusCode::INSUFFICIENT_STORAGE, false),
        (StorageErrorKind::TooLarge, StatusCode::PAYLOAD_TOO_LARGE, false),
        (StorageErrorKind::Damaged, StatusCode::SERVICE_UNAVAILABLE, false),
        (StorageErrorKind::Unavailable, StatusCode::SERVICE_UNAVAILABLE, true),
    ] {
        let error = StorageError::new(kind, "the reason");
        for error in [Error::from(TopicError::from(error.clone())), Error::from(error)] {
            let response = error.response();
            assert_eq!(response.status(), status);
            let text = String::from_utf8(response.body().clone()).unwrap();
            assert!(text.ends_with(": the reason.\n"), "{text}");
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), retries, "{kind:?}");
        }
    }
}
