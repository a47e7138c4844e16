//! Tests of events in a file and on NATS, compared with events in memory.

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use servers::message::LEN;

use super::{Found, Test};
use crate::clients::Order;
use crate::fill::{Form, fill, mark};
use crate::load::{Driven, Load, Pace, get};
use crate::nats::{self, Nats};
use crate::peers::{Peer, Setup, work_folder};
use crate::process::Process;
use crate::reader::Reader;
use crate::scale::Scale;
use crate::stats::{millis, quantile};

/// Where events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Memory,
    /// A file, with this value of `--sync`.
    File(&'static str),
    Nats,
}

impl Place {
    /// Returns whether a client can resume after the server was killed. A file that was not written
    /// durably before each response may have lost events, so its IDs become unknown.
    fn resumes(self) -> bool {
        matches!(self, Self::File("always") | Self::Nats)
    }
}

/// All places, with their names in the tables.
const PLACES: [(&str, Place); 4] = [
    ("memory", Place::Memory),
    ("file, always", Place::File("always")),
    ("file, each 100 ms", Place::File("interval=100")),
    ("NATS", Place::Nats),
];

/// The numbers of publishers.
const PUBLISHERS: [u32; 2] = [1, 64];

/// Loads of subscribers, and the number of publishers.
const PACES: [(&str, Pace, u32); 2] =
    [("20/s", Pace::PerSecond(20.0), 1), ("as answered", Pace::Window(50), 4)];

/// A limit in bytes above the size of every log in these tests.
const BYTES: &str = "4000000000";

/// The places of a test.
#[derive(Clone)]
struct Places {
    all: Vec<(&'static str, Place)>,
    nats: Option<Nats>,
}

/// The programs and files of one run.
struct Kept {
    place: Place,
    /// sse-smol-server with the feature `nats`, and the running NATS server.
    nats: Option<(Nats, Process)>,
}

/// Returns the tests. Without `nats`, they have no rows for events on NATS.
pub(super) fn tests(scale: Scale, nats: Option<Nats>) -> Vec<Test> {
    let places = Places::new(nats, |_| true);
    let resumable = Places::new(places.nats.clone(), Place::resumes);
    vec![publishing(scale, places.clone()), delivering(scale, places), resuming(scale, resumable)]
}

fn publishing(scale: Scale, places: Places) -> Test {
    Test {
        name: "storage",
        about: "Publications without subscribers, with events in memory, in a file that is written \
                durably before each response, in one that is written durably every 100 ms, and on \
                NATS. Each publisher publishes as soon as it has its response. Times are those from a \
                publication to its response. The NATS server's own CPU is in a column of its own."
            .to_owned(),
        columns: &[
            "server CPU, µs/publication",
            "NATS CPU, µs/publication",
            "p50, ms",
            "p99, ms",
            "published/s",
        ],
        summarized: 1,
        cases: places.cases(&PUBLISHERS.map(|count| format!(", publishers: {count}"))),
        supports: Peer::is_ours,
        run: Box::new(move |peer, case| {
            let kept = places.start(case / 2)?;
            let server = kept.serve(peer, &[])?;
            let mut load = Load::connect(peer, server.address, 1, 0, PUBLISHERS[case % 2])?;
            let (driven, cpu) = kept.drive(&mut load, &server, scale, Pace::Window(1))?;
            let [p50, p99] = [0.5, 0.99].map(|at| millis(quantile(&driven.responses, at)));
            let [own, engine] = cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / driven.published as f64);
            Ok(vec![own, engine, p50, p99, driven.rate])
        }),
    }
}

fn delivering(scale: Scale, places: Places) -> Test {
    Test {
        name: "storage-delivery",
        about: format!(
            "The same with {} subscribers: 20 messages per second, and 4 publishers that publish as \
             soon as they have their response.",
            scale.some
        ),
        columns: &["server CPU, µs/delivery", "NATS CPU, µs/delivery", "published/s"],
        summarized: 1,
        cases: places.cases(&PACES.map(|(name, ..)| format!(", {name}"))),
        supports: Peer::is_ours,
        run: Box::new(move |peer, case| {
            let kept = places.start(case / 2)?;
            let (_, pace, publishers) = PACES[case % 2];
            let server = kept.serve(peer, &[])?;
            let mut load = Load::connect(peer, server.address, 1, scale.some, publishers)?;
            let (driven, cpu) = kept.drive(&mut load, &server, scale, pace)?;
            let [own, engine] = cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / driven.delivered as f64);
            Ok(vec![own, engine, driven.rate])
        }),
    }
}

fn resuming(scale: Scale, places: Places) -> Test {
    let Scale { stored, replayed, .. } = scale;
    Test {
        name: "storage-resume",
        about: format!(
            "A storage with {stored} events of 100 bytes. sse-smol-server is killed and started again: \
             `ready` is the time until `/readyz` answers 200. Then a client resumes {replayed} events \
             back, which are read from the storage."
        ),
        columns: &[
            "ready, ms",
            "server CPU until then, ms",
            "MB/s",
            "bytes/event on disk",
            "server CPU, µs/event",
            "NATS CPU, µs/event",
            "published/s in batches, to fill it",
        ],
        summarized: 4,
        cases: places.cases(&[String::new()]),
        supports: Peer::is_ours,
        run: Box::new(move |peer, case| resume(peer, &places.start(case)?, stored, replayed)),
    }
}

fn resume(peer: &Peer, kept: &Kept, stored: u32, replayed: u32) -> Found {
    // NATS cannot exclude a loss of events before the oldest one in a full log.
    let history = (stored * 2).to_string();
    let bounds = ["--history", &history, "--history-bytes", BYTES, "--max-bytes", BYTES];
    let server = kept.serve(peer, &bounds)?;
    let begun = Instant::now();
    let form = Form::Batches { publishers: 8 };
    let batched = fill(server.address, peer.publish, stored.saturating_sub(replayed), form)?;
    let filling = begun.elapsed().as_secs_f64();
    let id = mark(server.address, peer.publish)?;
    // As many publications share a durable write as there are publishers.
    let form = Form::Pipelined { publishers: 50, len: LEN };
    let filled = batched + fill(server.address, peer.publish, replayed, form)?;
    // Until all events are durable.
    sleep(Duration::from_secs(1));
    drop(server);
    let size = nats::size(&kept.folder());
    let begun = Instant::now();
    let mut server = kept.spawn(peer, &bounds)?;
    server.wait_until(|address| {
        let ready = Reader::open(address, &get("/readyz"));
        ready
            .is_ok_and(|mut ready| ready.head().is_ok_and(|head| head.starts_with(b"HTTP/1.1 200")))
    })?;
    let ready = begun.elapsed();
    let before = [server.cpu(), kept.engine_cpu()];
    let mut order = Order::default();
    let request = get(&format!("{}t0?lastEventId={id}", peer.events));
    let seen = Reader::open(server.address, &request)?.read(
        |seen| seen.messages >= u64::from(replayed),
        |message| order.check(Some(message)).map(drop),
    )?;
    let own = server.cpu().saturating_sub(before[0]);
    let engine = kept.engine_cpu().saturating_sub(before[1]);
    let micros = |cpu: Duration| cpu.as_secs_f64() * 1e6 / f64::from(replayed);
    Ok(vec![
        millis(ready),
        millis(before[0]),
        seen.bytes as f64 / seen.took.as_secs_f64() / 1e6,
        size as f64 / f64::from(filled),
        micros(own),
        micros(engine),
        f64::from(batched) / filling,
    ])
}

impl Places {
    /// Returns the available places for which `is_tested` holds.
    fn new(nats: Option<Nats>, is_tested: fn(Place) -> bool) -> Self {
        let is_available = |place| place != Place::Nats || nats.is_some();
        let all = PLACES.into_iter().filter(|(_, place)| is_available(*place) && is_tested(*place));
        Self { all: all.collect(), nats }
    }

    /// Returns the names of cases: each place with each of these.
    fn cases(&self, each: &[String]) -> Vec<String> {
        let of = |place: &str| each.iter().map(|each| format!("{place}{each}")).collect::<Vec<_>>();
        self.all.iter().flat_map(|(place, _)| of(place)).collect()
    }

    /// Prepares a place without events, which starts the NATS server.
    fn start(&self, index: usize) -> Result<Kept, String> {
        let place = self.all[index].1;
        let nats = self.nats.as_ref().filter(|_| place == Place::Nats);
        let nats = nats.map(|nats| Ok::<_, String>((nats.clone(), nats.start()?))).transpose()?;
        let kept = Kept { place, nats };
        if place != Place::Nats {
            // It does not exist before the first run.
            let _ = fs::remove_dir_all(kept.folder());
        }
        Ok(kept)
    }
}

impl Kept {
    /// Returns the folder of the files.
    fn folder(&self) -> PathBuf {
        if self.place == Place::Nats { nats::folder() } else { work_folder().join("storage") }
    }

    /// Starts a server with the events of this place, and waits until it accepts connections.
    fn serve(&self, peer: &Peer, flags: &[&str]) -> Result<Process, String> {
        self.with_setup(flags, |setup| peer.start(setup))
    }

    /// Starts a server with the events of this place, and does not wait.
    fn spawn(&self, peer: &Peer, flags: &[&str]) -> Result<Process, String> {
        self.with_setup(flags, |setup| peer.spawn(setup))
    }

    fn with_setup<T>(&self, flags: &[&str], start: impl FnOnce(Setup<'_>) -> T) -> T {
        let folder = self.folder();
        let data = folder.to_string_lossy();
        let url = self.nats.as_ref().map(|(_, engine)| format!("nats://{}", engine.address));
        let place = match self.place {
            Place::Memory => vec![],
            Place::File(sync) => vec!["--data", &*data, "--sync", sync],
            Place::Nats => vec!["--nats", url.as_ref().expect("the NATS server runs")],
        };
        let program = self.nats.as_ref().map(|(nats, _)| &*nats.program);
        start(Setup { flags: &[&place, flags].concat(), program, ..Setup::default() })
    }

    /// Returns the CPU time of the NATS server, or zero.
    fn engine_cpu(&self) -> Duration {
        self.nats.as_ref().map_or(Duration::ZERO, |(_, engine)| engine.cpu())
    }

    /// Drives a load after a warm-up. Returns its result, and the CPU times of the server and of the
    /// NATS server.
    fn drive(
        &self,
        load: &mut Load,
        server: &Process,
        scale: Scale,
        pace: Pace,
    ) -> Result<(Driven, [Duration; 2]), String> {
        load.drive(Pace::Window(1), scale.warming)?;
        let before = [server.cpu(), self.engine_cpu()];
        let driven = load.drive(pace, scale.publishing)?;
        let own = server.cpu().saturating_sub(before[0]);
        Ok((driven, [own, self.engine_cpu().saturating_sub(before[1])]))
    }
}
