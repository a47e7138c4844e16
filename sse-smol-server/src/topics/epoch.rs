//! The epoch: the identity of a sequence of positions, and the IDs that are assigned in it.
//!
//! The log of a storage may be replaced while it is open, and positions start again then. In
//! memory they only increase, since cursors, windows and subscriber groups compare them. So a
//! position in memory is a generation, which is the number of replacements, at most 255, and a
//! position in the log of that generation. Without a storage there is a single generation, and both
//! are the same.

use std::sync::{Arc, RwLock};

use crate::storage::{StorageError, StorageErrorKind};

/// The number of bits of a position in a log. The bits above are the generation.
const LOG_BITS: u32 = 56;

/// The highest position in a log.
const MAX_POSITION: u64 = (1 << LOG_BITS) - 1;

/// The highest generation.
const MAX_GENERATION: u64 = u64::MAX >> LOG_BITS;

/// An epoch.
#[derive(Debug)]
pub(crate) struct Epoch {
    /// The prefix of assigned IDs, by which IDs of other runs or logs are recognized.
    name: String,
    generation: u64,
    /// The name of the epoch before, which IDs for positions of earlier generations get.
    previous: Option<String>,
}

impl Epoch {
    /// Creates the first epoch, whose positions in memory are those of the log.
    pub(crate) const fn first(name: String) -> Self {
        Self { name, generation: 0, previous: None }
    }

    /// Returns the epoch that follows this one, or `None` if there were too many.
    fn next(&self, name: String) -> Option<Self> {
        let generation = self.generation + 1;
        let previous = Some(self.name.clone());
        (generation <= MAX_GENERATION).then_some(Self { name, generation, previous })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the position in memory before the first one of this epoch.
    pub(crate) const fn start(&self) -> u64 {
        self.generation << LOG_BITS
    }

    /// Returns the position in memory of a position in the log. Positions beyond the maximum, which
    /// no log has, become the maximum.
    pub(crate) fn in_memory(&self, position: u64) -> u64 {
        self.start() + position.min(MAX_POSITION)
    }

    /// Returns the position in the log of a position in memory. Positions of earlier epochs precede
    /// the log.
    pub(crate) const fn in_log(&self, position: u64) -> u64 {
        position.saturating_sub(self.start())
    }

    /// Appends the ID that is assigned to the event at a position in memory. One of an earlier
    /// epoch gets an ID that is unknown now.
    pub(crate) fn push_id(&self, out: &mut String, position: u64) {
        let earlier = self.previous.as_deref().filter(|_| position < self.start());
        let (name, position) = (earlier.unwrap_or(&self.name), position & MAX_POSITION);
        out.push_str(name);
        out.push('-');
        push_padded(out, position);
    }

    /// Returns the ID of the event at a position in memory: its own, or else the one that is
    /// assigned.
    pub(crate) fn id_at(&self, position: u64, own_id: Option<&str>) -> String {
        own_id.map_or_else(
            || {
                let mut id = String::with_capacity(self.name.len() + 13);
                self.push_id(&mut id, position);
                id
            },
            str::to_owned,
        )
    }

    /// Returns the position in memory in an ID that was assigned in this epoch, or `None` for any
    /// other ID.
    pub(crate) fn position_in(&self, id: &str) -> Option<u64> {
        let digits = id.strip_prefix(&self.name)?.strip_prefix('-')?;
        let position: u64 =
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
        (position <= MAX_POSITION).then(|| self.in_memory(position))
    }

    /// Returns whether an ID has the form of assigned IDs.
    pub(crate) fn is_reserved(&self, id: &str) -> bool {
        id.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with('-'))
    }
}

/// Appends a number with at least twelve digits, zero-padded, so that IDs sort as text in the order of
/// positions. Each publication gets an ID, and the padding of `fmt` takes several times as long.
fn push_padded(out: &mut String, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while number > 0 {
        start -= 1;
        digits[start] += (number % 10) as u8;
        number /= 10;
    }
    let digits = &digits[start.min(digits.len() - 12)..];
    out.push_str(str::from_utf8(digits).expect("digits are ASCII"));
}

/// The current epoch. Only the feed changes it.
#[derive(Debug)]
pub(crate) struct Epochs(RwLock<Arc<Epoch>>);

impl Epochs {
    pub(crate) fn new(first: Epoch) -> Self {
        Self(RwLock::new(Arc::new(first)))
    }

    pub(crate) fn current(&self) -> Arc<Epoch> {
        Arc::clone(&self.0.read().expect("no panic while this lock is held"))
    }

    /// Begins the next epoch, and returns it.
    pub(crate) fn begin(&self, name: String) -> Result<Arc<Epoch>, StorageError> {
        check_name(&name)?;
        let next = self.current().next(name).map(Arc::new).ok_or_else(|| {
            let why = format!(
                "its log was replaced more than {MAX_GENERATION} times: the topics have to be opened \
                 again"
            );
            StorageError::new(StorageErrorKind::Unavailable, why)
        })?;
        *self.0.write().expect("no panic while this lock is held") = Arc::clone(&next);
        Ok(next)
    }
}

/// Returns an error unless a storage may use this name for an epoch.
pub(crate) fn check_name(name: &str) -> Result<(), StorageError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(legal) {
        return Ok(());
    }
    let why = format!("epoch {name:?}: an epoch is 1 to 64 characters from A-Z a-z 0-9 . _");
    Err(StorageError::new(StorageErrorKind::Unavailable, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assigned_ids_are_padded_and_identify_their_position() {
        let first = Epoch::first("run".to_owned());
        for (position, id) in [
            (0, "run-000000000000"),
            (7, "run-000000000007"),
            (120_034, "run-000000120034"),
            (999_999_999_999, "run-999999999999"),
            (1_000_000_000_000, "run-1000000000000"),
            (MAX_POSITION, "run-72057594037927935"),
        ] {
            assert_eq!(first.id_at(position, None), id);
            assert_eq!(first.position_in(id), Some(position));
        }
        let next = first.next("again".to_owned()).unwrap();
        assert_eq!(next.id_at(next.start() + 3, None), "again-000000000003");
        assert_eq!(next.id_at(3, None), "run-000000000003");
    }
}
