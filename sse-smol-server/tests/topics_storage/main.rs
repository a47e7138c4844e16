//! Topics with a storage: stalls, failures, restarts, and streams of a server on it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;

use smol::future::{block_on, or, poll_once};
use smol::stream::StreamExt;
use smol::{Executor, Timer};
use sse_smol_server::storage::{Storage, StorageErrorKind};
use sse_smol_server::{
    History, Publication, Published, Start, SubscriptionError, TopicError, Topics, TopicsConfig,
};

#[path = "../support/mod.rs"]
mod support;

mod contract;
mod counts;
mod late;
mod pages;
mod replaced;
mod streams;

use support::TIMEOUT;
use support::storage::{POLLS, Unreliable};
use support::topics::{is_start, parse};

/// A configuration with a window of two events.
fn small_window() -> TopicsConfig {
    TopicsConfig::default().with_history(History::default().with_events(2))
}

/// Opens topics on a storage, with their feed on an executor.
fn open(executor: &Executor<'static>, storage: &Arc<Unreliable>, config: TopicsConfig) -> Topics {
    let storage: Arc<dyn Storage> = Arc::<Unreliable>::clone(storage);
    let (topics, feed) = block_on(Topics::open(config, storage)).unwrap();
    executor.spawn(feed).detach();
    topics
}

fn event(data: &str) -> Publication<'_> {
    Publication::new(data)
}

/// Polls a future until nothing but a stall can hold it up, and returns its output if it is ready.
fn poll<F: Future>(executor: &Executor<'static>, mut future: Pin<&mut F>) -> Option<F::Output> {
    (0..POLLS).find_map(|_| {
        while executor.try_tick() {}
        block_on(poll_once(future.as_mut()))
    })
}

/// Runs a future that nothing holds up.
fn run<T>(executor: &Executor<'static>, future: impl Future<Output = T>) -> T {
    poll(executor, Box::pin(future).as_mut()).expect("nothing holds this up")
}

/// Returns the data of the next events, without the id of the starting position.
fn next_data(
    executor: &Executor<'static>,
    subscription: &mut sse_smol_server::Subscription,
) -> Vec<String> {
    let frames = run(executor, subscription.next_batch()).unwrap();
    if is_start(&frames[0]) {
        return next_data(executor, subscription);
    }
    frames.iter().map(|frame| parse(frame).1).collect()
}

#[test]
fn a_publication_waits_for_a_stalled_storage_and_is_visible_to_no_one_meanwhile() {
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 1)));
    let topics = open(&executor, &storage, small_window());
    let mut subscription = run(&executor, topics.subscribe(&["a"], Start::Latest)).unwrap();
    for stall in [Unreliable::stall, Unreliable::stall_feed] {
        let permit = stall(&storage);
        let mut publish = Box::pin(topics.publish("a", event("x")));
        assert!(poll(&executor, publish.as_mut()).is_none());
        let mut late = run(&executor, topics.subscribe(&["a"], Start::Latest)).unwrap();
        for subscription in [&mut subscription, &mut late] {
            let mut next = Box::pin(subscription.next_batch());
            let seen = poll(&executor, next.as_mut());
            assert!(seen.is_none_or(|frames| is_start(&frames.unwrap()[0])));
        }
        drop(permit);
        assert!(!run(&executor, publish).unwrap().duplicate);
        assert_eq!(next_data(&executor, &mut subscription), ["x"]);
        assert_eq!(next_data(&executor, &mut late), ["x"]);
    }
}

#[test]
fn a_dropped_publication_that_was_stored_is_published_once() {
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 2)));
    let topics = open(&executor, &storage, small_window());
    let mut subscription = run(&executor, topics.subscribe(&["a"], Start::Latest)).unwrap();
    let permit = storage.stall_feed();
    let mut publish = Box::pin(topics.publish("a", event("stored")));
    assert!(poll(&executor, publish.as_mut()).is_none());
    drop(publish);
    drop(permit);
    run(&executor, topics.publish("a", event("next"))).unwrap();
    let mut data = next_data(&executor, &mut subscription);
    if data.len() < 2 {
        data.extend(next_data(&executor, &mut subscription));
    }
    assert_eq!(data, ["stored", "next"]);
}

#[test]
fn the_events_of_a_batch_are_stored_in_order_until_the_storage_is_unavailable() {
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 4)));
    let topics = open(&executor, &storage, small_window());
    let mut subscription = run(&executor, topics.subscribe(&["a"], Start::Latest)).unwrap();
    let mut batch = ["1", "2", "not valid", "3", "4"].map(event);
    batch[2].event_type = Some("a\nb".into());
    let results = run(&executor, topics.publish_all("a", batch));
    assert!(matches!(results[2], Err(TopicError::Type(_))));
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 4);
    let mut data = Vec::new();
    while data.len() < 4 {
        data.extend(next_data(&executor, &mut subscription));
    }
    assert_eq!(data, ["1", "2", "3", "4"]);

    // More than the storage gets at once: none is stored after one that was not.
    storage.fail(1);
    let batch = vec!["x"; 2000];
    let results = block_on(executor.run(topics.publish_all("a", batch)));
    let stored = results.iter().take_while(|result| result.is_ok()).count();
    assert!(stored < 1000, "one of a hundred fails");
    let is_failed = |result: &_| matches!(result, Err(TopicError::Storage(_)));
    assert!(results.len() == 2000 && results[stored..].iter().all(is_failed));
}

/// A waker that notes when it is called.
struct Woken<T>(T, Mutex<mpsc::Sender<T>>);

impl<T: Copy + Send + Sync> Wake for Woken<T> {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().send(self.0).unwrap();
    }
}

/// With many publications at once, each of them would be woken for all others.
#[test]
fn a_publication_is_woken_for_its_own_event_only() {
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 13)));
    let topics = open(&executor, &storage, small_window());
    let (sender, woken) = mpsc::channel();
    let permit = storage.stall_feed();
    let mut all: Vec<_> = (0..20).map(|_| Box::pin(topics.publish("a", event("x")))).collect();
    for (n, publish) in all.iter_mut().enumerate() {
        assert!(poll(&executor, publish.as_mut()).is_none());
        let waker = Waker::from(Arc::new(Woken(n, Mutex::new(sender.clone()))));
        assert!(publish.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    drop(permit);
    let mut order = Vec::new();
    while executor.try_tick() {
        for n in woken.try_iter() {
            assert!(block_on(poll_once(all[n].as_mut())).is_some(), "publication {n}");
            order.push(n);
        }
    }
    assert_eq!(order, (0..20).collect::<Vec<_>>());
}

#[test]
fn subscribers_are_woken_before_a_publication_returns() {
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 12)));
    let topics = open(&executor, &storage, small_window());
    let mut subscription = run(&executor, topics.subscribe(&["a"], Start::Latest)).unwrap();
    assert!(is_start(&run(&executor, subscription.next_batch()).unwrap()[0]));
    let (sender, woken) = mpsc::channel();
    let waker = |name| Waker::from(Arc::new(Woken(name, Mutex::new(sender.clone()))));
    let permit = storage.stall_feed();
    let mut next = pin!(subscription.next_batch());
    let mut publish = pin!(topics.publish("a", event("x")));
    assert!(poll(&executor, publish.as_mut()).is_none());
    let (subscriber, publisher) = (waker("subscriber"), waker("publisher"));
    assert!(next.as_mut().poll(&mut Context::from_waker(&subscriber)).is_pending());
    assert!(publish.as_mut().poll(&mut Context::from_waker(&publisher)).is_pending());
    drop(permit);
    while executor.try_tick() {}
    assert_eq!(woken.try_iter().collect::<Vec<_>>(), ["subscriber", "publisher"]);
}

#[test]
fn a_publication_whose_answer_was_lost_is_a_duplicate_when_it_is_repeated() {
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 3)));
    let topics = open(&executor, &storage, small_window());
    let mut subscription = run(&executor, topics.subscribe(&["a"], Start::Latest)).unwrap();
    let keyed = event("once").with_key("k");
    storage.lose_answers(true);
    let lost = run(&executor, topics.publish("a", keyed)).unwrap_err();
    assert!(
        matches!(&lost, TopicError::Storage(error) if error.kind() == StorageErrorKind::Unavailable)
    );
    assert_eq!(lost.to_string(), "the storage is unavailable: a failure of the test");
    storage.lose_answers(false);
    let Published { id, duplicate, .. } = run(&executor, topics.publish("a", keyed)).unwrap();
    assert!(duplicate);
    run(&executor, topics.publish("a", event("next"))).unwrap();
    let mut again = run(&executor, topics.subscribe(&["a"], Start::After(&id))).unwrap();
    assert_eq!(next_data(&executor, &mut again), ["next"]);
    assert_eq!(next_data(&executor, &mut subscription), ["once", "next"]);
    let other = run(&executor, topics.publish("a", event("other").with_key("k")));
    assert_eq!(other, Err(TopicError::KeyInUse { id }));
}

/// A reader that cannot be served gets an error, and continues where it was afterwards.
#[test]
fn a_subscription_continues_after_a_failed_read() {
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 4)));
    let topics = open(&executor, &storage, small_window());
    let mut subscription = run(&executor, topics.subscribe(&["a", "b"], Start::Earliest)).unwrap();
    for n in 0..40 {
        run(&executor, topics.publish(["a", "b"][n % 2], event(&n.to_string()))).unwrap();
    }
    let (mut data, mut failures) = (Vec::new(), 0);
    while data.len() < 40 {
        storage.fail(if failures < 10 { 100 } else { 50 });
        match run(&executor, subscription.next_batch()) {
            Ok(frames) if is_start(&frames[0]) => {}
            Ok(frames) => data.extend(frames.iter().map(|frame| parse(frame).1)),
            Err(SubscriptionError::Storage(_)) => failures += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(failures >= 10);
    assert_eq!(data, (0..40).map(|n: u32| n.to_string()).collect::<Vec<_>>());
}

/// Reads from the storage are continued by the next poll, also one for a batch, and a stream that is
/// dropped meanwhile ends its subscription.
#[test]
fn a_subscription_that_is_behind_is_a_stream_too() {
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 6)));
    let topics = open(&executor, &storage, small_window());
    let subscribe = || run(&executor, topics.subscribe(&["a", "b"], Start::Earliest)).unwrap();
    let (mut stream, mut alternating, mut dropped) = (subscribe(), subscribe(), subscribe());
    for n in 0..40 {
        run(&executor, topics.publish(["a", "b"][n % 2], event(&n.to_string()))).unwrap();
    }
    let expected: Vec<_> = (0..40).map(|n: u32| n.to_string()).collect();
    let stalled = storage.stall();
    for subscription in [&mut alternating, &mut dropped] {
        assert!(is_start(&block_on(StreamExt::next(subscription)).unwrap().unwrap()));
        assert!(block_on(poll_once(StreamExt::next(subscription))).is_none(), "reads");
    }
    drop(dropped);
    drop(stalled);
    assert_eq!(topics.totals().subscriptions, 4);
    let frames = run(&executor, (&mut stream).skip(1).take(40).try_collect::<_, _, Vec<_>>());
    assert_eq!(frames.unwrap().iter().map(|frame| parse(frame).1).collect::<Vec<_>>(), expected);

    let mut data = Vec::new();
    while data.len() < 40 {
        let batch = run(&executor, alternating.next_batch()).unwrap();
        data.extend(batch.iter().map(|frame| parse(frame).1));
        if data.len() < 40 {
            let frame = run(&executor, StreamExt::next(&mut alternating)).unwrap().unwrap();
            data.push(parse(&frame).1);
        }
    }
    assert_eq!(data, expected);
}

#[test]
fn the_end_of_the_feed_ends_publications_and_subscriptions_with_its_reason() {
    for dropped in [false, true] {
        let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 5)));
        let shared: Arc<dyn Storage> = Arc::<Unreliable>::clone(&storage);
        let (topics, feed) = block_on(Topics::open(small_window(), shared)).unwrap();
        let mut feed = Box::pin(feed);
        let mut one = run(&executor, topics.subscribe(&["a"], Start::Latest)).unwrap();
        let mut two = run(&executor, topics.subscribe(&["a", "b"], Start::Latest)).unwrap();
        for subscription in [&mut one, &mut two] {
            assert!(is_start(&run(&executor, subscription.next_batch()).unwrap()[0]));
        }
        let mut publish = Box::pin(topics.publish("a", event("x")));
        let (mut first, mut second) = (Box::pin(one.next_batch()), Box::pin(two.next_batch()));
        assert!(poll(&executor, publish.as_mut()).is_none());
        assert!(poll(&executor, first.as_mut()).is_none());
        assert!(poll(&executor, second.as_mut()).is_none());
        let reason = if dropped {
            drop(feed);
            "the storage is unavailable: the feed of the topics was dropped"
        } else {
            storage.fail_feed();
            let ended = poll(&executor, feed.as_mut()).expect("the feed has ended");
            assert_eq!(
                ended.unwrap_err().to_string(),
                "the storage is unavailable: a failure of the test"
            );
            "the storage is unavailable: a failure of the test"
        };
        // All of them are woken.
        assert_eq!(run(&executor, publish).unwrap_err().to_string(), reason);
        assert_eq!(run(&executor, first).unwrap_err().to_string(), reason);
        assert_eq!(run(&executor, second).unwrap_err().to_string(), reason);
        // From then on, everything is refused.
        assert_eq!(run(&executor, topics.check()).unwrap_err().to_string(), reason);
        for name in ["a", "new"] {
            let published = run(&executor, topics.publish(name, event("x")));
            assert_eq!(published.unwrap_err().to_string(), reason);
            let subscribed = run(&executor, topics.subscribe(&[name], Start::Latest));
            assert_eq!(subscribed.unwrap_err().to_string(), reason);
        }
    }
}

#[test]
fn the_feed_ends_when_the_topics_and_their_subscriptions_are_dropped() {
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 15)));
    let shared: Arc<dyn Storage> = Arc::<Unreliable>::clone(&storage);
    let (topics, feed) = block_on(Topics::open(small_window(), shared)).unwrap();
    let feed = executor.spawn(feed);
    let subscription = run(&executor, topics.subscribe(&["a"], Start::Latest)).unwrap();
    run(&executor, topics.publish("a", event("x"))).unwrap();
    drop(topics);
    while executor.try_tick() {}
    assert!(!feed.is_finished());
    drop(subscription);
    // Without another event.
    while executor.try_tick() {}
    assert!(feed.is_finished());
    assert_eq!(block_on(feed), Ok(()));
}

/// Memory holds the events of few topics, but every topic gets all of its own.
#[test]
fn the_number_of_topics_is_not_limited_by_those_in_memory() {
    let (executor, storage) = (Executor::new(), Arc::new(Unreliable::new(100, 6)));
    let topics = open(&executor, &storage, small_window().with_max_topics(2));
    let names: Vec<String> = (0..10).map(|n| format!("topic-{n}")).collect();
    let mut subscriptions: Vec<_> = names
        .iter()
        .map(|name| run(&executor, topics.subscribe(&[name], Start::Latest)).unwrap())
        .collect();
    for n in 0..30 {
        run(&executor, topics.publish(&names[n % 10], event(&n.to_string()))).unwrap();
        assert!(topics.totals().events <= 4);
    }
    for (n, subscription) in subscriptions.iter_mut().enumerate() {
        let mut data = Vec::new();
        while data.len() < 3 {
            data.extend(next_data(&executor, subscription));
        }
        assert_eq!(data, [n, n + 10, n + 20].map(|n| n.to_string()));
    }
    // The list shows what the storage holds, and who subscribes.
    let page = run(&executor, topics.list(Some("topic-3"), 2)).unwrap();
    let rows: Vec<_> = page
        .topics
        .iter()
        .map(|row| (&*row.name, row.events, row.published, row.subscribers))
        .collect();
    assert_eq!(rows, [("topic-4", 3, 3, 1), ("topic-5", 3, 3, 1)]);
    assert_eq!(page.next.as_deref(), Some("topic-5"));
    assert!(page.topics.iter().all(|row| row.bytes > 0 && row.last_id.is_some()));
    // So it does for topics without subscribers, as long as their newest event is in memory.
    run(&executor, topics.publish("unread", event("x"))).unwrap();
    let page = run(&executor, topics.list(Some("topic-9"), 1)).unwrap();
    let row = &page.topics[0];
    assert_eq!((&*row.name, row.published, row.subscribers), ("unread", 1, 0));
}

/// Publishers and readers on threads, with a small window in front of a slow storage.
#[test]
fn concurrent_subscribers_get_every_event_once_and_in_order_from_a_storage() {
    const EACH: usize = 300;
    let storage = Arc::new(Unreliable::new(10 * EACH, 9));
    let executor = Arc::new(Executor::new());
    let topics = open(&executor, &storage, small_window());
    let (_stop, stopped) = smol::channel::bounded::<()>(1);
    thread::spawn(move || block_on(executor.run(stopped.recv())));
    let resumed = AtomicUsize::new(0);
    thread::scope(|scope| {
        for publisher in 0..4 {
            let topics = &topics;
            scope.spawn(move || {
                for number in 0..EACH {
                    let data = format!("{publisher} {number}");
                    block_on(topics.publish(["a", "b"][publisher % 2], event(&data))).unwrap();
                }
            });
        }
        for reader in 0..4 {
            let (topics, resumed) = (&topics, &resumed);
            scope.spawn(move || {
                let names: &[&str] = [&["a", "b"][..], &["a"]][reader % 2];
                let expected: [usize; 4] =
                    if names.len() == 2 { [EACH; 4] } else { [EACH, 0, EACH, 0] };
                let mut seen = [0; 4];
                let mut last_id = None::<String>;
                while seen != expected {
                    let start = last_id.as_deref().map_or(Start::Earliest, Start::After);
                    let mut subscription = block_on(topics.subscribe(names, start)).unwrap();
                    for _ in 0..=reader * 3 {
                        if seen == expected {
                            break;
                        }
                        let late = async {
                            Timer::after(TIMEOUT).await;
                            panic!("{seen:?} of {expected:?}");
                        };
                        for frame in block_on(or(subscription.next_batch(), late)).unwrap() {
                            last_id = frame.id().map(|id| String::from_utf8_lossy(id).into_owned());
                            if is_start(&frame) {
                                continue;
                            }
                            let (event_type, data, _) = parse(&frame);
                            assert_eq!(event_type, "message");
                            let (publisher, number) = data.split_once(' ').unwrap();
                            let next = &mut seen[publisher.parse::<usize>().unwrap()];
                            assert_eq!(number.parse(), Ok(*next), "of publisher {publisher}");
                            *next += 1;
                        }
                    }
                    resumed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert!(resumed.into_inner() > 20);
}
