//! Both ends of what is published: who sends, and who is to get everything once and in order.

use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, read, write};
use servers::content_length;
use servers::message::{LEN, Message, scan};
use servers::net::{connect, do_not_wait};

/// How many publishers there can be.
pub(crate) const PUBLISHERS: usize = 8;

/// How far a reader has come with each publisher, and what was wrong on the way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Order {
    next: [u32; PUBLISHERS],
}

impl Order {
    /// Holds a message against those before it.
    pub(crate) fn check(&mut self, message: Option<Message>) -> Result<Message, String> {
        let message = message.ok_or("a message was torn")?;
        let next = self.next.get_mut(message.publisher as usize).ok_or("an unknown publisher")?;
        if message.sequence != *next {
            return Err(format!("message {} came instead of {next}", message.sequence));
        }
        *next += 1;
        Ok(message)
    }
}

/// One that listens to one topic.
#[derive(Debug)]
pub(crate) struct Subscriber {
    /// Its connection, with the head read.
    pub(crate) socket: OwnedFd,
    topic: u32,
    order: Order,
    /// The beginning of a message that has not come to its end.
    begun: Vec<u8>,
}

impl Subscriber {
    /// From a connection that has got its head.
    pub(crate) fn new(socket: OwnedFd, topic: u32) -> Self {
        Self { socket, topic, order: Order::default(), begun: Vec::new() }
    }

    /// Reads once, and calls `each` for each message. False if there was nothing.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut [u8],
        mut each: impl FnMut(Message),
    ) -> Result<bool, String> {
        let before = self.begun.len();
        buffer[..before].copy_from_slice(&self.begun);
        let count = match read(&self.socket, &mut buffer[before..]) {
            Ok(0) => return Err("the server ended a stream".to_owned()),
            Ok(count) => before + count,
            Err(Errno::AGAIN) => return Ok(false),
            Err(error) => return Err(format!("a stream failed: {error}")),
        };
        let mut fault = None;
        let done = scan(&buffer[..count], |message| match self.order.check(message) {
            Ok(message) if message.topic == self.topic => each(message),
            Ok(_) => fault = Some("a message of another topic".to_owned()),
            Err(why) => fault = Some(why),
        });
        self.begun.clear();
        self.begun.extend_from_slice(&buffer[done..count]);
        fault.map_or(Ok(true), Err)
    }
}

/// One that publishes, over one connection and one request at a time.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// Its connection.
    pub(crate) socket: OwnedFd,
    number: u32,
    path: String,
    /// How many it has sent to each topic.
    sent: Vec<u32>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Publisher {
    /// The one with this number; `path` is what the name of a topic is put after.
    pub(crate) fn new(
        to: SocketAddrV4,
        number: u32,
        path: &str,
        topics: u32,
    ) -> Result<Self, String> {
        let socket = connect(to, number as usize, Duration::from_secs(5));
        let socket = socket.map_err(|error| format!("cannot connect: {error}"))?;
        do_not_wait(&socket).map_err(|error| error.to_string())?;
        let sent = vec![0; topics as usize];
        let (request, answer) = (Vec::new(), Vec::new());
        Ok(Self { socket, number, path: path.to_owned(), sent, request, answer })
    }

    /// Sends the next message.
    pub(crate) fn publish(&mut self, topic: u32, now: Duration) -> Result<(), String> {
        let sequence = self.sent[topic as usize];
        self.sent[topic as usize] += 1;
        let sent = u64::try_from(now.as_nanos()).expect("some years");
        let message = Message { publisher: self.number, topic, sequence, sent };
        self.request.clear();
        request(&mut self.request, &self.path, message);
        match write(&self.socket, &self.request) {
            Ok(count) if count == self.request.len() => Ok(()),
            Ok(_) => Err("a request did not fit".to_owned()),
            Err(error) => Err(format!("cannot publish: {error}")),
        }
    }

    /// Reads what has come. True if that is the end of an answer.
    pub(crate) fn receive(&mut self) -> Result<bool, String> {
        let mut buffer = [0; 4096];
        match read(&self.socket, &mut buffer) {
            Ok(0) => return Err("the server closed a publisher's connection".to_owned()),
            Ok(count) => self.answer.extend_from_slice(&buffer[..count]),
            Err(Errno::AGAIN) => return Ok(false),
            Err(error) => return Err(format!("a publisher's connection failed: {error}")),
        }
        let end = answer(&self.answer)?;
        self.answer.drain(..end.unwrap_or(0));
        Ok(end.is_some())
    }
}

/// A message as a request that publishes it.
pub(crate) fn request(to: &mut Vec<u8>, path: &str, message: Message) {
    let topic = message.topic;
    to.extend_from_slice(
        format!(
            "POST {path}t{topic} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n\
             Content-Length: {LEN}\r\n\r\n"
        )
        .as_bytes(),
    );
    message.write(to);
}

/// Where the answer ends that these bytes begin with, once it has come as a whole.
pub(crate) fn answer(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(bytes).map_err(|error| format!("an answer that is none: {error}"))?;
    let httparse::Status::Complete(begin) = parsed else { return Ok(None) };
    let code = head.code.unwrap_or(0);
    if !(200..300).contains(&code) {
        return Err(format!("publishing was answered {code}"));
    }
    let end = begin + content_length(head.headers);
    Ok((bytes.len() >= end).then_some(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_once_and_in_order_of_its_publisher() {
        let message =
            |publisher, sequence| Some(Message { publisher, topic: 0, sequence, sent: 0 });
        let holds = |messages: &[Option<Message>]| {
            let mut order = Order::default();
            messages.iter().all(|message| order.check(*message).is_ok())
        };
        assert!(holds(&[message(0, 0), message(7, 0), message(0, 1), message(7, 1)]));
        assert!(!holds(&[message(0, 1)]), "one is missing");
        assert!(!holds(&[message(0, 0), message(0, 0)]), "one came twice");
        assert!(!holds(&[message(8, 0)]), "nobody sent it");
        assert!(!holds(&[None]), "it was torn");
    }

    #[test]
    fn answers_end_where_their_body_does() {
        let created = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nokHTTP";
        assert_eq!(answer(created), Ok(Some(created.len() - 4)));
        assert_eq!(answer(&created[..created.len() - 5]), Ok(None));
        assert!(answer(b"HTTP/1.1 429 Too Many Requests\r\n\r\n").is_err());
    }
}
