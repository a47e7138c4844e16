//! Publishers that repeat what was not answered, clients that resume, and what both have to agree
//! on: every acknowledged event arrives once and in order, without a gap.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::subscriber::Received;

/// A publisher of numbered events, which repeats an unanswered publication with the same key, also
/// to the next server.
pub(crate) struct RetryingPublisher {
    pub(crate) number: usize,
    pub(crate) topic: &'static str,
    /// The IDs in the answers. The event at an index has the publisher's number and that index as
    /// its data.
    pub(crate) ids: Vec<String>,
}

/// What became of a publication.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The event is published.
    Acknowledged,
    /// The server answered 503.
    Unavailable,
    /// There was no answer.
    Gone,
}

impl RetryingPublisher {
    pub(crate) const fn new(number: usize, topic: &'static str) -> Self {
        Self { number, topic, ids: Vec::new() }
    }

    /// Connects to a server that may be gone, with a timeout for each answer.
    pub(crate) fn connect(address: SocketAddr, timeout: Duration) -> Option<BufReader<TcpStream>> {
        let socket = TcpStream::connect_timeout(&address, timeout).ok()?;
        socket.set_read_timeout(Some(timeout)).unwrap();
        Some(BufReader::new(socket))
    }

    /// Publishes the next event. It remains the next one until it is acknowledged.
    pub(crate) fn publish(&mut self, socket: &mut BufReader<TcpStream>) -> Outcome {
        let Some((status, body)) = self.exchange(socket) else { return Outcome::Gone };
        if status == 503 {
            return Outcome::Unavailable;
        }
        assert!(matches!(status, 200 | 201), "{status} {body}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        self.ids.push(body["id"].as_str().unwrap().to_owned());
        Outcome::Acknowledged
    }

    /// Returns the status and the body of the answer, unless there is none.
    fn exchange(&self, socket: &mut BufReader<TcpStream>) -> Option<(u16, String)> {
        let data = format!("{} {}", self.number, self.ids.len());
        let key = data.replace(' ', "-");
        let topic = self.topic;
        let head = format!(
            "POST /topics/{topic} HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: {key}\r\n"
        );
        let request = format!("{head}Content-Length: {}\r\n\r\n{data}", data.len());
        socket.get_mut().write_all(request.as_bytes()).ok()?;
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let start = head.len();
            if socket.read_line(&mut head).ok()? == 0 {
                return None;
            }
            if let Some(value) = head[start..].strip_prefix("Content-Length: ") {
                length = value.trim_end().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        socket.read_exact(&mut body).ok()?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some((status, String::from_utf8(body).unwrap()))
    }
}

/// The events of a stream as its clients have seen them, and the number that each has seen.
pub(crate) struct Log {
    pub(crate) events: Vec<Received>,
    pub(crate) seen: Vec<usize>,
}

impl Log {
    pub(crate) fn new(clients: usize) -> Self {
        Self { events: Vec::new(), seen: vec![0; clients] }
    }

    /// Returns the ID of the last event that a client has seen.
    pub(crate) fn last_id(&self, client: usize) -> Option<&str> {
        let last = self.seen[client].checked_sub(1)?;
        Some(&self.events[last].id)
    }

    /// Adds what a client has read. All clients see the same events in the same order.
    pub(crate) fn add(&mut self, client: usize, read: &[Received]) {
        for event in read {
            let at = &mut self.seen[client];
            match self.events.get(*at) {
                Some(expected) => assert_eq!(event, expected, "event {at} of client {client}"),
                None => self.events.push(event.clone()),
            }
            *at += 1;
        }
    }

    /// Checks that the log has every acknowledged event of these publishers, each event once and in
    /// the order of its publisher, and nothing else.
    pub(crate) fn check(&self, publishers: &[&RetryingPublisher]) {
        let mut next = vec![0; publishers.len()];
        for Received { event_type, id, data } in &self.events {
            assert_eq!(event_type, "message", "{data}");
            let (number, n) = data.split_once(' ').unwrap();
            let publisher = publishers.iter().position(|one| one.number.to_string() == number);
            let publisher = publisher.unwrap_or_else(|| panic!("{data} of another topic"));
            assert_eq!(n.parse(), Ok(next[publisher]), "once, and in order: {data}");
            // An event whose answer was lost may have been stored.
            if let Some(answered) = publishers[publisher].ids.get(next[publisher]) {
                assert_eq!(id, answered, "{data}");
            }
            next[publisher] += 1;
        }
        for (publisher, seen) in publishers.iter().zip(next) {
            let (number, count) = (publisher.number, publisher.ids.len());
            assert!(seen >= count, "{} events of publisher {number} are lost", count - seen);
        }
    }
}
