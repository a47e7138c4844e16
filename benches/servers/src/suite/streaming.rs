//! One client, and as much as it can read.

use std::process;

use super::{Found, Test};
use crate::load::get;
use crate::peers::{Peer, Setup};
use crate::process::cpu;
use crate::reader::Reader;
use crate::scale::Scale;

pub(super) fn tests(scale: Scale) -> Vec<Test> {
    vec![Test {
        name: "one-stream",
        about: "One client reads a stream that always has another event of 100 bytes. The floor writes \
                what was prepared, 256 KiB at a time: no server can be faster, and none that makes \
                events one by one as fast."
            .to_owned(),
        columns: &["server CPU, ns/event", "events/s", "bytes/event", "generator CPU, %"],
        cases: vec![String::new()],
        takes: Peer::streams,
        run: Box::new(move |peer, _| one_stream(peer, scale)),
    }]
}

fn one_stream(peer: &Peer, scale: Scale) -> Found {
    let server = peer.start(Setup { streams: true, ..Setup::default() })?;
    let mut reader = Reader::ask(server.address, &get("/stream"))?;
    reader.read(|seen| seen.took >= scale.warming, |_| Ok(()))?;
    let before = (server.cpu(), cpu(process::id()));
    let seen = reader.read(|seen| seen.took >= scale.reading, |_| Ok(()))?;
    let server = server.cpu().saturating_sub(before.0);
    let own = cpu(process::id()).saturating_sub(before.1);
    let (events, took) = (seen.messages as f64, seen.took.as_secs_f64());
    Ok(vec![
        server.as_secs_f64() * 1e9 / events,
        events / took,
        seen.bytes as f64 / events,
        own.as_secs_f64() * 100.0 / took,
    ])
}
