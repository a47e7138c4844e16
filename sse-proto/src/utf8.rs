//! Validation of UTF-8.

use core::str::{self, Utf8Error};

/// Returns the text if the bytes are valid UTF-8.
#[inline(never)]
pub(crate) fn validate(bytes: &[u8]) -> Result<&str, Utf8Error> {
    // It is fast because it does not locate errors.
    #[cfg(feature = "simdutf8")]
    if bytes.len() >= BLOCK {
        if let Ok(text) = simdutf8::basic::from_utf8(bytes) {
            return Ok(text);
        }
    }
    str::from_utf8(bytes)
}

/// The number of bytes that `simdutf8` validates in one step.
#[cfg(any(feature = "simdutf8", feature = "alloc"))]
pub(crate) const BLOCK: usize = 64;

/// Returns whether a byte continues a character.
#[cfg(any(feature = "simdutf8", feature = "bytes"))]
#[inline]
pub(crate) const fn continues(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

/// Returns the text if it lies in `context`, where it is surrounded by valid UTF-8.
///
/// Most of the time that it takes to validate a short value is spent on the bytes beyond its last
/// whole block. So the value is validated together with bytes around it, as a number of whole
/// blocks. The result is a slice of that, which takes no further validation. This needs no memory
/// of what has been validated, and no more than a block of other values can make it fail.
#[cfg(feature = "simdutf8")]
#[inline]
pub(crate) fn validate_within<'c>(value: &[u8], context: &'c [u8]) -> Option<&'c str> {
    // The same address means the same bytes, because both are borrowed.
    let start = value.as_ptr().addr().wrapping_sub(context.as_ptr().addr());
    let end = start.checked_add(value.len())?;
    let len = value.len().next_multiple_of(BLOCK);
    let last = context.len().checked_sub(len)?;
    if end > context.len() {
        return None;
    }
    // The blocks begin with the value, or before it where the context ends too soon.
    let mut first = start.min(last);
    // They must not end within a character.
    let continues_at = |at: usize| context.get(at).is_some_and(|byte| continues(*byte));
    if continues_at(first + len) {
        let back = (1..4).find(|back| !continues_at(first + len - back))?;
        first = first.checked_sub(back)?;
        if end - first > len {
            return None;
        }
    }
    let blocks = simdutf8::basic::from_utf8(&context[first..first + len]).ok()?;
    blocks.get(start - first..end - first)
}

#[cfg(not(feature = "simdutf8"))]
#[inline]
pub(crate) fn validate_within<'c>(_: &[u8], _: &'c [u8]) -> Option<&'c str> {
    None
}
