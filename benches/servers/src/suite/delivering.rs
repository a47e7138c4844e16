//! What is published reaches all subscribers: what that costs, and how long it takes.

use std::time::Duration;

use super::Test;
use crate::load::{Driven, Load, Pace};
use crate::peers::{Peer, Setup};
use crate::process::Process;
use crate::scale::Scale;
use crate::stats::{millis, quantile};

const PACED: &[&str] =
    &["server CPU, µs/delivery", "p50, ms", "p99, ms", "published/s", "late, p99, ms"];

/// How many messages may be on their way: fewer than any of the servers holds for each subscriber,
/// so that none has a reason to drop one.
const WINDOW: u64 = 200;

/// Who subscribes and publishes.
#[derive(Clone, Copy, Debug)]
struct Crowd {
    topics: u32,
    subscribers: u32,
    publishers: u32,
}

pub(super) fn tests(scale: Scale) -> Vec<Test> {
    let Scale { some, many, per_topic, .. } = scale;
    let paced = move |peer: &Peer, crowd, rate| {
        let (driven, cpu) = run(peer, scale, crowd, Pace::PerSecond(rate))?;
        Ok(found(&driven, cpu))
    };
    vec![
        Test {
            name: "paced",
            about: format!("{some} subscribers, 20 messages of 100 bytes each second."),
            columns: PACED,
            cases: vec![String::new()],
            takes: |_| true,
            run: Box::new(move |peer, _| {
                paced(peer, Crowd { topics: 1, subscribers: some, publishers: 1 }, 20.0)
            }),
        },
        Test {
            name: "paced-10k",
            about: format!(
                "{many} subscribers. Where that is more than can be done, a message goes out as soon \
                 as the one before is answered: `published/s` is what was achieved."
            ),
            columns: PACED,
            cases: vec!["2/s".to_owned(), "20/s".to_owned()],
            takes: |_| true,
            run: Box::new(move |peer, case| {
                let crowd = Crowd { topics: 1, subscribers: many, publishers: 1 };
                paced(peer, crowd, [2.0, 20.0][case])
            }),
        },
        Test {
            name: "flat-out",
            about: format!(
                "{some} subscribers, 4 publishers, each of which publishes as soon as it has its \
                 answer, with at most {WINDOW} messages on their way; and one message at a time, \
                 which all have before the next is sent."
            ),
            columns: &[
                "server CPU, µs/delivery",
                "deliveries/s",
                "published/s",
                "generator CPU, %",
            ],
            cases: vec!["as answered".to_owned(), "one at a time".to_owned()],
            takes: |_| true,
            run: Box::new(move |peer, case| {
                let crowd = Crowd { topics: 1, subscribers: some, publishers: 4 };
                let (driven, cpu) = run(peer, scale, crowd, Pace::Window([WINDOW, 1][case]))?;
                let took = driven.took.as_secs_f64();
                Ok(vec![
                    cpu.as_secs_f64() * 1e6 / driven.delivered as f64,
                    driven.delivered as f64 / took,
                    driven.rate,
                    driven.own.as_secs_f64() * 100.0 / took,
                ])
            }),
        },
        Test {
            name: "publish",
            about: "8 publishers, each of which publishes as soon as it has its answer, and nobody who \
                    subscribes: what a publication costs by itself."
                .to_owned(),
            columns: &["server CPU, µs/publication", "published/s"],
            cases: vec![String::new()],
            takes: |_| true,
            run: Box::new(move |peer, _| {
                let crowd = Crowd { topics: 1, subscribers: 0, publishers: 8 };
                let (driven, cpu) = run(peer, scale, crowd, Pace::Window(1))?;
                Ok(vec![cpu.as_secs_f64() * 1e6 / driven.published as f64, driven.rate])
            }),
        },
        Test {
            name: "topics",
            about: format!(
                "More and more topics, with {per_topic} subscribers each, and 500 messages each \
                 second, to one topic after the other: always as many deliveries."
            ),
            columns: PACED,
            cases: scale.topics.iter().map(|topics| format!("topics: {topics}")).collect(),
            takes: |peer| peer.topics,
            run: Box::new(move |peer, case| {
                let topics = scale.topics[case];
                paced(peer, Crowd { topics, subscribers: per_topic, publishers: 1 }, 500.0)
            }),
        },
    ]
}

/// One run with a server of its own, and the time on processors that it took.
fn run(peer: &Peer, scale: Scale, crowd: Crowd, pace: Pace) -> Result<(Driven, Duration), String> {
    let server = peer.start(Setup { flags: &["--max-topics", "2000"], ..Setup::default() })?;
    let Crowd { topics, subscribers, publishers } = crowd;
    let mut load = Load::connect(peer, server.address, topics, subscribers, publishers)?;
    drive(&mut load, &server, scale, pace)
}

/// Drives a server, warm.
pub(super) fn drive(
    load: &mut Load,
    server: &Process,
    scale: Scale,
    pace: Pace,
) -> Result<(Driven, Duration), String> {
    load.drive(Pace::Window(1), scale.warming)?;
    let before = server.cpu();
    let driven = load.drive(pace, scale.publishing)?;
    Ok((driven, server.cpu().saturating_sub(before)))
}

/// Of a run that was paced.
fn found(driven: &Driven, cpu: Duration) -> Vec<f64> {
    vec![
        cpu.as_secs_f64() * 1e6 / driven.delivered as f64,
        millis(quantile(&driven.latencies, 0.5)),
        millis(quantile(&driven.latencies, 0.99)),
        driven.rate,
        millis(quantile(&driven.late, 0.99)),
    ]
}
