//! Storages that break their contract.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use smol::Executor;
use smol::future::block_on;
use smol::stream::{self, StreamExt as _};
use sse_smol_server::storage::{
    Appended, Bounds, Change, EventRef, NewEvent, Page, PageLimit, Storage, StorageError,
    StorageErrorKind, StorageFuture, StorageStream, StoredEvent, TopicSummary,
};
use sse_smol_server::{Start, Topics, TopicsConfig};

use super::run;
use super::support::topics::is_start;

/// A storage that breaks its contract.
#[derive(Debug)]
struct Broken(&'static str);

impl Storage for Broken {
    fn epoch(&self) -> String {
        static EPOCHS: AtomicU32 = AtomicU32::new(0);
        match self.0 {
            "epoch" => "a-b".to_owned(),
            "epochs" => EPOCHS.fetch_add(1, Ordering::Relaxed).to_string(),
            _ => "e".to_owned(),
        }
    }

    fn last_position(&self) -> StorageFuture<'_, u64> {
        Box::pin(async { Ok(5) })
    }

    fn append(&self, _: NewEvent) -> StorageFuture<'_, Appended> {
        Box::pin(async { Ok(Appended::New(6)) })
    }

    fn append_all(
        &self,
        _: Vec<NewEvent>,
    ) -> StorageFuture<'_, Vec<Result<Appended, StorageError>>> {
        Box::pin(async { Ok(vec![Ok(Appended::New(6))]) })
    }

    fn read<'a>(&'a self, _: &'a str, after: u64, _: PageLimit) -> StorageFuture<'a, Page> {
        let event = |position| StoredEvent { position, fields: "data: x\n\n".into(), id: None };
        let events = match self.0 {
            "again" => vec![event(after)],
            "unsorted" => vec![event(after + 2), event(after + 1)],
            _ => vec![],
        };
        Box::pin(async { Ok(Page { events, ..Page::default() }) })
    }

    fn bounds<'a>(&'a self, _: &'a str) -> StorageFuture<'a, Bounds> {
        // Otherwise there would be nothing to read.
        let first = Some(EventRef { position: 1, id: None });
        Box::pin(async { Ok(Bounds { first, ..Bounds::default() }) })
    }

    fn find<'a>(&'a self, _: &'a str, _: &'a str) -> StorageFuture<'a, Option<u64>> {
        Box::pin(async { Ok(None) })
    }

    fn topics<'a>(&'a self, _: Option<&'a str>, _: usize) -> StorageFuture<'a, Vec<TopicSummary>> {
        Box::pin(async { Err(StorageError::new(StorageErrorKind::Full, "of the test")) })
    }

    fn delete<'a>(&'a self, _: &'a str) -> StorageFuture<'a, Option<u64>> {
        Box::pin(async { Ok(None) })
    }

    fn follow(&self, after: u64) -> StorageStream {
        let position = if self.0 == "order" { after } else { after + 1 };
        let event = move |position| {
            let event = StoredEvent { position, fields: "data: x\n\n".into(), id: None };
            Ok(Change::Appended { topic: "a".into(), event })
        };
        if self.0 == "many" {
            return Box::pin(stream::iter(position..100_000).map(event));
        }
        let events = stream::once(event(position));
        if self.0 == "end" { Box::pin(events) } else { Box::pin(events.chain(stream::pending())) }
    }
}

#[test]
fn a_storage_that_breaks_its_contract_causes_errors() {
    let executor = Executor::new();
    let open = |what| block_on(Topics::open(TopicsConfig::default(), Arc::new(Broken(what))));
    let error = open("epoch").unwrap_err().to_string();
    assert!(error.contains("epoch \"a-b\": an epoch is 1 to 64 characters"), "{error}");
    let error = open("epochs").unwrap_err().to_string();
    assert!(error.contains("its log was replaced while it was opened"), "{error}");
    for (what, why) in [("order", "out of order"), ("end", "the stream of its events has ended")] {
        let (topics, feed) = open(what).unwrap();
        let error = run(&executor, feed).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        let subscribed = run(&executor, topics.subscribe(&["a"], Start::Earliest));
        assert_eq!(subscribed.unwrap_err().to_string(), error);
    }
    let mut topics = None;
    for (what, why) in [
        ("page", "a page without events that is not the last"),
        ("again", "a page whose positions do not increase"),
        ("unsorted", "a page whose positions do not increase"),
    ] {
        let (broken, feed) = open(what).unwrap();
        executor.spawn(feed).detach();
        let mut subscription = run(&executor, broken.subscribe(&["a"], Start::Earliest)).unwrap();
        assert!(is_start(&run(&executor, subscription.next_batch()).unwrap()[0]));
        let error = run(&executor, subscription.next_batch()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        topics = Some(broken);
    }
    let topics = topics.unwrap();
    for result in run(&executor, topics.publish_all("a", ["1", "2"])) {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("1 results for 2 events"), "{error}");
    }
    let error = run(&executor, topics.list(None, 10)).unwrap_err().to_string();
    assert_eq!(error, "the storage is full: of the test");
}

/// A storage may have committed many events at once.
#[test]
fn a_feed_with_many_events_leaves_time_to_other_tasks() {
    let executor = Executor::new();
    let config = TopicsConfig::default();
    let (topics, feed) = block_on(Topics::open(config, Arc::new(Broken("many")))).unwrap();
    executor.spawn(feed).detach();
    assert!(executor.try_tick());
    let mut subscription = block_on(topics.subscribe(&["a"], Start::Latest)).unwrap();
    let start = block_on(subscription.next_batch()).unwrap();
    let id = std::str::from_utf8(start[0].id().unwrap()).unwrap().to_owned();
    assert!(("e-000000000006".."e-000000001000").contains(&id.as_str()), "{id}");
    assert!(executor.try_tick(), "the feed continues");
}
