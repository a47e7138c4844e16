//! Topics with a storage: stalls, failures, restarts, and streams of a server on it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use smol::future::{block_on, or, poll_once};
use smol::stream::{self, StreamExt};
use smol::{Executor, Timer};
use sse_smol_server::storage::{
    Appended, Bounds, NewEvent, Page, PageLimit, Storage, StorageError, StorageErrorKind,
    StorageFuture, StorageStream, StoredEvent, TopicSummary,
};
use sse_smol_server::{
    Config, History, Publication, Published, Start, SubscriptionError, TopicError, Topics,
    TopicsConfig,
};

mod support;

use support::storage::{POLLS, Unreliable};
use support::subscriber::{StreamEnd, Subscriber};
use support::topics::{is_start, parse};
use support::{TIMEOUT, serve};

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
        for name in ["a", "new"] {
            let published = run(&executor, topics.publish(name, event("x")));
            assert_eq!(published.unwrap_err().to_string(), reason);
            let subscribed = run(&executor, topics.subscribe(&[name], Start::Latest));
            assert_eq!(subscribed.unwrap_err().to_string(), reason);
        }
    }
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
}

/// Streams get what they missed from the storage, and new events from memory, also across a restart.
#[test]
fn streams_resume_from_the_storage_and_continue_live() {
    let storage = Arc::new(Unreliable::new(1000, 7));
    let mut last = None::<String>;
    for run in 0..2 {
        let executor = Arc::new(Executor::new());
        let topics = open(&executor, &storage, small_window());
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        let feeding = Arc::clone(&executor);
        let feeder = thread::spawn(move || block_on(feeding.run(stopped.recv())));
        let publish =
            |n: usize| block_on(topics.publish("news", event(&n.to_string()))).unwrap().id;
        let source = topics.clone();
        let server = serve(Config::default(), move |request| {
            let source = source.clone();
            async move {
                let id = request
                    .headers()
                    .get("last-event-id")
                    .map(|id| id.to_str().unwrap().to_owned());
                let start = id.as_deref().map_or(Start::Earliest, Start::After);
                let subscription = source.subscribe(&["news"], start).await.unwrap();
                request.open().await?.follow(subscription).await
            }
        });
        let first = run * 60;
        (first..first + 50).for_each(|n| drop(publish(n)));
        let mut subscriber = match &last {
            None => Subscriber::open(server.address, "/"),
            Some(id) => Subscriber::resume(server.address, "/", id),
        };
        let start = last.as_ref().map_or(0, |_| 30);
        subscriber.read_events(first + 50 - start);
        (first + 50..first + 60).for_each(|n| drop(publish(n)));
        subscriber.read_events(first + 60 - start);
        let expected: Vec<String> = (start..first + 60).map(|n| n.to_string()).collect();
        assert_eq!(subscriber.data(), expected);
        last = Some(subscriber.events[29].id.clone());
        drop(stop);
        drop(feeder.join());
    }
}

#[test]
fn a_stream_ends_with_a_reason_when_the_storage_fails() {
    let storage = Arc::new(Unreliable::new(1000, 8));
    let executor = Arc::new(Executor::new());
    let topics = open(&executor, &storage, small_window());
    let (_stop, stopped) = smol::channel::bounded::<()>(1);
    let feeding = Arc::clone(&executor);
    thread::spawn(move || block_on(feeding.run(stopped.recv())));
    for n in 0..10 {
        block_on(topics.publish("news", event(&n.to_string()))).unwrap();
    }
    let subscriptions = [Start::Latest, Start::Earliest]
        .map(|start| block_on(topics.subscribe(&["news"], start)).unwrap());
    let subscriptions = Mutex::new(VecDeque::from(subscriptions));
    let (ended, reasons) = mpsc::channel();
    let server = serve(Config::default(), move |request| {
        let subscription = subscriptions.lock().unwrap().pop_front().unwrap();
        let ended = ended.clone();
        async move {
            let mut stream = request.open().await?;
            stream.on_close(move |closed| {
                ended.send((closed.reason.label(), closed.reason.to_string())).unwrap();
            });
            stream.follow(subscription).await
        }
    });
    let reason = ("storage", "the storage is unavailable: a failure of the test".to_owned());
    let mut live = Subscriber::open(server.address, "/");
    block_on(topics.publish("news", event("10"))).unwrap();
    live.read_events(1);

    // A stream that has to read from the storage.
    storage.fail(100);
    let mut behind = Subscriber::open(server.address, "/");
    behind.read_until("the end", |behind| behind.end.is_some());
    assert_eq!((behind.end, behind.data()), (Some(StreamEnd::Whole), vec![]));
    assert_eq!(reasons.recv_timeout(TIMEOUT).unwrap(), reason);

    // A parked stream, when the feed fails.
    storage.fail(0);
    storage.fail_feed();
    block_on(topics.publish("news", event("lost"))).unwrap_err();
    live.read_until("the end", |live| live.end.is_some());
    assert_eq!((live.end, live.data()), (Some(StreamEnd::Whole), vec!["10"]));
    assert_eq!(reasons.recv_timeout(TIMEOUT).unwrap(), reason);
}

/// Another server on the same storage may have sent events that are not in memory here yet.
#[test]
fn a_stream_with_a_position_ahead_of_the_feed_hides_no_event_from_others() {
    let storage = Arc::new(Unreliable::new(1000, 11));
    let executor = Arc::new(Executor::new());
    let topics = open(&executor, &storage, small_window());
    run(&executor, topics.publish("news", event("0"))).unwrap();
    let permit = storage.stall_feed();
    for data in ["1", "2"] {
        let mut publish = Box::pin(topics.publish("news", event(data)));
        assert!(poll(&executor, publish.as_mut()).is_none());
    }
    let ahead = block_on(async { storage.last_position().await.unwrap() });
    assert_eq!(ahead, 3);
    let source = topics.clone();
    let server = serve(Config::default(), move |request| {
        let source = source.clone();
        async move {
            let id =
                request.headers().get("last-event-id").map(|id| id.to_str().unwrap().to_owned());
            let start = id.as_deref().map_or(Start::Latest, Start::After);
            let subscription = source.subscribe(&["news"], start).await.unwrap();
            request.open().await?.follow(subscription).await
        }
    });
    // One of each kind with each delivery worker.
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut streams: Vec<Subscriber> = (0..workers)
        .map(|_| Subscriber::resume(server.address, "/", "memory-000000000003"))
        .collect();
    streams.extend((0..workers).map(|_| Subscriber::open(server.address, "/")));
    drop(permit);
    let (_stop, stopped) = smol::channel::bounded::<()>(1);
    let feeding = Arc::clone(&executor);
    thread::spawn(move || block_on(feeding.run(stopped.recv())));
    block_on(topics.publish("news", event("3"))).unwrap();
    for (n, stream) in streams.iter_mut().enumerate() {
        let expected: &[&str] = if n < workers { &["3"] } else { &["1", "2", "3"] };
        stream.read_until("the last event", |stream| stream.data().contains(&"3"));
        assert_eq!(stream.data(), expected);
    }
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

/// A storage that breaks its contract.
#[derive(Debug)]
struct Broken(&'static str);

impl Storage for Broken {
    fn epoch(&self) -> String {
        if self.0 == "epoch" { "a-b".to_owned() } else { "e".to_owned() }
    }

    fn last_position(&self) -> StorageFuture<'_, u64> {
        Box::pin(async { Ok(5) })
    }

    fn append(&self, _: NewEvent) -> StorageFuture<'_, Appended> {
        Box::pin(async { Ok(Appended::New(6)) })
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
        Box::pin(async { Ok(Bounds::default()) })
    }

    fn find<'a>(&'a self, _: &'a str, _: &'a str) -> StorageFuture<'a, Option<u64>> {
        Box::pin(async { Ok(None) })
    }

    fn topics<'a>(&'a self, _: Option<&'a str>, _: usize) -> StorageFuture<'a, Vec<TopicSummary>> {
        Box::pin(async { Err(StorageError::new(StorageErrorKind::Full, "of the test")) })
    }

    fn follow(&self, after: u64) -> StorageStream {
        let position = if self.0 == "order" { after } else { after + 1 };
        let event = move |position| {
            let event = StoredEvent { position, fields: "data: x\n\n".into(), id: None };
            Ok(("a".into(), event))
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

/// Keep-alives are sent while a stream waits for a stalled storage.
#[test]
fn a_stream_that_waits_for_the_storage_gets_keep_alives() {
    let storage = Arc::new(Unreliable::new(1000, 10));
    let executor = Arc::new(Executor::new());
    let topics = open(&executor, &storage, small_window());
    let (_stop, stopped) = smol::channel::bounded::<()>(1);
    thread::spawn(move || block_on(executor.run(stopped.recv())));
    for n in 0..10 {
        block_on(topics.publish("news", event(&n.to_string()))).unwrap();
    }
    let subscription = block_on(topics.subscribe(&["news"], Start::Earliest)).unwrap();
    let permit = storage.stall();
    let config = Config::default().with_keep_alive(Some(Duration::from_millis(50)));
    let subscription = Mutex::new(Some(subscription));
    let server = serve(config, move |request| {
        let subscription = subscription.lock().unwrap().take().unwrap();
        async move { request.open().await?.follow(subscription).await }
    });
    let mut subscriber = Subscriber::open(server.address, "/");
    subscriber.read_until("keep-alives", |subscriber| subscriber.text.ends_with(b":\n\n:\n\n"));
    assert_eq!(subscriber.events, []);
    drop(permit);
    subscriber.read_events(10);
}
