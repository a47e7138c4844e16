//! One connection: what it asked for, and what the kernel has not taken yet.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::{Errno, read, write};
use servers::content_length;

/// A request, as far as it matters here.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) publishes: bool,
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
}

/// A socket, and the bytes on both sides of it that nobody has taken.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: OwnedFd,
    input: Vec<u8>,
    unsent: Vec<u8>,
    /// Bytes to be sent again and again, and how many in all.
    again: Option<(Arc<[u8]>, usize)>,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, input: Vec::new(), unsent: Vec::new(), again: None }
    }

    /// Takes what has come. False if that is the end.
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

    /// The next request that is there as a whole.
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
            // Those that only listen from now on are to hold nothing.
            self.input = Vec::new();
        }
        Some(request)
    }

    /// Writes, and keeps what does not fit. False if it did not all fit.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = if self.unsent.is_empty() { self.write(bytes) } else { 0 };
        self.unsent.extend_from_slice(&bytes[sent..]);
        self.unsent.is_empty()
    }

    /// Sends `count` bytes from now on, which are these again and again.
    pub(crate) fn repeat(&mut self, bytes: Arc<[u8]>, count: usize) {
        self.again = Some((bytes, count));
    }

    /// Goes on where the kernel would take no more. True if all is sent.
    pub(crate) fn go_on(&mut self) -> bool {
        let sent = self.write(&self.unsent);
        self.unsent.drain(..sent);
        if !self.unsent.is_empty() {
            return false;
        }
        let Some((bytes, left)) = self.again.take() else { return true };
        // Once for each time that there is room: others have their turn.
        let part = &bytes[..left.min(bytes.len())];
        let sent = self.write(part);
        self.unsent = part[sent..].to_vec();
        let left = left - part.len();
        if left > 0 {
            self.again = Some((bytes, left));
        }
        left == 0 && self.unsent.is_empty()
    }

    fn write(&self, bytes: &[u8]) -> usize {
        // Whoever is gone is noticed when it is read from.
        if bytes.is_empty() { 0 } else { write(&self.socket, bytes).unwrap_or(0) }
    }
}
