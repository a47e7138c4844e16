//! Subscribers that are far behind: pages that follow each other.

use std::collections::HashSet;

use fastrand::Rng;
use smol::future::block_on;
use sse_smol_server::History;
use sse_smol_server::storage::nats::{NatsConfig, NatsStorage};
use sse_smol_server::storage::{Appended, NewEvent, Page, PageLimit, Storage};

use super::engine::{Engine, with_each, with_each_cluster};
use super::nodes::node;
use super::support::subscriber::{Publisher, Subscriber, read_all_until, wait_until};

/// The number of events of a topic. The engine drops none of them.
const EVENTS: usize = 3000;

fn open(engines: &[Engine], replicas: u8) -> NatsStorage {
    let urls: Vec<_> = engines.iter().map(Engine::url).collect();
    let mut config = NatsConfig::new(urls.join(","));
    config.history = History::default().with_events(EVENTS + 1);
    config.replicas = replicas;
    block_on(NatsStorage::open(config)).unwrap()
}

/// Appends events with the numbers from `first` on, to these topics in turn. Returns their
/// positions.
fn fill(storage: &NatsStorage, topics: &[&str], first: usize, count: usize) -> Vec<u64> {
    let new = |n: usize| NewEvent::new(topics[n % topics.len()], format!("data: {n}\n\n"));
    let append = |n| match block_on(storage.append(new(n))).unwrap() {
        Appended::New(position) => position,
        other => panic!("{other:?}"),
    };
    (first..first + count).map(append).collect()
}

fn read(storage: &NatsStorage, topic: &str, after: u64, events: usize) -> Page {
    block_on(storage.read(topic, after, PageLimit { events, bytes: 64 << 10 })).unwrap()
}

fn numbers(page: &Page) -> Vec<usize> {
    let number = |text: &str| text["data: ".len()..].trim_end().parse().unwrap();
    let text = page.events.iter().map(|event| std::str::from_utf8(&event.fields).unwrap());
    text.map(number).collect()
}

/// Returns the names of the consumers of the stream.
fn consumers(engine: &Engine) -> HashSet<String> {
    let reply = engine.api("CONSUMER.NAMES.sse", "");
    let names = reply["consumers"].as_array().unwrap().iter();
    names.map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn one_consumer_is_enough_for_all_pages_of_a_reader() {
    with_each(|engine| {
        let engines = [engine];
        let storage = open(&engines, 1);
        let positions = fill(&storage, &["a"], 0, EVENTS);
        let mut used = HashSet::new();
        let (mut after, mut next) = (0, 0);
        loop {
            let page = read(&storage, "a", after, 200);
            let seen = numbers(&page);
            assert_eq!(seen, (next..next + seen.len()).collect::<Vec<_>>());
            assert_eq!(page.dropped, 0);
            next += seen.len();
            after = page.events.last().map_or(after, |last| last.position);
            if page.is_last {
                break;
            }
            used.extend(consumers(&engines[0]));
        }
        assert_eq!((next, after, used.len()), (EVENTS, positions[EVENTS - 1], 1));
        wait_until("no consumer is left", || consumers(&engines[0]).is_empty());
        // A new event after the end.
        fill(&storage, &["a"], EVENTS, 1);
        assert_eq!(numbers(&read(&storage, "a", after, 200)), [EVENTS]);
    });
}

#[test]
fn consumers_of_readers_that_stop_are_bounded_and_removed() {
    with_each(|engine| {
        let engines = [engine];
        let storage = open(&engines, 1);
        let positions = fill(&storage, &["a"], 0, 500);
        // Each of them reads a page.
        for (index, after) in positions[..100].iter().enumerate() {
            let page = read(&storage, "a", *after, 10);
            assert_eq!(numbers(&page), (index + 1..index + 11).collect::<Vec<_>>());
        }
        wait_until("the consumers that are not kept are removed", || {
            consumers(&engines[0]).len() <= 32
        });
        assert!(!consumers(&engines[0]).is_empty());
        wait_until("all consumers are removed", || consumers(&engines[0]).is_empty());
    });
}

/// A page of several topics may end before the last event that was read of one of them.
#[test]
fn pages_that_begin_anywhere_have_all_events() {
    with_each(|engine| {
        let engines = [engine];
        let storage = open(&engines, 1);
        let topics = ["a", "a", "b", "a"];
        let positions = fill(&storage, &topics, 0, 1200);
        let mut random = Rng::with_seed(7);
        let mut after = [0_usize; 3];
        for _ in 0..300 {
            // Readers that continue anywhere in what they have read, or begin again.
            let reader = random.usize(..after.len());
            let start = after[reader];
            let (limit, topic) = (random.usize(1..60), ["a", "b"][reader % 2]);
            let position = start.checked_sub(1).map_or(0, |index| positions[index]);
            let page = read(&storage, topic, position, limit);
            let of_topic = (start..positions.len()).filter(|n| topics[n % 4] == topic);
            let expected: Vec<_> = of_topic.collect();
            let seen = numbers(&page);
            assert!(expected.starts_with(&seen), "{seen:?} after {start}");
            assert_eq!((page.dropped, page.is_last), (0, seen.len() == expected.len()));
            assert!(!seen.is_empty() || expected.is_empty());
            let end = seen.last().map_or(start, |last| last + 1);
            after[reader] = match random.usize(..8) {
                0 => random.usize(..positions.len()),
                1..=3 => random.usize(start..=end),
                _ => end,
            };
        }
    });
}

/// What is done between two pages.
#[derive(Clone, Copy, Debug)]
enum Change {
    Nothing,
    RestartEngine,
    RemoveConsumers,
    RemoveMessage,
    DropFirst,
}

#[test]
fn pages_continue_after_restarts_and_removals_between_them() {
    with_each(|mut engine| {
        let storage = open(std::slice::from_ref(&engine), 1);
        fill(&storage, &["a"], 0, EVENTS);
        let changes = [
            Change::Nothing,
            Change::RestartEngine,
            Change::RemoveConsumers,
            Change::RemoveMessage,
            Change::DropFirst,
        ];
        let (mut after, mut next) = (0, 0);
        let mut removed = HashSet::new();
        for change in changes.iter().cycle() {
            let page = read(&storage, "a", after, 100);
            assert_eq!(page.dropped, 0, "{change:?}");
            for number in numbers(&page) {
                while removed.contains(&next) {
                    next += 1;
                }
                assert_eq!(number, next, "{change:?}");
                next += 1;
            }
            if page.is_last {
                break;
            }
            after = page.events.last().unwrap().position;
            match change {
                Change::Nothing => {}
                Change::RestartEngine => {
                    engine.kill();
                    engine.restart();
                }
                Change::RemoveConsumers => {
                    for name in consumers(&engine) {
                        engine.api(&format!("CONSUMER.DELETE.sse.{name}"), "");
                    }
                }
                Change::RemoveMessage => {
                    // What has been requested already is delivered. Sequences begin at 1.
                    let number = next + 1200;
                    if number < EVENTS - 1 && removed.insert(number) {
                        let body = format!("{{\"seq\":{}}}", number + 1);
                        engine.api("STREAM.MSG.DELETE.sse", &body);
                    }
                }
                Change::DropFirst => {
                    let up_to = next - 10;
                    let body = format!("{{\"filter\":\"sse.a\",\"seq\":{up_to}}}");
                    engine.api("STREAM.PURGE.sse", &body);
                }
            }
        }
        assert!(removed.len() > 1);
        assert_eq!(next, EVENTS);
    });
}

/// Events that were dropped or deleted are a gap, even if they have arrived already.
#[test]
fn a_reader_whose_next_events_are_dropped_gets_a_gap() {
    with_each(|engine| {
        let engines = [engine];
        let storage = open(&engines, 1);
        let positions = fill(&storage, &["a"], 0, 1000);
        let first = read(&storage, "a", 0, 100);
        let after = first.events[99].position;
        engines[0].api("STREAM.PURGE.sse", "{\"filter\":\"sse.a\",\"seq\":301}");
        let second = read(&storage, "a", after, 100);
        assert!((positions[299]..positions[300]).contains(&second.dropped));
        assert!(second.events.iter().all(|event| event.position >= positions[300]));
        let third = read(&storage, "a", positions[300], 100);
        assert_eq!(numbers(&third), (301..401).collect::<Vec<_>>());
        block_on(storage.delete("a")).unwrap().unwrap();
        let last = read(&storage, "a", third.events[99].position, 100);
        assert_eq!((last.dropped, last.is_last), (positions[999], true));
        assert!(last.events.is_empty());
    });
}

/// The end of the topic changes while its pages are read.
#[test]
fn the_last_page_has_the_events_that_were_published_meanwhile() {
    with_each(|engine| {
        let engines = [engine];
        let storage = open(&engines, 1);
        let (mut after, mut published) = (0, 100);
        fill(&storage, &["a"], 0, published);
        let mut seen = Vec::new();
        loop {
            let page = read(&storage, "a", after, 30);
            seen.extend(numbers(&page));
            if page.is_last {
                break;
            }
            after = page.events.last().unwrap().position;
            if published < 300 {
                fill(&storage, &["a"], published, 10);
                published += 10;
            }
        }
        assert_eq!((seen, published), ((0..300).collect(), 300));
    });
}

#[test]
fn pages_continue_while_members_of_a_cluster_fail() {
    with_each_cluster(|mut engines| {
        let storage = open(&engines, 3);
        fill(&storage, &["a"], 0, 1000);
        let (mut after, mut next) = (0, 0);
        for round in 0.. {
            // The election of a leader may take longer than an operation.
            let mut page = None;
            wait_until("a page is read", || {
                let limit = PageLimit { events: 100, bytes: 64 << 10 };
                page = block_on(storage.read("a", after, limit)).ok();
                page.is_some()
            });
            let page = page.unwrap();
            assert_eq!(page.dropped, 0);
            let seen = numbers(&page);
            assert_eq!(seen, (next..next + seen.len()).collect::<Vec<_>>());
            next += seen.len();
            if page.is_last {
                break;
            }
            after = page.events.last().unwrap().position;
            if round % 3 == 1 {
                let index = round / 3 % 3;
                engines[index].kill();
                engines[index].restart();
            }
        }
        assert_eq!(next, 1000);
    });
}

/// The stream allows two consumers, of which the feed has one.
#[test]
fn subscribers_that_catch_up_leave_a_consumer_for_the_feed() {
    with_each(|engine| {
        let limits = r#""storage":"file","allow_direct":true,"max_consumers":2"#;
        let config = format!(r#"{{"name":"sse","subjects":["sse.*"],{limits}}}"#);
        engine.api("STREAM.CREATE.sse", &config);
        let node = node(&engine);
        let mut publisher = Publisher::open(node.address);
        for n in 0..500 {
            publisher.publish("a", &n.to_string());
        }
        let open = |_| Subscriber::open(node.address, "/topics/a?lastEventId=earliest");
        let mut subscribers: Vec<_> = (0..6).map(open).collect();
        for n in 500..510 {
            publisher.publish("a", &n.to_string());
        }
        read_all_until(&mut subscribers, "all events", |one| one.events.len() == 510);
        for one in &subscribers {
            assert!(one.events.iter().enumerate().all(|(n, event)| event.data == n.to_string()));
        }
    });
}
