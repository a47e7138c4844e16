//! Tests of the log of a topic: its memory, publishing into a full log, and replaying it.

use std::time::Duration;

use servers::message::LEN;

use super::delivering::drive;
use super::{Found, Test};
use crate::clients::Order;
use crate::fill::{Form, fill};
use crate::load::{Load, Pace, get};
use crate::peers::{Peer, Setup};
use crate::process::Process;
use crate::reader::Reader;
use crate::scale::Scale;

/// A limit in bytes above the size of every log in these tests.
const BYTES: &str = "4000000000";

/// The number of replays in one run. A single one would be too short to measure.
const REPLAYS: usize = 15;

/// The lengths of replayed messages in bytes.
const LENGTHS: [usize; 2] = [LEN, 1024];

pub(super) fn tests(scale: Scale) -> Vec<Test> {
    vec![
        Test {
            name: "history",
            about: format!(
                "A topic whose log is full, so that each publication evicts an event: 20 messages per \
                 second to {} subscribers. `bytes/event` is the growth of the server's memory (PSS), which \
                 is not meaningful for few events.",
                scale.some
            ),
            columns: &["server CPU, µs/delivery", "bytes/event", "published/s, to fill it"],
            summarized: 1,
            cases: scale.histories.iter().map(|events| format!("{events} events")).collect(),
            supports: Peer::is_ours,
            run: Box::new(move |peer, case| history(peer, scale, scale.histories[case])),
        },
        Test {
            name: "replay",
            about: format!(
                "A client reads all {} events of a log. The floor sends as many prepared events, 256 KiB \
                 per write, which is the cost of writing and reading alone.",
                scale.replayed
            ),
            columns: &["MB/s", "ms", "server CPU, ms", "bytes/event"],
            summarized: 1,
            cases: LENGTHS.map(|len| format!("{len} bytes")).into(),
            supports: |peer| peer.is_ours() || peer.is_floor(),
            run: Box::new(move |peer, case| replay(peer, scale.replayed, LENGTHS[case])),
        },
    ]
}

fn start(peer: &Peer, events: u32) -> Result<Process, String> {
    let events = events.to_string();
    let flags = ["--history", &events, "--history-bytes", BYTES, "--max-bytes", BYTES];
    peer.start(Setup { flags: &flags, ..Setup::default() })
}

fn history(peer: &Peer, scale: Scale, events: u32) -> Found {
    let server = start(peer, events)?;
    let memory = server.memory();
    let begun = std::time::Instant::now();
    let filled =
        fill(server.address, peer.publish, events, Form::Pipelined { publishers: 8, len: LEN })?;
    let filling = begun.elapsed();
    let grown = server.memory().saturating_sub(memory);
    let mut load = Load::connect(peer, server.address, 1, scale.some, 1)?;
    let (driven, cpu) = drive(&mut load, &server, scale, Pace::PerSecond(20.0))?;
    Ok(vec![
        cpu.as_secs_f64() * 1e6 / driven.delivered as f64,
        grown as f64 / f64::from(events),
        f64::from(filled) / filling.as_secs_f64(),
    ])
}

fn replay(peer: &Peer, events: u32, len: usize) -> Found {
    let server = start(peer, events)?;
    let request = if peer.is_floor() {
        get(&format!("/blob/{events}/{len}"))
    } else {
        fill(server.address, peer.publish, events, Form::Pipelined { publishers: 8, len })?;
        let target = format!("{}t0?lastEventId=earliest", peer.events);
        get(&target)
    };
    let mut runs = Vec::new();
    for _ in 0..REPLAYS {
        let before = server.cpu();
        let mut order = Order::default();
        let mut reader = Reader::open(server.address, &request)?;
        let seen = reader.read(
            |seen| seen.messages >= u64::from(events),
            // The floor sends the same event every time.
            |message| if peer.is_floor() { Ok(()) } else { order.check(Some(message)).map(drop) },
        )?;
        std::thread::sleep(Duration::from_millis(20));
        let cpu = server.cpu().saturating_sub(before).as_secs_f64();
        let (bytes, took) = (seen.bytes as f64, seen.took.as_secs_f64());
        runs.push(vec![bytes / took / 1e6, took * 1e3, cpu * 1e3, bytes / f64::from(events)]);
    }
    Ok(crate::stats::medians(&runs))
}
