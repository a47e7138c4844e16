//! Three servers on one stream under load, while the engine and the servers fail.
//!
//! The long forms take some minutes: `cargo test --release -p sse-smol-server --all-features --test
//! nats -- --ignored --nocapture --test-threads 1`.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::engine::{Engine, with_each, with_each_cluster};
use super::failures::publish_at_last;
use super::support::resuming::{Log, Outcome, RetryingPublisher};
use super::support::subscriber::{Publisher, Subscriber, read_all_until};
use super::support::{Binary, unused_address};

const TOPICS: [&str; 2] = ["a", "b.c"];

/// The paths of streams: of each topic, and of both.
const PATHS: [&str; 3] = ["/topics?topic=a", "/topics?topic=b.c", "/topics?topic=a&topic=b.c"];

/// The time within which a publication is acknowledged, and a client gets an event, in spite of all
/// failures.
const BOUND: Duration = Duration::from_secs(60);

/// The time for which a publisher waits for an answer before it repeats the publication on another
/// server, while it may still be in progress.
const ANSWER: Duration = Duration::from_secs(2);

/// The time for which a client waits for an answer, or for the first event of a stream, before it
/// turns to another server. It is longer than a server may take to find that it cannot answer.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug)]
enum Fault {
    KillEngine,
    StopEngine,
    KillServer,
    StopServer,
}

const FAULTS: [Fault; 4] =
    [Fault::KillEngine, Fault::StopEngine, Fault::KillServer, Fault::StopServer];

/// The extent of a run.
struct Load {
    /// The number of events that each publisher publishes at least.
    events: usize,
    publishers: usize,
    /// The number of clients of each path.
    clients: usize,
    /// How often each fault happens.
    rounds: usize,
    /// The maximum time for which a part is gone, and that until the next fault, in milliseconds.
    outage: u64,
    pause: u64,
    replicas: &'static str,
    /// The number of events of each topic in memory. A client that is behind them reads pages from
    /// the engine, which in the long forms have to be faster than the publishers.
    window: &'static str,
}

/// The servers, which keep their addresses when they are started again.
struct Servers {
    addresses: [SocketAddr; 3],
    running: Vec<Binary>,
    arguments: Vec<String>,
}

impl Servers {
    fn start(engines: &[Engine], load: &Load) -> Self {
        let urls = engines.iter().map(Engine::url).collect::<Vec<_>>().join(",");
        let arguments = ["--nats", &urls, "--nats-replicas", load.replicas];
        let bounds = ["--window", load.window, "--history", "1000000", "--max-bytes", "1000000000"];
        let arguments = [&arguments[..], &bounds].concat().into_iter().map(str::to_owned);
        let addresses = [(); 3].map(|()| unused_address());
        let mut servers = Self { addresses, running: Vec::new(), arguments: arguments.collect() };
        servers.running = addresses.iter().map(|address| servers.start_one(*address)).collect();
        servers
    }

    fn start_one(&self, address: SocketAddr) -> Binary {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        Binary::start_on(&address.to_string(), &arguments)
    }

    /// Kills a server and starts it again.
    fn kill(&mut self, index: usize, outage: Duration) {
        self.running[index].signal("-KILL");
        thread::sleep(outage);
        self.running[index] = self.start_one(self.addresses[index]);
    }
}

fn cause(fault: Fault, engines: &mut [Engine], servers: &mut Servers, outage: Duration) {
    let index = fastrand::usize(..3);
    let engine = index % engines.len();
    match fault {
        Fault::KillEngine => {
            engines[engine].kill();
            thread::sleep(outage);
            engines[engine].restart();
        }
        Fault::StopEngine => {
            engines[engine].stop();
            thread::sleep(outage);
            engines[engine].signal("-CONT");
        }
        Fault::KillServer => servers.kill(index, outage),
        Fault::StopServer => {
            servers.running[index].signal("-STOP");
            thread::sleep(outage);
            servers.running[index].signal("-CONT");
        }
    }
}

/// Publishes on one server after the other, at least `least` events, until the faults are over and
/// the last event is acknowledged. An event without an acknowledgement could still arrive later.
fn publish(
    mut publisher: RetryingPublisher,
    addresses: &[SocketAddr],
    least: usize,
    is_over: &AtomicBool,
) -> RetryingPublisher {
    let mut rng = Rng::with_seed(publisher.number as u64);
    let mut acknowledged = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut outcome = Outcome::Acknowledged;
    while publisher.ids.len() < least
        || !is_over.load(Ordering::SeqCst)
        || outcome != Outcome::Acknowledged
    {
        assert!(
            acknowledged.elapsed() < BOUND,
            "event {} is not acknowledged",
            publisher.ids.len()
        );
        let address = *rng.choice(addresses).unwrap();
        let Some(mut socket) = RetryingPublisher::connect(address, ANSWER) else { continue };
        for _ in 0..rng.usize(1..500) {
            outcome = publisher.publish(&mut socket);
            if outcome != Outcome::Acknowledged {
                break;
            }
            slowest = slowest.max(acknowledged.elapsed());
            acknowledged = Instant::now();
        }
    }
    println!("publisher {}: {} events, {slowest:?}", publisher.number, publisher.ids.len());
    publisher
}

/// Reads until all events have arrived, and moves between the servers meanwhile. Returns the stream
/// at the end.
fn follow(
    log: &Mutex<Log>,
    path: &str,
    client: usize,
    addresses: &[SocketAddr],
    count: &AtomicUsize,
) -> Subscriber {
    let mut rng = Rng::with_seed(client as u64);
    let mut last = Instant::now();
    // How attempts without an event have ended.
    let (mut refused, mut ended, mut silent) = (0, 0, 0);
    loop {
        assert!(
            last.elapsed() < BOUND,
            "client {client} of {path} gets nothing: {refused} streams were refused, {ended} ended, \
             and {silent} had no event"
        );
        let address = *rng.choice(addresses).unwrap();
        // Some clients have lost what they read last.
        let last_id = {
            let mut log = log.lock().unwrap();
            if rng.u8(..8) == 0 {
                log.seen[client] -= rng.usize(..=log.seen[client].min(3000));
            }
            log.last_id(client).map(str::to_owned)
        };
        let earliest = if last_id.is_none() { "&lastEventId=earliest" } else { "" };
        let path = format!("{path}{earliest}");
        let stream = Subscriber::try_open(address, &path, last_id.as_deref(), PATIENCE);
        let Some(mut stream) = stream else {
            refused += 1;
            continue;
        };
        let (opened, stay) = (Instant::now(), Duration::from_millis(rng.u64(..6000)));
        while stream.end.is_none() {
            let read = stream.take(usize::MAX);
            let seen = {
                let mut log = log.lock().unwrap();
                log.add(client, &stream.events);
                log.seen[client]
            };
            if !stream.events.is_empty() {
                last = Instant::now();
                (refused, ended, silent) = (0, 0, 0);
                stream.events.clear();
            }
            stream.text.clear();
            let all = count.load(Ordering::SeqCst);
            if seen >= all {
                return stream;
            }
            // Reading what is older than the window takes a while.
            if opened.elapsed() > stay && (last > opened || opened.elapsed() > PATIENCE) {
                break;
            }
            if read == 0 {
                thread::sleep(Duration::from_millis(5));
            }
        }
        if last < opened {
            *(if stream.end.is_some() { &mut ended } else { &mut silent }) += 1;
        }
    }
}

/// Runs publishers and clients, and checks the events that each client has received.
fn run(load: &Load, mut engines: Vec<Engine>) {
    let start = Instant::now();
    let mut servers = Servers::start(&engines, load);
    let addresses = servers.addresses;
    let logs = PATHS.map(|_| Mutex::new(Log::new(load.clients)));
    let counts = PATHS.map(|_| AtomicUsize::new(usize::MAX));
    let is_over = AtomicBool::new(false);
    let (publishers, streams) = thread::scope(|scope| {
        let followers: Vec<Vec<_>> = (0..PATHS.len())
            .map(|path| {
                let (log, count, addresses) = (&logs[path], &counts[path], &addresses);
                let spawn = |client| {
                    scope.spawn(move || follow(log, PATHS[path], client, addresses, count))
                };
                (0..load.clients).map(spawn).collect()
            })
            .collect();
        let publishing: Vec<_> = (0..load.publishers)
            .map(|number| {
                let publisher = RetryingPublisher::new(number, TOPICS[number % 2]);
                let (addresses, is_over) = (&addresses, &is_over);
                scope.spawn(move || publish(publisher, addresses, load.events, is_over))
            })
            .collect();
        let mut rng = Rng::with_seed(7);
        for _ in 0..load.rounds {
            let mut faults = FAULTS;
            rng.shuffle(&mut faults);
            for fault in faults {
                thread::sleep(Duration::from_millis(rng.u64(..load.pause)));
                let outage = Duration::from_millis(rng.u64(..load.outage));
                println!("{:?}: {fault:?}, {outage:?}", start.elapsed());
                cause(fault, &mut engines, &mut servers, outage);
            }
        }
        is_over.store(true, Ordering::SeqCst);
        let publishers: Vec<_> = publishing.into_iter().map(|one| one.join().unwrap()).collect();
        let of_topic = |topic| {
            let publishers = publishers.iter().filter(move |one| one.topic == topic);
            publishers.map(|one| one.ids.len()).sum::<usize>()
        };
        let [a, b] = TOPICS.map(of_topic);
        for (count, events) in counts.iter().zip([a, b, a + b]) {
            count.store(events, Ordering::SeqCst);
        }
        println!("{:?}: {a} and {b} events are published", start.elapsed());
        let join = |of_path: Vec<thread::ScopedJoinHandle<'_, _>>| {
            of_path.into_iter().map(|follower| follower.join().unwrap()).collect()
        };
        (publishers, followers.into_iter().map(join).collect())
    });
    let logs = logs.map(|log| log.into_inner().unwrap());
    for (path, log) in PATHS.iter().zip(&logs) {
        let is_in_path =
            |one: &&RetryingPublisher| path.split(['=', '&']).any(|part| part == one.topic);
        log.check(&publishers.iter().filter(is_in_path).collect::<Vec<_>>());
    }
    println!("{:?}: all events are on all clients", start.elapsed());
    recreate(&engines[0], &addresses, &logs, streams);
    println!("{:?}: done", start.elapsed());
}

/// Replaces the stream by another one: clients that were connected and those that resume get a gap
/// event, and then the events of the new epoch.
fn recreate(
    engine: &Engine,
    addresses: &[SocketAddr],
    logs: &[Log],
    streams: Vec<Vec<Subscriber>>,
) {
    engine.api("STREAM.PURGE.sse", "");
    engine.api("STREAM.DELETE.sse", "");
    let new = TOPICS.map(|topic| {
        let mut publisher = Publisher::open(addresses[0]);
        publish_at_last(&mut publisher, &format!("{topic}?key=new"), "new")
    });
    let expected = [&new[..1], &new[1..], &new];
    for (((path, log), mut streams), expected) in PATHS.iter().zip(logs).zip(streams).zip(expected)
    {
        // They are cut off, since they lag.
        read_all_until(&mut streams, "the end", |one| one.end.is_some());
        assert!(streams.iter().all(|one| one.events.is_empty()));
        for client in 0..streams.len() {
            let address = addresses[client % addresses.len()];
            let known = log.events.len() - 1;
            let known = if client % 2 == 0 { known } else { fastrand::usize(..known) };
            let id = &log.events[known].id;
            let mut resumed = Subscriber::resume(address, path, id);
            let events = resumed.read_events(1 + expected.len());
            assert_eq!(events[0].event_type, "gap");
            let ids: Vec<_> = events[1..].iter().map(|event| &event.id).collect();
            assert_eq!(ids, expected.iter().collect::<Vec<_>>());
            assert_ne!(ids[0].split('-').next(), id.split('-').next(), "a new epoch");
        }
    }
}

/// Every event that was acknowledged arrives once and in order, on clients that move between the
/// servers and on those that stay.
#[test]
fn no_event_is_lost_or_repeated_while_the_engine_and_servers_fail_under_load() {
    let load = Load {
        events: 100,
        publishers: 4,
        clients: 3,
        rounds: 1,
        outage: 1000,
        pause: 1000,
        replicas: "1",
        window: "100",
    };
    with_each(|engine| run(&load, vec![engine]));
}

const LONG: Load = Load {
    events: 10_000,
    publishers: 10,
    clients: 20,
    rounds: 5,
    outage: 4000,
    pause: 4000,
    replicas: "1",
    window: "2000",
};

#[test]
#[ignore = "takes some minutes"]
fn no_event_is_lost_or_repeated_in_a_long_load_on_one_engine() {
    with_each(|engine| run(&LONG, vec![engine]));
}

#[test]
#[ignore = "takes some minutes"]
fn no_event_is_lost_or_repeated_in_a_long_load_on_a_cluster() {
    with_each_cluster(|members| run(&Load { replicas: "3", ..LONG }, members));
}
