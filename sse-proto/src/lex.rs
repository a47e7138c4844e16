//! From bytes to lines and fields (HTML Standard, 9.2.5 and 9.2.6).
//!
//! The lexer holds no bytes. A value that the end of the chunk cuts comes out in parts, so the
//! lexer needs no buffer, no limit and no error; whoever must join the parts decides where.

use crate::line_end;

/// What a line says.
///
/// The standard calls `data`, `event`, `id` and `retry` fields; comments are listed with them
/// because they, too, are a line with a value. Lines of any other name carry no meaning and are
/// not reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// `data`: a line of the event's data.
    Data,
    /// `event`: the event type.
    EventType,
    /// `id`: the last event ID.
    Id,
    /// `retry`: the reconnection time.
    Retry,
    /// A line that begins with a colon. Its value is all that stands after the colon; unlike
    /// with fields, a leading space is part of it.
    Comment,
}

impl Field {
    const fn name(self) -> &'static [u8] {
        match self {
            Self::Data => b"data",
            Self::EventType => b"event",
            Self::Id => b"id",
            Self::Retry => b"retry",
            Self::Comment => b"",
        }
    }
}

/// What [`Lexer::next_token`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineToken<'i> {
    /// A value, or the part of it that this chunk holds.
    Value {
        /// The line's field.
        field: Field,
        /// The bytes. A part that is not the last is never empty.
        bytes: &'i [u8],
        /// Whether the line ends here. If not, more of the same value comes from the next chunk.
        end: bool,
    },
    /// A blank line: the block before it is complete.
    Dispatch,
}

/// An incremental lexer for event streams: a few bytes of state, no buffer.
///
/// This is the level below [`Decoder`](crate::Decoder), for those who want each line as it comes:
/// relays, tools that show comments, readers that act on a value before its event is complete.
///
/// Any way to cut the stream into chunks gives the same values, only cut in other places. Line
/// ends are CR, LF and CRLF; a CR ends its line at once, without a look at the byte after it. One
/// byte order mark at the very start is dropped. No byte is scanned again when the next chunk comes.
///
/// ```
/// use sse_proto::{Field, Lexer, LineToken};
///
/// let mut lexer = Lexer::new();
/// let mut input: &[u8] = b": hi\nunknown: x\ndata: one\r\n\r\nda";
/// let mut tokens = Vec::new();
/// while let Some(token) = lexer.next_token(&mut input) {
///     tokens.push(token);
/// }
/// assert_eq!(
///     tokens,
///     [
///         LineToken::Value { field: Field::Comment, bytes: b" hi", end: true },
///         LineToken::Value { field: Field::Data, bytes: b"one", end: true },
///         LineToken::Dispatch,
///     ]
/// );
/// ```
#[derive(Clone, Debug)]
pub struct Lexer {
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// At the very start; so many bytes of the byte order mark have been seen.
    Bom(u8),
    /// At the start of a line.
    Line,
    /// The same, after a chunk that ended in CR: an LF that comes next belongs to that line end.
    AfterCr,
    /// In a name that so far is the first bytes of the field's.
    Name(Field, u8),
    /// After the colon of a field: one space is not part of the value.
    Space(Field),
    /// In a value.
    Value(Field),
    /// In a line without meaning.
    Skip,
}

const BOM: &[u8] = b"\xEF\xBB\xBF";

impl Default for Lexer {
    fn default() -> Self {
        Self::new()
    }
}

impl Lexer {
    /// A lexer at the start of a stream.
    pub const fn new() -> Self {
        Self { state: State::Bom(0) }
    }

    /// Takes the next token off the front of `input`.
    ///
    /// `None` means that all of `input` is used up: call again with the next chunk. There is
    /// nothing to say at the end of the stream; what has not ended in a blank line by then is to
    /// be dropped (9.2.6).
    #[allow(clippy::inline_always)] // a token that goes through memory costs more than a short line
    #[inline(always)]
    pub fn next_token<'i>(&mut self, input: &mut &'i [u8]) -> Option<LineToken<'i>> {
        if input.starts_with(b"data:") {
            return self.next_data(input);
        }
        if matches!(self.state, State::Line) {
            match *input {
                [] => return None,
                [b'\n', rest @ ..] => {
                    *input = rest;
                    return Some(LineToken::Dispatch);
                }
                _ => {}
            }
            if let Some((field, rest)) = known_name(input) {
                *input = rest;
                return self.value::<true>(field, input);
            }
        }
        let (token, rest) = self.resume(input);
        *input = rest;
        token
    }

    /// The same for an input that begins with the name of data and its colon. Data is mostly long,
    /// types, ids and comments are not, and so it is searched in another way.
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    pub(crate) fn next_data<'i>(&mut self, input: &mut &'i [u8]) -> Option<LineToken<'i>> {
        if matches!(self.state, State::Line) {
            *input = &input[5..];
            return self.value::<false>(Field::Data, input);
        }
        let (token, rest) = self.resume(input);
        *input = rest;
        token
    }

    /// The same, from anywhere. The input goes in and out as a value, so that the caller's stays in
    /// registers.
    #[inline(never)]
    fn resume<'i>(&mut self, mut input: &'i [u8]) -> (Option<LineToken<'i>>, &'i [u8]) {
        let token = loop {
            match self.state {
                State::Line => {
                    if let Some((field, rest)) = known_name(input) {
                        input = rest;
                        break self.value::<true>(field, &mut input);
                    }
                    self.state = match input {
                        [] => break None,
                        [b'\n' | b'\r', ..] => {
                            self.end_line(&mut input, 0);
                            break Some(LineToken::Dispatch);
                        }
                        [b'd', ..] => State::Name(Field::Data, 0),
                        [b'e', ..] => State::Name(Field::EventType, 0),
                        [b'i', ..] => State::Name(Field::Id, 0),
                        [b'r', ..] => State::Name(Field::Retry, 0),
                        _ => State::Skip,
                    };
                }
                State::Value(field) => {
                    let (bytes, end) = self.more(&mut input);
                    break (end || !bytes.is_empty()).then_some(LineToken::Value {
                        field,
                        bytes,
                        end,
                    });
                }
                State::Skip => {
                    let Some(at) = line_end::find::<true>(input) else {
                        input = &[];
                        break None;
                    };
                    self.state = State::Line;
                    self.end_line(&mut input, at);
                }
                State::AfterCr | State::Name(..) | State::Space(_) | State::Bom(_) => {
                    if self.step(&mut input).is_none() {
                        break None;
                    }
                }
            }
        };
        (token, input)
    }

    /// A value up to the end of the line or of the chunk. The space before it is searched along with
    /// it, so that the search need not wait for what the first byte is.
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    fn value<'i, const SHORT: bool>(
        &mut self,
        field: Field,
        input: &mut &'i [u8],
    ) -> Option<LineToken<'i>> {
        let chunk = *input;
        let at = line_end::find::<SHORT>(chunk);
        let bytes = &chunk[..at.unwrap_or(chunk.len())];
        let space = field != Field::Comment && bytes.first() == Some(&b' ');
        let value = &bytes[usize::from(space)..];
        if let Some(at) = at {
            self.end_line(input, at);
            return Some(LineToken::Value { field, bytes: value, end: true });
        }
        *input = &[];
        self.state = if bytes.is_empty() && field != Field::Comment {
            State::Space(field)
        } else {
            State::Value(field)
        };
        (!value.is_empty()).then_some(LineToken::Value { field, bytes: value, end: false })
    }

    /// Whether a line begins here, and it is known that no byte of the one before is left.
    #[inline]
    pub(crate) fn at_line(&self) -> bool {
        matches!(self.state, State::Line)
    }

    /// Whether a comment is what comes, or more of one.
    #[inline]
    pub(crate) fn at_comment(&self, input: &[u8]) -> bool {
        match self.state {
            State::Line => input.first() == Some(&b':'),
            State::Value(Field::Comment) => !input.is_empty(),
            _ => false,
        }
    }

    /// A comment or more of one, if that is what comes, and whether it is the end of it.
    #[inline]
    pub(crate) fn next_comment<'i>(&mut self, input: &mut &'i [u8]) -> Option<(&'i [u8], bool)> {
        if !self.at_comment(input) {
            return None;
        }
        let chunk = *input;
        let start = usize::from(self.at_line());
        if let Some(at) = line_end::find::<true>(chunk) {
            self.state = State::Line;
            self.end_line(input, at);
            return Some((&chunk[start..at], true));
        }
        *input = &[];
        self.state = State::Value(Field::Comment);
        Some((&chunk[start..], false))
    }

    /// More of a line of data, if that is what comes, and whether it is the end of it.
    #[inline]
    pub(crate) fn more_data<'i>(&mut self, input: &mut &'i [u8]) -> Option<(&'i [u8], bool)> {
        matches!(self.state, State::Value(Field::Data)).then(|| self.more(input))
    }

    /// More of a value, and whether it is the end of it.
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    fn more<'i>(&mut self, input: &mut &'i [u8]) -> (&'i [u8], bool) {
        let chunk = *input;
        if let Some(at) = line_end::find_far(chunk) {
            self.state = State::Line;
            self.end_line(input, at);
            return (&chunk[..at], true);
        }
        *input = &[];
        (chunk, false)
    }

    /// Takes the line end at `at`, and whatever stands before it, off the input.
    #[inline]
    fn end_line(&mut self, input: &mut &[u8], at: usize) {
        let (line_end, rest) = (input[at], &input[at + 1..]);
        *input = rest;
        if line_end == b'\r' {
            match rest.first() {
                Some(b'\n') => *input = &rest[1..],
                Some(_) => {}
                None => self.state = State::AfterCr,
            }
        }
    }

    /// One byte in one of the states that look at single bytes. `None` if there is no byte.
    #[cold]
    fn step(&mut self, input: &mut &[u8]) -> Option<()> {
        let (&byte, rest) = input.split_first()?;
        let (state, takes) = match self.state {
            State::Bom(seen) if byte == BOM[usize::from(seen)] => {
                (if seen == 2 { State::Line } else { State::Bom(seen + 1) }, true)
            }
            State::Bom(0) => (State::Line, false),
            // The first bytes of a mark are the start of a name that nobody knows.
            State::Bom(_) => (State::Skip, false),
            State::Name(field, seen) => match field.name().get(usize::from(seen)) {
                Some(expected) if byte == *expected => (State::Name(field, seen + 1), true),
                None if byte == b':' => (State::Space(field), true),
                None if byte == b'\n' || byte == b'\r' => (State::Value(field), false),
                _ => (State::Skip, false),
            },
            State::Space(field) => (State::Value(field), byte == b' '),
            State::AfterCr => (State::Line, byte == b'\n'),
            other => (other, false),
        };
        self.state = state;
        if takes {
            *input = rest;
        }
        Some(())
    }
}

/// A name that stands whole in the chunk, with its colon, and what follows.
#[inline]
fn known_name(line: &[u8]) -> Option<(Field, &[u8])> {
    if let Some(rest) = line.strip_prefix(b"data:") {
        Some((Field::Data, rest))
    } else if let Some(rest) = line.strip_prefix(b"event:") {
        Some((Field::EventType, rest))
    } else if let Some(rest) = line.strip_prefix(b"id:") {
        Some((Field::Id, rest))
    } else if let Some(rest) = line.strip_prefix(b":") {
        Some((Field::Comment, rest))
    } else {
        None
    }
}
