//! A connection: its requests, and the bytes that the kernel has not taken yet.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::{Errno, read, write};
use servers::content_length;

/// The parts of a request that the floor needs.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) publishes: bool,
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
}

/// A socket with its unparsed input and unsent output.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: OwnedFd,
    input: Vec<u8>,
    unsent: Vec<u8>,
    /// Bytes to send repeatedly, and the number of bytes left in total.
    repeated: Option<(Arc<[u8]>, usize)>,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, input: Vec::new(), unsent: Vec::new(), repeated: None }
    }

    /// Reads once. Returns false at the end of the connection.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> bool {
        match read(&self.socket, &mut *buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) => error == Errno::AGAIN,
        }
    }

    /// Returns the next complete request.
    pub(crate) fn request(&mut self) -> Option<Request> {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut head = httparse::Request::new(&mut headers);
        let begin = head.parse(&self.input).ok()?;
        let httparse::Status::Complete(begin) = begin else { return None };
        let end = begin + content_length(head.headers);
        let body = self.input.get(begin..end)?.to_vec();
        let request =
            Request { publishes: head.method == Some("POST"), target: head.path?.to_owned(), body };
        self.input.drain(..end);
        if self.input.is_empty() {
            // Frees the buffer: idle subscribers should hold no memory.
            self.input = Vec::new();
        }
        Some(request)
    }

    /// Writes, and keeps the rest. Returns whether all bytes were written.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = if self.unsent.is_empty() { self.write(bytes) } else { 0 };
        self.unsent.extend_from_slice(&bytes[sent..]);
        self.unsent.is_empty()
    }

    /// Sends `bytes` repeatedly, `count` bytes in total.
    pub(crate) fn repeat(&mut self, bytes: Arc<[u8]>, count: usize) {
        self.repeated = Some((bytes, count));
    }

    /// Continues to write when the socket is writable. Returns whether all bytes are sent.
    pub(crate) fn resume(&mut self) -> bool {
        let sent = self.write(&self.unsent);
        self.unsent.drain(..sent);
        if !self.unsent.is_empty() {
            return false;
        }
        let Some((bytes, left)) = self.repeated.take() else { return true };
        // One write for each readiness event, so that other connections get their turn.
        let part = &bytes[..left.min(bytes.len())];
        let sent = self.write(part);
        self.unsent = part[sent..].to_vec();
        let left = left - part.len();
        if left > 0 {
            self.repeated = Some((bytes, left));
        }
        left == 0 && self.unsent.is_empty()
    }

    fn write(&self, bytes: &[u8]) -> usize {
        // A closed connection is noticed on reading.
        if bytes.is_empty() { 0 } else { write(&self.socket, bytes).unwrap_or(0) }
    }
}
