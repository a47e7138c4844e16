//! The clients of a topic: publishers, and subscribers that check the order of messages.

use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, read, write};
use servers::content_length;
use servers::message::{LEN, Message, scan};
use servers::net::{connect, set_nonblocking};

/// The maximum number of publishers.
pub(crate) const PUBLISHERS: usize = 64;

/// Checks that the messages of each publisher arrive once and in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    next: [u32; PUBLISHERS],
}

impl Default for Order {
    fn default() -> Self {
        Self { next: [0; PUBLISHERS] }
    }
}

impl Order {
    /// Checks that a message is the next one of its publisher.
    pub(crate) fn check(&mut self, message: Option<Message>) -> Result<Message, String> {
        let message = message.ok_or("a message is damaged")?;
        let next = self.next.get_mut(message.publisher as usize).ok_or("an unknown publisher")?;
        if message.sequence != *next {
            return Err(format!("got message {} instead of {next}", message.sequence));
        }
        *next += 1;
        Ok(message)
    }
}

/// A subscriber of one topic.
#[derive(Debug)]
pub(crate) struct Subscriber {
    /// The connection, after the response head.
    pub(crate) socket: OwnedFd,
    topic: u32,
    order: Order,
    /// The start of an incomplete message.
    partial: Vec<u8>,
}

impl Subscriber {
    /// Takes over a connection whose response head has been read.
    pub(crate) fn new(socket: OwnedFd, topic: u32) -> Self {
        Self { socket, topic, order: Order::default(), partial: Vec::new() }
    }

    /// Reads once and calls `each` for each message. Returns whether there was anything to read.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut [u8],
        mut each: impl FnMut(Message),
    ) -> Result<bool, String> {
        let before = self.partial.len();
        buffer[..before].copy_from_slice(&self.partial);
        let count = match read(&self.socket, &mut buffer[before..]) {
            Ok(0) => return Err("the server ended a stream".to_owned()),
            Ok(count) => before + count,
            Err(Errno::AGAIN) => return Ok(false),
            Err(error) => return Err(format!("a stream failed: {error}")),
        };
        let mut error_text = None;
        let done = scan(&buffer[..count], |message| match self.order.check(message) {
            Ok(message) if message.topic == self.topic => each(message),
            Ok(_) => error_text = Some("a message of another topic".to_owned()),
            Err(why) => error_text = Some(why),
        });
        self.partial.clear();
        self.partial.extend_from_slice(&buffer[done..count]);
        error_text.map_or(Ok(true), Err)
    }
}

/// A publisher with one connection and one request in flight.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// The connection.
    pub(crate) socket: OwnedFd,
    number: u32,
    path: String,
    /// The number of messages sent to each topic.
    sent: Vec<u32>,
    request: Vec<u8>,
    response: Vec<u8>,
    /// The length of its messages in bytes.
    pub(crate) len: usize,
    /// The time of the last request, as it was passed to [`publish`](Self::publish).
    pub(crate) requested: Duration,
}

impl Publisher {
    /// Connects the publisher with this number. Topic names are appended to `path`.
    pub(crate) fn new(
        to: SocketAddrV4,
        number: u32,
        path: &str,
        topics: u32,
    ) -> Result<Self, String> {
        let socket = connect(to, number as usize, Duration::from_secs(5));
        let socket = socket.map_err(|error| format!("cannot connect: {error}"))?;
        set_nonblocking(&socket).map_err(|error| error.to_string())?;
        let sent = vec![0; topics as usize];
        let (request, response) = (Vec::new(), Vec::new());
        let (path, requested) = (path.to_owned(), Duration::ZERO);
        Ok(Self { socket, number, path, sent, request, response, len: LEN, requested })
    }

    /// Sends the next message.
    pub(crate) fn publish(&mut self, topic: u32, now: Duration) -> Result<(), String> {
        let sequence = self.sent[topic as usize];
        self.sent[topic as usize] += 1;
        self.requested = now;
        let sent = u64::try_from(now.as_nanos()).expect("less than 584 years");
        let message = Message { publisher: self.number, topic, sequence, sent, len: self.len };
        self.request.clear();
        request(&mut self.request, &self.path, message);
        match write(&self.socket, &self.request) {
            Ok(count) if count == self.request.len() => Ok(()),
            Ok(_) => Err("a request did not fit into the send buffer".to_owned()),
            Err(error) => Err(format!("cannot publish: {error}")),
        }
    }

    /// Reads once. Returns whether a response is complete.
    pub(crate) fn receive(&mut self) -> Result<bool, String> {
        let mut buffer = [0; 4096];
        match read(&self.socket, &mut buffer) {
            Ok(0) => return Err("the server closed a publisher's connection".to_owned()),
            Ok(count) => self.response.extend_from_slice(&buffer[..count]),
            Err(Errno::AGAIN) => return Ok(false),
            Err(error) => return Err(format!("a publisher's connection failed: {error}")),
        }
        let end = response(&self.response)?;
        self.response.drain(..end.unwrap_or(0));
        Ok(end.is_some())
    }
}

/// Appends a request that publishes a message.
pub(crate) fn request(to: &mut Vec<u8>, path: &str, message: Message) {
    let Message { topic, len, .. } = message;
    request_head(to, &format!("{path}t{topic}"), "text/plain", len);
    message.write(to);
}

/// Appends the head of a request with a body of this type and length.
pub(crate) fn request_head(to: &mut Vec<u8>, target: &str, content_type: &str, len: usize) {
    to.extend_from_slice(
        format!(
            "POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n\
             Content-Length: {len}\r\n\r\n"
        )
        .as_bytes(),
    );
}

/// Returns the end of the response at the start of these bytes, if it is complete.
pub(crate) fn response(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(bytes).map_err(|error| format!("invalid response: {error}"))?;
    let httparse::Status::Complete(begin) = parsed else { return Ok(None) };
    let code = head.code.unwrap_or(0);
    if !(200..300).contains(&code) {
        return Err(format!("publishing failed with status {code}"));
    }
    let end = begin + content_length(head.headers);
    Ok((bytes.len() >= end).then_some(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_accepts_each_message_of_a_publisher_once_and_in_sequence() {
        let message = |publisher, sequence| {
            Some(Message { publisher, topic: 0, sequence, sent: 0, len: LEN })
        };
        let holds = |messages: &[Option<Message>]| {
            let mut order = Order::default();
            messages.iter().all(|message| order.check(*message).is_ok())
        };
        assert!(holds(&[message(0, 0), message(7, 0), message(0, 1), message(7, 1)]));
        assert!(!holds(&[message(0, 1)]), "a missing message");
        assert!(!holds(&[message(0, 0), message(0, 0)]), "a repeated message");
        assert!(!holds(&[message(64, 0)]), "an unknown publisher");
        assert!(!holds(&[None]), "a damaged message");
    }

    #[test]
    fn responses_end_after_their_body() {
        let created = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nokHTTP";
        assert_eq!(response(created), Ok(Some(created.len() - 4)));
        assert_eq!(response(&created[..created.len() - 5]), Ok(None));
        assert!(response(b"HTTP/1.1 429 Too Many Requests\r\n\r\n").is_err());
    }
}
