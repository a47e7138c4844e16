//! Bytes that mean text.

#[cfg(feature = "alloc")]
use alloc::{borrow::Cow, string::String};
use core::fmt::{self, Write as _};
use core::ops::Deref;
use core::str::Utf8Error;

/// Bytes that mean text, borrowed for `'a`.
///
/// An event stream is UTF-8 whatever it claims, and the standard decodes it lossily: a stream is
/// never invalid, broken sequences read as U+FFFD (Encoding Standard, "UTF-8 decode"). The bytes
/// are here as they came, at no cost; which text they are, and whether broken text is an error, is
/// asked of them when it matters:
///
/// - [`to_str`](Self::to_str): text, or an error that says where it is broken;
/// - [`to_str_lossy`](Self::to_str_lossy) (feature `alloc`): the text of the standard;
/// - `Display`: the same without allocation;
/// - [`as_bytes`](Self::as_bytes), `AsRef<[u8]>`, `Deref`: bytes, say for `serde_json::from_slice`.
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
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    pub(crate) const fn from_bytes(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes, for as long as the text itself is borrowed.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The same as [`as_bytes`](Self::as_bytes). It stands in front of the trait's method, whose
    /// result could not outlive a `Text` that nobody holds.
    ///
    /// ```
    /// let event = sse_proto::Event::new("data");
    /// let bytes = event.data().as_ref();
    /// assert_eq!(bytes, b"data");
    /// ```
    pub const fn as_ref(self) -> &'a [u8] {
        self.0
    }

    /// The text, if the bytes are valid UTF-8. [`Utf8Checker`](crate::Utf8Checker) checks many values
    /// of a chunk together.
    ///
    /// # Errors
    ///
    /// [`Utf8Error`] tells where the first broken sequence stands.
    #[inline]
    pub fn to_str(self) -> Result<&'a str, Utf8Error> {
        // That one is fast because it does not know where broken text is broken.
        #[cfg(feature = "simdutf8")]
        if let Ok(text) = simdutf8::basic::from_utf8(self.0) {
            return Ok(text);
        }
        core::str::from_utf8(self.0)
    }

    /// The text as the standard reads it: U+FFFD for each maximal part of a broken sequence.
    /// Copies only if there is one.
    #[cfg(feature = "alloc")]
    pub fn to_str_lossy(self) -> Cow<'a, str> {
        self.to_str().map_or_else(|_| String::from_utf8_lossy(self.0), Cow::Borrowed)
    }
}

impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for Text<'a> {
    fn from(bytes: &'a T) -> Self {
        Self(bytes.as_ref())
    }
}

impl AsRef<[u8]> for Text<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl Deref for Text<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0
    }
}

/// Byte by byte, with anything that has bytes: `str`, `[u8]`, another `Text`.
impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Text<'_> {
    fn eq(&self, other: &T) -> bool {
        self.0 == other.as_ref()
    }
}

impl Eq for Text<'_> {}

/// Lossy, as the standard decodes.
impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

/// As a quoted string; bytes that are not text as `\xNN`.
impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            write!(f, "{}{}", chunk.valid().escape_debug(), chunk.invalid().escape_ascii())?;
        }
        f.write_char('"')
    }
}
