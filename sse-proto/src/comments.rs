//! Skips comments and blank lines between events, which are all that a silent stream sends.

use memchr::memrchr2;

use crate::Field;
use crate::line_end::{Lines, ONES, is_line_end};

/// Returns the length in bytes of the comments and blank lines at the start of a chunk, which
/// begins with a line. Counts only lines that end in the chunk, and may omit the last one or two of
/// them.
///
/// The first bytes of lines are compared for a whole block or word at once. A search for each line
/// end would have to wait for the previous one.
#[inline]
pub(crate) fn len(chunk: &[u8]) -> usize {
    // A CR at the end may be half of a CRLF, so it is left for the next chunk.
    let chunk = chunk.strip_suffix(b"\r").unwrap_or(chunk);
    if chunk.len() > 64 { len_by_block(chunk) } else { len_from(chunk, 0, 0) }
}

/// Returns whether a line that begins here is a comment or blank.
#[inline]
fn is_comment_or_blank(line: &[u8]) -> bool {
    Field::Comment.begins(line) || line.first().is_some_and(|byte| is_line_end(*byte))
}

#[inline(never)]
fn len_by_block(chunk: &[u8]) -> usize {
    let mut at = 0;
    if is_comment_or_blank(chunk) {
        while chunk.get(at..).and_then(<[u8]>::first_chunk).is_some_and(only_comments::<65>) {
            at += 64;
        }
    }
    let line = memrchr2(b'\r', b'\n', &chunk[..at]).map_or(0, |end| end + 1);
    len_from(chunk, at, line)
}

/// Like `len`, where everything before `at` has been checked, and the last line there begins at
/// `line`.
#[inline]
fn len_from(chunk: &[u8], mut at: usize, mut line: usize) -> usize {
    // 0x80 if a line begins at the start of the word.
    let mut first = if line == at { 0x80 } else { 0 };
    for word in chunk[at..].chunks_exact(8) {
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        let ends = line_ends(word);
        let lines = (ends << 8) | first;
        let others = lines & !ends & unlike(word, b':');
        if others != 0 {
            return at + others.trailing_zeros() as usize / 8;
        }
        if lines != 0 {
            line = at + lines.ilog2() as usize / 8;
        }
        first = ends >> 56;
        at += 8;
    }
    if first == 0 { line } else { at }
}

/// Returns whether a short chunk that begins within a comment, or with one, contains nothing but
/// comments and blank lines. The last line may be incomplete. Always returns false for chunks of
/// less than 8 or more than 64 bytes.
///
/// This is for keep-alives that arrive alone. It locates no line ends, which would take longer.
#[inline]
pub(crate) fn is_all(chunk: &[u8]) -> bool {
    match chunk.len() {
        // The two words may overlap.
        8..16 => {
            chunk.first_chunk().is_some_and(|word| only_comments_in_word(*word))
                && chunk.last_chunk().is_some_and(|word| only_comments_in_word(*word))
        }
        16..=64 => is_all_by_block(chunk),
        _ => false,
    }
}

/// Returns whether all lines that begin after the first byte of a word are comments or blank.
#[inline]
fn only_comments_in_word(word: [u8; 8]) -> bool {
    let word = u64::from_le_bytes(word);
    let ends = line_ends(word);
    (ends << 8) & !ends & unlike(word, b':') == 0
}

/// Returns the high bit of each byte that is CR or LF.
#[inline]
const fn line_ends(word: u64) -> u64 {
    !(unlike(word, b'\n') & unlike(word, b'\r')) & (0x80 * ONES)
}

/// Returns the high bit of each byte that differs from `byte`; the other bits are undefined.
#[inline]
const fn unlike(word: u64, byte: u8) -> u64 {
    const LOW: u64 = 0x7F * ONES;
    let differ = word ^ (byte as u64 * ONES);
    ((differ & LOW) + LOW) | differ
}

#[inline(never)]
fn is_all_by_block(chunk: &[u8]) -> bool {
    let mut rest = chunk;
    while let Some(block) = rest.first_chunk() {
        if !only_comments::<17>(block) {
            return false;
        }
        rest = &rest[16..];
    }
    // The last 16 bytes, of which all but `rest` have been checked.
    chunk.last_chunk().is_some_and(only_comments::<16>)
}

/// Returns whether all lines that begin after the first byte of a block are comments or blank.
#[inline]
fn only_comments<const LEN: usize>(block: &[u8; LEN]) -> bool {
    let mut others = 0;
    for at in 1..LEN {
        let is_end = |byte| u8::from(byte == b'\r') | u8::from(byte == b'\n');
        let (before, byte) = (block[at - 1], block[at]);
        others |= is_end(before) & !(is_end(byte) | u8::from(byte == b':'));
    }
    others & 1 == 0
}

/// Passes the comments that end in the chunk to `on_comment`. Returns the rest, from the first line
/// that is neither a comment nor blank, or that is incomplete.
#[inline]
pub(crate) fn report<'i>(chunk: &'i [u8], on_comment: &mut impl FnMut(&'i [u8], bool)) -> &'i [u8] {
    let mut lines = Lines::new(chunk);
    while is_comment_or_blank(lines.rest()) {
        let Some(line) = lines.next() else { break };
        // Comparing the colon again would take 5 % more instructions for a silent stream.
        if let [_colon, comment @ ..] = line {
            on_comment(comment, true);
        }
    }
    lines.rest()
}

#[cfg(test)]
mod tests {
    use super::{is_all, is_comment_or_blank, len};
    use crate::line_end::tests::{among_similar_bytes, at_all_distances};

    fn check(bytes: &[u8]) {
        let found = len(bytes);
        let whole = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let mut expected = 0;
        while let Some(b':' | b'\r' | b'\n') = whole.get(expected) {
            let end = whole[expected..].iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let Some(len) = end else { break };
            expected += len + 1;
        }
        // Lines that begin or end in an incomplete word at the end are left out.
        let ends = whole.len() - whole.len() % 8;
        assert!(found == expected || found < expected && expected > ends, "{bytes:?}");
        assert!(found == 0 || matches!(whole[found - 1], b'\r' | b'\n'), "{bytes:?}");
        // Lines that begin after the first byte.
        let only_comments = bytes
            .windows(2)
            .all(|pair| !matches!(pair[0], b'\r' | b'\n') || is_comment_or_blank(&pair[1..]));
        assert_eq!(is_all(bytes), (8..=64).contains(&bytes.len()) && only_comments, "{bytes:?}");
    }

    #[test]
    fn comments_are_skipped_at_any_distance() {
        at_all_distances(check);
    }

    #[test]
    fn comments_are_skipped_among_similar_bytes() {
        among_similar_bytes(check);
    }

    #[test]
    fn comments_are_skipped_up_to_the_first_other_line() {
        for other in [&b"data: a\n"[..], b"\0", b"", b": cut", b"\r", b"\xBA"] {
            for lines in [
                &b": ping\n\n"[..],
                b":\r\n",
                b":a:b\r\r",
                b": \x8A\x8D\x3A\xBA\t\r\n\r\n",
                b": longer than a word\n",
            ] {
                for count in 0..20 {
                    check(&[&lines.repeat(count), other, &lines.repeat(3)].concat());
                    check(&[&lines.repeat(count), other].concat());
                }
            }
        }
    }
}
