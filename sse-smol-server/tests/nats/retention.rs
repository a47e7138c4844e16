//! Events that the stream has dropped before a server saw them.

use std::thread;
use std::time::{Duration, Instant};

use super::engine::with_each;
use super::failures::{publish_at_last, publish_with_key};
use super::metrics::metric;
use super::nodes::request;
use super::support::subscriber::{Publisher, Subscriber, read_all_until};
use super::support::{Binary, TIMEOUT};

/// The server was stopped until the stream had dropped all that it had seen. No event is lost
/// silently, and IDs from before and after are those of the same log.
#[test]
fn a_server_that_missed_all_events_continues_with_a_gap_event_in_the_same_epoch() {
    with_each(|engine| {
        let url = engine.url();
        let arguments = ["--nats", &url, "--max-bytes", "100000", "--on-lag", "gap"];
        let [running, stopped] = [(); 2].map(|()| Binary::start(&arguments));
        let open = |topic| Subscriber::open(stopped.address, &format!("/topics/{topic}"));
        let mut subscribers = ["busy", "quiet", "empty"].map(open);
        read_all_until(&mut subscribers, "the start", |one| one.text.ends_with(b"\n\n"));
        let mut publisher = Publisher::open(running.address);
        let mut ids = vec![publisher.publish("quiet", "0"), publisher.publish("busy", "0")];
        for round in 1..4 {
            let last = |one: &Subscriber, data: &str| {
                one.events.last().is_some_and(|event| event.data == data)
            };
            subscribers[0].read_until("the last event", |one| last(one, &(round - 1).to_string()));
            stopped.signal("-STOP");
            publish_with_key(&mut publisher, "quiet", round);
            // More than the server has requested, which waits for it.
            for n in 0..600 {
                publish_at_last(
                    &mut publisher,
                    &format!("busy?key={round}-{n}"),
                    &"x".repeat(1000),
                );
            }
            stopped.signal("-CONT");
            read_all_until(&mut subscribers, "a gap event", |one| {
                one.events.iter().filter(|event| event.event_type == "gap").count() == round
            });
            ids.push(publisher.publish("quiet", "next"));
            subscribers[1].read_until("the next event", |one| last(one, "next"));
            assert_eq!(subscribers[1].events.last().unwrap().id, ids[round + 1]);
            publisher.publish("busy", &round.to_string());
            assert_eq!(metric(&stopped, "sse_storage_resets_total"), 0);
            // It may know of the last event before it delivers it.
            let start = Instant::now();
            while metric(&stopped, "sse_storage_feed_lag") != 0 {
                assert!(start.elapsed() < TIMEOUT);
                thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(request(&stopped, "GET", "/readyz", "").0, 200);
        }
        // An ID of an event that is still there leads to what follows, and others to a gap event.
        let last = ids.last().unwrap();
        assert!(ids.iter().all(|id| id.split('-').next() == last.split('-').next()), "{ids:?}");
        let next = publisher.publish("quiet", "after");
        for server in [&running, &stopped] {
            let mut resumed = Subscriber::resume(server.address, "/topics/quiet", last);
            assert_eq!(resumed.read_events(1)[0].id, next);
            let mut resumed = Subscriber::resume(server.address, "/topics/quiet", &ids[0]);
            assert_eq!(resumed.read_events(1)[0].event_type, "gap");
        }
    });
}
