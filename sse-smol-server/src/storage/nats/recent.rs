//! The positions of the newest messages, as the feed has seen them.
//!
//! They answer most questions about positions without a request: whether the ID of a subscriber
//! that resumes is known, and whether the stream still has the messages from before a lost
//! connection.

use std::collections::VecDeque;

/// The maximum number of messages: 1 MiB.
const MAX: usize = 1 << 16;

/// Sequences and salts, in the order of sequences.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<(u64, u32)>);

impl Recent {
    /// Adds a message. One that is not after the last is known already.
    pub(super) fn push(&mut self, sequence: u64, salt: u32) {
        if self.0.back().is_some_and(|(last, _)| sequence <= *last) {
            return;
        }
        if self.0.len() == MAX {
            self.0.pop_front();
        }
        self.0.push_back((sequence, salt));
    }

    /// Returns the salt of a message, if it is known.
    pub(super) fn salt(&self, sequence: u64) -> Option<u32> {
        let index = self.0.binary_search_by_key(&sequence, |(sequence, _)| *sequence).ok()?;
        Some(self.0[index].1)
    }

    /// Returns at most `count` messages, newest first.
    pub(super) fn newest(&self, count: usize) -> Vec<(u64, u32)> {
        self.0.iter().rev().take(count).copied().collect()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_messages_are_known() {
        let mut recent = Recent::default();
        for sequence in 1..=MAX as u64 + 2 {
            recent.push(2 * sequence, 7);
        }
        recent.push(10, 8);
        assert_eq!(recent.salt(4), None);
        assert_eq!(recent.salt(6), Some(7));
        assert_eq!(recent.salt(7), None);
        let last = 2 * (MAX as u64 + 2);
        assert_eq!(recent.newest(2), [(last, 7), (last - 2, 7)]);
    }
}
