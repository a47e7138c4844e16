//! Tests of delivery and publishing: their costs, and how much each delays the others.

use std::time::{Duration, Instant};

use servers::message::LEN;

use super::latency::{PACED, paced};
use super::{Found, Test};
use crate::fill::{Form, fill};
use crate::load::{Driven, Load, Pace, get};
use crate::peers::{Peer, Setup};
use crate::probe::Probe;
use crate::process::Process;
use crate::scale::Scale;
use crate::stats::{millis, quantile};

/// The maximum number of messages in flight. Fewer than any server holds for each subscriber, so
/// that none has to drop one.
const WINDOW: u64 = 200;

/// The maximum number of large messages in flight, which fit into the memory of the sockets.
const LARGE_WINDOW: u64 = 50;

/// The length of large messages in bytes.
const LARGE: usize = 1024;

/// The clients of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clients {
    pub(super) topics: u32,
    pub(super) subscribers: u32,
    pub(super) publishers: u32,
}

pub(super) fn tests(scale: Scale) -> Vec<Test> {
    let Scale { some, many, per_topic, pipelined, .. } = scale;
    vec![
        Test {
            name: "flat-out",
            about: format!(
                "4 publishers. As answered: each publisher publishes as soon as it has its response, with \
                 at most {WINDOW} messages in flight, or {LARGE_WINDOW} of {LARGE} bytes. One at a time: \
                 all subscribers have a message before the next one is published. `response` is the time \
                 from a publication to its response. Meanwhile a new client connects every 20 ms: `head` \
                 is the time from before connecting until it has the response head of its stream."
            ),
            columns: &[
                "server CPU, µs/delivery",
                "deliveries/s",
                "published/s",
                "response, p50, ms",
                "response, p99, ms",
                "head, p50, ms",
                "head, p99, ms",
                "deliveries/read",
                "generator CPU, %",
            ],
            summarized: 1,
            cases: vec![
                format!("{some} subscribers, as answered"),
                format!("{some} subscribers, one at a time"),
                format!("{many} subscribers, {LARGE} bytes, as answered"),
            ],
            supports: |_| true,
            run: Box::new(move |peer, case| {
                let (subscribers, len, window) =
                    [(some, LEN, WINDOW), (some, LEN, 1), (many, LARGE, LARGE_WINDOW)][case];
                flat_out(peer, scale, subscribers, len, Pace::Window(window))
            }),
        },
        Test {
            name: "publish",
            about: format!(
                "No subscribers: the cost of a publication alone. Each publisher publishes as soon as it \
                 has its response. Pipelined: {pipelined} publications over 8 connections, 100 requests at \
                 once on each."
            ),
            columns: &["server CPU, µs/publication", "published/s"],
            summarized: 1,
            cases: ["1 publisher", "64 publishers", "pipelined"].map(str::to_owned).into(),
            supports: |_| true,
            run: Box::new(move |peer, case| match case {
                2 => publish_pipelined(peer, pipelined),
                case => {
                    let publishers = [1, 64][case];
                    let clients = Clients { topics: 1, subscribers: 0, publishers };
                    let (driven, cpu) = run(peer, scale, clients, Pace::Window(1))?;
                    Ok(vec![cpu.as_secs_f64() * 1e6 / driven.published as f64, driven.rate])
                }
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
                paced(peer, scale, Clients { topics, subscribers: per_topic, publishers: 1 }, 500.0)
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

fn flat_out(peer: &Peer, scale: Scale, subscribers: u32, len: usize, pace: Pace) -> Found {
    let server = peer.start(Setup::default())?;
    let mut load = Load::connect(peer, server.address, 1, subscribers, 4)?;
    load.set_message_len(len);
    load.drive(Pace::Window(1), scale.warming)?;
    let probe = Probe::start(server.address, get(&format!("{}t0", peer.events)));
    let before = server.cpu();
    let driven = load.drive(pace, scale.publishing);
    let cpu = server.cpu().saturating_sub(before);
    let heads = probe.finish();
    let (driven, heads) = (driven?, heads?);
    let took = driven.took.as_secs_f64();
    let [response, response_99] = [0.5, 0.99].map(|at| millis(quantile(&driven.responses, at)));
    Ok(vec![
        cpu.as_secs_f64() * 1e6 / driven.delivered as f64,
        driven.delivered as f64 / took,
        driven.published as f64 / took,
        response,
        response_99,
        millis(quantile(&heads, 0.5)),
        millis(quantile(&heads, 0.99)),
        driven.delivered as f64 / driven.reads as f64,
        driven.generator_cpu.as_secs_f64() * 100.0 / took,
    ])
}

fn publish_pipelined(peer: &Peer, count: u32) -> Found {
    let server = peer.start(Setup::default())?;
    let form = Form::Pipelined { publishers: 8, len: LEN };
    fill(server.address, peer.publish, count / 10, form)?;
    let (before, begun) = (server.cpu(), Instant::now());
    let published = f64::from(fill(server.address, peer.publish, count, form)?);
    let took = begun.elapsed().as_secs_f64();
    let cpu = server.cpu().saturating_sub(before);
    Ok(vec![cpu.as_secs_f64() * 1e6 / published, published / took])
}
