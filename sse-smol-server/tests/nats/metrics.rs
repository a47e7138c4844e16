//! Metrics of the storage on NATS.

use smol::future::block_on;
use smol::stream::StreamExt as _;
use sse_smol_server::storage::nats::{NatsConfig, NatsStorage};
use sse_smol_server::storage::{Appended, Change, NewEvent, Storage};

use super::engine::with_each;
use super::failures::{publish_at_last, subscribe};
use super::nodes::{node, request};
use super::support::Binary;
use super::support::subscriber::{Publisher, wait_until};

/// Returns the value of a metric.
pub(crate) fn metric(node: &Binary, name: &str) -> u64 {
    let (status, text) = request(node, "GET", "/metrics", "");
    assert_eq!(status, 200);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

#[test]
fn lost_connections_and_interruptions_of_the_feed_are_counted() {
    with_each(|mut engine| {
        let [publishing, receiving] = [(); 2].map(|()| node(&engine));
        let mut subscriber = subscribe(receiving.address, "a");
        let mut publisher = Publisher::open(publishing.address);
        publisher.publish("a", "0");
        subscriber.read_events(1);
        let names = ["sse_storage_reconnects_total", "sse_storage_feed_resumes_total"];
        for node in [&publishing, &receiving] {
            assert_eq!(names.map(|name| metric(node, name)), [0, 0]);
            assert_eq!(metric(node, "sse_storage_feed_lag"), 0);
        }
        for round in 1..3 {
            engine.kill();
            wait_until("the server is not ready", || {
                request(&receiving, "GET", "/readyz", "").0 == 503
            });
            engine.restart();
            publish_at_last(&mut publisher, &format!("a?key={round}"), "next");
            subscriber.read_events(round + 1);
            for node in [&publishing, &receiving] {
                for name in names {
                    assert!(metric(node, name) >= round as u64, "{name}");
                }
                assert_eq!(metric(node, "sse_storage_feed_lag"), 0);
                assert_eq!(metric(node, "sse_storage_resets_total"), 0);
            }
        }
    });
}

/// A feed that is not polled stays behind.
#[test]
fn the_lag_is_the_number_of_messages_that_were_not_applied() {
    const COUNT: u64 = 900;
    with_each(|engine| {
        let open = || block_on(NatsStorage::open(NatsConfig::new(engine.url()))).unwrap();
        let [publishing, receiving] = [(); 2].map(|()| open());
        let mut changes = receiving.follow(0);
        let lag = |position| receiving.status(position).lag;
        let append = || match block_on(publishing.append(NewEvent::new("a", "data: x\n\n"))) {
            Ok(Appended::New(position)) => position,
            other => panic!("{other:?}"),
        };
        let first = append();
        assert_eq!(publishing.status(first).lag, Some(0));
        let mut last = first;
        for _ in 1..COUNT {
            last = append();
        }
        assert_eq!(publishing.status(first).lag, Some(COUNT - 1));
        // The other server requests no more than 512 messages while its feed is not polled.
        let mut applied = 0;
        let mut highest = 0;
        for _ in 0..COUNT {
            let Some(Ok(Change::Appended { event, .. })) = block_on(changes.next()) else {
                panic!("only events were published");
            };
            applied = event.position;
            highest = lag(applied).unwrap().max(highest);
        }
        assert!(highest >= COUNT / 3, "{highest}");
        assert_eq!((applied, lag(applied)), (last, Some(0)));
        assert_eq!(receiving.status(0).resumes, Some(0));
    });
}
