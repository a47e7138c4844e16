//! Fills a topic with messages, over several connections with pipelined requests.

use std::net::SocketAddrV4;
use std::time::Duration;

use rustix::io::{read, write};
use servers::message::Message;
use servers::net::connect;

use crate::clients::{request, response};

/// The number of connections.
const PUBLISHERS: usize = 8;

/// The number of pipelined requests of one connection. Their size is about that of its buffers.
const PIPELINED: u32 = 100;

/// Publishes at least `count` messages, the same number by each publisher. Returns the number.
pub(crate) fn fill(to: SocketAddrV4, path: &str, count: u32) -> Result<u32, String> {
    let publishers = u32::try_from(PUBLISHERS).expect("few");
    let each = count.div_ceil(publishers);
    let mut connections = Vec::new();
    for number in 0..PUBLISHERS {
        let socket = connect(to, number, Duration::from_secs(10));
        connections.push(socket.map_err(|error| format!("cannot connect: {error}"))?);
    }
    let mut requests = Vec::new();
    let mut responses = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    for first in (0..each).step_by(PIPELINED as usize) {
        let batch = first..each.min(first + PIPELINED);
        for (publisher, socket) in (0..).zip(&connections) {
            requests.clear();
            for sequence in batch.clone() {
                request(&mut requests, path, Message { publisher, topic: 0, sequence, sent: 0 });
            }
            let mut left = &requests[..];
            while !left.is_empty() {
                let sent =
                    write(socket, left).map_err(|error| format!("cannot publish: {error}"))?;
                left = &left[sent..];
            }
        }
        for socket in &connections {
            responses.clear();
            let (mut at, mut responded) = (0, 0);
            while responded < batch.len() {
                let count =
                    read(socket, &mut buffer).map_err(|error| format!("no response: {error}"))?;
                if count == 0 {
                    return Err("a publisher's connection was closed".to_owned());
                }
                responses.extend_from_slice(&buffer[..count]);
                while let Some(end) = response(&responses[at..])? {
                    at += end;
                    responded += 1;
                }
            }
        }
    }
    Ok(each * publishers)
}
