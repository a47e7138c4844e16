//! The bytes that topics account for are the memory that they take.

use std::time::Instant;

use allocation_counter::measure;
use sse_smol_server::{History, Publication, Topics, TopicsConfig};

/// What is published: the number of topics and of events in each, and lengths.
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
        let new = Publication {
            data: &data,
            id: (shape.id > 0).then_some(&id),
            key: (shape.key > 0).then_some(&key),
            ..Publication::default()
        };
        topics.publish(&name, new).unwrap();
    }
}

fn config(history: History) -> TopicsConfig {
    TopicsConfig { history, max_topics: usize::MAX, ..TopicsConfig::default() }
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
fn the_bytes_of_topics_are_the_memory_that_they_take() {
    for shape in SHAPES {
        let history = History { events: usize::MAX, bytes: usize::MAX, ..History::default() };
        let topics = Topics::new(config(history)).unwrap();
        let taken = measure(|| publish(&topics, shape)).bytes_current;
        let (taken, counted) = (usize::try_from(taken).unwrap(), topics.totals().bytes);
        let percent = counted * 100 / taken;
        println!("{percent} %: {taken} bytes taken, {counted} counted of {shape:?}");
        let listed: usize = pages(&topics);
        assert_eq!(listed, counted);
        assert!(percent >= 100, "{percent} % of {shape:?}");
        // The rest is what an allocator adds to each of several small allocations, and room that
        // tables need when they have just grown.
        assert!(
            percent < if shape.data + shape.id > 200 { 130 } else { 160 },
            "{percent} % of {shape:?}"
        );
    }
}

fn pages(topics: &Topics) -> usize {
    let (mut sum, mut after) = (0, None);
    loop {
        let page = topics.list(after.as_deref(), 1000);
        sum += page.topics.iter().map(|topic| topic.bytes).sum::<usize>();
        after = page.next;
        if after.is_none() {
            return sum;
        }
    }
}

/// The bounds are those of memory, also when much that was held is dropped for something larger.
#[test]
fn topics_take_no_more_memory_than_they_may() {
    const MOST: usize = 1 << 20;
    for shape in SHAPES {
        let unbounded = History { events: usize::MAX, bytes: usize::MAX, ..History::default() };
        let of_each = config(History { bytes: MOST / shape.topics, ..unbounded });
        let of_all = TopicsConfig { max_bytes: MOST, ..config(unbounded) };
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
            // The newest event of each topic is held in any case.
            let is_least = !of_all && events == shape.topics;
            assert!(taken <= MOST * 11 / 10 || is_least, "{taken} of {shape:?}");
        }
    }
}

/// Nothing walks over all topics: neither the totals, nor a page, nor a publication that is refused.
#[test]
fn many_topics_cost_a_publisher_nothing() {
    let time = |count: usize| {
        let history = History { events: 10, ..History::default() };
        let config = TopicsConfig { max_topics: count, ..config(history) };
        let topics = Topics::new(config).unwrap();
        let new = Publication { data: "x", ..Publication::default() };
        (0..count).for_each(|n| drop(topics.publish(&n.to_string(), new).unwrap()));
        let round = || {
            let start = Instant::now();
            for n in 0..200 {
                topics.publish(&(n % count).to_string(), new).unwrap();
                topics.publish("one-more", new).unwrap_err();
                assert_eq!(topics.totals().topics, count);
                assert_eq!(topics.list(Some("5"), 10).topics.len(), 10);
            }
            start.elapsed()
        };
        (0..10).map(|_| round()).min().unwrap()
    };
    let (few, many) = (time(100), time(50_000));
    println!("{few:?} with 100 topics, {many:?} with 50,000");
    assert!(many < 10 * few, "{few:?} with 100 topics, {many:?} with 50,000");
}
