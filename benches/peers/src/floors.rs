//! Reference operations: passes over the bytes that do not decode.

use std::cell::RefCell;

use bytes::Bytes;

use crate::decode::{Decode, Item, Start};

/// Copies each chunk.
#[derive(Debug)]
pub enum Memcpy {}

impl Decode for Memcpy {
    const NAME: &'static str = "floor: memcpy";

    fn decode(chunks: &[Bytes], _: Start<'_>, _: impl FnMut(Item<'_>)) {
        // Reused between runs, because new memory costs more than the copy.
        thread_local!(static COPY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
        COPY.with_borrow_mut(|copy| {
            for chunk in chunks {
                copy.clear();
                copy.extend_from_slice(chunk);
                std::hint::black_box(&*copy);
            }
        });
    }
}

/// Checks whether each chunk is UTF-8. A chunk that is cut within a character is not.
#[derive(Debug)]
pub enum Simdutf8 {}

impl Decode for Simdutf8 {
    const NAME: &'static str = "floor: simdutf8";

    fn decode(chunks: &[Bytes], _: Start<'_>, _: impl FnMut(Item<'_>)) {
        for chunk in chunks {
            let _ = std::hint::black_box(simdutf8::basic::from_utf8(chunk));
        }
    }
}

/// Finds each CR and LF with memchr, one after the other.
#[derive(Debug)]
pub enum Memchr2 {}

impl Decode for Memchr2 {
    const NAME: &'static str = "floor: memchr2 positions";

    fn decode(chunks: &[Bytes], _: Start<'_>, _: impl FnMut(Item<'_>)) {
        let mut sum = 0;
        for chunk in chunks {
            // Uses positions, because memchr has a faster path for counting.
            memchr::memchr2_iter(b'\r', b'\n', chunk).for_each(|at| sum ^= at);
        }
        std::hint::black_box(sum);
    }
}

/// Finds each CR and LF with masks of 64 bytes, in portable safe code.
#[derive(Debug)]
pub enum Bitmask {}

impl Decode for Bitmask {
    const NAME: &'static str = "floor: 64-byte masks";

    fn decode(chunks: &[Bytes], _: Start<'_>, _: impl FnMut(Item<'_>)) {
        let mut sum = 0;
        for chunk in chunks {
            let (blocks, rest) = chunk.as_chunks::<64>();
            for (index, block) in blocks.iter().enumerate() {
                let mut mask = mask(block);
                while mask != 0 {
                    sum ^= index * 64 + mask.trailing_zeros() as usize;
                    mask &= mask - 1;
                }
            }
            let start = blocks.len() * 64;
            let ends = rest.iter().enumerate().filter(|(_, byte)| matches!(byte, b'\r' | b'\n'));
            ends.for_each(|(at, _)| sum ^= start + at);
        }
        std::hint::black_box(sum);
    }
}

/// Returns a mask with a bit set for each CR and LF.
fn mask(block: &[u8; 64]) -> u64 {
    // The compiler vectorizes this loop.
    let mut found = [0; 64];
    for (found, byte) in found.iter_mut().zip(block) {
        *found = u8::from(*byte == b'\r') | u8::from(*byte == b'\n');
    }
    let (words, _) = found.as_chunks::<8>();
    // Packs eight bytes of 0 or 1 into eight bits: the product has them in its top byte.
    let pack = |word: &[u8; 8]| u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    words.iter().rev().fold(0, |mask, word| mask << 8 | pack(word))
}

#[cfg(test)]
mod tests {
    #[test]
    fn masks_have_a_bit_for_each_line_end() {
        let mut block = [b'x'; 64];
        for at in [0, 1, 7, 8, 30, 63] {
            block[at] = if at % 2 == 0 { b'\r' } else { b'\n' };
            let expected =
                (0..64).filter(|at| block[*at] != b'x').fold(0, |mask, at| mask | 1_u64 << at);
            assert_eq!(super::mask(&block), expected);
        }
    }
}
