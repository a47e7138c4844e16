//! Positions: the sequence of a message in the stream, and a random number of the message.
//!
//! JetStream assigns sequences again after it has lost the end of a stream: when an older copy is
//! restored, or a server without a replica crashes before it has written to the disk. So a sequence
//! alone does not identify an event. Each publication has a random number in a header, the salt,
//! which is part of its position. The ID of a lost event is then not taken for the ID of the event
//! that has its sequence now, except by chance: once in 16384 times.

/// The number of bits beside the sequence: the salt, and one for the kind. It leaves 41 bits for the
/// sequence, which at 30000 events a second are enough for two years.
const EXTRA: u32 = 15;

/// The number of different salts. 0 is the salt of messages that have none.
pub(super) const SALTS: u32 = 1 << (EXTRA - 1);

/// A place in the stream: at a message, or directly before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The sequence of the message.
    pub(super) sequence: u64,
    /// The salt of the message.
    pub(super) salt: u32,
    /// Whether the message itself is included, and not only those before it.
    pub(super) is_after: bool,
}

impl Place {
    pub(super) const fn of(position: u64) -> Self {
        let salt = (position >> 1) & (SALTS as u64 - 1);
        // The mask makes it fit.
        #[allow(clippy::cast_possible_truncation)]
        let salt = salt as u32;
        Self { sequence: position >> EXTRA, salt, is_after: position & 1 == 1 }
    }

    /// Returns the last sequence that is included.
    pub(super) const fn last_included(self) -> u64 {
        if self.is_after { self.sequence } else { self.sequence.saturating_sub(1) }
    }
}

/// Returns the position of a message.
pub(super) const fn at(sequence: u64, salt: u32) -> u64 {
    before(sequence, salt) | 1
}

/// Returns the position directly before a message, which is less than the message's and greater
/// than those of all earlier messages.
pub(super) const fn before(sequence: u64, salt: u32) -> u64 {
    sequence << EXTRA | (salt as u64) << 1
}

/// Returns a salt for a new message.
pub(super) fn new_salt() -> u32 {
    fastrand::u32(1..SALTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_increase_with_sequences_and_come_back() {
        let mut last = 0;
        for sequence in [1, 2, 1 << 40] {
            for (position, is_after) in
                [(before(sequence, SALTS - 1), false), (at(sequence, SALTS - 1), true)]
            {
                assert!(position > last);
                last = position;
                let place = Place { sequence, salt: SALTS - 1, is_after };
                assert_eq!(Place::of(position), place);
            }
            assert!(before(sequence + 1, 0) > last);
        }
        assert_eq!(Place::of(at(7, 3)).last_included(), 7);
        assert_eq!(Place::of(before(7, 3)).last_included(), 6);
        assert_eq!(Place::of(0).last_included(), 0);
    }
}
