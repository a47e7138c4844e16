//! Tests topics against a model: in memory, with a storage that is slow and fails, and with one in a
//! file. `tests/nats` does so with one on NATS.

#[path = "support/dir.rs"]
mod dir;
#[path = "support/topics_model.rs"]
mod model;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;
use sse_smol_server::storage::Storage;
use sse_smol_server::storage::disk::{DiskConfig, DiskStorage};
use sse_smol_server::{History, Publication, Start, Topics, TopicsConfig};

use dir::Dir;
use model::{Backing, NAMES, Operation, operation, run};
use support::now;
use support::storage::Unreliable;
use support::topics::{parse, read_now};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn subscribers_get_every_event_once_and_in_order_or_a_gap(
        events in 1..6_usize,
        gap_on_lag in any::<bool>(),
        operations in vec(operation(), 0..80),
    ) {
        run(Backing::Memory, events, events, gap_on_lag, &operations);
    }

    #[test]
    fn the_same_holds_with_a_storage_that_is_slow_and_fails(
        events in 1..9_usize,
        window in 1..4_usize,
        gap_on_lag in any::<bool>(),
        failures in prop_oneof![Just(0), Just(30_u32)],
        operations in vec(operation(), 0..80),
    ) {
        let most = events.max(window);
        let storage = Arc::new(Unreliable::new(most, 7));
        storage.fail(failures);
        run(Backing::Unreliable(storage), most, window, gap_on_lag, &operations);
    }
}

proptest! {
    // Each event is written to the file.
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

    /// Without replacements, since a file is not replaced by another one while it is in use.
    #[test]
    fn the_same_holds_with_a_storage_in_a_file(
        events in 1..9_usize,
        window in 1..4_usize,
        gap_on_lag in any::<bool>(),
        operations in vec(operation(), 0..80),
    ) {
        let most = events.max(window);
        let directory = Dir::new();
        let mut config = DiskConfig::new(directory.path());
        config.history = History::default().with_events(most);
        let open = move || -> Arc<dyn Storage> { Arc::new(DiskStorage::open(config.clone()).unwrap()) };
        let backing = Backing::Durable { open: Box::new(open), has_more_gaps: false };
        run(backing, most, window, gap_on_lag, &operations);
    }
}

/// Operations on windows that have segments.
fn operation_or_burst() -> impl Strategy<Value = Operation> {
    // Most events are those of one topic.
    let topic = prop_oneof![4 => Just(0), 1 => 1..3_usize];
    prop_oneof![
        3 => operation(),
        2 => (topic, 1..60_u8).prop_map(|(topic, count)| Operation::Burst { topic, count }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    /// The smallest windows with segments hold 128 events.
    #[test]
    fn the_same_holds_for_segments(
        events in 128..170_usize,
        gap_on_lag in any::<bool>(),
        operations in vec(operation_or_burst(), 0..60),
    ) {
        run(Backing::Memory, events, events, gap_on_lag, &operations);
    }

    #[test]
    fn the_same_holds_for_segments_before_a_storage(
        events in 128..250_usize,
        gap_on_lag in any::<bool>(),
        operations in vec(operation_or_burst(), 0..40),
    ) {
        let storage = Arc::new(Unreliable::new(events, 7));
        run(Backing::Unreliable(storage), events, 128, gap_on_lag, &operations);
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
