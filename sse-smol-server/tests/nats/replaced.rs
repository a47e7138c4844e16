//! A stream that is replaced while the connection stays open.

use std::time::{Duration, Instant};

use super::engine::with_each;
use super::failures::{publish_at_last, subscribe};
use super::nodes::node;
use super::support::subscriber::{Publisher, Subscriber};

fn epoch(id: &str) -> &str {
    id.split('-').next().unwrap()
}

/// A publication that was stored in the new stream is not answered with an ID of the old one.
#[test]
fn publications_after_a_replacement_have_ids_of_the_new_stream() {
    with_each(|engine| {
        let node = node(&engine);
        let mut publisher = Publisher::open(node.address);
        let config = engine.api("STREAM.INFO.sse", "")["config"].to_string();
        let mut times = Vec::new();
        for round in 0..8 {
            let before: Vec<_> = (0..5).map(|n| publisher.publish("a", &n.to_string())).collect();
            let mut subscriber = subscribe(node.address, "a");
            engine.replace_stream("sse", &config);
            let start = Instant::now();
            let query = ["a", "a?key=k", "a?id=own&key=k"][round % 3];
            let after = publish_at_last(&mut publisher, query, "after");
            times.push(start.elapsed());
            let last = publisher.publish("a", "last");
            assert_ne!(epoch(&last), epoch(&before[0]));
            let is_own = query.contains("own");
            assert_eq!(epoch(&after), if is_own { "own" } else { epoch(&last) });
            subscriber.read_until("the end", |one| one.end.is_some());
            let mut resumed = Subscriber::resume(node.address, "/topics/a", &after);
            assert_eq!(resumed.read_events(1).last().unwrap().id, last);
            for old in &before {
                let mut resumed = Subscriber::resume(node.address, "/topics/a", old);
                assert_eq!(resumed.read_events(1)[0].event_type, "gap");
            }
        }
        // The engine itself may take long if the disk does.
        times.sort_unstable();
        assert!(times[times.len() / 2] < Duration::from_secs(3), "{times:?}");
    });
}
