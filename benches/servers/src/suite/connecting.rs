//! Clients come, stay without a word, and go.

use std::thread::sleep;
use std::time::Duration;

use super::{Found, Test};
use crate::churn::{Enough, Until, churn};
use crate::ends::Publisher;
use crate::load::get;
use crate::peers::{Peer, Setup};
use crate::process::Process;
use crate::scale::Scale;
use crate::stats::{millis, quantile};

const CHURN: &[&str] = &["server CPU, µs/connection", "connections/s", "p50, ms", "p99, ms"];

/// The longest that all connections may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn tests(scale: Scale) -> Vec<Test> {
    let coming_and_going = |name, about: &str, until| Test {
        name,
        about: about.to_owned(),
        columns: CHURN,
        cases: vec![String::new()],
        takes: |_| true,
        run: Box::new(move |peer, _| come_and_go(peer, scale, until)),
    };
    vec![
        Test {
            name: "idle",
            about: format!(
                "{} connections are opened, 64 at a time, and stay open: how much the server's memory \
                 (Pss: what is its own, and its share of what is shared) grows by, what it does while \
                 nothing happens, and how long the head of the answer takes meanwhile.",
                scale.many
            ),
            columns: &[
                "bytes/connection",
                "CPU while idle, %",
                "CPU, µs/connection",
                "head, p50, ms",
                "head, p99, ms",
            ],
            cases: vec![String::new()],
            takes: |_| true,
            run: Box::new(move |peer, _| idle(peer, scale)),
        },
        coming_and_going(
            "open",
            "Connect, read the head of the answer, leave; 64 at a time.",
            Until::Head,
        ),
        coming_and_going(
            "first-event",
            "Connect, read up to the first event, leave; 64 at a time.",
            Until::Event,
        ),
    ]
}

fn idle(peer: &Peer, scale: Scale) -> Found {
    let server = peer.start(Setup::default())?;
    let (memory, cpu) = (server.memory(), server.cpu());
    let request = get(&format!("{}t0", peer.events));
    let enough = Enough::Kept(scale.many as usize);
    let opened = churn(server.address, |_| request.clone(), Until::Head, enough, PATIENCE)?;
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

fn come_and_go(peer: &Peer, scale: Scale, until: Until) -> Found {
    let server = peer.start(Setup::default())?;
    let target = match until {
        Until::Head => format!("{}t0", peer.events),
        Until::Event => peer.hello.to_owned(),
    };
    if peer.repeats() {
        say_something(peer, &server)?;
    }
    let request = get(&target);
    let enough = Enough::Left(scale.churning);
    let before = server.cpu();
    let churned = churn(server.address, |_| request.clone(), until, enough, PATIENCE)?;
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

/// Publishes one message, for those who come later.
fn say_something(peer: &Peer, server: &Process) -> Result<(), String> {
    let mut publisher = Publisher::new(server.address, 0, peer.publish, 1)?;
    publisher.publish(0, Duration::ZERO)?;
    for _ in 0..1000 {
        if publisher.receive()? {
            return Ok(());
        }
        sleep(Duration::from_millis(1));
    }
    Err("a message is not answered".to_owned())
}
