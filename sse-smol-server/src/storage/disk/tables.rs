//! The tables of the file, in format 2.

use redb::TableDefinition;

use super::checksum::checksum;

/// Events by position: see [`Record`](super::record::Record).
pub(super) const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");

/// The position of the last event that was dropped, by topic, with a checksum.
pub(super) const DROPPED: TableDefinition<'_, &str, (u64, u32)> = TableDefinition::new("dropped");

/// The format, the epoch, whether the end was clean, the last position if no event has it, and the
/// last positions that are forgotten and reserved (see `Index`).
pub(super) const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");

/// The version of the format of records and tables.
pub(super) const FORMAT: &str = "2";

/// The size in bytes at which a transaction is complete.
pub(super) const BATCH_BYTES: usize = 8 << 20;

/// Returns the value of a topic in [`DROPPED`].
pub(super) fn dropped(topic: &str, position: u64) -> (u64, u32) {
    (position, checksum(position, topic.as_bytes()))
}

/// Returns the position in such a value, as it is in the file, or `None` if it is not one.
pub(super) fn dropped_position(topic: &str, value: &[u8; 12]) -> Option<u64> {
    let (position, sum) = value.split_first_chunk()?;
    let position = u64::from_le_bytes(*position);
    (checksum(position, topic.as_bytes()).to_le_bytes() == *sum).then_some(position)
}
