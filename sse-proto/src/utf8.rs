//! Is it text? Asked once for many events.

use core::str::{self, Utf8Error};

use crate::Text;

/// Gives the values of events as `str`, and checks a stretch of the chunk at a time.
///
/// The same as [`Text::to_str`], and faster where most of a chunk is asked for: a check has its
/// price for each call, however short the text, and events of one chunk lie side by side. Who asks
/// for little of it, say for types and not for data, has less to do without. What the decoder had
/// to join is checked by itself, and nothing before the first value is asked for.
///
/// Make one for each chunk, before [`next_event`](crate::Decoder::next_event) moves on in it.
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
    /// A part of the chunk that is text.
    checked: &'i str,
    /// What begins before this place in the chunk, and is not in `checked`, is checked by itself:
    /// so nothing is checked again and again, however broken, and in whatever order events' values
    /// are asked for.
    passed: usize,
}

impl<'i> Utf8Checker<'i> {
    /// So much is checked at a time. It stays in the nearest cache until the decoder comes to it.
    const STRETCH: usize = 4096;

    /// As long a value gains nothing from others beside it.
    const LONG: usize = Self::STRETCH / 4;

    /// Less than this behind a value is hardly another.
    const NOTHING_MORE: usize = 32;

    /// For the events that a chunk completes.
    pub const fn new(chunk: &'i [u8]) -> Self {
        Self { chunk, checked: "", passed: 0 }
    }

    /// The text, if the bytes are valid UTF-8. Any may be asked for, also from elsewhere.
    ///
    /// # Errors
    ///
    /// [`Utf8Error`] tells where in the value the first broken sequence stands.
    #[inline]
    pub fn to_str<'e>(&mut self, text: Text<'e>) -> Result<&'e str, Utf8Error>
    where
        'i: 'e,
    {
        match self.known(text) {
            Some(text) => Ok(text),
            None => self.check(text),
        }
    }

    /// What stands in the same place is the same, as long as both are borrowed.
    #[inline]
    fn known(&self, text: Text<'_>) -> Option<&'i str> {
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
        let is_worth = ahead.len() > text.len() + Self::NOTHING_MORE && text.len() < Self::LONG;
        if !is_worth || start < self.passed {
            return text.to_str();
        }
        let stretch = &ahead[..ahead.len().min(Self::STRETCH)];
        match Text::from_bytes(whole_characters(stretch)).to_str() {
            Ok(checked) => {
                self.checked = checked;
                self.passed = start;
            }
            Err(_) => self.passed = start + stretch.len(),
        }
        self.known(text).map_or_else(|| text.to_str(), Ok)
    }
}

/// Without the first part of a character at the end.
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
