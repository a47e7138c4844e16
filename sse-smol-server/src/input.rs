//! Reading requests: heads and bodies, bounded in size and time.

use std::future::{self, Future};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use smol::Timer;
use smol::future::FutureExt as _;

use crate::End;
use crate::head::{Body, Head, Refusal, parse};
use crate::moment::Moment;
use crate::server::Shared;
use crate::wire::Wire;

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
pub(crate) struct ReadHead<'w> {
    wire: &'w Wire,
    /// The time before the first byte is the peer's to spend, and then there is as much again.
    deadline: Moment,
    /// So much has been looked at.
    seen: usize,
    begun: bool,
}

impl<'w> ReadHead<'w> {
    pub(crate) fn new(wire: &'w Wire) -> Self {
        let deadline = Moment::now() + wire.shared.config.head_timeout;
        Self { wire, deadline, seen: 0, begun: false }
    }

    /// Looks at what has arrived.
    fn parse(&mut self) -> Result<Option<Box<Head>>, Refusal> {
        let Shared { config, .. } = &*self.wire.shared;
        self.wire.input(|input| {
            if !input.is_empty() && !mem::replace(&mut self.begun, true) {
                self.deadline = Moment::now() + config.head_timeout;
            }
            let head = &input[..input.len().min(config.max_head)];
            // Whole lines only, or a peer that sends byte by byte would have all of it parsed again
            // for each; but what does not even begin like HTTP is refused at once.
            let first = self.seen == 0 && self.begun;
            let worth_it = first || head[self.seen..].contains(&b'\n');
            self.seen = head.len();
            match if worth_it { parse(head) } else { Ok(None) } {
                Ok(Some((head, len))) => (len, Ok(Some(Box::new(head)))),
                Ok(None) if self.seen == config.max_head => (0, Err(Refusal::HEAD_TOO_LARGE)),
                Ok(None) => (0, Ok(None)),
                Err(refusal) => (0, Err(refusal)),
            }
        })
    }
}

impl Future for ReadHead<'_> {
    type Output = Result<Box<Head>, NoInput>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let wire = self.wire;
        wire.drive(cx);
        loop {
            if let Some(head) = self.parse()? {
                return Poll::Ready(Ok(head));
            }
            match wire.poll_read(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(end)) => return Poll::Ready(Err(NoInput::Gone(end))),
                Poll::Pending if wire.shared.drain.has_begun() => {
                    return Poll::Ready(Err(NoInput::Gone(End::Drained)));
                }
                Poll::Pending => {
                    ready!(wire.poll_alarm(self.deadline));
                    let silent = NoInput::Gone(End::Silent);
                    let late = if self.begun { Refusal::TOO_SLOW.into() } else { silent };
                    return Poll::Ready(Err(late));
                }
            }
        }
    }
}

/// Reads a request's body, within the limit for bodies. One that stalls is too slow; one that comes
/// slowly is not.
pub(crate) async fn read_body(wire: &Wire, body: Body) -> Result<Vec<u8>, NoInput> {
    let max = wire.shared.config.max_body;
    let fits = |size: u64, room: usize| {
        usize::try_from(size).ok().filter(|size| *size <= room).ok_or(Refusal::BODY_TOO_LARGE)
    };
    let mut content = Vec::new();
    match body {
        Body::Length(length) => take(wire, fits(length, max)?, &mut content).await?,
        Body::Chunked => {
            loop {
                let size = fits(chunk_size(wire).await?, max - content.len())?;
                if size == 0 {
                    break;
                }
                take(wire, size, &mut content).await?;
                if !line(wire).await?.is_empty() {
                    return Err(Refusal::bad("A chunk of the body is longer than it says.").into());
                }
            }
            skip_trailers(wire).await?;
        }
    }
    wire.body_is_read();
    Ok(content)
}

/// Moves so many bytes of input to `content`.
async fn take(wire: &Wire, mut length: usize, content: &mut Vec<u8>) -> Result<(), NoInput> {
    loop {
        length -= wire.input(|input| {
            let count = input.len().min(length);
            content.extend_from_slice(&input[..count]);
            (count, count)
        });
        if length == 0 {
            return Ok(());
        }
        more(wire).await?;
    }
}

/// What may follow the last chunk, up to an empty line.
async fn skip_trailers(wire: &Wire) -> Result<(), NoInput> {
    for _ in 0..=MAX_TRAILERS {
        let trailer = line(wire).await?;
        if trailer.is_empty() {
            return Ok(());
        }
        if !trailer.contains(':') {
            return Err(Refusal::bad("A trailer of the body is no header.").into());
        }
    }
    Err(Refusal::HEAD_TOO_LARGE.into())
}

/// The line that begins a chunk: its size, and extensions that mean nothing here.
async fn chunk_size(wire: &Wire) -> Result<u64, NoInput> {
    let line = line(wire).await?;
    let (digits, extensions) = line.split_once(';').unwrap_or((&line, ""));
    let legal = (1..=16).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !extensions.contains(|c: char| c.is_control() && c != '\t');
    match u64::from_str_radix(digits, 16) {
        Ok(size) if legal => Ok(size),
        _ => Err(Refusal::bad("A chunk of the body has no size.").into()),
    }
}

/// A line of the chunked coding, which ends in CRLF and in nothing else.
async fn line(wire: &Wire) -> Result<String, NoInput> {
    loop {
        let line = wire.input(|input| match input.iter().position(|byte| *byte == b'\n') {
            Some(end) => match input[..end].strip_suffix(b"\r").map(<[u8]>::to_vec) {
                Some(line) => (
                    end + 1,
                    String::from_utf8(line)
                        .map(Some)
                        .map_err(|_| Refusal::bad("A line of the chunked body is not text.")),
                ),
                None => (0, Err(Refusal::bad("A line of the chunked body has no CR at its end."))),
            },
            None if input.len() <= MAX_LINE => (0, Ok(None)),
            None => (0, Err(Refusal::bad("A line of the chunked body is too long."))),
        })?;
        match line {
            Some(line) => return Ok(line),
            None => more(wire).await?,
        }
    }
}

async fn more(wire: &Wire) -> Result<(), NoInput> {
    let late = async {
        Timer::after(wire.shared.config.head_timeout).await;
        Err(End::Silent)
    };
    future::poll_fn(|cx| wire.poll_read(cx)).or(late).await.map_err(|end| match end {
        End::Silent => NoInput::Refused(Refusal::TOO_SLOW),
        end => NoInput::Gone(end),
    })
}
