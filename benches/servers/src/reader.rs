//! One client that reads as fast as it can.

use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::{read, write};
use servers::message::{Message, scan};
use servers::net::connect;

/// As much as there can be in a socket.
const BUFFER: usize = 1 << 20;

/// A stream that is read.
#[derive(Debug)]
pub(crate) struct Reader {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// How much of the buffer begins a message whose end has not come.
    begun: usize,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Messages.
    pub(crate) messages: u64,
    /// Bytes, with the head and all that is around messages.
    pub(crate) bytes: u64,
    /// From the beginning to the end.
    pub(crate) took: Duration,
}

impl Reader {
    /// Sends a request.
    pub(crate) fn ask(to: SocketAddrV4, request: &[u8]) -> Result<Self, String> {
        let socket = connect(to, 0, Duration::from_secs(5));
        let socket = socket.map_err(|error| format!("cannot connect: {error}"))?;
        write(&socket, request).map_err(|error| format!("cannot ask: {error}"))?;
        Ok(Self { socket, buffer: vec![0; BUFFER], begun: 0 })
    }

    /// Reads until there is `enough`, and has every message checked.
    pub(crate) fn read(
        &mut self,
        enough: impl Fn(Seen) -> bool,
        mut check: impl FnMut(Message) -> Result<(), String>,
    ) -> Result<Seen, String> {
        let begin = Instant::now();
        let mut seen = Seen::default();
        while !enough(seen) {
            let count = match read(&self.socket, &mut self.buffer[self.begun..]) {
                Ok(0) => return Err(format!("a stream ended after {} events", seen.messages)),
                Ok(count) => count,
                Err(error) => return Err(format!("a stream failed: {error}")),
            };
            let end = self.begun + count;
            let mut fault = None;
            let done = scan(&self.buffer[..end], |message| {
                seen.messages += 1;
                if let Err(why) = message.ok_or("a torn event".to_owned()).and_then(&mut check) {
                    fault = Some(why);
                }
            });
            if let Some(why) = fault {
                return Err(why);
            }
            self.buffer.copy_within(done..end, 0);
            self.begun = end - done;
            seen.bytes += count as u64;
            seen.took = begin.elapsed();
        }
        Ok(seen)
    }
}
