//! The header `Range` (RFC 9110, section 14): which part of a file is requested.

use http::header::{HeaderMap, RANGE};

/// The part of a file to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// The bytes from `first` to `last`, which exist.
    Bytes {
        first: u64,
        last: u64,
    },
    /// The range begins behind the end of the file, or is empty.
    Unsatisfiable,
}

impl Part {
    /// Returns the part of a file of `length` bytes that the headers of a request select.
    ///
    /// A header that is malformed or repeated is ignored, as are other units than bytes. So are
    /// several ranges, which a server may answer with the whole content.
    pub(super) fn of(headers: &HeaderMap, length: u64) -> Self {
        let mut values = headers.get_all(RANGE).iter();
        let value = values.next().filter(|_| values.next().is_none());
        let range = value.and_then(|value| value.to_str().ok()).and_then(|value| {
            let (unit, range) = value.split_once('=')?;
            unit.trim().eq_ignore_ascii_case("bytes").then_some(range.trim())
        });
        range.and_then(|range| Self::parse(range, length)).unwrap_or(Self::Whole)
    }

    /// Parses a single range: `first-last`, `first-` or `-count`. Returns `None` if it is malformed.
    fn parse(range: &str, length: u64) -> Option<Self> {
        let (first, last) = range.split_once('-')?;
        let end = length.checked_sub(1);
        let (first, last) = match (first, last) {
            ("", count) => {
                let count = number(count)?.min(length);
                (length - count, end.filter(|_| count > 0))
            }
            (first, "") => (number(first)?, end),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                if last < first {
                    return None;
                }
                (first, end.map(|end| end.min(last)))
            }
        };
        Some(match last {
            Some(last) if first <= last => Self::Bytes { first, last },
            _ => Self::Unsatisfiable,
        })
    }
}

/// Parses a number of digits alone. One that is too large counts as the largest.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    fn part(values: &[&'static str], length: u64) -> Part {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(RANGE, HeaderValue::from_static(value));
        }
        Part::of(&headers, length)
    }

    #[test]
    fn a_range_selects_bytes_that_exist() {
        for (value, first, last) in [
            ("bytes=0-0", 0, 0),
            ("bytes=2-5", 2, 5),
            ("Bytes = 2-5", 2, 5),
            ("bytes=2-", 2, 9),
            ("bytes=9-", 9, 9),
            ("bytes=2-99", 2, 9),
            ("bytes=0-99999999999999999999999", 0, 9),
            ("bytes=-1", 9, 9),
            ("bytes=-99", 0, 9),
        ] {
            assert_eq!(part(&[value], 10), Part::Bytes { first, last }, "{value}");
        }
        for value in ["bytes=10-", "bytes=10-20", "bytes=99999999999999999999999-", "bytes=-0"] {
            assert_eq!(part(&[value], 10), Part::Unsatisfiable, "{value}");
        }
        for value in ["bytes=0-", "bytes=-1", "bytes=0-0"] {
            assert_eq!(part(&[value], 0), Part::Unsatisfiable, "{value}");
        }
    }

    #[test]
    fn other_values_are_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-",
            "bytes=+1-",
            "bytes=1-2-3",
            "bytes=0-1,3-4",
            "bytes=--1",
            "lines=0-1",
            "bytes 0-1",
        ] {
            assert_eq!(part(&[value], 10), Part::Whole, "{value}");
        }
        assert_eq!(part(&["bytes=0-1", "bytes=0-1"], 10), Part::Whole);
        assert_eq!(part(&[], 10), Part::Whole);
    }
}
