//! Tests of opening, holding and closing connections.

use std::thread::sleep;
use std::time::Duration;

use super::{Found, Test};
use crate::churn::{Goal, Until, churn};
use crate::clients::Publisher;
use crate::load::get;
use crate::peers::{Peer, Setup};
use crate::process::Process;
use crate::scale::Scale;
use crate::stats::{millis, quantile};

const CHURN: &[&str] = &["server CPU, µs/connection", "connections/s", "p50, ms", "p99, ms"];

/// The time within which all connections must get their response.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn tests(scale: Scale) -> Vec<Test> {
    let open_and_close_test = |name, about: &str, until| Test {
        name,
        about: format!("{} connections, 64 of them concurrently: {about}.", scale.many),
        columns: CHURN,
        summarized: 1,
        cases: vec![String::new()],
        supports: |_| true,
        run: Box::new(move |peer, _| open_and_close(peer, scale, until)),
    };
    vec![
        Test {
            name: "idle",
            about: format!(
                "{} connections are opened, 64 concurrently, and stay open: the growth of the server's \
                 memory (PSS: private memory plus its share of shared memory), its CPU time while all \
                 connections are idle, and the time until the response head.",
                scale.many
            ),
            columns: &[
                "bytes/connection",
                "CPU while idle, %",
                "CPU, µs/connection",
                "head, p50, ms",
                "head, p99, ms",
            ],
            summarized: 1,
            cases: vec![String::new()],
            supports: |_| true,
            run: Box::new(move |peer, _| idle(peer, scale)),
        },
        open_and_close_test("open", "connect, read the response head, close", Until::Head),
        open_and_close_test(
            "first-event",
            "connect, read up to the first event, close",
            Until::Event,
        ),
    ]
}

fn idle(peer: &Peer, scale: Scale) -> Found {
    let server = peer.start(Setup::default())?;
    let (memory, cpu) = (server.memory(), server.cpu());
    let request = get(&format!("{}t0", peer.events));
    let goal = Goal::Keep(scale.many as usize);
    let opened = churn(server.address, |_| request.clone(), Until::Head, goal, TIMEOUT)?;
    sleep(scale.settling);
    let opening = server.cpu().saturating_sub(cpu);
    let grown = server.memory().saturating_sub(memory);
    let busy = server.cpu();
    sleep(scale.idling);
    let busy = server.cpu().saturating_sub(busy);
    let count = opened.kept.len() as f64;
    Ok(vec![
        grown as f64 / count,
        busy.as_secs_f64() * 100.0 / scale.idling.as_secs_f64(),
        opening.as_secs_f64() * 1e6 / count,
        millis(quantile(&opened.latencies, 0.5)),
        millis(quantile(&opened.latencies, 0.99)),
    ])
}

fn open_and_close(peer: &Peer, scale: Scale, until: Until) -> Found {
    let server = peer.start(Setup::default())?;
    let target = match until {
        Until::Head => format!("{}t0", peer.events),
        Until::Event => peer.hello.to_owned(),
    };
    if peer.replays() {
        publish_one(peer, &server)?;
    }
    let request = get(&target);
    let goal = Goal::Close(scale.many as usize);
    let before = server.cpu();
    let churned = churn(server.address, |_| request.clone(), until, goal, TIMEOUT)?;
    sleep(scale.settling);
    let cpu = server.cpu().saturating_sub(before);
    let count = churned.latencies.len() as f64;
    Ok(vec![
        cpu.as_secs_f64() * 1e6 / count,
        count / churned.took.as_secs_f64(),
        millis(quantile(&churned.latencies, 0.5)),
        millis(quantile(&churned.latencies, 0.99)),
    ])
}

/// Publishes one message, so that later subscribers get one at once.
fn publish_one(peer: &Peer, server: &Process) -> Result<(), String> {
    let mut publisher = Publisher::new(server.address, 0, peer.publish, 1)?;
    publisher.publish(0, Duration::ZERO)?;
    for _ in 0..1000 {
        if publisher.receive()? {
            return Ok(());
        }
        sleep(Duration::from_millis(1));
    }
    Err("publishing got no response".to_owned())
}
