//! Text from the stream: UTF-8 by the standard, possibly invalid in practice.

#[cfg(feature = "alloc")]
use alloc::{borrow::Cow, string::String};
use core::cmp::Ordering;
use core::fmt::{self, Write as _};
use core::hash::{Hash, Hasher};
use core::ops::Deref;
use core::str::Utf8Error;

use crate::utf8;

/// Text from the stream, borrowed for `'a`: UTF-8 by the standard, possibly invalid in practice.
///
/// An event stream is UTF-8 regardless of its declared charset, and the standard decodes it
/// lossily: no stream is invalid, and broken sequences become U+FFFD (Encoding Standard, "UTF-8
/// decode"). A `Text` keeps the bytes as they were received, at no cost. The caller chooses how to
/// read them:
///
/// - [`to_str`](Self::to_str): as text, or an error with the position of the first broken sequence;
/// - [`to_str_lossy`](Self::to_str_lossy) (feature `alloc`): as the standard decodes it;
/// - `Display`: the same, without an allocation;
/// - [`as_bytes`](Self::as_bytes), `AsRef<[u8]>`, `Deref`: as bytes, for example for
///   `serde_json::from_slice(&text)`.
///
/// A function that takes `&str`, such as `serde_json::from_str`, takes `text.to_str()?`. An event's
/// data are also deserialized by `Event::json` (feature `serde_json`).
///
/// ```
/// use sse_proto::Text;
///
/// let text = Text::from("caf\u{e9}");
/// assert_eq!(text, "café");
/// assert_eq!(text.to_str(), Ok("café"));
/// let broken = Text::from(b"caf\xC3");
/// assert!(broken.to_str().is_err());
/// assert_eq!(broken.to_string(), "caf\u{FFFD}");
/// assert_eq!(format!("{broken:?}"), r#""caf\xc3""#);
/// ```
#[derive(Clone, Copy, Default)]
pub struct Text<'a> {
    bytes: &'a [u8],
    /// Memory in which the bytes may lie, such as their chunk. It makes validation faster.
    context: &'a [u8],
}

impl<'a> Text<'a> {
    pub(crate) const fn from_bytes(bytes: &'a [u8]) -> Self {
        Self { bytes, context: bytes }
    }

    pub(crate) const fn with_context(bytes: &'a [u8], context: &'a [u8]) -> Self {
        Self { bytes, context }
    }

    pub(crate) const fn context(self) -> &'a [u8] {
        self.context
    }

    /// Returns the bytes, borrowed for as long as the text itself.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the same as [`as_bytes`](Self::as_bytes). It takes precedence over the method of
    /// `AsRef`, whose result could not outlive a temporary `Text`.
    ///
    /// ```
    /// let event = sse_proto::Event::new("data");
    /// let bytes = event.data().as_ref();
    /// assert_eq!(bytes, b"data");
    /// ```
    pub const fn as_ref(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the text if the bytes are valid UTF-8.
    ///
    /// # Errors
    ///
    /// [`Utf8Error`] with the position of the first broken sequence.
    #[inline]
    pub fn to_str(self) -> Result<&'a str, Utf8Error> {
        match utf8::validate_within(self.bytes, self.context) {
            Some(text) => Ok(text),
            None => utf8::validate(self.bytes),
        }
    }

    /// Returns the text as the standard decodes it: U+FFFD for each maximal part of a broken
    /// sequence. Copies only if there is one.
    #[cfg(feature = "alloc")]
    pub fn to_str_lossy(self) -> Cow<'a, str> {
        self.to_str().map_or_else(|_| String::from_utf8_lossy(self.bytes), Cow::Borrowed)
    }
}

impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for Text<'a> {
    fn from(bytes: &'a T) -> Self {
        Self::from_bytes(bytes.as_ref())
    }
}

impl AsRef<[u8]> for Text<'_> {
    fn as_ref(&self) -> &[u8] {
        self.bytes
    }
}

impl Deref for Text<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

/// Compares byte by byte with any value that converts to bytes: `str`, `[u8]`, another `Text`.
impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Text<'_> {
    fn eq(&self, other: &T) -> bool {
        self.bytes == other.as_ref()
    }
}

impl Eq for Text<'_> {}

/// Orders by bytes, which orders valid text by code points.
impl Ord for Text<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes.cmp(other.bytes)
    }
}

impl PartialOrd for Text<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Hashes as the bytes do.
impl Hash for Text<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

/// Writes the text as the standard decodes it, lossily.
impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Ok(text) = self.to_str() {
            return f.write_str(text);
        }
        for chunk in self.bytes.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

/// Writes a quoted string, with invalid bytes as `\xNN`.
impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for chunk in self.bytes.utf8_chunks() {
            write!(f, "{}{}", chunk.valid().escape_debug(), chunk.invalid().escape_ascii())?;
        }
        f.write_char('"')
    }
}
