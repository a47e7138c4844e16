//! A model of topics: for any sequence of operations, each subscriber gets every event once and in
//! order, or a gap event. It is the same with each storage.

use std::collections::HashSet;
use std::future::Future;
use std::mem;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use smol::future::{block_on, or, poll_once};
use smol::{Executor, Timer};
use sse_proto::Text;
use sse_smol_server::storage::Storage;
use sse_smol_server::{
    Frame, History, Publication, Start, Subscription, SubscriptionError, TopicError, Topics,
    TopicsConfig,
};

use crate::support::storage::{POLLS, Unreliable};
use crate::support::topics::{is_start, parse, read_now};
use crate::support::{TIMEOUT, now};

pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Publish {
        topic: usize,
        own_id: Option<u8>,
        key: Option<u8>,
    },
    /// Publishes several events.
    Burst {
        topic: usize,
        count: u8,
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
pub(crate) enum StartAt {
    Latest,
    Earliest,
    /// After one of all events published so far.
    After(prop::sample::Index),
    Unknown,
}

pub(crate) fn operation() -> impl Strategy<Value = Operation> {
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
        1 => (0..3_usize, 1..8_u8).prop_map(|(topic, count)| Operation::Burst { topic, count }),
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
    /// Whether the ID at which the subscriber has begun may be unknown, since its event is not held
    /// any more.
    may_be_unknown: bool,
    /// Whether the subscriber may have begun with a gap event although it had missed nothing.
    may_begin_with_gap: bool,
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

/// Where the events of the topics under test are kept.
#[allow(dead_code)] // each test uses a part of it
pub(crate) enum Backing {
    Memory,
    /// A storage that fails on request and can replace its log. All its operations end within
    /// [`POLLS`] polls.
    Unreliable(Arc<Unreliable>),
    /// A storage as servers use it.
    Durable {
        /// Opens the storage with the events that it has.
        open: Box<dyn Fn() -> Arc<dyn Storage>>,
        /// Whether subscribers may get a gap event although they have missed nothing: if one of
        /// their topics is full, or their last event is not held any more. In the latter case, its
        /// ID may be unknown, so that they get all events that are held.
        has_more_gaps: bool,
    },
}

/// The topics under test.
struct World {
    topics: Topics,
    executor: Executor<'static>,
    backing: Backing,
    /// The maximum number of events of a topic.
    most: usize,
}

impl World {
    fn open(config: TopicsConfig, backing: Backing, most: usize) -> Self {
        let executor = Executor::new();
        let storage: Option<Arc<dyn Storage>> = match &backing {
            Backing::Memory => None,
            Backing::Unreliable(storage) => Some(Arc::<Unreliable>::clone(storage)),
            Backing::Durable { open, .. } => Some(open()),
        };
        let topics = match storage {
            None => Topics::new(config).unwrap(),
            Some(storage) => {
                let (topics, feed) = block_on(Topics::open(config, storage)).unwrap();
                executor.spawn(feed).detach();
                topics
            }
        };
        Self { topics, executor, backing, most }
    }

    /// Closes the storage, and opens it again.
    fn restart(self, config: TopicsConfig) -> Self {
        let Self { topics, executor, backing, most } = self;
        drop((topics, executor));
        Self::open(config, backing, most)
    }

    const fn unreliable(&self) -> Option<&Arc<Unreliable>> {
        match &self.backing {
            Backing::Unreliable(storage) => Some(storage),
            _ => None,
        }
    }

    /// Waits for an operation while the feed runs.
    fn wait<T>(&self, operation: impl Future<Output = T>) -> T {
        let timeout = async {
            Timer::after(TIMEOUT).await;
            panic!("an operation takes too long");
        };
        block_on(self.executor.run(or(operation, timeout)))
    }

    /// Runs an operation to its end. Returns `None` if the storage failed.
    fn run<T>(
        &self,
        operation: impl Future<Output = Result<T, TopicError>>,
    ) -> Option<Result<T, TopicError>> {
        let result = match self.backing {
            Backing::Memory => now(operation),
            _ => self.wait(operation),
        };
        match result {
            Err(TopicError::Storage(_)) if self.unreliable().is_some() => None,
            result => Some(result),
        }
    }

    /// Reads what is there without waiting for a publication. If something is due, waits until a
    /// durable storage has read it. Skips the ID of the starting position.
    fn read(
        &self,
        subscription: &mut Subscription,
        is_due: bool,
    ) -> Option<Result<Vec<Frame>, SubscriptionError>> {
        let read = match self.backing {
            Backing::Memory => return read_now(subscription),
            Backing::Durable { .. } if is_due => Some(self.wait(subscription.next_batch())),
            _ => {
                let mut next = Box::pin(subscription.next_batch());
                (0..POLLS).find_map(|_| {
                    while self.executor.try_tick() {}
                    block_on(poll_once(&mut next))
                })
            }
        };
        match &read {
            Some(Ok(frames)) if is_start(&frames[0]) => self.read(subscription, is_due),
            _ => read,
        }
    }

    /// Returns whether a subscriber may get a gap event although it has missed nothing.
    fn may_report_gap(&self, subscriber: &Subscriber, all: &[Event]) -> bool {
        let held = |topic| all.iter().filter(|event| event.topic == topic && event.held).count();
        // The last event that it has seen, or the first one of all, which follows its position.
        let last = all.get(subscriber.next.saturating_sub(1));
        let is_last_held = last.is_none_or(|last| last.held);
        let is_full = subscriber.topics.iter().any(|topic| held(*topic) == self.most);
        matches!(self.backing, Backing::Durable { has_more_gaps: true, .. })
            && (is_full || !is_last_held)
    }
}

/// Runs operations on topics that hold at most `events` events each, of which memory holds at most
/// `window` events if there is a storage.
pub(crate) fn run(
    backing: Backing,
    events: usize,
    window: usize,
    gap_on_lag: bool,
    operations: &[Operation],
) {
    let history = History::default().with_events(window);
    let config = TopicsConfig::default().with_history(history).with_gap_on_lag(gap_on_lag);
    let mut world = World::open(config.clone(), backing, events);
    let mut all: Vec<Event> = Vec::new();
    let mut subscribers: Vec<Subscriber> = Vec::new();
    for operation in operations {
        match operation {
            Operation::Publish { topic, own_id, key } => {
                publish(&world, &mut all, *topic, *own_id, *key);
            }
            Operation::Burst { topic, count } => {
                for n in 0..*count {
                    // Keys and IDs are in segments, too. They are not those of other operations.
                    let key = (n % 7 == 0).then_some(100);
                    let own_id = (n % 5 == 0).then_some(100 + n / 5);
                    publish(&world, &mut all, *topic, own_id, key);
                }
            }
            Operation::Subscribe { topics: wanted, start } => {
                if let Some(mut subscriber) = subscribe(&world, &all, wanted, start) {
                    subscriber.may_begin_with_gap = world.may_report_gap(&subscriber, &all);
                    subscribers.push(subscriber);
                }
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
                if let Some(storage) = world.unreliable() {
                    replace(&world, storage, &mut all, *keep);
                    for subscriber in &mut subscribers {
                        subscriber.replaced = true;
                    }
                }
            }
            Operation::Restart if !matches!(world.backing, Backing::Memory) => {
                subscribers.clear();
                world = world.restart(config.clone());
            }
            Operation::Read { .. } | Operation::Leave { .. } | Operation::Restart => {}
        }
        if let Some(list) = world.run(world.topics.list(None, 1000)) {
            let counted: usize = list.unwrap().topics.iter().map(|topic| topic.events).sum();
            assert_eq!(counted, all.iter().filter(|event| event.held).count());
        }
    }
    if let Some(storage) = world.unreliable() {
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

fn publish(world: &World, all: &mut Vec<Event>, topic: usize, own_id: Option<u8>, key: Option<u8>) {
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
        if held().count() == world.most {
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
            may_be_unknown: false,
            may_begin_with_gap: false,
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
            let has_more_gaps =
                matches!(world.backing, Backing::Durable { has_more_gaps: true, .. });
            subscriber.may_be_unknown =
                has_more_gaps && known.is_some_and(|index| !all[index].held);
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
    let may_report_gap = world.may_report_gap(subscriber, all);
    let is_due = subscriber.gap || subscriber.replaced || !subscriber.pending(all).is_empty();
    let frames = match world.read(&mut subscriber.real, is_due) {
        None => {
            let has_gap = subscriber.gap || subscriber.replaced;
            assert!(!has_gap, "a gap event is available at once");
            assert!(!is_due, "{:?} are not delivered", subscriber.pending(all));
            return true;
        }
        // The subscription continues where it was.
        Some(Err(SubscriptionError::Storage(_))) if world.unreliable().is_some() => return true,
        Some(Err(error)) => {
            assert_eq!(error, SubscriptionError::Lagged);
            assert!(
                !gap_on_lag && !subscriber.gap && (subscriber.lags(all) || may_report_gap),
                "only a lagging subscription ends"
            );
            return false;
        }
        Some(Ok(frames)) => frames,
    };
    assert!(!frames.is_empty());
    for frame in &frames {
        let may_report_gap = may_report_gap || mem::take(&mut subscriber.may_begin_with_gap);
        let (event_type, data, id) = parse(frame);
        if event_type == "gap" {
            let is_expected = subscriber.gap || gap_on_lag && subscriber.lags(all);
            assert!(is_expected || may_report_gap, "unexpected gap: {data} at {}", subscriber.next);
            if data.contains("\"lagged\"") {
                assert!(!subscriber.gap, "the gap event of the start comes first");
                subscriber.excuse_evicted(all);
                subscriber.replaced = false;
            } else if subscriber.may_be_unknown && data.contains("\"unknown\"") {
                subscriber.next = 0;
            }
            subscriber.gap = false;
            subscriber.may_be_unknown = false;
            continue;
        }
        assert!(!subscriber.gap && !subscriber.replaced, "the gap event comes first");
        let index = subscriber.pending(all).first().copied().expect("an unread event");
        assert_eq!(data.parse(), Ok(all[index].data), "every event once and in order");
        assert_eq!(id, all[index].id);
        subscriber.next = index + 1;
        subscriber.may_be_unknown = false;
    }
    true
}
