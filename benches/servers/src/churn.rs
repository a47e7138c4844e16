//! Many connections, one after the other and some at a time: until there are enough, each is opened,
//! listened to until it has said what is waited for, and then left or kept.

use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::{Errno, read, write};
use servers::net::{Poller, connect, do_not_wait};

/// How many wait at a time.
const AT_A_TIME: usize = 64;

/// What was seen.
#[derive(Debug)]
pub(crate) struct Churned {
    /// How long each took, from before it was opened.
    pub(crate) latencies: Vec<Duration>,
    /// What was kept, in the order of the numbers that were asked with.
    pub(crate) kept: Vec<OwnedFd>,
    /// All of it.
    pub(crate) took: Duration,
}

/// When a connection has said enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// The head of an event stream.
    Head,
    /// An event, too.
    Event,
}

impl Until {
    fn is_met_by(self, bytes: &[u8]) -> Result<bool, String> {
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

/// When to open no more.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Enough {
    /// After so many, which are kept.
    Kept(usize),
    /// After so long; none is kept.
    Left(Duration),
}

struct Waiting {
    number: usize,
    socket: OwnedFd,
    begun: Instant,
    heard: Vec<u8>,
}

/// Opens connections, and sends on each what `request` makes of its number.
pub(crate) fn churn(
    to: SocketAddrV4,
    request: impl Fn(usize) -> Vec<u8>,
    until: Until,
    enough: Enough,
    patience: Duration,
) -> Result<Churned, String> {
    let begun = Instant::now();
    let mut poller = Poller::new().map_err(|error| error.to_string())?;
    let mut waiting: Vec<Option<Waiting>> = (0..AT_A_TIME).map(|_| None).collect();
    let (mut opened, mut open) = (0, 0);
    let mut latencies = Vec::new();
    let mut kept = Vec::new();
    loop {
        for (token, place) in waiting.iter_mut().enumerate() {
            let more = match enough {
                Enough::Kept(count) => opened < count,
                Enough::Left(time) => begun.elapsed() < time,
            };
            if place.is_none() && more {
                let one = ask(to, opened, &request(opened), patience);
                let one = one.map_err(|error| format!("cannot connect: {error}"))?;
                poller.watch(&one.socket, token).map_err(|error| error.to_string())?;
                *place = Some(one);
                opened += 1;
                open += 1;
            }
        }
        if open == 0 {
            kept.sort_unstable_by_key(|(number, _)| *number);
            let kept = kept.into_iter().map(|(_, socket)| socket).collect();
            return Ok(Churned { latencies, kept, took: begun.elapsed() });
        }
        poller.wait(patience).map_err(|error| error.to_string())?;
        if poller.count() == 0 || begun.elapsed() > patience {
            return Err(format!("{open} of {opened} connections are not answered"));
        }
        for at in 0..poller.count() {
            let place = &mut waiting[poller.ready(at).token];
            let Some(one) = place else { continue };
            if !hear(one)? || !until.is_met_by(&one.heard)? {
                continue;
            }
            latencies.push(one.begun.elapsed());
            open -= 1;
            let one = place.take().expect("it is there");
            if matches!(enough, Enough::Kept(_)) {
                poller.forget(&one.socket).map_err(|error| error.to_string())?;
                kept.push((one.number, one.socket));
            }
        }
    }
}

fn ask(
    to: SocketAddrV4,
    number: usize,
    request: &[u8],
    patience: Duration,
) -> std::io::Result<Waiting> {
    let begun = Instant::now();
    let socket = connect(to, number, patience)?;
    do_not_wait(&socket)?;
    write(&socket, request)?;
    Ok(Waiting { number, socket, begun, heard: Vec::new() })
}

fn hear(one: &mut Waiting) -> Result<bool, String> {
    let mut buffer = [0; 4096];
    match read(&one.socket, &mut buffer) {
        Ok(0) => Err("closed a connection before it was answered".to_owned()),
        Ok(count) => {
            one.heard.extend_from_slice(&buffer[..count]);
            Ok(true)
        }
        Err(Errno::AGAIN) => Ok(false),
        Err(error) => Err(format!("a connection failed: {error}")),
    }
}
