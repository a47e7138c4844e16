//! Reading requests: heads and bodies, bounded in size and time.

use std::time::Duration;

use smol::Timer;
use smol::future::FutureExt as _;

use crate::head::{Body, Head, Refusal, parse};
use crate::wire::Wire;
use crate::{Config, End};

/// Why a request, or the rest of it, cannot be had.
#[derive(Debug)]
pub(crate) enum NoInput {
    Refused(Refusal),
    Gone(End),
}

impl From<Refusal> for NoInput {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Longer than any line between the chunks of a body, and more lines than there are trailers.
const MAX_LINE: usize = 1024;
const MAX_TRAILERS: usize = 64;

/// Reads the next request's head. A peer that says nothing gets no answer: browsers open
/// connections that they then do not need, and keep others open in case they do.
pub(crate) async fn read_head(wire: &Wire, config: &Config) -> Result<Head, NoInput> {
    let mut deadline = Timer::after(config.head_timeout);
    let (mut begun, mut seen) = (false, 0);
    loop {
        let parsed = wire.input(|input| {
            begun = !input.is_empty();
            let head = &input[..input.len().min(config.max_head)];
            // Whole lines only, or a peer that sends byte by byte would have all of it parsed again
            // for each; but what does not even begin like HTTP is refused at once.
            let worth_it = if seen == 0 { begun } else { head[seen..].contains(&b'\n') };
            seen = head.len();
            match if worth_it { parse(head) } else { Ok(None) } {
                Ok(Some((head, len))) => (len, Ok(Some(head))),
                Ok(None) if seen == config.max_head => (0, Err(Refusal::HEAD_TOO_LARGE)),
                Ok(None) => (0, Ok(None)),
                Err(refusal) => (0, Err(refusal)),
            }
        })?;
        if let Some(head) = parsed {
            return Ok(head);
        }
        let late = async {
            (&mut deadline).await;
            Err(End::Silent)
        };
        match wire.read_more().or(late).await {
            Ok(()) => {}
            Err(End::Silent) if begun => return Err(Refusal::TOO_SLOW.into()),
            Err(end) => return Err(NoInput::Gone(end)),
        }
    }
}

/// Reads a request's body of at most `max` bytes. One that stalls is too slow; one that comes
/// slowly is not.
pub(crate) async fn read_body(
    wire: &Wire,
    body: Body,
    max: usize,
    stall: Duration,
) -> Result<Vec<u8>, NoInput> {
    let fits = |size: u64, room: usize| {
        usize::try_from(size).ok().filter(|size| *size <= room).ok_or(Refusal::BODY_TOO_LARGE)
    };
    let mut content = Vec::new();
    match body {
        Body::Length(length) => take(wire, fits(length, max)?, &mut content, stall).await?,
        Body::Chunked => loop {
            let size = fits(chunk_size(wire, stall).await?, max - content.len())?;
            if size == 0 {
                break;
            }
            take(wire, size, &mut content, stall).await?;
            if !line(wire, stall).await?.is_empty() {
                return Err(Refusal::bad("A chunk of the body is longer than it says.").into());
            }
        },
    }
    if body == Body::Chunked {
        let mut trailers = 0;
        while !line(wire, stall).await?.is_empty() {
            trailers += 1;
            if trailers > MAX_TRAILERS {
                return Err(Refusal::HEAD_TOO_LARGE.into());
            }
        }
    }
    wire.body_is_read();
    Ok(content)
}

/// Moves so many bytes of input to `content`.
async fn take(
    wire: &Wire,
    mut length: usize,
    content: &mut Vec<u8>,
    stall: Duration,
) -> Result<(), NoInput> {
    loop {
        length -= wire.input(|input| {
            let count = input.len().min(length);
            content.extend_from_slice(&input[..count]);
            (count, count)
        });
        if length == 0 {
            return Ok(());
        }
        more(wire, stall).await?;
    }
}

/// The line that begins a chunk.
async fn chunk_size(wire: &Wire, stall: Duration) -> Result<u64, NoInput> {
    loop {
        let size = wire.input(|input| match httparse::parse_chunk_size(input) {
            Ok(httparse::Status::Complete((len, size))) => (len, Ok(Some(size))),
            Ok(httparse::Status::Partial) if input.len() <= MAX_LINE => (0, Ok(None)),
            _ => (0, Err(Refusal::bad("A chunk of the body has no size."))),
        })?;
        match size {
            Some(size) => return Ok(size),
            None => more(wire, stall).await?,
        }
    }
}

/// A line, without its end.
async fn line(wire: &Wire, stall: Duration) -> Result<Vec<u8>, NoInput> {
    loop {
        let line = wire.input(|input| match input.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, Ok(Some(input[..end].trim_ascii_end().to_vec()))),
            None if input.len() <= MAX_LINE => (0, Ok(None)),
            None => (0, Err(Refusal::bad("A line of the chunked body is too long."))),
        })?;
        match line {
            Some(line) => return Ok(line),
            None => more(wire, stall).await?,
        }
    }
}

async fn more(wire: &Wire, stall: Duration) -> Result<(), NoInput> {
    let late = async {
        Timer::after(stall).await;
        Err(End::Silent)
    };
    wire.read_more().or(late).await.map_err(|end| match end {
        End::Silent => NoInput::Refused(Refusal::TOO_SLOW),
        end => NoInput::Gone(end),
    })
}
