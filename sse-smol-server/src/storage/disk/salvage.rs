//! Finds the intact events of a damaged file in all of its pages, without the tree that refers to
//! the pages.
//!
//! The file consists of pages of 4 KiB and multiples of that. A leaf of a table begins with its type
//! (one byte, 1), a byte that is not used, the number of pairs (two bytes) and, unless they have a
//! fixed size, the offsets at which keys and values end (four bytes each). Keys and values follow.
//! Each event and each dropped position has a checksum, which distinguishes it from other bytes.
//!
//! Unused pages may still have events that were dropped or deleted. These are left out if the
//! position up to which the events of their topic were dropped is intact.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use redb::Database;

use super::record::Record;
use super::tables::{self, BATCH_BYTES, EVENTS, FORMAT, META};

/// The size of the smallest page in bytes.
const PAGE: usize = 4096;

/// The maximum size of a page in bytes, more than that of any event.
const LARGEST: usize = 1 << 28;

/// The intact events of a file.
#[derive(Debug, Default)]
pub(super) struct Salvage {
    events: BTreeMap<u64, Place>,
    /// The position of the last event that was dropped, by topic.
    dropped: HashMap<Arc<str>, u64>,
    topics: BTreeSet<Arc<str>>,
    /// The positions of damaged events.
    damaged: BTreeSet<u64>,
}

/// The place of an event in the file.
#[derive(Debug)]
struct Place {
    topic: Arc<str>,
    /// The time, in milliseconds since 1970.
    time: u64,
    /// The offset in the file and the length in bytes.
    offset: u64,
    len: usize,
}

impl Salvage {
    /// Finds the events of a file.
    pub(super) fn read(file: &mut File) -> io::Result<Self> {
        let len = file.seek(SeekFrom::End(0))?;
        let mut salvage = Self::default();
        let mut page = Vec::new();
        for offset in (0..len).step_by(PAGE) {
            read(file, offset, PAGE, &mut page)?;
            let Some(pairs) = number_of_pairs(&page) else {
                continue;
            };
            // The page is larger if its last value ends beyond it.
            let size = end(&page, pairs, pairs - 1).unwrap_or(0);
            if (PAGE + 1..=LARGEST).contains(&size) && size as u64 <= len - offset {
                read(file, offset, size, &mut page)?;
            }
            salvage.add_events(offset, &page, pairs);
            salvage.add_dropped(&page, pairs);
        }
        let dropped = &salvage.dropped;
        let is_held = |position: &u64, place: &mut Place| {
            dropped.get(&place.topic).is_none_or(|dropped| position > dropped)
        };
        salvage.events.retain(is_held);
        let events = &salvage.events;
        salvage.damaged.retain(|position| !events.contains_key(position));
        salvage.topics = events.values().map(|place| Arc::clone(&place.topic)).collect();
        Ok(salvage)
    }

    /// Adds the events of a page if it is a leaf of their table.
    fn add_events(&mut self, offset: u64, page: &[u8], pairs: usize) {
        let keys = 4 + 4 * pairs;
        let (mut start, mut intact, mut damaged) = (keys + 8 * pairs, false, Vec::new());
        for number in 0..pairs {
            let key = page.get(keys + 8 * number..).and_then(|key| key.first_chunk());
            let Some((key, end)) = key.zip(end(page, pairs, number)) else {
                break;
            };
            let position = u64::from_le_bytes(*key);
            let record = page.get(start..end).and_then(|value| Record::decode(position, value));
            if let Some(record) = record {
                intact = true;
                let place = Place {
                    topic: self.topic(record.topic),
                    time: record.time,
                    offset: offset + start as u64,
                    len: end - start,
                };
                let known = self.events.get(&position);
                // After an unclean end of a lossy run, positions were assigned again. The later
                // event counts.
                if known.is_none_or(|known| known.time < place.time) {
                    self.events.insert(position, place);
                }
            } else {
                damaged.push(position);
            }
            start = end;
        }
        if intact {
            self.damaged.extend(damaged);
        }
    }

    /// Adds the dropped positions of a page if it is a leaf of their table.
    fn add_dropped(&mut self, page: &[u8], pairs: usize) {
        const VALUE: usize = 12;
        let mut start = 4 + 4 * pairs;
        let Some(values) = end(page, pairs, pairs - 1) else {
            return;
        };
        for number in 0..pairs {
            let Some(end) = end(page, pairs, number) else {
                return;
            };
            let name = page.get(start..end).and_then(|name| std::str::from_utf8(name).ok());
            let value = page.get(values + VALUE * number..).and_then(|value| value.first_chunk());
            start = end;
            let Some((name, value)) = name.zip(value) else {
                continue;
            };
            if let Some(position) = tables::dropped_position(name, value) {
                let known = self.dropped.entry(name.into()).or_default();
                *known = position.max(*known);
            }
        }
    }

    /// Returns the shared name of a topic.
    fn topic(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.topics.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.topics.insert(Arc::clone(&name));
        name
    }

    /// Copies the events to an empty database.
    pub(super) fn copy(&self, file: &mut File, to: &Database) -> Result<(), redb::Error> {
        let mut record = Vec::new();
        let mut events = self.events.iter().peekable();
        let transaction = to.begin_write()?;
        transaction.open_table(META)?.insert("format", FORMAT)?;
        transaction.commit()?;
        while events.peek().is_some() {
            let transaction = to.begin_write()?;
            let mut table = transaction.open_table(EVENTS)?;
            let mut bytes = 0;
            while let Some((position, place)) = events.next_if(|_| bytes < BATCH_BYTES) {
                read(file, place.offset, place.len, &mut record)?;
                table.insert(position, &*record)?;
                bytes += place.len;
            }
            drop(table);
            transaction.commit()?;
        }
        Ok(())
    }

    /// Describes what is kept and what is not.
    pub(super) fn report(&self) -> String {
        let kept = match (self.events.first_key_value(), self.events.last_key_value()) {
            (Some((first, _)), Some((last, _))) => format!(
                "kept events: {} (positions {first} to {last}; topics {})",
                self.events.len(),
                list(&self.topics)
            ),
            _ => "no intact event was found".to_owned(),
        };
        let dropped = match self.damaged.len() {
            0 => String::new(),
            count => format!("; dropped events: {count} (positions {})", list(&self.damaged)),
        };
        format!("{kept}{dropped}; events on pages that cannot be read at all are lost")
    }
}

/// Returns the first of these topics or positions, and the number of the others.
fn list<T: ToString>(all: &BTreeSet<T>) -> String {
    let first: Vec<_> = all.iter().take(LISTED).map(ToString::to_string).collect();
    let first = first.join(", ");
    if all.len() > LISTED { format!("{first} and {} more", all.len() - LISTED) } else { first }
}

/// The number of topics and positions that a report lists.
const LISTED: usize = 10;

/// Replaces the content of `into` by at most `len` bytes of a file, or fewer at its end.
fn read(file: &mut File, offset: u64, len: usize, into: &mut Vec<u8>) -> io::Result<()> {
    into.clear();
    file.seek(SeekFrom::Start(offset))?;
    file.take(len as u64).read_to_end(into).map(drop)
}

/// Returns the number of pairs of a page that may be a leaf.
fn number_of_pairs(page: &[u8]) -> Option<usize> {
    match *page {
        [1, _, low, high, ..] => Some(u16::from_le_bytes([low, high]).into()),
        _ => None,
    }
    .filter(|pairs| *pairs > 0)
}

/// Returns the offset at which a key or value of a leaf ends.
fn end(page: &[u8], pairs: usize, number: usize) -> Option<usize> {
    let ends = page.get(4..4 + 4 * pairs)?;
    let end = u32::from_le_bytes(*ends.get(4 * number..)?.first_chunk()?);
    usize::try_from(end).ok()
}
