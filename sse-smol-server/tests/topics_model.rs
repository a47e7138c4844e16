//! Tests topics against a model: for any sequence of operations, each subscriber gets every event
//! once and in order, or a gap event.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use smol::future::{self, block_on};
use sse_proto::Decoder;
use sse_smol_server::{
    Frame, History, Lagged, Publication, Published, Start, Subscription, TopicError, TopicPage,
    Topics, TopicsConfig,
};

const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Operation {
    Publish { topic: usize, own_id: Option<u8>, key: Option<u8> },
    Subscribe { topics: Vec<usize>, start: StartAt },
    Read { subscriber: prop::sample::Index },
    Leave { subscriber: prop::sample::Index },
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
    ]
}

/// An event in the model. Its index in the list of all events is its position.
#[derive(Clone, Debug)]
struct Event {
    topic: usize,
    id: String,
    has_own_id: bool,
    key: Option<u8>,
    held: bool,
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
        self.pending(all).iter().any(|index| !all[*index].held)
    }

    /// Excuses all events that are evicted by now.
    fn excuse_evicted(&mut self, all: &[Event]) {
        self.excused.extend((0..all.len()).filter(|index| !all[*index].held));
    }
}

/// Decodes a frame. Returns type, data and ID.
fn parse(frame: &Frame) -> (String, String, String) {
    let mut decoder = Decoder::new();
    let event = decoder.next_event(&mut frame.encoded()).unwrap().expect("an event");
    let text = |text: sse_proto::Text<'_>| text.to_string();
    (text(event.event_type()), text(event.data()), text(event.last_event_id()))
}

/// Returns the frames that are available without waiting, or `None`. Skips the ID of the starting
/// position.
fn read_now(subscription: &mut Subscription) -> Option<Result<Vec<Frame>, Lagged>> {
    let read = block_on(future::poll_once(subscription.next()));
    match &read {
        Some(Ok(frames)) if is_start(&frames[0]) => read_now(subscription),
        _ => read,
    }
}

/// Whether a frame is the ID of a starting position: an ID without data.
fn is_start(frame: &Frame) -> bool {
    let start = frame.encoded().starts_with(b"id: ") && frame.id().is_some();
    start && Decoder::new().next_event(&mut frame.encoded()).unwrap().is_none()
}

fn run(events: usize, gap_on_lag: bool, operations: &[Operation]) {
    let topics = Topics::new(TopicsConfig {
        history: History { events, ..History::default() },
        gap_on_lag,
        ..TopicsConfig::default()
    })
    .unwrap();
    let mut all: Vec<Event> = Vec::new();
    let mut subscribers: Vec<Subscriber> = Vec::new();
    for operation in operations {
        match operation {
            Operation::Publish { topic, own_id, key } => {
                publish(&topics, &mut all, events, *topic, *own_id, *key);
            }
            Operation::Subscribe { topics: wanted, start } => {
                subscribers.push(subscribe(&topics, &all, wanted, start));
            }
            Operation::Read { subscriber } if !subscribers.is_empty() => {
                let index = subscriber.index(subscribers.len());
                if !read(&mut subscribers[index], &all, gap_on_lag) {
                    subscribers.swap_remove(index);
                }
            }
            Operation::Leave { subscriber } if !subscribers.is_empty() => {
                subscribers.swap_remove(subscriber.index(subscribers.len()));
            }
            Operation::Read { .. } | Operation::Leave { .. } => {}
        }
        let counted: usize = topics.list(None, 1000).topics.iter().map(|topic| topic.events).sum();
        assert_eq!(counted, all.iter().filter(|event| event.held).count());
    }
    for topic in topics.list(None, 1000).topics {
        let mine = |subscriber: &&Subscriber| {
            subscriber.topics.iter().any(|index| NAMES[*index] == topic.name)
        };
        assert_eq!(topic.subscribers, subscribers.iter().filter(mine).count());
    }
}

fn publish(
    topics: &Topics,
    all: &mut Vec<Event>,
    most: usize,
    topic: usize,
    own_id: Option<u8>,
    key: Option<u8>,
) {
    let own_id = own_id.map(|id| format!("own {id}"));
    let key_text = key.map(|key| key.to_string());
    let data = all.len().to_string();
    let result = topics.publish(
        NAMES[topic],
        Publication {
            event_type: Some("n"),
            data: &data,
            id: own_id.as_deref(),
            key: key_text.as_deref(),
            retry: None,
        },
    );
    let held = || all.iter().filter(|event| event.topic == topic && event.held);
    if let Some(same) = held().find(|event| key.is_some() && event.key == key) {
        let id = same.id.clone();
        assert_eq!(
            result,
            Err(TopicError::KeyInUse { id: id.clone() }),
            "the key was used with other data"
        );
        // Publishing the same event again is reported as a duplicate.
        let again = Publication {
            event_type: Some("n"),
            data: &all.iter().position(|event| std::ptr::eq(event, same)).unwrap().to_string(),
            id: same.has_own_id.then_some(&id),
            key: key_text.as_deref(),
            retry: None,
        };
        assert_eq!(topics.publish(NAMES[topic], again), Ok(Published { id, duplicate: true }));
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
        all.push(Event { topic, id: published.id, has_own_id: own_id.is_some(), key, held: true });
    }
}

fn subscribe(topics: &Topics, all: &[Event], wanted: &[usize], start: &StartAt) -> Subscriber {
    let names: Vec<&str> = wanted.iter().map(|index| NAMES[*index]).collect();
    let subscriber = |start| Subscriber {
        real: topics.subscribe(&names, start).unwrap(),
        topics: wanted.to_vec(),
        next: 0,
        excused: HashSet::new(),
        gap: false,
    };
    match start {
        StartAt::Latest => Subscriber { next: all.len(), ..subscriber(Start::Latest) },
        StartAt::Earliest => {
            let mut subscriber = subscriber(Start::Earliest);
            subscriber.excuse_evicted(all);
            subscriber
        }
        StartAt::After(index) if !all.is_empty() => {
            let id = &all[index.index(all.len())].id;
            // An assigned ID stays valid; a publisher's own ID is known while its event is in the
            // log. If several topics hold the same ID, the earliest counts, so that no event is lost.
            let known = all.iter().position(|event| {
                event.id == *id
                    && (!event.has_own_id || event.held && wanted.contains(&event.topic))
            });
            let mut subscriber = subscriber(Start::After(id));
            subscriber.next = known.map_or(0, |index| index + 1);
            subscriber.gap = known.is_none() || subscriber.lags(all);
            subscriber.excuse_evicted(all);
            subscriber
        }
        StartAt::After(_) | StartAt::Unknown => {
            let mut subscriber = subscriber(Start::After("of another run-7"));
            subscriber.gap = true;
            subscriber.excuse_evicted(all);
            subscriber
        }
    }
}

/// Reads once and checks the frames. Returns whether the subscription continues.
fn read(subscriber: &mut Subscriber, all: &[Event], gap_on_lag: bool) -> bool {
    let frames = match read_now(&mut subscriber.real) {
        None => {
            assert!(!subscriber.gap, "a gap event is available at once");
            let pending = subscriber.pending(all);
            assert!(pending.is_empty(), "{pending:?} are not delivered");
            return true;
        }
        Some(Err(Lagged)) => {
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
            }
            continue;
        }
        assert!(!subscriber.gap, "the gap event comes first");
        let index: usize = data.parse().unwrap();
        let next = subscriber.pending(all).first().copied();
        assert_eq!(Some(index), next, "every event once and in order");
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
        run(events, gap_on_lag, &operations);
    }
}

/// Two publishers to each of two topics, and readers that unsubscribe and resume, on threads.
#[test]
fn concurrent_subscribers_get_every_event_once_and_in_order() {
    const EACH: usize = 3000;
    let topics = Topics::new(TopicsConfig {
        history: History { events: 10 * EACH, bytes: usize::MAX, ..History::default() },
        ..TopicsConfig::default()
    })
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
                        let mut subscription = topics.subscribe(names, start).unwrap();
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
                        let new = Publication { data: &data, ..Publication::default() };
                        topics.publish(NAMES[topic], new).unwrap();
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

/// An event of any of its topics wakes a waiting subscriber.
#[test]
fn waiting_subscribers_are_woken() {
    let topics = Topics::new(TopicsConfig::default()).unwrap();
    let mut subscription = topics.subscribe(&["a", "b"], Start::Latest).unwrap();
    assert!(is_start(&block_on(subscription.next()).unwrap()[0]));
    for name in ["a", "b", "a"] {
        thread::scope(|scope| {
            let reader = scope.spawn(|| block_on(subscription.next()).unwrap());
            thread::sleep(Duration::from_millis(20));
            let new = Publication { data: name, ..Publication::default() };
            topics.publish(name, new).unwrap();
            let frames = reader.join().unwrap();
            assert_eq!(parse(&frames[0]).1, name);
        });
    }
}

#[test]
fn logs_are_limited_in_bytes_and_age_and_over_all_topics() {
    let publish = |topics: &Topics, name: &str, len: usize| {
        let data = "x".repeat(len);
        topics.publish(name, Publication { data: &data, ..Publication::default() }).unwrap()
    };
    let bytes = Topics::new(TopicsConfig {
        history: History { bytes: 10_000, ..History::default() },
        ..TopicsConfig::default()
    })
    .unwrap();
    for _ in 0..50 {
        publish(&bytes, "a", 1000);
        assert!(bytes.list(None, 1000).topics[0].bytes <= 10_000);
    }
    assert!(bytes.list(None, 1000).topics[0].events >= 5);
    publish(&bytes, "a", 100_000);
    assert_eq!(
        bytes.list(None, 1000).topics[0].events,
        1,
        "the newest event stays, even above the limit"
    );

    let age = Topics::new(TopicsConfig {
        history: History { age: Duration::from_millis(50), ..History::default() },
        ..TopicsConfig::default()
    })
    .unwrap();
    let old = publish(&age, "a", 1).id;
    thread::sleep(Duration::from_millis(100));
    let mut subscription = age.subscribe(&["a"], Start::Earliest).unwrap();
    assert!(read_now(&mut subscription).is_none(), "the event has expired");
    assert_eq!(age.list(None, 1000).topics[0].events, 0);
    let mut subscription = age.subscribe(&["a"], Start::After(&old)).unwrap();
    assert!(read_now(&mut subscription).is_none(), "nothing is missing after the last event");

    let all = Topics::new(TopicsConfig { max_bytes: 50_000, ..TopicsConfig::default() }).unwrap();
    for n in 0..500 {
        publish(&all, &format!("topic-{}", n % 100), 1000);
        let sum: usize = all.list(None, 1000).topics.iter().map(|topic| topic.bytes).sum();
        assert!(sum <= 50_000, "{sum}");
    }
    let held: usize = all.list(None, 1000).topics.iter().map(|topic| topic.events).sum();
    assert!(held >= 30, "{held} events are held");
}

#[test]
fn topic_names_ids_and_the_number_of_topics_are_checked() {
    let topics = Topics::new(TopicsConfig { max_topics: 2, ..TopicsConfig::default() }).unwrap();
    let new = Publication { data: "x", ..Publication::default() };
    for bad in ["", "a/b", "a b", "ä", "a%20", &"x".repeat(129)] {
        assert!(matches!(topics.publish(bad, new), Err(TopicError::Name(_))), "{bad:?}");
        assert!(matches!(topics.subscribe(&[bad], Start::Latest), Err(TopicError::Name(_))));
    }
    topics.publish("a", new).unwrap();
    // Topics without events do not count towards `max_topics`.
    let _subscription = topics.subscribe(&["b", "c", "d"], Start::Latest).unwrap();
    topics.publish("c", new).unwrap();
    assert_eq!(topics.publish("b", new), Err(TopicError::TooManyTopics(2)));
    assert_eq!(topics.publish("d", new), Err(TopicError::TooManyTopics(2)));
    for id in ["earliest", "latest", "", " a", "a ", "a\tb", &"x".repeat(257)] {
        let result = topics.publish("a", Publication { id: Some(id), ..new });
        assert!(matches!(result, Err(TopicError::ReservedId(_))), "{id:?}");
    }
    let assigned = topics.publish("a", new).unwrap().id;
    let forged = assigned.split('-').next().unwrap().to_owned() + "-99";
    let result = topics.publish("a", Publication { id: Some(&forged), ..new });
    assert!(matches!(result, Err(TopicError::ReservedId(_))));
}

/// An ID of an earlier run is unknown, which causes a gap.
#[test]
fn assigned_ids_are_unique_across_restarts() {
    let new = Publication { data: "x", ..Publication::default() };
    let ids: HashSet<String> = (0..100)
        .flat_map(|_| {
            let topics = Topics::new(TopicsConfig::default()).unwrap();
            (0..3).map(|_| topics.publish("a", new).unwrap().id).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(ids.len(), 300);
    let (before, after) = (
        Topics::new(TopicsConfig::default()).unwrap(),
        Topics::new(TopicsConfig::default()).unwrap(),
    );
    let old = before.publish("a", new).unwrap().id;
    for _ in 0..3 {
        after.publish("a", new).unwrap();
    }
    let mut subscription = after.subscribe(&["a"], Start::After(&old)).unwrap();
    let gap = parse(&read_now(&mut subscription).unwrap().unwrap()[0]);
    assert_eq!(gap.0, "gap");
    let data: serde_json::Value = serde_json::from_str(&gap.1).unwrap();
    assert_eq!(
        (data["reason"].as_str(), data["requested"].as_str()),
        (Some("unknown"), Some(&*old))
    );
    assert_eq!(
        read_now(&mut subscription).unwrap().unwrap().len(),
        3,
        "then all events in the log"
    );
    // Resuming with the ID of the gap event continues after the gap, without another one.
    let mut again = after.subscribe(&["a"], Start::After(&gap.2)).unwrap();
    assert_eq!(parse(&read_now(&mut again).unwrap().unwrap()[0]).0, "message");
}

/// The first frame is the ID of the starting position, so that a subscriber can resume there.
#[test]
fn subscriptions_start_with_an_id_to_resume_from() {
    for (start, expected) in
        [(Start::Latest, &["after"][..]), (Start::Earliest, &["before", "after"])]
    {
        let topics = Topics::new(TopicsConfig::default()).unwrap();
        let publish = |data| {
            topics.publish("a", Publication { data, ..Publication::default() }).unwrap();
        };
        publish("before");
        let mut first = topics.subscribe(&["a"], start).unwrap();
        let frames = block_on(first.next()).unwrap();
        assert!(frames.len() == 1 && is_start(&frames[0]));
        drop(first);
        publish("after");
        let id = String::from_utf8(frames[0].id().unwrap().to_vec()).unwrap();
        let mut again = topics.subscribe(&["a"], Start::After(&id)).unwrap();
        let frames = block_on(again.next()).unwrap();
        let data: Vec<String> = frames.iter().map(|frame| parse(frame).1).collect();
        assert_eq!(data, expected);
    }
}

/// Subscribers do not count towards `max_topics`, and get the events of topics created later.
#[test]
fn subscribing_works_at_the_limit_of_topics() {
    let history = History { age: Duration::from_millis(300), ..History::default() };
    let config = TopicsConfig { history, max_topics: 2, ..TopicsConfig::default() };
    let topics = Topics::new(config).unwrap();
    let publish = |name| topics.publish(name, Publication { data: name, ..Publication::default() });
    let names: Vec<String> = (0..100).map(|n| format!("topic-{n}")).collect();
    let mut subscriptions: Vec<Subscription> = names
        .iter()
        .map(|name| topics.subscribe(&[name, name, "own"], Start::Latest).unwrap())
        .collect();
    assert_eq!(topics.totals().topics, 101);
    assert_eq!(topics.totals().subscriptions, 200);
    for name in ["own", "topic-7"] {
        publish(name).unwrap();
        let frames = read_now(&mut subscriptions[7]).expect("the event is delivered").unwrap();
        assert_eq!(parse(&frames[0]).1, name);
    }
    assert_eq!(parse(&read_now(&mut subscriptions[8]).unwrap().unwrap()[0]).1, "own");
    for name in ["topic-8", "unknown"] {
        assert_eq!(publish(name), Err(TopicError::TooManyTopics(2)));
    }
    // Expired events free the places of their topics.
    thread::sleep(Duration::from_millis(400));
    for name in ["topic-8", "own"] {
        publish(name).unwrap();
        let frames = read_now(&mut subscriptions[8]).expect("the event is delivered").unwrap();
        assert_eq!(parse(&frames[0]).1, name);
    }
    assert_eq!(publish("topic-7"), Err(TopicError::TooManyTopics(2)));
    drop(subscriptions);
    let left: Vec<String> =
        topics.list(None, 1000).topics.into_iter().map(|topic| topic.name).collect();
    assert_eq!(
        left,
        ["own", "topic-8"],
        "topics without events are removed with their last subscription"
    );
    thread::sleep(Duration::from_millis(400));
    let totals = topics.totals();
    assert_eq!((totals.topics, totals.events, totals.bytes, totals.subscriptions), (0, 0, 0, 0));
}

/// A cursor from before a topic was removed gets a gap event.
#[test]
fn a_cursor_into_a_removed_topic_gets_a_gap() {
    let topics = Topics::new(TopicsConfig {
        history: History { age: Duration::from_millis(20), ..History::default() },
        max_topics: 1,
        ..TopicsConfig::default()
    })
    .unwrap();
    let new = Publication { data: "x", ..Publication::default() };
    let first = topics.publish("a", new).unwrap().id;
    topics.publish("a", new).unwrap();
    thread::sleep(Duration::from_millis(50));
    topics.publish("b", new).unwrap();
    thread::sleep(Duration::from_millis(50));
    let mut subscription = topics.subscribe(&["a"], Start::After(&first)).unwrap();
    assert_eq!(parse(&read_now(&mut subscription).unwrap().unwrap()[0]).0, "gap");
}

/// Whether resuming after `id` yields a gap event first.
fn has_gap(topics: &Topics, name: &str, id: &str) -> bool {
    let mut subscription = topics.subscribe(&[name], Start::After(id)).unwrap();
    read_now(&mut subscription).is_some_and(|frames| parse(&frames.unwrap()[0]).0 == "gap")
}

#[test]
fn a_topic_that_was_removed_has_a_gap_only_for_its_own_events() {
    const MORE_THAN_REMEMBERED: usize = 5000;
    let topics = Topics::new(TopicsConfig {
        history: History { age: Duration::from_millis(20), ..History::default() },
        max_topics: MORE_THAN_REMEMBERED,
        ..TopicsConfig::default()
    })
    .unwrap();
    let start = |name: &str| {
        let frames = topics.subscribe(&[name], Start::Latest).unwrap().ready();
        String::from_utf8(frames[0].id().unwrap().to_vec()).unwrap()
    };
    let new = Publication { data: "x", ..Publication::default() };
    let quiet = start("quiet");
    let before = start("busy");
    let first = topics.publish("busy", new).unwrap().id;
    let last = topics.publish("busy", new).unwrap().id;
    thread::sleep(Duration::from_millis(50));
    assert_eq!(topics.totals().topics, 0, "topics whose events have expired are removed");
    assert!(!has_gap(&topics, "quiet", &quiet), "nothing was published to this topic");
    assert!(has_gap(&topics, "busy", &before), "both events are missing");
    assert!(has_gap(&topics, "busy", &first), "the last event is missing");
    assert!(!has_gap(&topics, "busy", &last));

    // With more removed topics than are remembered, a gap is reported rather than events lost.
    for n in 0..MORE_THAN_REMEMBERED {
        topics.publish(&format!("t{n}"), new).unwrap();
    }
    thread::sleep(Duration::from_millis(50));
    while topics.totals().topics > 0 {}
    assert!(has_gap(&topics, "busy", &first));
    assert!(has_gap(&topics, "t0", &first), "its only event is missing");
    assert!(has_gap(&topics, &format!("t{}", MORE_THAN_REMEMBERED - 1), &first));
}

#[test]
fn expired_topics_give_up_their_places_however_many_events_they_held() {
    let topics = Topics::new(TopicsConfig {
        history: History { age: Duration::from_millis(20), events: 5000, ..History::default() },
        max_topics: 1,
        ..TopicsConfig::default()
    })
    .unwrap();
    let new = Publication { data: "x", ..Publication::default() };
    for _ in 0..3500 {
        topics.publish("a", new).unwrap();
    }
    thread::sleep(Duration::from_millis(50));
    topics.publish("b", new).expect("the events of the other topic have expired");
}

#[test]
fn assigned_ids_sort_as_text() {
    let topics = Topics::new(TopicsConfig::default()).unwrap();
    let new = Publication { data: "x", ..Publication::default() };
    let ids: Vec<String> = (0..1100).map(|_| topics.publish("a", new).unwrap().id).collect();
    assert!(ids.is_sorted());
}

#[test]
fn topics_are_listed_in_pages() {
    let topics = Topics::new(TopicsConfig { max_topics: 5000, ..TopicsConfig::default() }).unwrap();
    let names: Vec<String> = (0..2500).map(|n| format!("{n:04}")).collect();
    for name in &names {
        topics.publish(name, Publication { data: "x", ..Publication::default() }).unwrap();
    }
    for (limit, sizes) in [
        (1000, &[1000, 1000, 500][..]),
        (usize::MAX, &[1000, 1000, 500]),
        (2499 / 4, &[624, 624, 624, 624, 4]),
        (500, &[500; 5]),
    ] {
        let (mut after, mut seen, mut pages) = (None, Vec::new(), Vec::new());
        loop {
            let page = topics.list(after.as_deref(), limit);
            pages.push(page.topics.len());
            seen.extend(page.topics.into_iter().map(|topic| topic.name));
            after = page.next;
            if after.is_none() {
                break;
            }
            assert_eq!(after.as_ref(), seen.last());
        }
        assert_eq!(pages, sizes, "{limit}");
        assert_eq!(seen, names);
    }
    // The name to continue after need not exist.
    assert_eq!(topics.list(Some("0001x"), 1).topics[0].name, "0002");
    assert_eq!(topics.list(Some("x"), 1), TopicPage { topics: Vec::new(), next: None });
    assert_eq!(topics.list(None, 0).topics.len(), 1);
}

/// Each operation on any topic removes a limited number of expired events.
#[test]
fn events_of_idle_topics_expire() {
    const TOPICS: usize = 30;
    const EACH: usize = 100;
    let history = History { age: Duration::from_millis(500), ..History::default() };
    let topics = Topics::new(TopicsConfig { history, ..TopicsConfig::default() }).unwrap();
    let new = Publication { data: "x", ..Publication::default() };
    let start = std::time::Instant::now();
    for n in 0..TOPICS * EACH {
        topics.publish(&format!("topic-{}", n % TOPICS), new).unwrap();
    }
    assert!(start.elapsed() < history.age, "this machine is too slow for this test");
    assert_eq!(topics.totals().events, TOPICS * EACH);
    thread::sleep(history.age);
    let mut left = vec![TOPICS * EACH];
    for _ in 0..5 {
        topics.publish("other", new).unwrap();
        left.push(topics.list(None, 1000).topics.iter().map(|topic| topic.events).sum());
    }
    assert!(left.windows(2).all(|pair| pair[0] - pair[1].min(pair[0]) <= 2100), "{left:?}");
    assert!(left[1] > 0 && left[5] == 5, "{left:?}");
    let totals = topics.totals();
    assert_eq!((totals.topics, totals.events), (1, 5));
}

#[test]
fn an_idempotency_key_identifies_one_event() {
    let topics = Topics::new(TopicsConfig::default()).unwrap();
    let first = Publication {
        event_type: Some("t"),
        data: "x",
        retry: Some(5),
        key: Some("k"),
        ..Publication::default()
    };
    let assigned = topics.publish("a", first).unwrap().id;
    let own = Publication { id: Some("own"), key: Some("k2"), ..first };
    topics.publish("a", own).unwrap();
    for (same, id) in [(first, &*assigned), (own, "own")] {
        let duplicate = Published { id: id.to_owned(), duplicate: true };
        assert_eq!(topics.publish("a", same), Ok(duplicate));
        for other in [
            Publication { event_type: None, ..same },
            Publication { event_type: Some("u"), ..same },
            Publication { data: "y", ..same },
            Publication { data: "", ..same },
            Publication { retry: None, ..same },
            Publication { retry: Some(6), ..same },
            Publication { id: Some("other"), ..same },
            Publication { id: if same.id.is_some() { None } else { Some("own") }, ..same },
        ] {
            let refused = Err(TopicError::KeyInUse { id: id.to_owned() });
            assert_eq!(topics.publish("a", other), refused, "{other:?}");
        }
        assert!(!topics.publish("b", Publication { data: "y", ..same }).unwrap().duplicate);
    }
    assert_eq!(topics.totals().events, 4);
}

/// Events at the limits for publishing are within the default limits of a decoder.
#[test]
fn events_at_the_limits_pass_a_decoder() {
    let history = History { bytes: usize::MAX, ..History::default() };
    let topics = Topics::new(TopicsConfig { history, ..TopicsConfig::default() }).unwrap();
    let mut subscription = topics.subscribe(&["a"], Start::Latest).unwrap();
    let data = "x".repeat(sse_proto::Limits::default().data);
    let event_type = "t".repeat(4096);
    let ids: Vec<String> = ["a", "b", "c"].iter().map(|id| id.repeat(256)).collect();
    let mut expected = Vec::new();
    for id in [Some(&*ids[0]), Some(&ids[1]), None, Some(&ids[2])] {
        let new = Publication {
            event_type: Some(&event_type),
            data: &data,
            id,
            ..Publication::default()
        };
        expected.push(topics.publish("a", new).unwrap().id);
    }
    let mut stream = Vec::new();
    while let Some(frames) = read_now(&mut subscription) {
        frames.unwrap().iter().for_each(|frame| stream.extend_from_slice(frame.encoded()));
    }
    for piece in [usize::MAX, 1000] {
        let (mut decoder, mut seen) = (Decoder::new(), Vec::new());
        for mut chunk in stream.chunks(piece.min(stream.len())) {
            while let Some(event) =
                decoder.next_event(&mut chunk).expect("the event is within the limits")
            {
                assert_eq!(event.event_type().to_string(), event_type);
                assert_eq!(event.data().as_bytes().len(), data.len());
                seen.push(event.last_event_id().to_string());
            }
        }
        assert_eq!(seen, expected);
    }
    let refused = |new| topics.publish("a", new).unwrap_err();
    let long = event_type + "t";
    let new = Publication { event_type: Some(&long), ..Publication::default() };
    assert_eq!(refused(new), TopicError::TypeTooLong(4097));
    let large = data + "x";
    let new = Publication { data: &large, ..Publication::default() };
    assert_eq!(refused(new), TopicError::DataTooLarge(large.len()));
}

#[test]
fn invalid_configurations_are_rejected() {
    let long = "t".repeat(4097);
    for gap_type in ["", "a\nb", "a\rb", "\n", &long] {
        let config = TopicsConfig { gap_type: gap_type.to_owned(), ..TopicsConfig::default() };
        let error = Topics::new(config).expect_err(gap_type);
        assert!(matches!(error, TopicError::Config { field: "gap_type", .. }), "{error:?}");
        assert!(error.to_string().starts_with("gap_type: "), "{error}");
    }
    let gap_type = "t".repeat(4096);
    Topics::new(TopicsConfig { gap_type, ..TopicsConfig::default() }).unwrap();
    let config = TopicsConfig { max_topics: 0, ..TopicsConfig::default() };
    assert!(Topics::new(config).unwrap_err().to_string().starts_with("max_topics: "));
    let history = History { age: Duration::ZERO, ..History::default() };
    let config = TopicsConfig { history, ..TopicsConfig::default() };
    assert!(Topics::new(config).unwrap_err().to_string().starts_with("history.age: "));
}
