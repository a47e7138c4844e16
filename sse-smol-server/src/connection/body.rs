//! Reading request bodies, bounded in size, in time, and in the memory of all bodies together.

use std::future;
use std::time::Instant;

use smol::Timer;
use smol::future::FutureExt as _;

use crate::connection::Connection;
use crate::connection::budget::Reservation;
use crate::connection::input::NoInput;
use crate::http1::{Body, Refusal, is_header_line};
use crate::{Config, Error};

/// The maximum length of the line before a chunk, without its line end.
const MAX_SIZE_LINE: usize = 1024;

/// The maximum number of trailers.
const MAX_TRAILERS: usize = 64;

/// The first capacity of a body's buffer, unless the body is known to be shorter.
const FIRST_CAPACITY: usize = 4096;

/// Returns the maximum size of one body: the lower of the limits for one and for all bodies.
pub(crate) fn max_size(config: &Config) -> usize {
    config.max_body.min(config.max_pending_body_bytes)
}

/// Reads a request's body. Its memory stays reserved until the request ends, since the handler owns
/// the body from here on.
pub(crate) async fn read_body(
    connection: &Connection,
    body: Body,
) -> Result<Vec<u8>, NoInput<Error>> {
    let config = &connection.shared.config;
    let max = max_size(config);
    let mut reader = BodyReader {
        connection,
        deadline: None,
        max,
        // Even the smallest body needs some framing, and trailers are bounded like a head.
        framing_left: config.max_body.max(config.max_head),
        content: Vec::new(),
        reservation: Reservation::new(&connection.shared.bodies),
    };
    match body {
        Body::Length(length) => {
            let length = fit(length, max)?;
            reader.max = length;
            reader.take(length).await?;
        }
        Body::Chunked => reader.take_chunks().await?,
    }
    connection.body_is_read(reader.reservation);
    Ok(reader.content)
}

/// Returns `size` if it does not exceed `room`.
fn fit(size: u64, room: usize) -> Result<usize, Refusal> {
    let size = usize::try_from(size).ok().filter(|size| *size <= room);
    size.ok_or(Refusal::BODY_TOO_LARGE)
}

struct BodyReader<'w> {
    connection: &'w Connection,
    /// The deadline for the whole body, once some of it has to be waited for.
    deadline: Option<Instant>,
    /// The maximum size of the content.
    max: usize,
    /// The number of bytes of chunked framing that may still arrive.
    framing_left: usize,
    content: Vec<u8>,
    /// Covers the capacity of `content`.
    reservation: Reservation,
}

impl BodyReader<'_> {
    async fn take_chunks(&mut self) -> Result<(), NoInput<Error>> {
        loop {
            let line = self.line(MAX_SIZE_LINE).await?.ok_or(Refusal::SIZE_LINE_TOO_LONG)?;
            let size = chunk_size(&line).ok_or(Refusal::BAD_CHUNK_SIZE)?;
            let size = fit(size, self.max - self.content.len())?;
            if size == 0 {
                return self.skip_trailers().await;
            }
            self.take(size).await?;
            if self.line(0).await?.is_none() {
                return Err(Refusal::bad("A chunk of the body is longer than its size.").into());
            }
        }
    }

    /// Moves `length` bytes of input to the content.
    async fn take(&mut self, mut length: usize) -> Result<(), NoInput<Error>> {
        loop {
            let Self { connection, max, content, reservation, .. } = self;
            length -= connection.input(|input| {
                let count = input.len().min(length);
                let needed = content.len() + count;
                if needed > content.capacity() {
                    let capacity = content.capacity().saturating_mul(2).max(FIRST_CAPACITY);
                    let capacity = capacity.min(*max).max(needed);
                    if !reservation.grow_to(capacity) {
                        return (0, Err(Refusal::TOO_MANY_BODIES));
                    }
                    content.reserve_exact(capacity - content.len());
                }
                content.extend_from_slice(&input[..count]);
                (count, Ok(count))
            })?;
            if length == 0 {
                return Ok(());
            }
            self.more().await?;
        }
    }

    /// Reads and drops the trailers: header lines after the last chunk, up to an empty line.
    async fn skip_trailers(&mut self) -> Result<(), NoInput<Error>> {
        let mut left = self.connection.shared.config.max_head;
        for _ in 0..=MAX_TRAILERS {
            let line = self.line(left).await?.ok_or(Refusal::TRAILERS_TOO_LARGE)?;
            if line.is_empty() {
                return Ok(());
            }
            if !is_header_line(&line) {
                return Err(Refusal::bad("A trailer of the body is not a header line.").into());
            }
            left -= line.len();
        }
        Err(Refusal::TRAILERS_TOO_LARGE.into())
    }

    /// Reads a line of the chunked framing. Returns it without its CRLF, or `None` if it is longer
    /// than `max` bytes.
    async fn line(&mut self, max: usize) -> Result<Option<Vec<u8>>, NoInput<Error>> {
        loop {
            // The line end must be within these bytes.
            let most = max.saturating_add(2);
            let line = self.connection.input(|input| {
                let start = &input[..input.len().min(most)];
                match start.iter().position(|byte| *byte == b'\n') {
                    Some(end) => match start[..end].strip_suffix(b"\r") {
                        Some(line) => (end + 1, Ok(Some(Some(line.to_vec())))),
                        None => {
                            (0, Err(Refusal::bad("A line of the chunked body ends without CR.")))
                        }
                    },
                    None => (0, Ok((start.len() == most).then_some(None))),
                }
            })?;
            match line {
                Some(Some(line)) => {
                    let left = self.framing_left.checked_sub(line.len() + 2);
                    self.framing_left = left.ok_or(Refusal::FRAMING_TOO_LARGE)?;
                    return Ok(Some(line));
                }
                Some(None) => return Ok(None),
                None => self.more().await?,
            }
        }
    }

    /// Waits for more input, at most for `head_timeout` and until the deadline of the body.
    async fn more(&mut self) -> Result<(), NoInput<Error>> {
        let (now, config) = (Instant::now(), &self.connection.shared.config);
        let deadline = *self.deadline.get_or_insert_with(|| now + config.body_timeout);
        let late = async {
            Timer::at(deadline.min(now + config.head_timeout)).await;
            Err(Refusal::TOO_SLOW.into())
        };
        let read = async {
            let read = future::poll_fn(|cx| self.connection.poll_read(cx)).await;
            read.map_err(NoInput::Gone)
        };
        read.or(late).await
    }
}

/// Parses the line that begins a chunk: the size, optional white space, and extensions, which are
/// ignored (RFC 9112, section 7.1).
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| *byte == b';').unwrap_or(line.len());
    let (size, extensions) = line.split_at(end);
    let trailing = size.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let digits = std::str::from_utf8(&size[..size.len() - trailing]).ok()?;
    let legal = (1..=16).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !extensions.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t');
    u64::from_str_radix(digits, 16).ok().filter(|_| legal)
}

#[cfg(test)]
mod tests {
    use super::chunk_size;

    #[test]
    fn chunk_sizes_are_hexadecimal_digits_and_then_white_space_or_extensions() {
        for (line, size) in [
            (&b"0"[..], 0),
            (b"a", 10),
            (b"1F", 31),
            (b"00000000000000ff", 255),
            (b"ffffffffffffffff", u64::MAX),
            (b"5 ", 5),
            (b"5\t \t", 5),
            (b"5;a", 5),
            (b"5 ;a", 5),
            (b"5\t; a = b ; c=\"d;\te\"", 5),
            (b"5;a=\"\xe9\"", 5),
        ] {
            assert_eq!(chunk_size(line), Some(size), "{}", line.escape_ascii());
        }
        for line in [
            &b""[..],
            b" ",
            b" 5",
            b"5 5",
            b"5 a",
            b"5\x0b",
            b"5\r",
            b"5\0",
            b"-5",
            b"+5",
            b"0x5",
            b"5_0",
            b"5,",
            b"g",
            b";a",
            b" ;a",
            b"\xef\xbc\x95",
            b"5;a\rb",
            b"5;a\0",
            b"5;a\x7f",
            b"0000000000000000f",
            b"10000000000000000",
        ] {
            assert_eq!(chunk_size(line), None, "{}", line.escape_ascii());
        }
    }
}
