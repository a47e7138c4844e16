//! Tests of events in a file, compared with events in memory.

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use super::Test;
use super::delivering::drive;
use crate::clients::Order;
use crate::fill::fill;
use crate::load::{Load, Pace, get};
use crate::peers::{Peer, Setup, work_folder};
use crate::process::Process;
use crate::reader::Reader;
use crate::scale::Scale;
use crate::stats::{millis, quantile};

/// Where events are kept, and for a file the value of `--sync`.
const PLACES: [(&str, Option<&str>); 3] = [
    ("memory", None),
    ("file, always", Some("always")),
    ("file, each 100 ms", Some("interval=100")),
];

/// The numbers of publishers.
const PUBLISHERS: [u32; 2] = [1, 64];

/// Loads of subscribers, and the number of publishers.
const PACES: [(&str, Pace, u32); 2] =
    [("20/s", Pace::PerSecond(20.0), 1), ("as answered", Pace::Window(50), 4)];

/// A limit in bytes above the size of every log in these tests.
const BYTES: &str = "4000000000";

pub(super) fn tests(scale: Scale) -> Vec<Test> {
    let Scale { some, replayed, .. } = scale;
    vec![
        Test {
            name: "storage",
            about: "Publications without subscribers, with events in memory, in a file that is written \
                    durably before each response, and in one that is written durably every 100 ms. \
                    Each publisher publishes as soon as it has its response. Times are those from a \
                    publication to its response."
                .to_owned(),
            columns: &["server CPU, µs/publication", "p50, ms", "p99, ms", "published/s"],
            cases: cases(&PUBLISHERS.map(|count| format!("publishers: {count}"))),
            supports: Peer::is_ours,
            run: Box::new(move |peer, case| {
                let server = start(peer, PLACES[case / 2].1, &[])?;
                let mut load = Load::connect(peer, server.address, 1, 0, PUBLISHERS[case % 2])?;
                let (driven, cpu) = drive(&mut load, &server, scale, Pace::Window(1))?;
                let [p50, p99] = [0.5, 0.99].map(|at| millis(quantile(&driven.responses, at)));
                let micros = cpu.as_secs_f64() * 1e6 / driven.published as f64;
                Ok(vec![micros, p50, p99, driven.rate])
            }),
        },
        Test {
            name: "storage-delivery",
            about: format!(
                "The same with {some} subscribers: 20 messages per second, and 4 publishers that publish as \
                 soon as they have their response."
            ),
            columns: &["server CPU, µs/delivery", "published/s"],
            cases: cases(&PACES.map(|(name, ..)| name.to_owned())),
            supports: Peer::is_ours,
            run: Box::new(move |peer, case| {
                let (_, pace, publishers) = PACES[case % 2];
                let server = start(peer, PLACES[case / 2].1, &[])?;
                let mut load = Load::connect(peer, server.address, 1, some, publishers)?;
                let (driven, cpu) = drive(&mut load, &server, scale, pace)?;
                Ok(vec![cpu.as_secs_f64() * 1e6 / driven.delivered as f64, driven.rate])
            }),
        },
        Test {
            name: "storage-file",
            about: format!(
                "A file with {replayed} events of 100 bytes: a client reads them all after the server was \
                 killed and started again."
            ),
            columns: &[
                "server CPU, µs/event",
                "MB/s",
                "server CPU to start, µs/event",
                "bytes/event in the file",
            ],
            cases: vec![String::new()],
            supports: Peer::is_ours,
            run: Box::new(move |peer, _| {
                let events = replayed.to_string();
                let bounds = ["--history", &events, "--history-bytes", BYTES, "--max-bytes", BYTES];
                let sync = Some("interval=100");
                let server = start(peer, sync, &bounds)?;
                fill(server.address, peer.publish, replayed)?;
                // Until all events are durable.
                sleep(Duration::from_secs(1));
                drop(server);
                let file = fs::metadata(directory().join("events.redb"));
                let size = file.map_err(|error| error.to_string())?.len();
                let server = resume(peer, sync, &bounds)?;
                // The server listens before it has opened the file, and answers after that.
                drop(Load::connect(peer, server.address, 1, 1, 0)?);
                let mut order = Order::default();
                let request = get(&format!("{}t0?lastEventId=earliest", peer.events));
                let before = server.cpu();
                let seen = Reader::open(server.address, &request)?.read(
                    |seen| seen.messages >= u64::from(replayed),
                    |message| order.check(Some(message)).map(drop),
                )?;
                let reading = server.cpu().saturating_sub(before);
                let micros = |cpu: Duration| cpu.as_secs_f64() * 1e6 / f64::from(replayed);
                let rate = seen.bytes as f64 / seen.took.as_secs_f64() / 1e6;
                let bytes = size as f64 / f64::from(replayed);
                Ok(vec![micros(reading), rate, micros(before), bytes])
            }),
        },
    ]
}

/// Returns the names of cases: each place with each of these.
fn cases(each: &[String; 2]) -> Vec<String> {
    let of = |place: &str| each.clone().map(|name| format!("{place}, {name}"));
    PLACES.iter().flat_map(|(place, _)| of(place)).collect()
}

/// The directory of the file.
fn directory() -> PathBuf {
    work_folder().join("storage")
}

/// Starts a server without events.
fn start(peer: &Peer, sync: Option<&str>, flags: &[&str]) -> Result<Process, String> {
    // It does not exist before the first run.
    let _ = fs::remove_dir_all(directory());
    resume(peer, sync, flags)
}

/// Starts a server with the events in the directory.
fn resume(peer: &Peer, sync: Option<&str>, flags: &[&str]) -> Result<Process, String> {
    let directory = directory();
    let data = directory.to_string_lossy();
    let data = sync.map(|sync| ["--data", &data, "--sync", sync]);
    let flags = [data.as_ref().map_or(&[][..], |data| &data[..]), flags].concat();
    peer.start(Setup { flags: &flags, ..Setup::default() })
}
