//! Messages that are larger than the engine accepts now.

use super::dir::Dir;
use super::engine::with_each;
use super::failures::subscribe;
use super::nodes::{node, request};
use super::support::subscriber::{Publisher, Subscriber, read_all_until};

/// The limit was lowered after they were stored.
#[test]
fn messages_larger_than_max_payload_are_delivered() {
    let dir = Dir::new();
    dir.write("config", "max_payload: 8388608");
    let config = dir.0.join("config").to_str().unwrap().to_owned();
    with_each(|mut engine| {
        let [running, stopped] = [(); 2].map(|()| node(&engine));
        let mut subscribers = [&running, &stopped].map(|node| subscribe(node.address, "a"));
        Publisher::open(running.address).publish("a", "0");
        read_all_until(&mut subscribers, "the first event", |one| one.events.len() == 1);
        // It is not connected while the limit is higher.
        stopped.signal("-STOP");
        engine.restart_with(&["-c", &config]);
        let large = "x".repeat(6 << 20);
        let mut expected = vec!["0".to_owned()];
        for n in 1..20 {
            let data = if n % 5 == 0 { format!("{n}{large}") } else { n.to_string() };
            engine.publish("sse.a", &data);
            expected.push(data);
        }
        engine.restart_with(&[]);
        stopped.signal("-CONT");
        for one in &mut subscribers {
            one.read_events(20);
            assert!(one.data() == expected, "as they were published");
        }
        let id = Publisher::open(stopped.address).publish("a", "last");
        for server in [&running, &stopped, &node(&engine)] {
            let first = &subscribers[0].events[0].id;
            let mut resumed = Subscriber::resume(server.address, "/topics/a", first);
            let events = resumed.read_events(20);
            assert!(events[..19] == subscribers[0].events[1..]);
            assert_eq!(events[19].id, id);
            assert_eq!(request(server, "GET", "/readyz", "").0, 200);
        }
    });
}
