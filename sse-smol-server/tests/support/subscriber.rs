//! Non-blocking subscribers, thousands of which run on one thread, and a publisher.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use sse_proto::Decoder;

use super::{TIMEOUT, get, read_head, read_to_end, send};

/// A client of an event stream with chunked transfer coding.
pub(crate) struct Subscriber {
    socket: TcpStream,
    /// Received bytes that are not a whole chunk yet.
    raw: Vec<u8>,
    /// The content of all chunks, including comments.
    pub(crate) text: Vec<u8>,
    decoder: Decoder,
    pub(crate) events: Vec<Received>,
    pub(crate) end: Option<StreamEnd>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) event_type: String,
    pub(crate) id: String,
    pub(crate) data: String,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// After the last chunk.
    Whole,
    /// Without the last chunk.
    Cut,
}

impl Subscriber {
    /// Opens a stream and reads the response head.
    pub(crate) fn open(address: SocketAddr, path: &str) -> Self {
        Self::on(get(address, path))
    }

    /// Opens a stream that resumes after the event with this ID.
    pub(crate) fn resume(address: SocketAddr, path: &str, id: &str) -> Self {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nLast-Event-ID: {id}\r\n\r\n");
        Self::on(send(address, &head))
    }

    /// Opens a stream that resumes after the event with this ID, if there is one. Returns `None` if
    /// the server is gone, does not answer in time, or answers 503.
    pub(crate) fn try_open(
        address: SocketAddr,
        path: &str,
        last_id: Option<&str>,
        timeout: Duration,
    ) -> Option<Self> {
        let mut socket = TcpStream::connect_timeout(&address, timeout).ok()?;
        socket.set_read_timeout(Some(timeout)).unwrap();
        let id = last_id.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{id}\r\n");
        socket.write_all(request.as_bytes()).ok()?;
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            socket.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        if head.starts_with("HTTP/1.1 503 ") { None } else { Some(Self::after(&head, socket)) }
    }

    /// Takes over a connection on which a stream has been requested, and reads the head.
    pub(crate) fn on(mut socket: TcpStream) -> Self {
        Self::after(&read_head(&mut socket), socket)
    }

    fn after(head: &str, socket: TcpStream) -> Self {
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.to_ascii_lowercase().contains("transfer-encoding: chunked\r\n"), "{head}");
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            raw: Vec::new(),
            text: Vec::new(),
            decoder: Decoder::new(),
            events: Vec::new(),
            end: None,
        }
    }

    /// Returns the data of all events.
    pub(crate) fn data(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.data.as_str()).collect()
    }

    /// Returns the reconnection time, if the stream has set one.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.decoder.retry()
    }

    /// Reads the available bytes, at most `most`. Returns their number.
    pub(crate) fn take(&mut self, most: usize) -> usize {
        let mut piece = [0; 16 << 10];
        let mut count = 0;
        while count < most && self.end.is_none() {
            let room = piece.len().min(most - count);
            match self.socket.read(&mut piece[..room]) {
                Ok(0) => self.end = Some(StreamEnd::Cut),
                Ok(read) => {
                    self.raw.extend_from_slice(&piece[..read]);
                    count += read;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    self.end = Some(StreamEnd::Cut);
                }
                Err(error) => panic!("{error}"),
            }
        }
        self.decode_chunks();
        count
    }

    /// Decodes the whole chunks in `raw`.
    fn decode_chunks(&mut self) {
        let raw = std::mem::take(&mut self.raw);
        let mut rest = &raw[..];
        while let Some(line) = rest.windows(2).position(|pair| pair == b"\r\n") {
            let size = std::str::from_utf8(&rest[..line]).expect("a chunk size");
            let size = usize::from_str_radix(size, 16).expect("a chunk size");
            let Some(chunk) = rest.get(line + 2..line + 2 + size + 2) else { break };
            let (mut content, line_end) = chunk.split_at(size);
            assert_eq!(line_end, b"\r\n", "a line end follows the chunk");
            self.text.extend_from_slice(content);
            while let Some(event) = self.decoder.next_event(&mut content).unwrap() {
                self.events.push(Received {
                    event_type: event.event_type().to_string(),
                    id: event.last_event_id().to_string(),
                    data: event.data().to_string(),
                });
            }
            rest = &rest[line + 2 + size + 2..];
            if size == 0 {
                // The connection may stay open for another request.
                assert_eq!(rest, b"", "nothing follows the last chunk");
                self.end = Some(StreamEnd::Whole);
            }
        }
        self.raw = rest.to_vec();
    }

    /// Reads until the condition holds.
    pub(crate) fn read_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        read_all_until(std::slice::from_mut(self), what, done);
    }

    /// Reads until at least `count` events have arrived, and returns all events.
    pub(crate) fn read_events(&mut self, count: usize) -> &[Received] {
        self.read_until(&format!("{count} events"), |one| one.events.len() >= count);
        &self.events
    }
}

/// Reads from all subscribers until the condition holds for each.
pub(crate) fn read_all_until(
    subscribers: &mut [Subscriber],
    what: &str,
    done: impl Fn(&Subscriber) -> bool,
) {
    let start = Instant::now();
    loop {
        let read: usize = subscribers.iter_mut().map(|one| one.take(usize::MAX)).sum();
        let Some(behind) = subscribers.iter().find(|one| !done(one)) else { return };
        assert!(
            start.elapsed() < TIMEOUT,
            "{what}: {} subscribers still wait, one of them with {} events, the last {:?}, and the \
             end {:?}",
            subscribers.iter().filter(|one| !done(one)).count(),
            behind.events.len(),
            behind.events.last().map(|event| &event.id),
            behind.end
        );
        if read == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A persistent connection for publishing.
pub(crate) struct Publisher {
    address: SocketAddr,
    socket: BufReader<TcpStream>,
}

impl Publisher {
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self { address, socket: BufReader::new(send(address, "")) }
    }

    /// Publishes and returns the event ID.
    pub(crate) fn publish(&mut self, topic: &str, data: &str) -> String {
        self.send(topic, data);
        let (status, body) = self.receive();
        assert_eq!(status, 201, "{body}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        body["id"].as_str().unwrap().to_owned()
    }

    /// Sends a publish request.
    pub(crate) fn send(&mut self, topic: &str, data: &str) {
        let (host, length) = (self.address, data.len());
        let request = format!(
            "POST /topics/{topic} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{data}"
        );
        self.socket.get_mut().write_all(request.as_bytes()).unwrap();
    }

    /// Receives a response: status and body.
    pub(crate) fn receive(&mut self) -> (u16, String) {
        let (mut status, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            assert_ne!(self.socket.read_line(&mut line).unwrap(), 0, "the connection stays open");
            let line = line.trim_end();
            if status.is_none() {
                status = Some(line.split(' ').nth(1).unwrap().parse().unwrap());
            } else if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.parse().unwrap();
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body).unwrap();
        (status.unwrap(), String::from_utf8(body).unwrap())
    }
}

/// Returns the rows of all pages of `GET /topics`.
pub(crate) fn topics(address: SocketAddr) -> Vec<serde_json::Value> {
    let (mut rows, mut after) = (Vec::new(), String::new());
    loop {
        let head = format!(
            "GET /topics?after={after} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        );
        let answer = read_to_end(&mut send(address, &head));
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut list: serde_json::Value = serde_json::from_str(body).unwrap();
        rows.extend(serde_json::from_value::<Vec<_>>(list["topics"].take()).unwrap());
        match list["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => return rows,
        }
    }
}

/// Returns the number of subscribers of a topic.
pub(crate) fn subscribers(address: SocketAddr, topic: &str) -> u64 {
    let rows = topics(address);
    let row = rows.iter().find(|row| row["name"] == topic);
    row.map_or(0, |row| row["subscribers"].as_u64().unwrap())
}

/// Polls the condition until it holds. Returns the time that took.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < TIMEOUT, "still waiting until {what}");
        thread::sleep(Duration::from_millis(10));
    }
    start.elapsed()
}
