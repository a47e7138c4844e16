//! Where a line ends. All that is searched for in a stream is searched for here.
//!
//! What is fast depends on how far it is: a call to `memchr` takes as long as a short line, and
//! nothing else goes through a long one as fast.

use memchr::memchr2;

const ONES: u64 = 0x0101_0101_0101_0101;

/// The first CR or LF.
#[inline]
pub(crate) fn find(bytes: &[u8]) -> Option<usize> {
    let Some(word) = bytes.first_chunk() else {
        return bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    };
    // The first byte below 14 gets its high bit set; bytes behind it may be wrong, as it borrows
    // from them. Hardly anything but line ends is so low, and to look for one limit takes half the
    // steps of looking for two values.
    let word = u64::from_le_bytes(*word);
    let low = word.wrapping_sub(14 * ONES) & !word & (ONES << 7);
    let at = low.trailing_zeros() as usize / 8;
    match bytes.get(at) {
        Some(b'\r' | b'\n') if low != 0 => Some(at),
        _ => memchr2(b'\r', b'\n', bytes),
    }
}

/// The same, where none is expected soon: in what follows on a chunk without one.
#[inline]
pub(crate) fn find_far(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    // A few blocks are gone through faster than a call is made.
    for _ in 0..4 {
        if rest.is_empty() {
            return None;
        }
        let Some((block, after)) = rest.split_first_chunk() else { break };
        let ends = in_block(block);
        if ends != 0 {
            return Some(bytes.len() - rest.len() + first(ends));
        }
        rest = after;
    }
    memchr2(b'\r', b'\n', rest).map(|at| bytes.len() - rest.len() + at)
}

/// All line ends of a block: bit `8 * column + row` for byte `8 * row + column`.
///
/// In this form, and over so many bytes, compilers make it a handful of vector instructions.
#[inline]
fn in_block(block: &[u8; 64]) -> u64 {
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
        *mark = if matches!(byte, b'\r' | b'\n') { *mark } else { 0 };
    }
    let rows = marks.chunks_exact(8).map(|row| row.try_into().expect("eight bytes"));
    rows.fold(0, |ends, row| ends | u64::from_le_bytes(row))
}

/// The first byte that has a bit in `ends`, which is not empty.
#[inline]
fn first(ends: u64) -> usize {
    let rows = ends | ends >> 32;
    let rows = rows | rows >> 16;
    let row = (rows | rows >> 8).trailing_zeros();
    let columns = (ends >> row) & ONES;
    (8 * row + columns.trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::{find, find_far};

    /// Every distance over all blocks, every byte that could be taken for a line end, before and
    /// behind one.
    #[test]
    fn the_first_line_end_is_found_wherever_it_stands() {
        for byte in 0..=255 {
            for len in (0..80).chain([255, 256, 257, 320, 400]) {
                let mut bytes = std::vec![byte; len];
                let none = |byte: u8| !matches!(byte, b'\r' | b'\n');
                let expected = if none(byte) || len == 0 { None } else { Some(0) };
                assert_eq!((find(&bytes), find_far(&bytes)), (expected, expected));
                if !none(byte) {
                    continue;
                }
                for end in [b'\r', b'\n'] {
                    for at in (0..len).rev() {
                        bytes[at] = end;
                        assert_eq!((find(&bytes), find_far(&bytes)), (Some(at), Some(at)));
                    }
                    bytes.fill(byte);
                }
            }
        }
    }
}
