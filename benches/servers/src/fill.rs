//! Fills a topic with messages, over several connections.

use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{read, write};
use servers::message::{LEN, Message};
use servers::net::connect;

use crate::clients::{request, request_head, response};

/// The number of pipelined requests of one connection. Their size is about that of its buffers.
const PIPELINED: u32 = 100;

/// The number of messages in one batch.
const BATCH: u32 = 1000;

/// How messages are published.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// One in each request, with pipelined requests on each of these connections; messages of this
    /// length in bytes.
    Pipelined { publishers: u32, len: usize },
    /// Many in each request, as lines of JSON, which only sse-smol-server supports.
    Batches { publishers: u32 },
}

/// Publishes at least `count` messages, the same number by each publisher. Returns the number.
pub(crate) fn fill(to: SocketAddrV4, path: &str, count: u32, form: Form) -> Result<u32, String> {
    let (publishers, at_once) = match form {
        Form::Pipelined { publishers, .. } => (publishers, PIPELINED),
        Form::Batches { publishers } => (publishers, BATCH),
    };
    let each = count.div_ceil(publishers);
    let mut connections = Vec::new();
    for number in 0..publishers {
        let socket = connect(to, number as usize, Duration::from_secs(30));
        connections.push(socket.map_err(|error| format!("cannot connect: {error}"))?);
    }
    let mut requests = Vec::new();
    for first in (0..each).step_by(at_once as usize) {
        let sequences = first..each.min(first + at_once);
        for (publisher, socket) in (0..).zip(&connections) {
            requests.clear();
            let messages = |len| {
                let sequences = sequences.clone();
                sequences.map(move |sequence| Message {
                    publisher,
                    topic: 0,
                    sequence,
                    sent: 0,
                    len,
                })
            };
            match form {
                Form::Pipelined { len, .. } => {
                    messages(len).for_each(|message| request(&mut requests, path, message));
                }
                Form::Batches { .. } => batch(&mut requests, path, messages(LEN)),
            }
            send(socket, &requests)?;
        }
        for socket in &connections {
            receive(
                socket,
                if matches!(form, Form::Batches { .. }) { 1 } else { sequences.len() },
            )?;
        }
    }
    Ok(each * publishers)
}

/// Publishes an event. Returns its ID.
pub(crate) fn mark(to: SocketAddrV4, path: &str) -> Result<String, String> {
    let socket = connect(to, 0, Duration::from_secs(30));
    let socket = socket.map_err(|error| format!("cannot connect: {error}"))?;
    let mut bytes = Vec::new();
    request_head(&mut bytes, &format!("{path}t0"), "text/plain", 4);
    bytes.extend_from_slice(b"mark");
    send(&socket, &bytes)?;
    let response = String::from_utf8_lossy(&receive(&socket, 1)?).into_owned();
    let id = response.split_once("\"id\":\"").and_then(|(_, rest)| rest.split('"').next());
    id.map(str::to_owned).ok_or(format!("a publication was answered without an ID: {response}"))
}

/// Appends a request that publishes messages, one on each line.
fn batch(to: &mut Vec<u8>, path: &str, messages: impl Iterator<Item = Message>) {
    let mut lines = Vec::new();
    for message in messages {
        lines.extend_from_slice(b"{\"data\":\"");
        message.write(&mut lines);
        lines.extend_from_slice(b"\"}\n");
    }
    request_head(to, &format!("{path}t0"), "application/x-ndjson", lines.len());
    to.extend_from_slice(&lines);
}

fn send(socket: &OwnedFd, mut bytes: &[u8]) -> Result<(), String> {
    while !bytes.is_empty() {
        let sent = write(socket, bytes).map_err(|error| format!("cannot publish: {error}"))?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

/// Reads this number of responses. Returns their bytes.
fn receive(socket: &OwnedFd, count: usize) -> Result<Vec<u8>, String> {
    let mut buffer = vec![0; 64 << 10];
    let mut responses = Vec::new();
    let (mut at, mut complete) = (0, 0);
    while complete < count {
        let count = read(socket, &mut buffer).map_err(|error| format!("no response: {error}"))?;
        if count == 0 {
            return Err("a publisher's connection was closed".to_owned());
        }
        responses.extend_from_slice(&buffer[..count]);
        while let Some(end) = response(&responses[at..])? {
            at += end;
            complete += 1;
        }
    }
    Ok(responses)
}
