//! Events in a file: restarts, bounds, failures, damage.

use std::collections::HashSet;
use std::fs;
use std::future::Future;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use smol::Executor;
use smol::future::{block_on, poll_once};
use smol::stream::StreamExt as _;
use sse_smol_server::storage::disk::{DiskConfig, DiskStorage, Sync};
use sse_smol_server::storage::{
    Change, NewEvent, PageLimit, Storage, StorageError, StorageErrorKind,
};
use sse_smol_server::{
    History, Publication, Start, SubscriptionError, TopicError, Topics, TopicsConfig,
};

mod damage;
#[path = "../support/dir.rs"]
mod dir;
#[path = "../support/mod.rs"]
mod support;

use dir::Dir;
use support::topics::{is_start, parse};

/// Topics on a file, with a window of two events.
struct Run {
    topics: Topics,
    executor: Executor<'static>,
}

impl Run {
    fn open(directory: &Dir) -> Self {
        Self::with(DiskConfig::new(directory.path())).unwrap()
    }

    fn with(config: DiskConfig) -> Result<Self, StorageError> {
        let storage: Arc<dyn Storage> = Arc::new(DiskStorage::open(config)?);
        let history = History::default().with_events(2);
        let config = TopicsConfig::default().with_history(history);
        let (topics, feed) = block_on(Topics::open(config, storage)).unwrap();
        let executor = Executor::new();
        executor.spawn(feed).detach();
        Ok(Self { topics, executor })
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        block_on(self.executor.run(future))
    }

    fn publish(&self, topic: &str, data: &str) -> String {
        let new = Publication::new(data);
        self.wait(self.topics.publish(topic, new)).unwrap().id
    }

    /// Returns types and data of the next `count` events after the start.
    fn read(&self, topics: &[&str], start: Start<'_>, count: usize) -> Vec<(String, String)> {
        let mut subscription = self.wait(self.topics.subscribe(topics, start)).unwrap();
        let mut events = Vec::new();
        while events.len() < count {
            for frame in self.wait(subscription.next_batch()).unwrap() {
                if !is_start(&frame) {
                    let (event_type, data, _) = parse(&frame);
                    events.push((event_type, data));
                }
            }
        }
        events
    }

    fn data(&self, topics: &[&str], start: Start<'_>, count: usize) -> Vec<String> {
        self.read(topics, start, count).into_iter().map(|(_, data)| data).collect()
    }
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn events_ids_and_keys_survive_a_restart() {
    let directory = Dir::new();
    let run = Run::open(&directory);
    let ids: Vec<String> =
        (0..20).map(|n| run.publish(["a", "b"][n % 2], &n.to_string())).collect();
    let own = Publication::new("own").with_id("mine").with_type("typed");
    let own = own.with_retry(Duration::from_millis(7)).with_key("k");
    run.wait(run.topics.publish("a", own)).unwrap();
    drop(run);

    for _ in 0..2 {
        let run = Run::open(&directory);
        assert_eq!(run.data(&["a", "b"], Start::After(&ids[4]), 16)[..15], numbers(5..20));
        let (event_type, data) = run.read(&["a"], Start::After(&ids[18]), 1).remove(0);
        assert_eq!((&*event_type, &*data), ("typed", "own"));
        let again = run.wait(run.topics.publish("a", own));
        let again = again.unwrap();
        assert!(again.duplicate && again.id == "mine");
        let other = Publication::new("other").with_key("k");
        let in_use = TopicError::KeyInUse { id: "mine".to_owned() };
        assert_eq!(run.wait(run.topics.publish("a", other)), Err(in_use));
        let same_id = Publication::new("own").with_id("mine");
        let in_use = TopicError::IdInUse("mine".to_owned());
        assert_eq!(run.wait(run.topics.publish("a", same_id)), Err(in_use));
        // A publisher's own ID is known, too.
        let new = Publication::new("new").with_key("new");
        run.wait(run.topics.publish("a", new)).unwrap();
        assert_eq!(run.data(&["a"], Start::After("mine"), 1), ["new"]);
        let list = run.wait(run.topics.list(None, 10)).unwrap().topics;
        let rows: Vec<_> = list.iter().map(|row| (&*row.name, row.events)).collect();
        assert_eq!(rows, [("a", 12), ("b", 10)]);
    }
    let run = Run::open(&directory);
    let next = run.publish("c", "x");
    assert!(ids.iter().all(|id| *id < next), "no position is assigned twice: {next}");
}

#[test]
fn concurrent_publications_share_writes_and_none_is_lost() {
    const EACH: usize = 200;
    let directory = Dir::new();
    let run = Run::open(&directory);
    let publish = |publisher: usize| {
        let topics = run.topics.clone();
        async move {
            for n in 0..EACH {
                let data = format!("{publisher} {n}");
                let new = Publication::new(&data);
                topics.publish("a", new).await.unwrap();
            }
        }
    };
    let tasks: Vec<_> = (0..4).map(|publisher| run.executor.spawn(publish(publisher))).collect();
    run.wait(async {
        for task in tasks {
            task.await;
        }
    });
    drop(run);
    let run = Run::open(&directory);
    let mut next = [0; 4];
    for data in run.data(&["a"], Start::Earliest, 4 * EACH) {
        let (publisher, n) = data.split_once(' ').unwrap();
        let expected = &mut next[publisher.parse::<usize>().unwrap()];
        assert_eq!(n.parse(), Ok(*expected));
        *expected += 1;
    }
    assert_eq!(next, [EACH; 4]);
}

#[test]
fn the_bounds_apply_to_the_file_and_what_was_dropped_is_a_gap_after_a_restart() {
    let directory = Dir::new();
    let mut config = DiskConfig::new(directory.path());
    config.history.events = 10;
    let run = Run::with(config.clone()).unwrap();
    let ids: Vec<String> = (0..30).map(|n| run.publish("a", &n.to_string())).collect();
    drop(run);
    let run = Run::with(config.clone()).unwrap();
    assert_eq!(run.data(&["a"], Start::Earliest, 10), numbers(20..30));
    assert_eq!(run.data(&["a"], Start::After(&ids[19]), 10), numbers(20..30));
    let events = run.read(&["a"], Start::After(&ids[18]), 11);
    assert_eq!(events[0].0, "gap");
    let gap: serde_json::Value = serde_json::from_str(&events[0].1).unwrap();
    assert_eq!((&gap["reason"], &gap["earliest"]), (&"evicted".into(), &(&*ids[20]).into()));
    // Lower ones apply at once.
    drop(run);
    config.history.events = 5;
    let run = Run::with(config).unwrap();
    assert_eq!(run.data(&["a"], Start::Earliest, 5), numbers(25..30));
    let list = run.wait(run.topics.list(None, 10)).unwrap().topics;
    assert_eq!(list[0].events, 5);

    // By size, over all topics.
    drop(run);
    let mut config = DiskConfig::new(directory.path());
    config.max_bytes = 10_000;
    let run = Run::with(config).unwrap();
    for n in 0..50 {
        run.publish(&format!("topic-{n}"), &"x".repeat(1000));
        let list = run.wait(run.topics.list(None, 100)).unwrap().topics;
        let bytes: usize = list.iter().map(|row| row.bytes).sum();
        assert!(bytes <= 10_000, "{bytes}");
    }
    let list = run.wait(run.topics.list(None, 100)).unwrap().topics;
    assert!((5..10).contains(&list.len()), "{list:?}");
}

#[test]
fn old_events_expire_also_while_nothing_runs() {
    let directory = Dir::new();
    let mut config = DiskConfig::new(directory.path());
    config.history.age = Duration::from_millis(300);
    let run = Run::with(config.clone()).unwrap();
    run.publish("a", "old");
    drop(run);
    thread::sleep(Duration::from_millis(400));
    let run = Run::with(config).unwrap();
    let id = run.publish("a", "new");
    let list = run.wait(run.topics.list(None, 10)).unwrap().topics;
    assert_eq!((list[0].events, list[0].last_id.as_deref()), (1, Some(&*id)));
}

#[test]
fn the_space_of_dropped_events_is_used_again() {
    let directory = Dir::new();
    let mut config = DiskConfig::new(directory.path());
    config.history.events = 20;
    let run = Run::with(config).unwrap();
    let size = || fs::metadata(directory.0.join("events.redb")).unwrap().len();
    let publish = || (0..60).for_each(|_| drop(run.publish("a", &"x".repeat(50_000))));
    publish();
    let before = size();
    for _ in 0..5 {
        publish();
    }
    assert!(size() <= 2 * before, "{} bytes, before {before}", size());
}

#[test]
fn the_number_of_topics_is_limited() {
    let directory = Dir::new();
    let mut config = DiskConfig::new(directory.path());
    config.max_topics = 2;
    let run = Run::with(config).unwrap();
    run.publish("a", "x");
    run.publish("b", "x");
    let new = Publication::new("x");
    let refused = run.wait(run.topics.publish("c", new));
    assert_eq!(refused, Err(TopicError::TooManyTopics(2)));
    run.publish("a", "existing topics accept events");
}

#[test]
fn a_directory_is_used_by_one_storage_at_a_time() {
    let directory = Dir::new();
    let run = Run::open(&directory);
    let error = DiskStorage::open(DiskConfig::new(directory.path())).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unavailable);
    assert!(error.to_string().contains("is in use by another process"), "{error}");
    drop(run);
    Run::open(&directory);
    // A file where the directory should be.
    directory.write("file", "");
    let error = DiskStorage::open(DiskConfig::new(directory.0.join("file"))).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unavailable);
}

#[test]
fn a_deletion_survives_a_restart() {
    for sync in [Sync::Always, Sync::Interval(Duration::from_secs(3600))] {
        let directory = Dir::new();
        let mut config = DiskConfig::new(directory.path());
        config.sync = sync;
        let run = Run::with(config.clone()).unwrap();
        let ids: Vec<String> = (0..5).map(|n| run.publish("a", &n.to_string())).collect();
        run.publish("b", "kept");
        assert_eq!(run.wait(run.topics.delete("a")), Ok(true));
        assert_eq!(run.wait(run.topics.delete("a")), Ok(false));
        drop(run);
        let run = Run::with(config).unwrap();
        assert_eq!(run.wait(run.topics.delete("a")), Ok(false));
        let list = run.wait(run.topics.list(None, 10)).unwrap().topics;
        assert_eq!(list.iter().map(|row| &*row.name).collect::<Vec<_>>(), ["b"]);
        assert!(run.publish("a", "new") > ids[4]);
        assert_eq!(run.data(&["a"], Start::Earliest, 1), ["new"]);
        assert_eq!(run.data(&["a"], Start::After(&ids[4]), 1), ["new"]);
        let events = run.read(&["a"], Start::After(&ids[3]), 2);
        assert_eq!((&*events[0].0, &*events[1].1), ("gap", "new"));
    }
}

/// A publication may wait for the last position before the feed has begun.
#[test]
fn what_is_stored_reaches_the_last_position_even_if_that_is_a_deletion() {
    let directory = Dir::new();
    let storage = Arc::new(DiskStorage::open(DiskConfig::new(directory.path())).unwrap());
    let shared: Arc<dyn Storage> = Arc::<DiskStorage>::clone(&storage);
    let (topics, feed) = block_on(Topics::open(TopicsConfig::default(), shared)).unwrap();
    let mut publish = Box::pin(topics.publish("a", Publication::new("x")));
    while storage.events() == 0 {
        assert!(block_on(poll_once(&mut publish)).is_none(), "the feed has not begun");
    }
    assert_eq!(block_on(storage.delete("a")), Ok(Some(2)));
    let executor = Executor::new();
    executor.spawn(feed).detach();
    block_on(executor.run(async {
        publish.await.unwrap();
        topics.publish("b", Publication::new("y")).await.unwrap();
        assert_eq!(topics.delete("b").await, Ok(true));
    }));
    let mut changes = storage.follow(0);
    let deleted = Change::Deleted { topic: "b".into(), position: 4 };
    assert_eq!(block_on(changes.next()), Some(Ok(deleted)));
}

/// The writer waits for a follower that has not taken its events.
#[test]
fn a_storage_is_closed_although_a_follower_is_not_polled() {
    let directory = Dir::new();
    let mut config = DiskConfig::new(directory.path());
    config.history.events = 5000;
    config.sync = Sync::Interval(Duration::from_secs(1));
    let storage: Arc<dyn Storage> = Arc::new(DiskStorage::open(config.clone()).unwrap());
    let (topics, feed) =
        block_on(Topics::open(TopicsConfig::default(), Arc::clone(&storage))).unwrap();
    let mut feed = Box::pin(feed);
    assert!(block_on(poll_once(&mut feed)).is_none());
    // More events than the queues between the publishers and the feed have room for.
    let mut all: Vec<_> =
        (0..4000).map(|_| Box::pin(topics.publish("a", Publication::new("x")))).collect();
    for publish in &mut all {
        assert!(block_on(poll_once(publish)).is_none());
    }
    drop(all);
    drop(topics);
    let (closed, is_closed) = mpsc::channel();
    thread::spawn(move || {
        drop(storage);
        closed.send(()).unwrap();
    });
    is_closed.recv_timeout(support::TIMEOUT).expect("the storage is closed");
    assert_eq!(block_on(feed), Ok(()));
    assert!(DiskStorage::open(config).unwrap().events() > 1000);
}

/// A thread may still read the page after its future was dropped.
#[test]
fn a_storage_is_closed_although_a_page_is_read_for_a_future_that_was_dropped() {
    let directory = Dir::new();
    let mut config = DiskConfig::new(directory.path());
    config.history.bytes = usize::MAX;
    let open = || DiskStorage::open(config.clone()).unwrap();
    let storage = open();
    for _ in 0..4 {
        let fields = format!("data: {}\n\n", "x".repeat(500_000));
        block_on(storage.append(NewEvent::new("a", fields))).unwrap();
    }
    drop(storage);
    for delay in 0..10 {
        let storage = open();
        let limit = PageLimit { events: usize::MAX, bytes: usize::MAX };
        let mut page = storage.read("a", 0, limit);
        let _is_unlikely_to_be_ready = block_on(poll_once(&mut page));
        // The future is dropped at different moments of the read.
        thread::sleep(Duration::from_micros(500 * delay));
        drop(page);
        drop(storage);
    }
}

#[test]
fn events_that_are_not_written_yet_are_read_and_recognized_like_others() {
    let directory = Dir::new();
    let mut config = DiskConfig::new(directory.path());
    config.sync = Sync::Interval(Duration::from_secs(3600));
    config.history.events = 25;
    let run = Run::with(config.clone()).unwrap();
    (0..10).for_each(|n| drop(run.publish("a", &n.to_string())));
    drop(run);
    let run = Run::with(config.clone()).unwrap();
    (10..29).for_each(|n| drop(run.publish("a", &n.to_string())));
    let keyed = Publication::new("29").with_key("k");
    assert!(!run.wait(run.topics.publish("a", keyed)).unwrap().duplicate);
    assert!(run.wait(run.topics.publish("a", keyed)).unwrap().duplicate);
    run.publish("deleted", "x");
    assert_eq!(run.data(&["a"], Start::Earliest, 25), numbers(5..30));
    assert_eq!(run.wait(run.topics.delete("deleted")), Ok(true));
    (30..60).for_each(|n| drop(run.publish("a", &n.to_string())));
    assert_eq!(run.data(&["a"], Start::Earliest, 25), numbers(35..60));
    drop(run);
    let run = Run::with(config).unwrap();
    assert_eq!(run.data(&["a"], Start::Earliest, 25), numbers(35..60));
    let list = run.wait(run.topics.list(None, 10)).unwrap().topics;
    assert_eq!(list.iter().map(|row| &*row.name).collect::<Vec<_>>(), ["a"]);
}

/// With an interval, a clean end keeps the epoch, and an unclean one renews it.
#[test]
fn an_unclean_end_between_two_syncs_makes_old_ids_unknown() {
    let directory = Dir::new();
    let mut config = DiskConfig::new(directory.path());
    config.sync = Sync::Interval(Duration::from_secs(3600));
    let run = Run::with(config.clone()).unwrap();
    let id = run.publish("a", "0");
    drop(run);
    let run = Run::with(config.clone()).unwrap();
    run.publish("a", "1");
    assert_eq!(run.data(&["a"], Start::After(&id), 1), ["1"]);
    // As if the process were killed here: a copy of the file.
    let copy = Dir::new();
    let name = "events.redb";
    fs::copy(directory.0.join(name), copy.0.join(name)).unwrap();
    let mut of_copy = DiskConfig::new(copy.path());
    of_copy.sync = config.sync;
    let after_crash = Run::with(of_copy).unwrap();
    let events = after_crash.read(&["a"], Start::After(&id), 1);
    assert_eq!(events[0].0, "gap");
    assert!(events[0].1.contains("\"reason\":\"unknown\""), "{}", events[0].1);
}

/// If the first transaction after a start is damaged, the file is opened without it.
#[test]
fn positions_of_a_lost_transaction_are_not_assigned_again() {
    let (directory, name) = (Dir::new(), "events.redb");
    drop(Run::open(&directory));
    let mut ids = Vec::new();
    // Also after a second start without a publication that is kept.
    for _ in 0..3 {
        let run = Run::open(&directory);
        let before = Dir::new();
        fs::copy(directory.0.join(name), before.0.join(name)).unwrap();
        ids.push(run.publish("a", "lost"));
        drop(run);
        fs::copy(before.0.join(name), directory.0.join(name)).unwrap();
    }
    let epochs: HashSet<_> = ids.iter().map(|id| id.split_once('-').unwrap().0).collect();
    assert_eq!(epochs.len(), 1, "{ids:?}");
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
}

#[test]
fn files_whose_creation_was_interrupted_are_removed_unless_they_are_in_use() {
    let directory = Dir::new();
    directory.write("events.redb.new-1", "interrupted");
    directory.write("events.redb.new-2", "in use");
    directory.write("other.new-1", "of another program");
    let in_use = fs::File::open(directory.0.join("events.redb.new-2")).unwrap();
    in_use.try_lock().unwrap();
    let names = || {
        let files = fs::read_dir(&directory.0).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    drop(Run::open(&directory));
    assert_eq!(names(), ["events.redb", "events.redb.new-2", "other.new-1"]);
    drop(in_use);
    drop(Run::open(&directory));
    assert_eq!(names(), ["events.redb", "other.new-1"]);
}

#[test]
fn subscribers_far_behind_read_pages_while_events_are_published_and_dropped() {
    let directory = Dir::new();
    let mut config = DiskConfig::new(directory.path());
    config.history.events = 50;
    let run = Run::with(config).unwrap();
    let mut subscription = run.wait(run.topics.subscribe(&["a"], Start::Earliest)).unwrap();
    for n in 0..200 {
        run.publish("a", &n.to_string());
    }
    assert!(is_start(&run.wait(subscription.next_batch()).unwrap()[0]));
    assert_eq!(run.wait(subscription.next_batch()).unwrap_err(), SubscriptionError::Lagged);
    assert_eq!(run.data(&["a"], Start::Earliest, 50), numbers(150..200));
}
