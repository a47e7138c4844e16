//! A test of the maximum rate of one stream.

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
        about: "One client reads an endless stream of events of 100 bytes. The floor writes prepared \
                events, 256 KiB per write, which is an upper bound that a server of individual events \
                cannot reach."
            .to_owned(),
        columns: &["server CPU, ns/event", "events/s", "bytes/event", "generator CPU, %"],
        summarized: 1,
        cases: vec![String::new()],
        supports: Peer::streams,
        run: Box::new(move |peer, _| one_stream(peer, scale)),
    }]
}

fn one_stream(peer: &Peer, scale: Scale) -> Found {
    let server = peer.start(Setup { streams: true, ..Setup::default() })?;
    let mut reader = Reader::open(server.address, &get("/stream"))?;
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
