//! Response bodies, from which the framing is removed (RFC 9112, sections 6 and 7).

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use httparse::{Status, parse_chunk_size};
use smol::io::AsyncReadExt as _;

use super::error::Result;
use super::fetch::Incoming;
use super::socket::Socket;

/// A body that is being received.
pub(crate) struct Body {
    socket: Socket,
    buffer: Vec<u8>,
    /// The bytes that have arrived and are not decoded yet.
    wire: Vec<u8>,
    state: State,
}

/// The part of the response that comes next.
#[derive(Clone, Copy)]
enum State {
    /// The body, which ends with the connection.
    ToTheEnd,
    /// The body, of which this many bytes are missing.
    Bytes(u64),
    /// The line that begins a chunk.
    ChunkSize,
    /// A chunk, of which this many bytes are missing.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// Bytes after the body, which are ignored.
    Over,
}

/// The size of the read buffer in bytes.
const READ: usize = 16 << 10;

/// The maximum length of a line with a chunk's size and extensions in bytes. Extensions are
/// ignored.
const MAX_LINE: usize = 4096;

impl Body {
    /// Creates the body of a response from its connection and headers.
    pub(crate) fn new((socket, wire): Incoming, headers: &HeaderMap) -> Result<Self> {
        if let Some(coding) = headers.get(CONTENT_ENCODING).filter(|coding| *coding != "identity") {
            return Err(format!("the content coding is {coding:?}").into());
        }
        let state = match headers.get(TRANSFER_ENCODING) {
            Some(coding) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => State::ChunkSize,
            Some(coding) => return Err(format!("the transfer coding is {coding:?}").into()),
            None => length(headers)?.map_or(State::ToTheEnd, State::Bytes),
        };
        Ok(Self { socket, buffer: vec![0; READ], wire, state })
    }

    /// Waits for the next piece and returns it, or `None` at the end. No data is lost if the future
    /// is dropped.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let piece = self.decode()?;
            match self.state {
                _ if !piece.is_empty() => return Ok(Some(piece)),
                State::Over | State::Bytes(0) => return Ok(None),
                _ => {}
            }
            match (self.socket.read(&mut self.buffer).await?, self.state) {
                (0, State::ToTheEnd) => return Ok(None),
                (0, _) => return Err("the response was cut off".into()),
                (count, _) => self.wire.extend_from_slice(&self.buffer[..count]),
            }
        }
    }

    /// Returns the decoded bytes that have arrived. An error is returned only after all valid bytes
    /// before it.
    fn decode(&mut self) -> Result<Vec<u8>> {
        let mut wire = &self.wire[..];
        let mut piece = Vec::with_capacity(wire.len());
        let mut take = |wire: &mut &[u8], most: u64| {
            let count = usize::try_from(most).map_or(wire.len(), |most| most.min(wire.len()));
            piece.extend_from_slice(&wire[..count]);
            *wire = &wire[count..];
            most - count as u64
        };
        let mut broken = None;
        while !wire.is_empty() && broken.is_none() {
            self.state = match self.state {
                State::ToTheEnd => {
                    take(&mut wire, u64::MAX);
                    State::ToTheEnd
                }
                // Bytes after the body are ignored, including trailers after the last chunk.
                State::Bytes(0) | State::Over => {
                    wire = &[];
                    State::Over
                }
                State::Bytes(left) => State::Bytes(take(&mut wire, left)),
                State::Chunk(left) => match take(&mut wire, left) {
                    0 => State::ChunkEnd,
                    left => State::Chunk(left),
                },
                State::ChunkEnd => match wire {
                    [b'\r'] => break,
                    [b'\r', b'\n', rest @ ..] => {
                        wire = rest;
                        State::ChunkSize
                    }
                    _ => {
                        broken = Some("a chunk is longer than its size");
                        State::ChunkEnd
                    }
                },
                State::ChunkSize => match parse_chunk_size(wire) {
                    Ok(Status::Partial) if wire.len() <= MAX_LINE => break,
                    Ok(Status::Complete((_, 0))) => State::Over,
                    Ok(Status::Complete((line, size))) => {
                        wire = &wire[line..];
                        State::Chunk(size)
                    }
                    Ok(Status::Partial) | Err(_) => {
                        broken = Some("a chunk has no size, or an invalid one");
                        State::ChunkSize
                    }
                },
            };
        }
        let used = self.wire.len() - wire.len();
        self.wire.drain(..used);
        match broken {
            Some(what) if piece.is_empty() => Err(what.into()),
            _ => Ok(piece),
        }
    }
}

/// Returns the value of `Content-Length`, which may be repeated but must not differ.
fn length(headers: &HeaderMap) -> Result<Option<u64>> {
    let values = headers.get_all(CONTENT_LENGTH).iter();
    let mut lengths = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let Some(first) = lengths.next().map(<[u8]>::trim_ascii) else {
        return Ok(None);
    };
    if !first.iter().all(u8::is_ascii_digit) || lengths.any(|other| other.trim_ascii() != first) {
        return Err("the content length is invalid".into());
    }
    Ok(Some(std::str::from_utf8(first)?.parse()?))
}
