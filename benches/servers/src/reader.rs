//! A client that reads a stream as fast as possible.

use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::{read, write};
use servers::message::{Message, scan};
use servers::net::connect;

/// The read buffer size in bytes. Large enough for most of what a socket holds.
const BUFFER: usize = 1 << 20;

/// A stream and its read buffer.
#[derive(Debug)]
pub(crate) struct Reader {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// The length of the incomplete message at the start of the buffer.
    partial: usize,
}

/// Totals of what was read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// The number of messages.
    pub(crate) messages: u64,
    /// The number of bytes, including the head and the framing of messages.
    pub(crate) bytes: u64,
    /// The elapsed time.
    pub(crate) took: Duration,
}

impl Reader {
    /// Connects and sends a request.
    pub(crate) fn open(to: SocketAddrV4, request: &[u8]) -> Result<Self, String> {
        let socket = connect(to, 0, Duration::from_secs(5));
        let socket = socket.map_err(|error| format!("cannot connect: {error}"))?;
        write(&socket, request).map_err(|error| format!("cannot send a request: {error}"))?;
        Ok(Self { socket, buffer: vec![0; BUFFER], partial: 0 })
    }

    /// Reads once. Returns the start of the response.
    pub(crate) fn head(&mut self) -> Result<&[u8], String> {
        let count = read(&self.socket, &mut self.buffer[..]);
        let count = count.map_err(|error| format!("a stream failed: {error}"))?;
        Ok(&self.buffer[..count])
    }

    /// Reads until `enough` holds, and passes every message to `check`.
    pub(crate) fn read(
        &mut self,
        enough: impl Fn(Seen) -> bool,
        mut check: impl FnMut(Message) -> Result<(), String>,
    ) -> Result<Seen, String> {
        let begin = Instant::now();
        let mut seen = Seen::default();
        while !enough(seen) {
            let count = match read(&self.socket, &mut self.buffer[self.partial..]) {
                Ok(0) => return Err(format!("a stream ended after {} events", seen.messages)),
                Ok(count) => count,
                Err(error) => return Err(format!("a stream failed: {error}")),
            };
            let end = self.partial + count;
            let mut error_text = None;
            let done = scan(&self.buffer[..end], |message| {
                seen.messages += 1;
                if let Err(why) = message.ok_or("a damaged event".to_owned()).and_then(&mut check) {
                    error_text = Some(why);
                }
            });
            if let Some(why) = error_text {
                return Err(why);
            }
            self.buffer.copy_within(done..end, 0);
            self.partial = end - done;
            seen.bytes += count as u64;
            seen.took = begin.elapsed();
        }
        Ok(seen)
    }
}
