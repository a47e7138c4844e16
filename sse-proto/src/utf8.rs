//! UTF-8 validation for many values at once.

use core::str::{self, Utf8Error};

use crate::Text;

/// A UTF-8 validator for the values of one chunk, which checks whole blocks of it.
///
/// Its results are those of [`Text::to_str`]. It is faster if most of a chunk is read as text: each
/// check has a fixed cost, however short the value, and the values of a chunk lie side by side. It
/// is slower if only little is read, for example types but not data. Values that the decoder had to
/// join are checked one by one, and nothing before the first requested value is checked.
///
/// Create one for each chunk, before [`next_event`](crate::Decoder::next_event) advances in it.
///
/// ```
/// use sse_proto::{Decoder, Utf8Checker};
///
/// let mut decoder = Decoder::new();
/// let mut seen = String::new();
/// for mut chunk in ["data: caf\u{e9}\n\ndata: ", "a\n\n"].map(str::as_bytes) {
///     let mut utf8 = Utf8Checker::new(chunk);
///     while let Some(event) = decoder.next_event(&mut chunk)? {
///         seen += utf8.to_str(event.data())?;
///     }
/// }
/// assert_eq!(seen, "caf\u{e9}a");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Utf8Checker<'i> {
    chunk: &'i [u8],
    /// A part of the chunk that is valid.
    checked: &'i str,
    /// An offset in the chunk. A value that begins before it, and is not in `checked`, is checked
    /// alone. So no block is checked twice, even if it is invalid or values are requested out of
    /// order.
    passed: usize,
}

impl<'i> Utf8Checker<'i> {
    /// The maximum length of a block in bytes. A block stays in the L1 cache until the decoder gets
    /// to it.
    const BLOCK: usize = 4096;

    /// The length in bytes from which a value is checked alone, since a block would not help.
    const LONG: usize = Self::BLOCK / 4;

    /// The number of bytes after a value that are too few for another value.
    const SHORTEST_REST: usize = 32;

    /// Creates a checker for the events that a chunk completes.
    pub const fn new(chunk: &'i [u8]) -> Self {
        Self { chunk, checked: "", passed: 0 }
    }

    /// Returns the text if the bytes are valid UTF-8. The value need not lie in the chunk.
    ///
    /// # Errors
    ///
    /// [`Utf8Error`] with the position of the first broken sequence in the value.
    #[inline]
    pub fn to_str<'e>(&mut self, text: Text<'e>) -> Result<&'e str, Utf8Error>
    where
        'i: 'e,
    {
        match self.find(text) {
            Some(text) => Ok(text),
            None => self.check(text),
        }
    }

    /// Returns the value if it lies in `checked`. The same address means the same bytes, because
    /// both are borrowed.
    #[inline]
    fn find(&self, text: Text<'_>) -> Option<&'i str> {
        let start = text.as_ptr().addr().wrapping_sub(self.checked.as_ptr().addr());
        self.checked.get(start..start.wrapping_add(text.len()))
    }

    #[inline(never)]
    fn check<'e>(&mut self, text: Text<'e>) -> Result<&'e str, Utf8Error>
    where
        'i: 'e,
    {
        let start = text.as_ptr().addr().wrapping_sub(self.chunk.as_ptr().addr());
        let ahead = self.chunk.get(start..).unwrap_or_default();
        let use_block = ahead.len() > text.len() + Self::SHORTEST_REST && text.len() < Self::LONG;
        if !use_block || start < self.passed {
            return text.to_str();
        }
        let block = &ahead[..ahead.len().min(Self::BLOCK)];
        match Text::from_bytes(whole_characters(block)).to_str() {
            Ok(checked) => {
                self.checked = checked;
                self.passed = start;
            }
            Err(_) => self.passed = start + block.len(),
        }
        self.find(text).map_or_else(|| text.to_str(), Ok)
    }
}

/// Returns `bytes` without an incomplete character at the end.
fn whole_characters(bytes: &[u8]) -> &[u8] {
    for (after, byte) in bytes.iter().rev().take(3).enumerate() {
        let is_cut = match byte {
            0x80..=0xBF => continue,
            0x00..=0x7F => false,
            0xC0..=0xDF => after < 1,
            0xE0..=0xEF => after < 2,
            0xF0..=0xFF => after < 3,
        };
        return if is_cut { &bytes[..bytes.len() - 1 - after] } else { bytes };
    }
    bytes
}
