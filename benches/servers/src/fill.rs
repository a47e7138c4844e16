//! Many messages at once into one topic: over several connections, with many requests on each before
//! the first answer is waited for.

use std::net::SocketAddrV4;
use std::time::Duration;

use rustix::io::{read, write};
use servers::message::Message;
use servers::net::connect;

use crate::ends::{PUBLISHERS, answer, request};

/// How many requests are on their way on one connection: about what its buffers take.
const AT_A_TIME: u32 = 100;

/// Publishes `count` messages, or a few more: each of the publishers as many.
pub(crate) fn fill(to: SocketAddrV4, path: &str, count: u32) -> Result<u32, String> {
    let publishers = u32::try_from(PUBLISHERS).expect("few");
    let each = count.div_ceil(publishers);
    let mut connections = Vec::new();
    for number in 0..PUBLISHERS {
        let socket = connect(to, number, Duration::from_secs(10));
        connections.push(socket.map_err(|error| format!("cannot connect: {error}"))?);
    }
    let mut requests = Vec::new();
    let mut answers = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    for first in (0..each).step_by(AT_A_TIME as usize) {
        let batch = first..each.min(first + AT_A_TIME);
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
            answers.clear();
            let (mut at, mut answered) = (0, 0);
            while answered < batch.len() {
                let count =
                    read(socket, &mut buffer).map_err(|error| format!("no answer: {error}"))?;
                if count == 0 {
                    return Err("a publisher's connection was closed".to_owned());
                }
                answers.extend_from_slice(&buffer[..count]);
                while let Some(end) = answer(&answers[at..])? {
                    at += end;
                    answered += 1;
                }
            }
        }
    }
    Ok(each * publishers)
}
