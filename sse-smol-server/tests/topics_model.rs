//! Tests topics against a model: for any sequence of operations, each subscriber gets every event
//! once and in order, or a gap event. The same with a storage that is slow and fails.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;
use smol::Executor;
use smol::future::{block_on, poll_once};
use sse_proto::Text;
use sse_smol_server::storage::Storage;
use sse_smol_server::{
    Frame, History, Publication, Start, Subscription, SubscriptionError, TopicError, Topics,
    TopicsConfig,
};

mod support;

use support::now;
use support::storage::{POLLS, Unreliable};
use support::topics::{is_start, parse, read_now};

const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Operation {
    Publish {
        topic: usize,
        own_id: Option<u8>,
        key: Option<u8>,
    },
    Subscribe {
        topics: Vec<usize>,
        start: StartAt,
    },
    Read {
        subscriber: prop::sample::Index,
    },
    Leave {
        subscriber: prop::sample::Index,
    },
    Delete {
        topic: usize,
    },
    /// Replaces the log of the storage by one that has only the last `keep` plain events.
    Replace {
        keep: usize,
    },
    /// Opens the storage again, with nothing in memory.
    Restart,
}

#[derive(Clone, Debug)]
enum StartAt {
    Latest,
    Earliest,
    /// After one of all events published so far.
    After(prop::sample::Index),
    Unknown,
}

fn operation() -> impl Strategy<Value = Operation> {
    let start_at = prop_oneof![
        2 => Just(StartAt::Latest),
        1 => Just(StartAt::Earliest),
        4 => any::<prop::sample::Index>().prop_map(StartAt::After),
        1 => Just(StartAt::Unknown),
    ];
    prop_oneof![
        6 => (0..3_usize, proptest::option::weighted(0.3, 0..9_u8), proptest::option::weighted(0.2, 0..4_u8))
            .prop_map(|(topic, own_id, key)| Operation::Publish { topic, own_id, key }),
        2 => (vec(0..3_usize, 1..4), start_at)
            .prop_map(|(topics, start)| Operation::Subscribe { topics, start }),
        5 => any::<prop::sample::Index>().prop_map(|subscriber| Operation::Read { subscriber }),
        1 => any::<prop::sample::Index>().prop_map(|subscriber| Operation::Leave { subscriber }),
        1 => (0..3_usize).prop_map(|topic| Operation::Delete { topic }),
        1 => (0..2_usize).prop_map(|keep| Operation::Replace { keep }),
        1 => Just(Operation::Restart),
    ]
}

/// An event in the model. Its index in the list of all events is its position.
#[derive(Clone, Debug)]
struct Event {
    topic: usize,
    data: usize,
    id: String,
    has_own_id: bool,
    key: Option<u8>,
    held: bool,
    /// Whether the log was replaced after it, so that an assigned ID is unknown.
    void: bool,
}

struct Subscriber {
    real: Subscription,
    topics: Vec<usize>,
    /// The index in the list of all events up to which the subscriber has read.
    next: usize,
    /// The indices of events that a gap event has covered, or that were evicted at the start.
    excused: HashSet<usize>,
    /// Whether the next frame must be a gap event.
    gap: bool,
    /// Whether the log was replaced, so that the subscriber has fallen behind.
    replaced: bool,
}

impl Subscriber {
    /// Returns the indices of unread events, including evicted ones.
    fn pending(&self, all: &[Event]) -> Vec<usize> {
        (self.next..all.len())
            .filter(|index| self.topics.contains(&all[*index].topic))
            .filter(|index| !self.excused.contains(index))
            .collect()
    }

    fn lags(&self, all: &[Event]) -> bool {
        self.replaced || self.pending(all).iter().any(|index| !all[*index].held)
    }

    /// Excuses all events that are evicted by now.
    fn excuse_evicted(&mut self, all: &[Event]) {
        self.excused.extend((0..all.len()).filter(|index| !all[*index].held));
    }
}

/// The topics under test, and their storage, if they have one.
struct World {
    topics: Topics,
    executor: Executor<'static>,
    storage: Option<Arc<Unreliable>>,
}

impl World {
    fn open(config: TopicsConfig, storage: Option<Arc<Unreliable>>) -> Self {
        let executor = Executor::new();
        let topics = match &storage {
            None => Topics::new(config).unwrap(),
            Some(storage) => {
                let storage: Arc<dyn Storage> = Arc::<Unreliable>::clone(storage);
                let (topics, feed) = block_on(Topics::open(config, storage)).unwrap();
                executor.spawn(feed).detach();
                topics
            }
        };
        Self { topics, executor, storage }
    }

    /// Runs an operation to its end. Returns `None` if the storage failed.
    fn run<T>(
        &self,
        operation: impl Future<Output = Result<T, TopicError>>,
    ) -> Option<Result<T, TopicError>> {
        let result = match self.storage {
            None => now(operation),
            Some(_) => block_on(self.executor.run(operation)),
        };
        match result {
            Err(TopicError::Storage(_)) if self.storage.is_some() => None,
            result => Some(result),
        }
    }

    /// Reads what is there without waiting for a publication. Skips the ID of the starting position.
    fn read(
        &self,
        subscription: &mut Subscription,
    ) -> Option<Result<Vec<Frame>, SubscriptionError>> {
        if self.storage.is_none() {
            return read_now(subscription);
        }
        let mut next = Box::pin(subscription.next_batch());
        let read = (0..POLLS).find_map(|_| {
            while self.executor.try_tick() {}
            block_on(poll_once(&mut next))
        });
        drop(next);
        match &read {
            Some(Ok(frames)) if is_start(&frames[0]) => self.read(subscription),
            _ => read,
        }
    }
}

/// Runs operations on topics that hold at most `events` events each: in memory, or in a storage of
/// which memory holds at most `window` events.
fn run(
    events: usize,
    window: Option<usize>,
    gap_on_lag: bool,
    failures: u32,
    operations: &[Operation],
) {
    let storage = window.map(|_| Arc::new(Unreliable::new(events, 7)));
    if let Some(storage) = &storage {
        storage.fail(failures);
    }
    let history = History::default().with_events(window.unwrap_or(events));
    let config = TopicsConfig::default().with_history(history).with_gap_on_lag(gap_on_lag);
    let mut world = World::open(config.clone(), storage);
    let mut all: Vec<Event> = Vec::new();
    let mut subscribers: Vec<Subscriber> = Vec::new();
    for operation in operations {
        match operation {
            Operation::Publish { topic, own_id, key } => {
                publish(&world, &mut all, events, *topic, *own_id, *key);
            }
            Operation::Subscribe { topics: wanted, start } => {
                subscribers.extend(subscribe(&world, &all, wanted, start));
            }
            Operation::Read { subscriber } if !subscribers.is_empty() => {
                let index = subscriber.index(subscribers.len());
                if !read(&world, &mut subscribers[index], &all, gap_on_lag) {
                    subscribers.swap_remove(index);
                }
            }
            Operation::Leave { subscriber } if !subscribers.is_empty() => {
                subscribers.swap_remove(subscriber.index(subscribers.len()));
            }
            Operation::Delete { topic } => {
                let holds = all.iter().any(|event| event.topic == *topic && event.held);
                if let Some(deleted) = world.run(world.topics.delete(NAMES[*topic])) {
                    assert_eq!(deleted, Ok(holds));
                    for event in all.iter_mut().filter(|event| event.topic == *topic) {
                        event.held = false;
                    }
                }
            }
            Operation::Replace { keep } => {
                if let Some(storage) = &world.storage {
                    replace(&world, storage, &mut all, *keep);
                    for subscriber in &mut subscribers {
                        subscriber.replaced = true;
                    }
                }
            }
            Operation::Restart if world.storage.is_some() => {
                subscribers.clear();
                world = World::open(config.clone(), world.storage);
            }
            Operation::Read { .. } | Operation::Leave { .. } | Operation::Restart => {}
        }
        if let Some(list) = world.run(world.topics.list(None, 1000)) {
            let counted: usize = list.unwrap().topics.iter().map(|topic| topic.events).sum();
            assert_eq!(counted, all.iter().filter(|event| event.held).count());
        }
    }
    if let Some(storage) = &world.storage {
        storage.fail(0);
    }
    for topic in world.run(world.topics.list(None, 1000)).unwrap().unwrap().topics {
        let mine = |subscriber: &&Subscriber| {
            subscriber.topics.iter().any(|index| NAMES[*index] == topic.name)
        };
        assert_eq!(topic.subscribers, subscribers.iter().filter(mine).count());
    }
    // Without failures, every subscriber gets what is left.
    for mut subscriber in subscribers {
        for _ in 0..=all.len() {
            if !read(&world, &mut subscriber, &all, gap_on_lag) {
                break;
            }
        }
    }
}

/// Replaces the log of the storage.
fn replace(world: &World, storage: &Unreliable, all: &mut Vec<Event>, keep: usize) {
    storage.replace(keep);
    // The feed applies it.
    while world.executor.try_tick() {}
    let epoch = storage.epoch();
    let plain = all.iter().filter(|event| !event.has_own_id && event.key.is_none());
    let kept: Vec<Event> = plain.rev().take(keep).cloned().collect();
    for event in &mut *all {
        event.held = false;
        event.void = true;
    }
    for (index, event) in kept.into_iter().enumerate() {
        let id = format!("{epoch}-{:012}", index + 1);
        all.push(Event { id, held: true, void: false, ..event });
    }
}

fn publish(
    world: &World,
    all: &mut Vec<Event>,
    most: usize,
    topic: usize,
    own_id: Option<u8>,
    key: Option<u8>,
) {
    let own_id = own_id.map(|id| format!("own {id}"));
    let key_text = key.map(|key| key.to_string());
    let data = all.len().to_string();
    let mut new = Publication::new(&data).with_type("n");
    new.id = own_id.as_ref().map(Text::from);
    new.key = key_text.as_deref();
    let result = world.run(world.topics.publish(NAMES[topic], new));
    // The storage failed: the event must not be visible to any subscriber.
    let Some(result) = result else {
        return;
    };
    let held = || all.iter().filter(|event| event.topic == topic && event.held);
    if let Some(same) = held().find(|event| key.is_some() && event.key == key) {
        let id = same.id.clone();
        assert_eq!(
            result,
            Err(TopicError::KeyInUse { id: id.clone() }),
            "the key was used with other data"
        );
        // Publishing the same event again is reported as a duplicate.
        let data = same.data.to_string();
        let mut again = Publication::new(&data).with_type("n");
        again.id = same.has_own_id.then_some(Text::from(&id));
        again.key = key_text.as_deref();
        if let Some(result) = world.run(world.topics.publish(NAMES[topic], again)) {
            let published = result.unwrap();
            assert_eq!((published.id, published.duplicate), (id, true));
        }
    } else if held().any(|event| Some(&event.id) == own_id.as_ref()) {
        assert!(matches!(result, Err(TopicError::IdInUse(_))), "{result:?}");
    } else {
        let published = result.expect("a new event");
        assert!(!published.duplicate);
        if let Some(id) = &own_id {
            assert_eq!(&published.id, id);
        }
        assert!(own_id.is_some() || all.iter().all(|event| event.id != published.id));
        if held().count() == most {
            let oldest = all.iter().position(|event| event.topic == topic && event.held);
            all[oldest.unwrap()].held = false;
        }
        let has_own_id = own_id.is_some();
        let (data, id) = (all.len(), published.id);
        all.push(Event { topic, data, id, has_own_id, key, held: true, void: false });
    }
}

/// Subscribes. Returns `None` if the storage failed.
fn subscribe(
    world: &World,
    all: &[Event],
    wanted: &[usize],
    start: &StartAt,
) -> Option<Subscriber> {
    let names: Vec<&str> = wanted.iter().map(|index| NAMES[*index]).collect();
    let subscriber = |start| {
        Some(Subscriber {
            real: world.run(world.topics.subscribe(&names, start))?.unwrap(),
            topics: wanted.to_vec(),
            next: 0,
            excused: HashSet::new(),
            gap: false,
            replaced: false,
        })
    };
    Some(match start {
        StartAt::Latest => Subscriber { next: all.len(), ..subscriber(Start::Latest)? },
        StartAt::Earliest => {
            let mut subscriber = subscriber(Start::Earliest)?;
            subscriber.excuse_evicted(all);
            subscriber
        }
        StartAt::After(index) if !all.is_empty() => {
            let id = &all[index.index(all.len())].id;
            // An assigned ID stays valid; a publisher's own ID is known while its event is in the
            // log. If several topics hold the same ID, the earliest counts, so that no event is lost.
            let known = all.iter().position(|event| {
                event.id == *id
                    && !event.void
                    && (!event.has_own_id || event.held && wanted.contains(&event.topic))
            });
            let mut subscriber = subscriber(Start::After(id))?;
            subscriber.next = known.map_or(0, |index| index + 1);
            subscriber.gap = known.is_none() || subscriber.lags(all);
            subscriber.excuse_evicted(all);
            subscriber
        }
        StartAt::After(_) | StartAt::Unknown => {
            let mut subscriber = subscriber(Start::After("of another run-7"))?;
            subscriber.gap = true;
            subscriber.excuse_evicted(all);
            subscriber
        }
    })
}

/// Reads once and checks the frames. Returns whether the subscription continues.
fn read(world: &World, subscriber: &mut Subscriber, all: &[Event], gap_on_lag: bool) -> bool {
    let frames = match world.read(&mut subscriber.real) {
        None => {
            let has_gap = subscriber.gap || subscriber.replaced;
            assert!(!has_gap, "a gap event is available at once");
            let pending = subscriber.pending(all);
            assert!(pending.is_empty(), "{pending:?} are not delivered");
            return true;
        }
        // The subscription continues where it was.
        Some(Err(SubscriptionError::Storage(_))) if world.storage.is_some() => return true,
        Some(Err(error)) => {
            assert_eq!(error, SubscriptionError::Lagged);
            assert!(
                !gap_on_lag && !subscriber.gap && subscriber.lags(all),
                "only a lagging subscription ends"
            );
            return false;
        }
        Some(Ok(frames)) => frames,
    };
    assert!(!frames.is_empty());
    for frame in &frames {
        let (event_type, data, id) = parse(frame);
        if event_type == "gap" {
            assert!(subscriber.gap || gap_on_lag && subscriber.lags(all), "unexpected gap: {data}");
            if !std::mem::take(&mut subscriber.gap) {
                subscriber.excuse_evicted(all);
                subscriber.replaced = false;
            }
            continue;
        }
        assert!(!subscriber.gap && !subscriber.replaced, "the gap event comes first");
        let index = subscriber.pending(all).first().copied().expect("an unread event");
        assert_eq!(data.parse(), Ok(all[index].data), "every event once and in order");
        assert_eq!(id, all[index].id);
        subscriber.next = index + 1;
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn subscribers_get_every_event_once_and_in_order_or_a_gap(
        events in 1..6_usize,
        gap_on_lag in any::<bool>(),
        operations in vec(operation(), 0..80),
    ) {
        run(events, None, gap_on_lag, 0, &operations);
    }

    #[test]
    fn the_same_holds_with_a_storage_that_is_slow_and_fails(
        events in 1..9_usize,
        window in 1..4_usize,
        gap_on_lag in any::<bool>(),
        failures in prop_oneof![Just(0), Just(30_u32)],
        operations in vec(operation(), 0..80),
    ) {
        run(events.max(window), Some(window), gap_on_lag, failures, &operations);
    }
}

/// Two publishers to each of two topics, and readers that unsubscribe and resume, on threads.
#[test]
fn concurrent_subscribers_get_every_event_once_and_in_order() {
    const EACH: usize = 3000;
    let topics = Topics::new(
        TopicsConfig::default()
            .with_history(History::default().with_events(10 * EACH).with_bytes(usize::MAX)),
    )
    .unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..6)
            .map(|reader| {
                let (topics, done) = (&topics, &done);
                let names: &[&str] = [&["a", "b"][..], &["a"], &["b", "a"]][reader % 3];
                scope.spawn(move || {
                    let mut seen = [[0; 2]; 2];
                    let mut last_id = None::<String>;
                    let mut rounds = 0;
                    loop {
                        let start = last_id.as_deref().map_or(Start::Earliest, Start::After);
                        let mut subscription = now(topics.subscribe(names, start)).unwrap();
                        // Reads a few times, then resumes after the last event.
                        for _ in 0..=rounds % 7 {
                            let finished = done.load(Ordering::SeqCst);
                            let Some(frames) = read_now(&mut subscription) else {
                                if finished {
                                    return (names, seen, rounds);
                                }
                                thread::yield_now();
                                continue;
                            };
                            for frame in frames.expect("the log holds all events") {
                                let (event_type, data, id) = parse(&frame);
                                let numbers: Vec<usize> =
                                    data.split(' ').map(|number| number.parse().unwrap()).collect();
                                let [topic, publisher, number] = numbers[..] else {
                                    panic!("{event_type} {data}");
                                };
                                let next = &mut seen[topic][publisher];
                                assert_eq!(
                                    number, *next,
                                    "of topic {topic}, publisher {publisher}"
                                );
                                *next += 1;
                                last_id = Some(id);
                            }
                        }
                        rounds += 1;
                    }
                })
            })
            .collect();
        let publishers: Vec<_> = (0..4)
            .map(|index| {
                let topics = &topics;
                scope.spawn(move || {
                    let (topic, publisher) = (index % 2, index / 2);
                    for number in 0..EACH {
                        let data = format!("{topic} {publisher} {number}");
                        let new = Publication::new(&data);
                        now(topics.publish(NAMES[topic], new)).unwrap();
                    }
                })
            })
            .collect();
        for publisher in publishers {
            publisher.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
        for reader in readers {
            let (names, seen, rounds) = reader.join().unwrap();
            assert!(rounds > 1, "the reader has resumed");
            for (topic, seen) in seen.iter().enumerate() {
                let expected = if names.contains(&NAMES[topic]) { EACH } else { 0 };
                assert_eq!(*seen, [expected; 2], "of topic {topic}");
            }
        }
    });
}
