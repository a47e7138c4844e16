//! Connection churn: opens many connections, a limited number of them concurrently, reads from each
//! up to a given point, and closes or keeps it.

use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::{Errno, read, write};
use servers::net::{Poller, connect, set_nonblocking};

use crate::tracking::retransmissions;

/// The number of connections that wait for a response concurrently.
const CONCURRENT: usize = 64;

/// The time after which the kernel repeats the first packet of a connection. Connecting takes less,
/// unless that packet was dropped, which spoils all numbers of the run.
const RETRANSMISSION: Duration = Duration::from_secs(1);

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Churned {
    /// The time of each connection from before connecting until `Until` was met.
    pub(crate) latencies: Vec<Duration>,
    /// The kept connections, ordered by their number.
    pub(crate) kept: Vec<OwnedFd>,
    /// The duration of the run.
    pub(crate) took: Duration,
}

/// The point up to which a connection is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// The head of an event stream.
    Head,
    /// The first event.
    Event,
}

impl Until {
    /// Returns whether these bytes of a response reach that point, or an error if it is not 200.
    pub(crate) fn is_met_by(self, bytes: &[u8]) -> Result<bool, String> {
        let Some(head) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(false) };
        if !bytes.starts_with(b"HTTP/1.1 200") {
            return Err(format!("answered {:?}", String::from_utf8_lossy(&bytes[..head])));
        }
        let body = &bytes[head..];
        let event = memchr::memmem::find(body, b"data: ").map(|at| &body[at..]);
        let event = event.and_then(|event| memchr::memmem::find(event, b"\n\n"));
        Ok(self == Self::Head || event.is_some())
    }
}

/// What to do with connections that have got their response.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// Opens this number of connections and keeps them.
    Keep(usize),
    /// Opens and closes this number of connections.
    Close(usize),
}

struct Pending {
    number: usize,
    socket: OwnedFd,
    started: Instant,
    received: Vec<u8>,
}

/// Opens connections and sends `request(number)` on each.
pub(crate) fn churn(
    to: SocketAddrV4,
    request: impl Fn(usize) -> Vec<u8>,
    until: Until,
    goal: Goal,
    timeout: Duration,
) -> Result<Churned, String> {
    let (Goal::Keep(count) | Goal::Close(count)) = goal;
    let retransmitted = retransmissions();
    let started = Instant::now();
    let mut poller = Poller::new().map_err(|error| error.to_string())?;
    let mut pending: Vec<Option<Pending>> = (0..CONCURRENT).map(|_| None).collect();
    let (mut opened, mut open) = (0, 0);
    let mut latencies = Vec::new();
    let mut kept = Vec::new();
    loop {
        for (token, place) in pending.iter_mut().enumerate() {
            if place.is_none() && opened < count {
                let one = send_request(to, opened, &request(opened), timeout);
                let one = one.map_err(|error| format!("cannot connect: {error}"))?;
                let connecting = one.started.elapsed();
                // Both are needed: this thread may have waited for the CPU, and the counter includes
                // the connections of other programs.
                if connecting >= RETRANSMISSION && retransmissions() != retransmitted {
                    return Err(format!(
                        "connecting took {connecting:.1?}: the kernel drops packets, see `dmesg`"
                    ));
                }
                poller.watch(&one.socket, token).map_err(|error| error.to_string())?;
                *place = Some(one);
                opened += 1;
                open += 1;
            }
        }
        if open == 0 {
            kept.sort_unstable_by_key(|(number, _)| *number);
            let kept = kept.into_iter().map(|(_, socket)| socket).collect();
            return Ok(Churned { latencies, kept, took: started.elapsed() });
        }
        poller.wait(timeout).map_err(|error| error.to_string())?;
        if poller.count() == 0 || started.elapsed() > timeout {
            return Err(format!("{open} of {opened} connections got no response in time"));
        }
        for at in 0..poller.count() {
            let place = &mut pending[poller.ready(at).token];
            let Some(one) = place else { continue };
            if !receive(one)? || !until.is_met_by(&one.received)? {
                continue;
            }
            latencies.push(one.started.elapsed());
            open -= 1;
            let one = place.take().expect("the place is in use");
            if matches!(goal, Goal::Keep(_)) {
                poller.forget(&one.socket).map_err(|error| error.to_string())?;
                kept.push((one.number, one.socket));
            }
        }
    }
}

fn send_request(
    to: SocketAddrV4,
    number: usize,
    request: &[u8],
    timeout: Duration,
) -> std::io::Result<Pending> {
    let started = Instant::now();
    let socket = connect(to, number, timeout)?;
    set_nonblocking(&socket)?;
    write(&socket, request)?;
    Ok(Pending { number, socket, started, received: Vec::new() })
}

fn receive(one: &mut Pending) -> Result<bool, String> {
    let mut buffer = [0; 4096];
    match read(&one.socket, &mut buffer) {
        Ok(0) => Err("the server closed a connection before responding".to_owned()),
        Ok(count) => {
            one.received.extend_from_slice(&buffer[..count]);
            Ok(true)
        }
        Err(Errno::AGAIN) => Ok(false),
        Err(error) => Err(format!("a connection failed: {error}")),
    }
}
