//! Events as values of the file, in format 2.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | the [`checksum`] of the position and the bytes after this |
//! | 1, n | the length of the topic's name; the name |
//! | 2, n | the length of the publisher-chosen ID plus one, or 0 without one; the ID |
//! | 2, n | the same for the idempotency key |
//! | 8 | the time of the event, in milliseconds since 1970 |
//! | the rest | the event in the format of event streams, without its ID |
//!
//! Numbers are little-endian.

use bytes::Bytes;

use super::checksum::checksum;
use crate::storage::StoredEvent;

/// An event with everything that is stored of it, apart from its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) topic: &'a str,
    pub(super) id: Option<&'a str>,
    pub(super) key: Option<&'a str>,
    /// The time in milliseconds since 1970.
    pub(super) time: u64,
    pub(super) fields: &'a [u8],
}

impl<'a> Record<'a> {
    /// Returns whether all values are short enough for the format.
    pub(super) fn fits(&self) -> bool {
        let names = [self.id, self.key];
        u8::try_from(self.topic.len()).is_ok()
            && names.into_iter().all(|name| optional_len(name).is_some())
    }

    /// Replaces the content of `out` by the bytes of the record of the event at a position. Returns
    /// `None` if it does not [fit](Self::fits).
    pub(super) fn encode(&self, position: u64, out: &mut Vec<u8>) -> Option<()> {
        out.clear();
        out.extend_from_slice(&[0; 4]);
        out.push(u8::try_from(self.topic.len()).ok()?);
        out.extend_from_slice(self.topic.as_bytes());
        for value in [self.id, self.key] {
            out.extend_from_slice(&optional_len(value)?.to_le_bytes());
            out.extend_from_slice(value.unwrap_or_default().as_bytes());
        }
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(self.fields);
        let (sum, rest) = out.split_first_chunk_mut()?;
        *sum = checksum(position, rest).to_le_bytes();
        Some(())
    }

    /// Returns the record of the event at a position, or `None` if the bytes are damaged.
    pub(super) fn decode(position: u64, bytes: &'a [u8]) -> Option<Self> {
        let (sum, mut rest) = bytes.split_first_chunk()?;
        if checksum(position, rest).to_le_bytes() != *sum {
            return None;
        }
        let input = &mut rest;
        let len = usize::from(*take(input, 1)?.first()?);
        let topic = text(input, len)?;
        let (id, key) = (optional(input).ok()?, optional(input).ok()?);
        let time = u64::from_le_bytes(take(input, 8)?.try_into().ok()?);
        let fields = *input;
        (!topic.is_empty() && fields.ends_with(b"\n\n")).then_some(Self {
            topic,
            id,
            key,
            time,
            fields,
        })
    }

    /// Returns the event at a position in memory of its own.
    pub(super) fn to_stored(self, position: u64) -> StoredEvent {
        let fields = Bytes::copy_from_slice(self.fields);
        StoredEvent { position, fields, id: self.id.map(Into::into) }
    }
}

/// Returns the length of an optional value as the format stores it, or `None` if it is too long.
fn optional_len(value: Option<&str>) -> Option<u16> {
    u16::try_from(value.map_or(0, |value| value.len() + 1)).ok()
}

fn take<'a>(input: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(taken)
}

fn text<'a>(input: &mut &'a [u8], len: usize) -> Option<&'a str> {
    std::str::from_utf8(take(input, len)?).ok()
}

/// The bytes are not a record.
struct Damaged;

fn optional<'a>(input: &mut &'a [u8]) -> Result<Option<&'a str>, Damaged> {
    let len = take(input, 2).and_then(|len| len.try_into().ok()).ok_or(Damaged)?;
    match usize::from(u16::from_le_bytes(len)).checked_sub(1) {
        None => Ok(None),
        Some(len) => text(input, len).map(Some).ok_or(Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_were_written_and_damaged_ones_are_refused() {
        let plain = Record { topic: "news", id: None, key: None, time: 7, fields: b"data: x\n\n" };
        for record in [
            plain,
            Record { id: Some("1"), key: Some(""), time: u64::MAX, ..plain },
            Record { key: Some("\u{1f600}"), fields: b"event: a\nretry: 1\ndata: \n\n", ..plain },
        ] {
            assert!(record.fits());
            let mut bytes = Vec::new();
            record.encode(5, &mut bytes).unwrap();
            assert_eq!(Record::decode(5, &bytes), Some(record));
            assert_eq!(Record::decode(6, &bytes), None, "at another position");
            for len in 0..bytes.len() {
                assert_eq!(Record::decode(5, &bytes[..len]), None);
            }
            for at in 0..bytes.len() {
                bytes[at] ^= 4;
                assert_eq!(Record::decode(5, &bytes), None, "byte {at} is damaged");
                bytes[at] ^= 4;
            }
        }
        let long = "x".repeat(1 << 16);
        for long in [Record { key: Some(&long), ..plain }, Record { topic: &long, ..plain }] {
            assert!(!long.fits());
            assert_eq!(long.encode(5, &mut Vec::new()), None);
        }
    }
}
