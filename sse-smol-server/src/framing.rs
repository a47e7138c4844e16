//! The framing of HTTP around encoded events.

use std::io::Write as _;

/// The framing of a stream's body, which marks its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// HTTP/1.1: chunks, the last of which is empty.
    Chunked,
    /// HTTP/1.0: the body ends with the connection.
    Close,
}

/// The framed form of a frame, in up to three pieces.
pub(crate) struct Framed<'f> {
    size: SizeLine,
    bytes: &'f [u8],
    end: &'static [u8],
}

/// The line that begins a chunk.
#[derive(Clone, Copy)]
struct SizeLine {
    bytes: [u8; Self::MOST],
    len: usize,
}

impl SizeLine {
    /// The maximum length in bytes: the digits of any length, and the line end.
    const MOST: usize = 2 * size_of::<usize>() + 2;
    const EMPTY: Self = Self { bytes: [0; Self::MOST], len: 0 };

    fn new(len: usize) -> Self {
        let mut line = Self::EMPTY;
        let mut left = &mut line.bytes[..];
        write!(left, "{len:X}\r\n").expect("there is room for any length");
        line.len = Self::MOST - left.len();
        line
    }
}

impl<'f> Framed<'f> {
    /// Creates the framed form of bytes that need no framing or have it.
    pub(crate) const fn whole(bytes: &'f [u8]) -> Self {
        Self { size: SizeLine::EMPTY, bytes, end: b"" }
    }

    /// Creates a chunk of these bytes.
    pub(crate) fn chunk(bytes: &'f [u8]) -> Self {
        Self { size: SizeLine::new(bytes.len()), bytes, end: b"\r\n" }
    }

    /// Returns the length of the line that begins the chunk.
    pub(crate) const fn size_line_len(&self) -> usize {
        self.size.len
    }

    pub(crate) fn len(&self) -> usize {
        self.size.len + self.bytes.len() + self.end.len()
    }

    /// Returns all bytes, if they are in one piece.
    pub(crate) fn contiguous(&self) -> Option<&'f [u8]> {
        (self.len() == self.bytes.len()).then_some(self.bytes)
    }

    /// Returns the pieces that follow the first `taken` bytes, none of which is empty.
    pub(crate) fn pieces(&self, mut taken: usize) -> impl Iterator<Item = &[u8]> {
        [&self.size.bytes[..self.size.len], self.bytes, self.end].into_iter().filter_map(
            move |piece| {
                let skipped = taken.min(piece.len());
                taken -= skipped;
                Some(&piece[skipped..]).filter(|left| !left.is_empty())
            },
        )
    }
}
