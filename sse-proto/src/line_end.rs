//! Line ends: their definition, and all searches for them.
//!
//! A line ends with LF, CR or CRLF. A CR ends its line at once, before the next byte is known; an
//! LF after it belongs to the same line end, also where a chunk ends between the two.
//!
//! The fastest way depends on the distance: a call to `memchr` takes as long as a short line, but
//! is the fastest search of a long line.

use memchr::memchr2;

/// A one in each byte of a word.
pub(crate) const ONES: u64 = 0x0101_0101_0101_0101;

/// Returns whether a byte is a line end, or half of one.
#[inline]
pub(crate) const fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// Returns the length in bytes of the line end at `at`. Returns `None` for a CR at the end of the
/// chunk: an LF may follow in the next chunk.
#[inline]
pub(crate) fn len(chunk: &[u8], at: usize) -> Option<usize> {
    if chunk[at] != b'\r' {
        return Some(1);
    }
    chunk.get(at + 1).map(|next| if continues_cr(*next) { 2 } else { 1 })
}

/// Returns whether a byte after a CR belongs to the same line end.
#[inline]
pub(crate) const fn continues_cr(byte: u8) -> bool {
    byte == b'\n'
}

/// Returns what follows a line end at the start of `bytes`. Returns `None` if there is none, or if
/// it is a lone CR, which is rare and may continue in the next chunk.
#[inline]
pub(crate) fn strip_lf_or_crlf(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [b'\n', rest @ ..] | [b'\r', b'\n', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// Returns the position of the first CR or LF. If it is among the first 8 bytes, or 24 where lines
/// are `SHORT`, no function is called.
#[inline]
pub(crate) fn find<const SHORT: bool>(bytes: &[u8]) -> Option<usize> {
    let Some(word) = bytes.first_chunk() else {
        return bytes.iter().position(|byte| is_line_end(*byte));
    };
    let mut at = first_low_byte(*word);
    if SHORT {
        for next in [8, 16] {
            match bytes.get(next..).and_then(<[u8]>::first_chunk) {
                Some(word) if at == next => at += first_low_byte(*word),
                _ => break,
            }
        }
    }
    match bytes.get(at) {
        Some(byte) if is_line_end(*byte) => Some(at),
        _ => memchr2(b'\r', b'\n', bytes),
    }
}

/// Returns the position of the first byte below 14, or 8 if there is none. Such bytes are nearly
/// always line ends, and comparing with one limit takes half the steps of comparing with two
/// values.
#[inline]
fn first_low_byte(word: [u8; 8]) -> usize {
    let word = u64::from_le_bytes(word);
    // The high bit of each such byte. After the first one it may be wrong, because of the borrow.
    let low = word.wrapping_sub(14 * ONES) & !word & (ONES << 7);
    low.trailing_zeros() as usize / 8
}

/// Returns the position of the first CR or LF, where none is expected soon.
#[allow(clippy::inline_always)] // it is most of what its callers do
#[inline(always)]
pub(crate) fn find_far(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    // Checking four blocks takes no longer than the fixed cost of a call.
    for _ in 0..4 {
        if rest.is_empty() {
            return None;
        }
        let Some((block, after)) = rest.split_first_chunk() else { break };
        let ends = line_ends_transposed(block);
        if ends != 0 {
            return Some(bytes.len() - rest.len() + transpose(ends).trailing_zeros() as usize);
        }
        rest = after;
    }
    memchr2(b'\r', b'\n', rest).map(|at| bytes.len() - rest.len() + at)
}

/// An iterator over the lines that end in a chunk, for chunks with many line ends.
pub(crate) struct Lines<'i> {
    ends: LineEnds<'i>,
    rest: usize,
}

impl<'i> Lines<'i> {
    /// Creates an iterator over the lines of a chunk.
    #[inline]
    pub(crate) fn new(chunk: &'i [u8]) -> Self {
        Self { ends: LineEnds { chunk, block: 0, ends: 0, next: 0 }, rest: 0 }
    }

    /// Creates an iterator over the lines of a chunk, where no line end is expected soon. Returns
    /// `None` if the chunk has no line end.
    #[allow(clippy::inline_always)] // as `find_far`
    #[inline(always)]
    pub(crate) fn far(chunk: &'i [u8]) -> Option<Self> {
        let mut lines = Self::new(chunk);
        let mut rest = chunk;
        for _ in 0..4 {
            if rest.is_empty() {
                return None;
            }
            let Some((block, after)) = rest.split_first_chunk() else { break };
            let ends = line_ends_transposed(block);
            lines.ends.next += block.len();
            if ends != 0 {
                lines.ends.block = chunk.len() - rest.len();
                lines.ends.ends = transpose(ends);
                return Some(lines);
            }
            rest = after;
        }
        lines.ends.next += memchr2(b'\r', b'\n', rest)?;
        Some(lines)
    }

    /// Returns what follows the lines so far.
    #[inline]
    pub(crate) fn rest(&self) -> &'i [u8] {
        &self.ends.chunk[self.rest..]
    }
}

impl<'i> Iterator for Lines<'i> {
    type Item = &'i [u8];

    #[allow(clippy::inline_always)] // so that its state stays in registers
    #[inline(always)]
    fn next(&mut self) -> Option<&'i [u8]> {
        let chunk = self.ends.chunk;
        let end = self.ends.next()?;
        let last = if len(chunk, end)? == 2 { self.ends.next()? } else { end };
        let line = &chunk[self.rest..end];
        self.rest = last + 1;
        Some(line)
    }
}

/// An iterator over the CRs and LFs of a chunk.
struct LineEnds<'i> {
    chunk: &'i [u8],
    /// The offset of the block that `ends` belongs to.
    block: usize,
    /// The line ends of that block that have not been yielded.
    ends: u64,
    /// The offset of the first byte that has not been searched.
    next: usize,
}

impl Iterator for LineEnds<'_> {
    type Item = usize;

    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        while self.ends == 0 {
            let rest = &self.chunk[self.next..];
            if let Some(block) = rest.first_chunk() {
                self.ends = transpose(line_ends_transposed(block));
                self.block = self.next;
                self.next += block.len();
            } else {
                (self.block, self.ends) = line_ends_of_tail(self.chunk, self.next);
                self.next = self.chunk.len();
                if self.ends == 0 {
                    return None;
                }
            }
        }
        let at = self.block + self.ends.trailing_zeros() as usize;
        self.ends &= self.ends - 1;
        Some(at)
    }
}

/// Returns the CRs and LFs from `start` to the end of a chunk, where less than a block is left, as
/// the offset of a block and a mask whose bit `n` is that of byte `n` of the block. The block may
/// begin before `start`.
#[inline(never)]
fn line_ends_of_tail(chunk: &[u8], start: usize) -> (usize, u64) {
    if start == chunk.len() {
        return (start, 0);
    }
    let (first, ends) = if let Some(block) = chunk.last_chunk() {
        (chunk.len() - block.len(), line_ends_transposed(block))
    } else {
        let mut block = [0; 64];
        block[..chunk.len()].copy_from_slice(chunk);
        (0, line_ends_transposed(&block))
    };
    (first, transpose(ends) & (u64::MAX << (start - first)))
}

/// Returns the CRs and LFs of a block: bit `8 * column + row` for byte `8 * row + column`.
///
/// In this form and with this length, compilers turn it into a few dozen vector instructions
/// without a loop; safe code cannot request these by name.
#[inline]
fn line_ends_transposed(block: &[u8; 64]) -> u64 {
    const MARKS: [u8; 64] = {
        let mut marks = [0; 64];
        let mut at = 0;
        while at < 64 {
            marks[at] = 1 << (at / 8);
            at += 1;
        }
        marks
    };
    let mut marks = MARKS;
    for (mark, byte) in marks.iter_mut().zip(block) {
        let is_end = u8::from(*byte == b'\r') | u8::from(*byte == b'\n');
        *mark &= is_end.wrapping_neg();
    }
    let rows = marks.chunks_exact(8).map(|row| row.try_into().expect("eight bytes"));
    rows.fold(0, |ends, row| ends | u64::from_le_bytes(row))
}

/// Transposes rows and columns: returns the same line ends with bit `at` for byte `at`.
#[allow(clippy::inline_always)] // a call costs as much
#[inline(always)]
fn transpose(mut ends: u64) -> u64 {
    for (by, pairs) in [(7, 0x00AA_00AA_00AA_00AA), (14, 0xCCCC_0000_CCCC), (28, 0xF0F0_F0F0)] {
        let differ = (ends ^ (ends >> by)) & pairs;
        ends ^= differ ^ (differ << by);
    }
    ends
}

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;

    use super::{LineEnds, Lines, find, find_far};

    fn check(bytes: &[u8]) {
        let is_end = |at: &usize| matches!(bytes[*at], b'\r' | b'\n');
        let first = (0..bytes.len()).find(is_end);
        let found = [find::<false>(bytes), find::<true>(bytes), find_far(bytes)];
        assert_eq!(found, [first; 3], "{bytes:?}");
        let all = LineEnds { chunk: bytes, block: 0, ends: 0, next: 0 };
        assert!(all.eq((0..bytes.len()).filter(is_end)), "{bytes:?}");
        let mut lines = Lines::new(bytes);
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
            let (line, end) = rest.split_at(at);
            if end == b"\r" {
                break;
            }
            assert_eq!(lines.next(), Some(line), "{bytes:?}");
            rest = end.strip_prefix(b"\r\n").unwrap_or(&end[1..]);
            assert_eq!(lines.rest(), rest, "{bytes:?}");
        }
        assert_eq!(lines.next(), None, "{bytes:?}");
    }

    /// Checks a line end surrounded by each byte value, at all distances within blocks and some
    /// beyond.
    pub(crate) fn at_all_distances(check: fn(&[u8])) {
        for byte in 0..=255 {
            for len in (0..20).chain([63, 64, 65, 130, 330]) {
                let mut bytes = std::vec![byte; len];
                check(&bytes);
                for at in 0..len {
                    bytes[at] = if at % 2 == 0 { b'\n' } else { b'\r' };
                    check(&bytes);
                    bytes[at] = byte;
                }
            }
        }
    }

    /// Checks line ends among bytes that differ from them in few bits.
    pub(crate) fn among_similar_bytes(check: fn(&[u8])) {
        let mut random = 1_u64;
        for len in 0..400 {
            let mut bytes = std::vec![0; len];
            for byte in &mut bytes {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = b"\r\n\0\t\x0B\x0E\x8A\x8D\xFF:abcdef"[(random >> 32) as usize % 16];
            }
            for start in 0..len.min(70) {
                check(&bytes[start..]);
            }
        }
    }

    #[test]
    fn line_ends_are_found_at_any_distance() {
        at_all_distances(check);
    }

    #[test]
    fn line_ends_are_found_among_similar_bytes() {
        among_similar_bytes(check);
    }
}
