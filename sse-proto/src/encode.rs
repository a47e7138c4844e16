//! Encodes events and comments into bytes (HTML Standard, 9.2.5).
//!
//! There is one implementation: [`Slices`] yields the pieces of the encoded form in order, and
//! everything else (length, appending, writing into memory) is built on it.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::{fmt, mem};

use memchr::memchr2;

use crate::{Comment, Event, line_end};

/// An empty comment, to send when a stream has been silent for a while (9.2.7): see
/// [`KeepAlive`](crate::KeepAlive).
pub const KEEP_ALIVE: &[u8] = b":\n\n";

/// The buffer is too small for the encoded form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferTooSmall {
    needed: usize,
}

impl BufferTooSmall {
    /// Returns the length of the encoded form in bytes.
    pub const fn needed(self) -> usize {
        self.needed
    }
}

impl fmt::Display for BufferTooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "buffer too small: the encoded form needs {} bytes", self.needed)
    }
}

impl core::error::Error for BufferTooSmall {}

/// Implements all encodings of [`Event`] and [`Comment`] in terms of `slices`.
macro_rules! encodings {
    ($type:ident) => {
        impl<'a> $type<'a> {
            /// Returns the pieces of the encoded form in order, for a vectored write.
            ///
            /// Values are borrowed, never copied. Together the pieces are
            /// [`encoded_len`](Self::encoded_len) bytes and end with a blank line: after all of
            /// them are written and flushed, the receiver has the whole event.
            ///
            /// ```
            /// use std::io::{IoSlice, Write};
            ///
            /// let event = sse_proto::Event::new("hi");
            /// let slices: Vec<IoSlice> = event.slices().map(IoSlice::new).collect();
            /// let mut wire = Vec::new();
            /// wire.write_vectored(&slices)?;
            /// assert_eq!(wire, b"data: hi\n\n");
            /// # Ok::<(), std::io::Error>(())
            /// ```
            #[inline]
            pub fn slices(&self) -> Slices<'a> {
                Slices::from(*self)
            }

            /// Returns the exact length of the encoded form in bytes.
            pub fn encoded_len(&self) -> usize {
                self.slices().map(<[u8]>::len).sum()
            }

            /// Appends the encoded form to `out`.
            #[cfg(feature = "alloc")]
            #[inline]
            pub fn encode_to_vec(&self, out: &mut Vec<u8>) {
                self.slices().for_each(|slice| out.extend_from_slice(slice));
            }

            /// Writes the encoded form to the front of `out` and returns its length in bytes.
            ///
            /// # Errors
            ///
            /// [`BufferTooSmall`] if the encoded form does not fit; `out` then holds a part of it.
            pub fn encode_to_slice(&self, out: &mut [u8]) -> Result<usize, BufferTooSmall> {
                let len = self.slices().fold(0, |len, slice| {
                    if let Some(room) = out.get_mut(len..len + slice.len()) {
                        room.copy_from_slice(slice);
                    }
                    len + slice.len()
                });
                if len > out.len() { Err(BufferTooSmall { needed: len }) } else { Ok(len) }
            }

            /// Appends the encoded form to a [`bytes::BufMut`].
            ///
            /// # Errors
            ///
            /// [`BufferTooSmall`] if the encoded form does not fit into `out`, which cannot grow;
            /// nothing is written in that case.
            #[cfg(feature = "bytes")]
            #[inline]
            pub fn encode_to_buf(
                &self,
                out: &mut impl bytes::BufMut,
            ) -> Result<(), BufferTooSmall> {
                // Most buffers have room for any encoding, so the exact length is rarely needed.
                if out.remaining_mut() < self.slices().max_len() {
                    let needed = self.encoded_len();
                    if out.remaining_mut() < needed {
                        return Err(BufferTooSmall { needed });
                    }
                }
                self.slices().for_each(|slice| out.put_slice(slice));
                Ok(())
            }
        }
    };
}

#[cfg(feature = "futures-core")]
impl Event<'_> {
    /// Returns the length of the encoded form in bytes if the data is a single line. It takes no
    /// search for line ends, unlike [`encoded_len`](Self::encoded_len).
    #[inline]
    pub(crate) fn one_line_len(&self) -> usize {
        let field = |name: &[u8], value: usize| name.len() + value;
        let digits = |number: u64| number.checked_ilog10().map_or(1, |power| power as usize + 1);
        self.named_type().map_or(0, |value| field(TYPE, value.len()))
            + self.id().map_or(0, |_| field(ID, self.last_event_id().len()))
            + self.retry_millis().map_or(0, |number| field(RETRY, digits(number)))
            + self.own_data().map_or(0, |value| field(DATA, value.len()))
            + 1
    }
}

encodings!(Event);
encodings!(Comment);

/// An iterator over the pieces of an encoded event or comment: see [`Event::slices`].
#[derive(Clone, Debug)]
pub struct Slices<'a> {
    state: State,
    event: Event<'a>,
    lines: Lines<'a>,
    /// Whether `lines` are those of a comment, which begin with a colon instead of `data: `.
    is_comment: bool,
    /// The value to yield next; its field name has been yielded.
    value: Option<&'a [u8]>,
    /// Whether a line has been begun that must be ended before anything else.
    in_line: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Type,
    Id,
    Retry,
    /// A number whose digits are yielded next, and the power of ten of its first digit: the number
    /// is below ten times that.
    Digits(u64, u64),
    Lines,
    End,
    Done,
}

// Each field name includes the line end before it, which the first line omits.
const TYPE: &[u8] = b"\nevent: ";
const ID: &[u8] = b"\nid: ";
const RETRY: &[u8] = b"\nretry: ";
const DATA: &[u8] = b"\ndata: ";
const COMMENT: &[u8] = b"\n:";

impl<'a> From<Event<'a>> for Slices<'a> {
    #[inline]
    fn from(event: Event<'a>) -> Self {
        let has_head =
            event.named_type().is_some() || event.id().is_some() || event.retry_millis().is_some();
        let state = if has_head { State::Type } else { State::Lines };
        let lines = Lines { rest: event.own_data() };
        Self { state, event, lines, is_comment: false, value: None, in_line: false }
    }
}

impl<'a> From<Comment<'a>> for Slices<'a> {
    fn from(comment: Comment<'a>) -> Self {
        let lines = Lines { rest: Some(comment.text()) };
        let event = Event::without_data();
        Self { state: State::Lines, event, lines, is_comment: true, value: None, in_line: false }
    }
}

impl<'a> Slices<'a> {
    /// Returns an upper bound of the encoded length in bytes: as if each byte were a line of its
    /// own.
    #[cfg(feature = "bytes")]
    fn max_len(&self) -> usize {
        let event_type = self.event.named_type().map_or(0, <[u8]>::len);
        let values =
            [event_type, self.event.last_event_id().len(), self.lines.rest.map_or(0, <[u8]>::len)];
        values.iter().fold(64, |all: usize, len| all.saturating_add(len.saturating_mul(8)))
    }

    /// Begins a line and returns its name; `value` is yielded next.
    #[inline]
    fn begin(&mut self, name: &'static [u8], value: &'a [u8]) -> &'static [u8] {
        self.value = (!value.is_empty()).then_some(value);
        if mem::replace(&mut self.in_line, true) { name } else { &name[1..] }
    }
}

impl<'a> Iterator for Slices<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if let Some(value) = self.value.take() {
            return Some(value);
        }
        loop {
            match self.state {
                State::Type => {
                    self.state = State::Id;
                    if let Some(event_type) = self.event.named_type() {
                        return Some(self.begin(TYPE, event_type));
                    }
                }
                State::Id => {
                    self.state = State::Retry;
                    if self.event.id().is_some() {
                        return Some(self.begin(ID, self.event.last_event_id().as_bytes()));
                    }
                }
                State::Retry => {
                    self.state = State::Lines;
                    if let Some(number) = self.event.retry_millis() {
                        let power = 10_u64.pow(number.checked_ilog10().unwrap_or(0));
                        self.state = State::Digits(number, power);
                        return Some(self.begin(RETRY, b""));
                    }
                }
                State::Digits(number, power) => {
                    self.state = match power {
                        1 => State::Lines,
                        _ => State::Digits(number % power, power / 10),
                    };
                    // Yielding digits one by one needs no buffer.
                    return Some(match number / power {
                        0 => b"0",
                        1 => b"1",
                        2 => b"2",
                        3 => b"3",
                        4 => b"4",
                        5 => b"5",
                        6 => b"6",
                        7 => b"7",
                        8 => b"8",
                        _ => b"9",
                    });
                }
                State::Lines => match self.lines.next() {
                    Some(line) => {
                        let name = if self.is_comment { COMMENT } else { DATA };
                        return Some(self.begin(name, line));
                    }
                    None => self.state = State::End,
                },
                State::End => {
                    self.state = State::Done;
                    return Some(if self.in_line { b"\n\n" } else { b"\n" });
                }
                State::Done => return None,
            }
        }
    }

    /// Yields the lines of data in a loop, without the states of `next`: most bytes of most events
    /// are data.
    #[inline]
    fn fold<A, F: FnMut(A, &'a [u8]) -> A>(mut self, mut all: A, mut f: F) -> A {
        while self.is_comment || self.value.is_some() || !matches!(self.state, State::Lines) {
            match self.next() {
                Some(slice) => all = f(all, slice),
                None => return all,
            }
        }
        for line in self.lines {
            // A copy whose length is a constant needs no call.
            all = if mem::replace(&mut self.in_line, true) {
                f(all, DATA)
            } else {
                f(all, &DATA[1..])
            };
            if !line.is_empty() {
                all = f(all, line);
            }
        }
        if self.in_line { f(all, b"\n\n") } else { f(all, b"\n") }
    }
}

/// The lines of a text, separated by CR, LF or CRLF: always one more than there are line ends.
#[derive(Clone, Debug)]
struct Lines<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.rest.take()?;
        let Some(at) = memchr2(b'\r', b'\n', text) else {
            return Some(text);
        };
        // Nothing follows the text, so a CR at its end is a whole line end.
        let len = line_end::len(text, at).unwrap_or(1);
        self.rest = Some(&text[at + len..]);
        Some(&text[..at])
    }
}
