//! Reading request heads, bounded in size and time.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::compact_instant::CompactInstant;
use crate::connection::Connection;
use crate::http1::{Head, Refusal, parse};
use crate::{CloseReason, Error};

/// The reason why a request, or the rest of it, could not be read.
#[derive(Debug)]
pub(crate) enum NoInput<E> {
    /// The request is refused. The caller answers with this refusal.
    Refused(Refusal),
    /// The connection ended, or sent no request in time.
    Gone(E),
}

impl<E> From<Refusal> for NoInput<E> {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A future that reads the head of the next request. A peer that sends no request gets no answer:
/// browsers open connections in advance that they may not use.
pub(crate) struct ReadHead<'w> {
    connection: &'w Connection,
    /// The deadline for the start of the request line; after that, for the whole head. `None` until
    /// the task waits for it, so that a head that has arrived already needs no look at the clock.
    deadline: Option<CompactInstant>,
    is_first: bool,
    /// The number of bytes of empty lines before the request line, which are dropped on arrival.
    empty: usize,
    /// The number of bytes of the head that have been examined.
    seen: usize,
    begun: bool,
}

impl<'w> ReadHead<'w> {
    /// Creates a reader for the first head of a connection, or for a later one.
    pub(crate) const fn new(connection: &'w Connection, is_first: bool) -> Self {
        Self { connection, deadline: None, is_first, empty: 0, seen: 0, begun: false }
    }

    /// Parses the head, and returns `None` if it is incomplete.
    fn parse(&mut self) -> Result<Option<Box<Head>>, Refusal> {
        let connection = self.connection;
        connection.input(|input| self.parse_input(input))
    }

    /// Parses the head, and returns the number of bytes to remove from the input.
    fn parse_input(&mut self, input: &[u8]) -> (usize, Result<Option<Box<Head>>, Refusal>) {
        let config = &self.connection.shared.config;
        let skipped = if self.begun { 0 } else { empty_lines(input) };
        let input = &input[skipped..];
        if !self.begun {
            self.empty += skipped;
            if self.empty > config.max_head {
                let why = "Too many empty lines precede the request line.";
                return (skipped, Err(Refusal::bad(why)));
            }
            if matches!(input, [] | [b'\r']) {
                return (skipped, Ok(None));
            }
            self.begun = true;
            self.deadline = None;
        }
        let head = &input[..input.len().min(config.max_head)];
        // Parsed again after a line end only: otherwise a peer that sends byte by byte would cost a
        // parse of the whole head for each byte. The first bytes are parsed at once, so other
        // protocols are refused at once.
        let first = self.seen == 0;
        let worth_it = first || head[self.seen..].contains(&b'\n');
        self.seen = head.len();
        let (used, parsed) = match if worth_it { parse(head) } else { Ok(None) } {
            Ok(Some((head, len))) => (len, Ok(Some(Box::new(head)))),
            Ok(None) if self.seen == config.max_head => (0, Err(Refusal::HEAD_TOO_LARGE)),
            Ok(None) => (0, Ok(None)),
            Err(refusal) => (0, Err(refusal)),
        };
        (skipped + used, parsed)
    }

    /// Waits for the deadline.
    fn poll_late(&mut self) -> Poll<CompactInstant> {
        let config = &self.connection.shared.config;
        let awaits_next = !self.is_first && !self.begun;
        let timeout = if awaits_next { config.idle_timeout } else { config.head_timeout };
        let deadline = *self.deadline.get_or_insert_with(|| CompactInstant::now() + timeout);
        self.connection.poll_deadline(deadline)
    }
}

/// Returns the length of the empty lines before the request line, which some clients send after a
/// body (RFC 9112, section 2.2). They do not start the deadline of the head.
fn empty_lines(input: &[u8]) -> usize {
    let mut rest = input;
    while let [b'\r', b'\n', after @ ..] | [b'\n', after @ ..] = rest {
        rest = after;
    }
    input.len() - rest.len()
}

impl Future for ReadHead<'_> {
    type Output = Result<Box<Head>, NoInput<CloseReason>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let connection = self.connection;
        connection.drive(cx);
        loop {
            if let Some(head) = self.parse()? {
                return Poll::Ready(Ok(head));
            }
            match connection.poll_read(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(NoInput::Gone(error.into()))),
                Poll::Pending => {
                    connection.uncork();
                    if connection.shared.drain.has_begun() {
                        return Poll::Ready(Err(NoInput::Gone(Error::Drained.into())));
                    }
                    ready!(self.poll_late());
                    let silent = NoInput::Gone(CloseReason::Silent);
                    let late = if self.begun { Refusal::TOO_SLOW.into() } else { silent };
                    return Poll::Ready(Err(late));
                }
            }
        }
    }
}
