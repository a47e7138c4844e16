//! The byte counts of topics match the memory that they occupy.

mod support;

use std::time::Instant;

use allocation_counter::measure;
use sse_proto::{Event, Text, event_id, event_type};
use sse_smol_server::{History, Publication, Topics, TopicsConfig};
use support::now;

/// A load: the number of topics, the number of events in each, and the lengths of fields in bytes.
#[derive(Clone, Copy, Debug)]
struct Shape {
    topics: usize,
    events: usize,
    name: usize,
    data: usize,
    id: usize,
    key: usize,
}

fn publish(topics: &Topics, shape: Shape) {
    let text = |n: usize, len: usize| format!("{n:0>len$}");
    for n in 0..shape.topics * shape.events {
        let (name, data) = (text(n % shape.topics, shape.name), text(n, shape.data));
        let (id, key) = (text(n, shape.id), text(n, shape.key));
        let mut new = Publication::new(&data);
        new.id = (shape.id > 0).then_some(Text::from(&id));
        new.key = (shape.key > 0).then_some(&key);
        now(topics.publish(&name, new)).unwrap();
    }
}

fn config(history: History) -> TopicsConfig {
    TopicsConfig::default().with_history(history).with_max_topics(usize::MAX)
}

const SHAPES: [Shape; 9] = [
    Shape { topics: 1, events: 17_000, name: 4, data: 8, id: 0, key: 0 },
    Shape { topics: 1, events: 9_000, name: 4, data: 8, id: 8, key: 0 },
    Shape { topics: 1, events: 9_000, name: 4, data: 8, id: 256, key: 256 },
    Shape { topics: 1, events: 9_000, name: 4, data: 8, id: 8, key: 8 },
    Shape { topics: 1, events: 9_000, name: 4, data: 1000, id: 256, key: 256 },
    Shape { topics: 1000, events: 20, name: 8, data: 8, id: 0, key: 0 },
    Shape { topics: 1000, events: 20, name: 8, data: 8, id: 256, key: 256 },
    Shape { topics: 3000, events: 1, name: 128, data: 8, id: 0, key: 0 },
    Shape { topics: 3000, events: 1, name: 128, data: 8, id: 256, key: 256 },
];

#[test]
fn the_byte_counts_of_topics_match_their_memory() {
    for shape in SHAPES {
        let history = History::default().with_events(usize::MAX).with_bytes(usize::MAX);
        let topics = Topics::new(config(history)).unwrap();
        let taken = measure(|| publish(&topics, shape)).bytes_current;
        let (taken, counted) = (usize::try_from(taken).unwrap(), topics.totals().bytes);
        let percent = counted * 100 / taken;
        println!("{percent} %: {taken} bytes taken, {counted} counted of {shape:?}");
        let listed: usize = pages(&topics);
        assert_eq!(listed, counted);
        assert!(percent >= 100, "{percent} % of {shape:?}");
        // The excess is allocator overhead of small allocations, and spare capacity of tables that
        // have just grown.
        assert!(
            percent < if shape.data + shape.id > 200 { 130 } else { 160 },
            "{percent} % of {shape:?}"
        );
    }
}

fn pages(topics: &Topics) -> usize {
    let (mut sum, mut after) = (0, None);
    loop {
        let page = now(topics.list(after.as_deref(), 1000)).unwrap();
        sum += page.topics.iter().map(|topic| topic.bytes).sum::<usize>();
        after = page.next;
        if after.is_none() {
            return sum;
        }
    }
}

/// The byte limits hold for memory, including when many small events are evicted for a large one.
#[test]
fn topics_stay_within_their_memory_limits() {
    const MOST: usize = 1 << 20;
    for shape in SHAPES {
        let unbounded = History::default().with_events(usize::MAX).with_bytes(usize::MAX);
        let of_each = config(unbounded.with_bytes(MOST / shape.topics));
        let of_all = config(unbounded).with_max_bytes(MOST);
        for config in [of_each, of_all] {
            let of_all = config.max_bytes == MOST;
            let topics = Topics::new(config).unwrap();
            let taken = measure(|| {
                publish(&topics, shape);
                publish(&topics, Shape { events: 1, data: 5000, id: 0, key: 0, ..shape });
            });
            let taken = usize::try_from(taken.bytes_current).unwrap();
            let events = topics.totals().events;
            println!("{taken} bytes taken by {events} events of {shape:?}");
            // The newest event of each topic is always held.
            let is_least = !of_all && events == shape.topics;
            assert!(taken <= MOST * 11 / 10 || is_least, "{taken} of {shape:?}");
        }
    }
}

/// Totals, list pages and rejected publications take no time proportional to the number of topics.
#[test]
fn the_number_of_topics_does_not_slow_down_publishing() {
    let time = |count: usize| {
        let history = History::default().with_events(10);
        let config = config(history).with_max_topics(count);
        let topics = Topics::new(config).unwrap();
        let new = Publication::new("x");
        (0..count).for_each(|n| drop(now(topics.publish(&n.to_string(), new)).unwrap()));
        let round = || {
            let start = Instant::now();
            for n in 0..200 {
                now(topics.publish(&(n % count).to_string(), new)).unwrap();
                now(topics.publish("one-more", new)).unwrap_err();
                assert_eq!(topics.totals().topics, count);
                assert_eq!(now(topics.list(Some("5"), 10)).unwrap().topics.len(), 10);
            }
            start.elapsed()
        };
        (0..10).map(|_| round()).min().unwrap()
    };
    let (few, many) = (time(100), time(50_000));
    println!("{few:?} with 100 topics, {many:?} with 50,000");
    assert!(many < 10 * few, "{few:?} with 100 topics, {many:?} with 50,000");
}

#[test]
fn an_event_is_published_without_an_allocation_of_its_own() {
    let topics = Topics::new(TopicsConfig::default()).unwrap();
    let event = Event::new("data").with_type(event_type!("tick")).with_id(event_id!("1"));
    let owned = event.into_owned();
    // The second event of a topic, since the first creates it.
    let allocations = |name: &str, publish: &dyn Fn(&str)| {
        now(topics.publish(name, Publication::new("first"))).unwrap();
        measure(|| publish(name)).count_total
    };
    let by_hand = allocations("a", &|name| {
        let new = Publication::new("data").with_type("tick").with_id("1");
        now(topics.publish(name, new)).unwrap();
    });
    let borrowed = allocations("b", &|name| drop(now(topics.publish(name, event)).unwrap()));
    let shared = allocations("c", &|name| drop(now(topics.publish(name, &owned)).unwrap()));
    assert_eq!((borrowed, shared), (by_hand, by_hand));
}
