//! Tests of delivery: its cost and its latency.

use std::time::Duration;

use super::Test;
use crate::load::{Driven, Load, Pace};
use crate::peers::{Peer, Setup};
use crate::process::Process;
use crate::scale::Scale;
use crate::stats::{millis, quantile};

const PACED: &[&str] =
    &["server CPU, µs/delivery", "p50, ms", "p99, ms", "published/s", "late, p99, ms"];

/// The maximum number of messages in flight. Fewer than any server holds for each subscriber, so
/// that none has to drop one.
const WINDOW: u64 = 200;

/// The clients of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clients {
    pub(super) topics: u32,
    pub(super) subscribers: u32,
    pub(super) publishers: u32,
}

pub(super) fn tests(scale: Scale) -> Vec<Test> {
    let Scale { some, many, per_topic, .. } = scale;
    let paced = move |peer: &Peer, clients, rate| {
        let (driven, cpu) = run(peer, scale, clients, Pace::PerSecond(rate))?;
        Ok(found(&driven, cpu))
    };
    vec![
        Test {
            name: "paced",
            about: format!("{some} subscribers, 20 messages of 100 bytes per second."),
            columns: PACED,
            summarized: 1,
            cases: vec![String::new()],
            supports: |_| true,
            run: Box::new(move |peer, _| {
                paced(peer, Clients { topics: 1, subscribers: some, publishers: 1 }, 20.0)
            }),
        },
        Test {
            name: "paced-10k",
            about: format!(
                "{many} subscribers. If a rate cannot be reached, the next message is published as soon \
                 as the last one has its response: `published/s` is the actual rate."
            ),
            columns: PACED,
            summarized: 1,
            cases: vec!["2/s".to_owned(), "20/s".to_owned()],
            supports: |_| true,
            run: Box::new(move |peer, case| {
                let clients = Clients { topics: 1, subscribers: many, publishers: 1 };
                paced(peer, clients, [2.0, 20.0][case])
            }),
        },
        Test {
            name: "flat-out",
            about: format!(
                "{some} subscribers and 4 publishers. As answered: each publisher publishes as soon as \
                 it has its response, with at most {WINDOW} messages in flight. One at a time: all \
                 subscribers have a message before the next one is published."
            ),
            columns: &[
                "server CPU, µs/delivery",
                "deliveries/s",
                "published/s",
                "generator CPU, %",
            ],
            summarized: 1,
            cases: vec!["as answered".to_owned(), "one at a time".to_owned()],
            supports: |_| true,
            run: Box::new(move |peer, case| {
                let clients = Clients { topics: 1, subscribers: some, publishers: 4 };
                let (driven, cpu) = run(peer, scale, clients, Pace::Window([WINDOW, 1][case]))?;
                let took = driven.took.as_secs_f64();
                Ok(vec![
                    cpu.as_secs_f64() * 1e6 / driven.delivered as f64,
                    driven.delivered as f64 / took,
                    driven.rate,
                    driven.generator_cpu.as_secs_f64() * 100.0 / took,
                ])
            }),
        },
        Test {
            name: "publish",
            about: "8 publishers, each of which publishes as soon as it has its response, and no \
                    subscribers: the cost of a publication alone."
                .to_owned(),
            columns: &["server CPU, µs/publication", "published/s"],
            summarized: 1,
            cases: vec![String::new()],
            supports: |_| true,
            run: Box::new(move |peer, _| {
                let clients = Clients { topics: 1, subscribers: 0, publishers: 8 };
                let (driven, cpu) = run(peer, scale, clients, Pace::Window(1))?;
                Ok(vec![cpu.as_secs_f64() * 1e6 / driven.published as f64, driven.rate])
            }),
        },
        Test {
            name: "topics",
            about: format!(
                "An increasing number of topics with {per_topic} subscribers each, and 500 messages per \
                 second to the topics in turn, so that the delivery rate stays the same."
            ),
            columns: PACED,
            summarized: 1,
            cases: scale.topics.iter().map(|topics| format!("topics: {topics}")).collect(),
            supports: |peer| peer.topics,
            run: Box::new(move |peer, case| {
                let topics = scale.topics[case];
                paced(peer, Clients { topics, subscribers: per_topic, publishers: 1 }, 500.0)
            }),
        },
    ]
}

/// Runs a load on a new server. Returns its result and the CPU time of the server.
pub(super) fn run(
    peer: &Peer,
    scale: Scale,
    clients: Clients,
    pace: Pace,
) -> Result<(Driven, Duration), String> {
    let server = peer.start(Setup { flags: &["--max-topics", "2000"], ..Setup::default() })?;
    let Clients { topics, subscribers, publishers } = clients;
    let mut load = Load::connect(peer, server.address, topics, subscribers, publishers)?;
    drive(&mut load, &server, scale, pace)
}

/// Drives a load after a warm-up. Returns its result and the CPU time of the server.
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

/// Returns the columns of a paced run.
fn found(driven: &Driven, cpu: Duration) -> Vec<f64> {
    vec![
        cpu.as_secs_f64() * 1e6 / driven.delivered as f64,
        millis(quantile(&driven.latencies, 0.5)),
        millis(quantile(&driven.latencies, 0.99)),
        driven.rate,
        millis(quantile(&driven.late, 0.99)),
    ]
}
