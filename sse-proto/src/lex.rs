//! Splits bytes into lines and fields (HTML Standard, 9.2.5 and 9.2.6).
//!
//! The lexer stores no bytes. A value that is cut by the end of the chunk is returned in parts, so
//! the lexer needs no buffer, no limit and no error. The caller decides where to join the parts.

use crate::{Field, comments, line_end};

/// A token from [`Lexer::next_token`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LineToken<'i> {
    /// A value, or the part of it that lies in this chunk.
    Value {
        /// The field of the line.
        field: Field,
        /// The bytes. Only the last part of a value can be empty.
        bytes: &'i [u8],
        /// Whether the line ends here. If not, more of the value comes from the next chunk.
        end: bool,
    },
    /// A blank line: the block before it is complete.
    Dispatch,
}

/// An incremental lexer for event streams: a few bytes of state, no buffer.
///
/// This is the layer below [`Decoder`](crate::Decoder), for programs that need each line as it
/// arrives: relays, tools that show comments, readers that act on a value before its event is
/// complete.
///
/// The chunks of a stream determine where a value is cut into parts, but not the value itself.
/// Lines end with CR, LF or CRLF; a CR ends its line at once, before the next byte is known. One
/// byte order mark at the very start is dropped. No byte is scanned again when the next chunk
/// comes.
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
    /// At the start of the stream; this number of bytes of the byte order mark have been seen.
    Bom(u8),
    /// At the start of a line.
    Line,
    /// At the start of a line, after a chunk that ended with CR: the next byte may belong to that
    /// line end.
    AfterCr,
    /// In a name. This number of bytes of the field's prefix have been seen.
    Name(Field, u8),
    /// After the colon, where a space may follow that is not part of the value.
    Space(Field),
    /// In a value.
    Value(Field),
    /// In a line that has no meaning.
    Skip,
}

const BOM: &[u8] = b"\xEF\xBB\xBF";

impl Default for Lexer {
    fn default() -> Self {
        Self::new()
    }
}

impl Lexer {
    /// Creates a lexer for the start of a stream.
    pub const fn new() -> Self {
        Self { state: State::Bom(0) }
    }

    /// Consumes the next token from the front of `input`, and returns it.
    ///
    /// `None` means that all of `input` has been consumed: call again with the next chunk. At the
    /// end of the stream, no further call is needed: a block that has not ended with a blank line
    /// by then must be dropped (9.2.6).
    #[allow(clippy::inline_always)] // returning a token in memory costs more than a short line
    #[inline(always)]
    pub fn next_token<'i>(&mut self, input: &mut &'i [u8]) -> Option<LineToken<'i>> {
        if let Some(rest) = Field::Data.strip_name(input) {
            return self.next_data(input, rest);
        }
        if matches!(self.state, State::Line) {
            if input.is_empty() {
                return None;
            }
            if let Some(rest) = line_end::strip_lf_or_crlf(input) {
                *input = rest;
                return Some(LineToken::Dispatch);
            }
            if let Some((field, rest)) = Field::split_name(input) {
                *input = rest;
                return self.value::<true>(field, input);
            }
        }
        let (token, rest) = self.resume(input);
        *input = rest;
        token
    }

    /// Like `next_token`, for an input that begins with the name of data; `after_name` is the rest
    /// of it. Data is mostly long, while types, IDs and comments are short, so it is searched in
    /// another way.
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    pub(crate) fn next_data<'i>(
        &mut self,
        input: &mut &'i [u8],
        after_name: &'i [u8],
    ) -> Option<LineToken<'i>> {
        if matches!(self.state, State::Line) {
            *input = after_name;
            return self.value::<false>(Field::Data, input);
        }
        let (token, rest) = self.resume(input);
        *input = rest;
        token
    }

    /// Like `next_token`, from any state. The input is passed by value, so that the caller's copy
    /// stays in registers.
    #[inline(never)]
    fn resume<'i>(&mut self, mut input: &'i [u8]) -> (Option<LineToken<'i>>, &'i [u8]) {
        let token = loop {
            match self.state {
                State::Line => {
                    if let Some((field, rest)) = Field::split_name(input) {
                        input = rest;
                        break self.value::<true>(field, &mut input);
                    }
                    self.state = match input {
                        [] => break None,
                        [byte, ..] if line_end::is_line_end(*byte) => {
                            self.end_line(&mut input, 0);
                            break Some(LineToken::Dispatch);
                        }
                        [byte, ..] => match Field::with_initial(*byte) {
                            Some(field) => State::Name(field, 0),
                            None => State::Skip,
                        },
                    };
                }
                State::Value(field) => {
                    let (bytes, end) = self.continue_value(&mut input);
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
                    if self.step_byte(&mut input).is_none() {
                        break None;
                    }
                }
            }
        };
        (token, input)
    }

    /// Returns a value up to the end of the line or of the chunk. The search includes the space
    /// before the value, so that it need not wait for the first byte to be compared.
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    pub(crate) fn value<'i, const SHORT: bool>(
        &mut self,
        field: Field,
        input: &mut &'i [u8],
    ) -> Option<LineToken<'i>> {
        let chunk = *input;
        let at = line_end::find::<SHORT>(chunk);
        let bytes = &chunk[..at.unwrap_or(chunk.len())];
        let value = field.strip_space(bytes);
        if let Some(at) = at {
            self.end_line(input, at);
            return Some(LineToken::Value { field, bytes: value, end: true });
        }
        *input = &[];
        self.state = if bytes.is_empty() { State::Space(field) } else { State::Value(field) };
        (!value.is_empty()).then_some(LineToken::Value { field, bytes: value, end: false })
    }

    /// Returns whether a line begins here, and no LF of the previous line end can follow.
    #[inline]
    pub(crate) fn at_line_start(&self) -> bool {
        matches!(self.state, State::Line)
    }

    /// Returns whether the lexer is in a value.
    pub(crate) fn in_value(&self) -> bool {
        matches!(self.state, State::Value(_))
    }

    /// Returns whether the input begins with a comment or with more of one.
    #[inline]
    pub(crate) fn at_comment(&self, input: &[u8]) -> bool {
        match self.state {
            State::Line => Field::Comment.begins(input),
            State::Value(Field::Comment) => !input.is_empty(),
            _ => false,
        }
    }

    /// Consumes a comment or more of one, if the input begins with it. Returns it, and whether it
    /// ends here.
    #[inline]
    pub(crate) fn next_comment<'i>(&mut self, input: &mut &'i [u8]) -> Option<(&'i [u8], bool)> {
        let comment = match self.state {
            State::Line => Field::Comment.strip_name(input)?,
            State::Value(Field::Comment) if !input.is_empty() => *input,
            _ => return None,
        };
        if let Some(at) = line_end::find::<true>(comment) {
            *input = comment;
            self.state = State::Line;
            self.end_line(input, at);
            return Some((&comment[..at], true));
        }
        *input = &[];
        self.state = State::Value(Field::Comment);
        Some((comment, false))
    }

    /// Consumes a short chunk of comments and blank lines, which begins with a comment or within one,
    /// and returns true. The last line may be incomplete. For any other chunk, it changes nothing and
    /// returns false: see [`comments::is_all`].
    #[inline(never)]
    pub(crate) fn skip_chunk_of_comments(&mut self, chunk: &[u8]) -> bool {
        let is_all = comments::is_all(chunk);
        if is_all {
            self.state = match chunk.last() {
                Some(b'\n') => State::Line,
                Some(b'\r') => State::AfterCr,
                _ => State::Value(Field::Comment),
            };
        }
        is_all
    }

    /// Returns whether the lexer is in a line of data.
    #[inline]
    pub(crate) fn in_data(&self) -> bool {
        matches!(self.state, State::Value(Field::Data))
    }

    /// Records that a line of data has ended, and that the next byte does not belong to its line end.
    #[inline]
    pub(crate) fn end_line_of_data(&mut self) {
        self.state = State::Line;
    }

    /// Records that the line has ended with a CR at the end of the chunk.
    #[inline]
    pub(crate) fn end_chunk_with_cr(&mut self) {
        self.state = State::AfterCr;
    }

    /// Records that a line of data has begun, of which at least one byte after the colon is in the
    /// chunk.
    #[inline]
    pub(crate) fn begin_data(&mut self) {
        self.state = State::Value(Field::Data);
    }

    /// Consumes more of a value. Returns it, and whether it ends here.
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    fn continue_value<'i>(&mut self, input: &mut &'i [u8]) -> (&'i [u8], bool) {
        let chunk = *input;
        if let Some(at) = line_end::find_far(chunk) {
            self.state = State::Line;
            self.end_line(input, at);
            return (&chunk[..at], true);
        }
        *input = &[];
        (chunk, false)
    }

    /// Consumes the line end at `at` and everything before it.
    #[inline]
    fn end_line(&mut self, input: &mut &[u8], at: usize) {
        if let Some(len) = line_end::len(input, at) {
            *input = &input[at + len..];
        } else {
            *input = &[];
            self.state = State::AfterCr;
        }
    }

    /// Makes one step in a state that inspects single bytes. Returns `None` if there is no byte.
    #[cold]
    fn step_byte(&mut self, input: &mut &[u8]) -> Option<()> {
        let (&byte, rest) = input.split_first()?;
        let (state, consumed) = match self.state {
            State::Bom(seen) if byte == BOM[usize::from(seen)] => {
                (if seen == 2 { State::Line } else { State::Bom(seen + 1) }, true)
            }
            State::Bom(0) => (State::Line, false),
            // An incomplete mark is the start of an unknown name.
            State::Bom(_) => (State::Skip, false),
            State::Name(field, seen) => match &field.prefix()[usize::from(seen)..] {
                [last] if byte == *last => (State::Space(field), true),
                [expected, ..] if byte == *expected => (State::Name(field, seen + 1), true),
                // A name without a colon has an empty value.
                [_] if line_end::is_line_end(byte) => (State::Value(field), false),
                _ => (State::Skip, false),
            },
            State::Space(field) => (State::Value(field), field.strip_space(&[byte]).is_empty()),
            State::AfterCr => (State::Line, line_end::continues_cr(byte)),
            other => (other, false),
        };
        self.state = state;
        if consumed {
            *input = rest;
        }
        Some(())
    }
}
