//! A cluster of three NATS servers, one of which is killed at a time. It takes a minute:
//! `cargo test -p sse-smol-server --all-features --test nats -- --ignored`

use std::thread;
use std::time::Duration;

use super::engine::{Engine, with_each_cluster};
use super::failures::{assert_numbers, publish_numbers, subscribe};
use super::support::Binary;
use super::support::subscriber::{Subscriber, read_all_until};

const TOPICS: [&str; 4] = ["a", "b.c", "d", "e"];

fn check(mut members: Vec<Engine>) {
    let urls = members.iter().map(Engine::url).collect::<Vec<_>>().join(",");
    let history = ["--history", "1000000", "--history-bytes", "1000000000", "--window", "100"];
    let arguments = [&["--nats", &urls, "--nats-replicas", "3"][..], &history].concat();
    let nodes = [(); 2].map(|()| Binary::start(&arguments));
    let mut subscribers: Vec<_> = TOPICS
        .iter()
        .flat_map(|topic| nodes.iter().map(|node| subscribe(node.address, topic)))
        .collect();
    let counts: Vec<usize> = thread::scope(|scope| {
        let publish = |(n, topic): (usize, &&'static str)| {
            let (address, topic) = (nodes[n % 2].address, *topic);
            scope.spawn(move || publish_numbers(address, topic, Duration::from_secs(40)))
        };
        let publishers: Vec<_> = TOPICS.iter().enumerate().map(publish).collect();
        for member in &mut members {
            thread::sleep(Duration::from_secs(4));
            member.kill();
            thread::sleep(Duration::from_secs(3));
            member.restart();
        }
        publishers.into_iter().map(|publisher| publisher.join().unwrap()).collect()
    });
    println!("{counts:?} events");
    for (n, pair) in subscribers.chunks_mut(2).enumerate() {
        read_all_until(pair, "all events", |one| one.events.len() >= counts[n]);
        for one in &*pair {
            assert_numbers(one, counts[n]);
        }
        let path = format!("/topics/{}", TOPICS[n]);
        let mut resumed = Subscriber::resume(nodes[1].address, &path, &pair[0].events[0].id);
        assert_eq!(resumed.read_events(counts[n] - 1), &pair[0].events[1..]);
    }
}

#[test]
#[ignore = "takes a minute"]
fn no_event_is_lost_or_repeated_when_a_member_of_a_cluster_is_killed() {
    with_each_cluster(check);
}
