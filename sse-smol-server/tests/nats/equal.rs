//! The storage on NATS does what the storage in memory does.

use std::collections::BTreeSet;
use std::sync::Arc;

use fastrand::Rng;
use smol::future::block_on;
use smol::stream::StreamExt as _;
use smol::{Executor, Timer};
use sse_proto::Text;
use sse_smol_server::storage::nats::{NatsConfig, NatsStorage};
use sse_smol_server::storage::{Change, PageLimit, Storage, StorageErrorKind};
use sse_smol_server::{History, Publication, TopicError, Topics, TopicsConfig};

use super::engine::with_each;
use super::support::TIMEOUT;
use super::support::memory_storage::MemoryStorage;

/// Names of topics, with all that is special in subjects of NATS.
const NAMES: [&str; 4] = ["news", "..a..b.", "A_z~9-", "x.d"];

/// The maximum number of events of a topic.
const MOST: usize = 5;

fn config(url: &str) -> NatsConfig {
    let mut config = NatsConfig::new(url);
    config.history = History::default().with_events(MOST);
    config.max_topics = NAMES.len();
    config
}

/// Topics on a storage, whose positions are numbered in the order of changes.
struct Side {
    topics: Topics,
    storage: Arc<dyn Storage>,
    /// The positions of all changes so far.
    positions: Vec<u64>,
}

impl Side {
    fn open(executor: &Executor<'static>, storage: Arc<dyn Storage>) -> Self {
        let window = History::default().with_events(2);
        let config = TopicsConfig::default().with_history(window);
        let (topics, feed) = block_on(Topics::open(config, Arc::clone(&storage))).unwrap();
        executor.spawn(feed).detach();
        Self { topics, storage, positions: Vec::new() }
    }

    /// Returns the number of a position.
    fn number(&self, position: u64) -> usize {
        self.positions.iter().position(|known| *known == position).unwrap()
    }
}

fn run<T>(executor: &Executor<'static>, operation: impl Future<Output = T>) -> T {
    let timeout = async {
        Timer::after(TIMEOUT).await;
        panic!("an operation takes too long");
    };
    block_on(executor.run(smol::future::or(operation, timeout)))
}

/// Returns the outcome of a publication in terms that both sides share.
fn outcome(side: &Side, result: Result<sse_smol_server::Published, TopicError>) -> String {
    let number = |id: &str| {
        let position = id.rsplit('-').next().and_then(|digits| digits.parse().ok());
        let position = position.filter(|_| !id.starts_with("own"));
        position.map_or(id.to_owned(), |position| side.number(position).to_string())
    };
    match result {
        Ok(published) if published.duplicate => format!("duplicate of {}", number(&published.id)),
        Ok(_) => "new".to_owned(),
        Err(TopicError::KeyInUse { id }) => format!("key of {}", number(&id)),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_storage_does_what_one_in_memory_does() {
    with_each(|engine| {
        let executor = Executor::new();
        let nats = block_on(NatsStorage::open(config(&engine.url()))).unwrap();
        let mut sides = [
            Side::open(&executor, Arc::new(MemoryStorage::new(MOST))),
            Side::open(&executor, Arc::new(nats)),
        ];
        let mut changes = sides.each_ref().map(|side| side.storage.follow(0));
        let mut random = Rng::with_seed(7);
        let mut gaps = 0;
        for step in 0..600 {
            let topic = NAMES[random.usize(..NAMES.len())];
            let data = random.usize(..40).to_string();
            let id = random.bool().then(|| format!("own \u{e9}%{}", random.u32(..6)));
            let key = random.bool().then(|| format!("key \n%{}", random.u32(..6)));
            let is_deletion = random.usize(..15) == 0;
            let outcomes = sides.each_ref().map(|side| {
                if is_deletion {
                    let deleted = run(&executor, side.topics.delete(topic)).unwrap();
                    return format!("deleted: {deleted:?}");
                }
                let mut new = Publication::new(&data);
                new.id = id.as_deref().map(Text::from);
                new.key = key.as_deref();
                outcome(side, run(&executor, side.topics.publish(topic, new)))
            });
            assert_eq!(outcomes[0], outcomes[1], "step {step}");
            if outcomes[0] == "new" || outcomes[0].contains("true") {
                let [memory, nats] = changes
                    .each_mut()
                    .map(|changes| run(&executor, changes.next()).unwrap().unwrap());
                for (side, change) in sides.iter_mut().zip([&memory, &nats]) {
                    side.positions.push(match change {
                        Change::Appended { event, .. } => event.position,
                        Change::Deleted { position, .. } => *position,
                        other => panic!("{other:?}"),
                    });
                }
                assert_eq!(described(&sides[0], &memory), described(&sides[1], &nats));
            }
            gaps += compare(&executor, &sides, &mut random, topic);
        }
        // The storage cannot know better where a topic is full.
        assert!(gaps < 100, "{gaps} additional gaps");
    });
}

fn described(side: &Side, change: &Change) -> String {
    match change {
        Change::Appended { topic, event } => {
            let number = side.number(event.position);
            format!("{topic} {number} {:?} {:?}", event.id, event.fields)
        }
        Change::Deleted { topic, position } => format!("{topic} {}", side.number(*position)),
        other => format!("{other:?}"),
    }
}

/// Compares a read from a random position, and the bounds and the list. Returns the number of gaps
/// that NATS alone reports.
fn compare(
    executor: &Executor<'static>,
    sides: &[Side; 2],
    random: &mut Rng,
    topic: &str,
) -> usize {
    let changes = sides[0].positions.len();
    let start = random.usize(..=changes);
    let limit = PageLimit { events: random.usize(1..8), bytes: 1 << 20 };
    let [memory, nats] = sides.each_ref().map(|side| {
        let after = start.checked_sub(1).map_or(0, |index| side.positions[index]);
        let page = run(executor, side.storage.read(topic, after, limit)).unwrap();
        let is_assigned = run(executor, side.storage.is_assigned(after)).unwrap();
        assert!(is_assigned);
        let bounds = run(executor, side.storage.bounds(topic)).unwrap();
        let events: Vec<_> = page
            .events
            .iter()
            .map(|event| (side.number(event.position), event.id.clone(), event.fields.clone()))
            .collect();
        let ends = [&bounds.first, &bounds.last]
            .map(|end| end.as_ref().map(|end| (side.number(end.position), end.id.clone())));
        let list = run(executor, side.storage.topics(None, 10)).unwrap();
        let list: BTreeSet<_> = list
            .into_iter()
            .map(|row| {
                let newest = row.last.map(|newest| side.number(newest.position));
                (row.name, row.events, newest)
            })
            .collect();
        let second = run(executor, side.storage.topics(Some("A_z~9-"), 1)).unwrap();
        let second = second.first().map(|row| Arc::clone(&row.name));
        let found = run(executor, side.storage.find(topic, "own \u{e9}%3")).unwrap();
        let found = found.map(|position| side.number(position));
        // A gap by either: a page that starts later, or bounds after the position.
        let gap = page.dropped > after;
        (gap, bounds.dropped > after, events, page.is_last, ends, list, second, found)
    });
    assert_eq!((&memory.4, &memory.5, &memory.6, memory.7), (&nats.4, &nats.5, &nats.6, nats.7));
    assert!(nats.0 >= memory.0 && nats.1 >= memory.1, "a gap is never silent");
    if nats.0 == memory.0 {
        // A page on NATS may be shorter: a deletion counts towards its limit.
        let len = nats.2.len();
        assert!(memory.2.starts_with(&nats.2), "{:?} {:?}", memory.2, nats.2);
        assert!(len > 0 || memory.2.is_empty());
        assert_eq!(nats.3, memory.3 && len == memory.2.len(), "after {start} of {changes}");
    } else {
        let row = nats.5.iter().find(|row| *row.0 == *topic);
        assert!(row.is_some_and(|row| row.1 == MOST), "a gap that nothing explains: {nats:?}");
    }
    usize::from(nats.0 != memory.0)
}

#[test]
fn an_event_that_is_too_large_and_a_topic_too_many_are_refused() {
    with_each(|engine| {
        let executor = Executor::new();
        let storage = block_on(NatsStorage::open(config(&engine.url()))).unwrap();
        let side = Side::open(&executor, Arc::new(storage));
        let publish =
            |topic: &str, new: Publication<'_>| run(&executor, side.topics.publish(topic, new));
        let data = "x".repeat(1 << 20);
        let Err(TopicError::Storage(error)) = publish("news", Publication::new(&data)) else {
            panic!("the event is larger than max_payload");
        };
        assert_eq!(error.kind(), StorageErrorKind::TooLarge);
        let key = "k".repeat(70_000);
        let Err(TopicError::Storage(error)) = publish("news", Publication::new("x").with_key(&key))
        else {
            panic!("the headers are larger than JetStream allows");
        };
        assert_eq!(error.kind(), StorageErrorKind::TooLarge);
        for name in NAMES {
            publish(name, Publication::new("x")).unwrap();
        }
        let refused = publish("more", Publication::new("x"));
        assert_eq!(refused, Err(TopicError::TooManyTopics(NAMES.len())));
        // A deleted topic leaves room for another.
        assert!(run(&executor, side.topics.delete("news")).unwrap());
        publish("more", Publication::new("x")).unwrap();
        assert!(publish("news", Publication::new("x")).is_err());
    });
}
