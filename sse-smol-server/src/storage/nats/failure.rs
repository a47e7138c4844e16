//! What can go wrong with a request to the engine.

use std::fmt;

use crate::storage::{StorageError, StorageErrorKind};

/// The failure of a request.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// There was no answer, or the engine cannot answer at the moment. The request may have had its
    /// effect, and may be repeated.
    Lost(String),
    /// The stream, consumer or message does not exist.
    NotFound(String),
    /// The engine refused the request: the code of its error, and the text.
    Refused(u64, String),
}

/// Codes of errors of JetStream.
pub(super) const WRONG_LAST_SEQUENCE: u64 = 10_071;
const MESSAGE_TOO_LARGE: u64 = 10_054;
/// No room: for the account, in memory, on the disk.
const NO_ROOM: [u64; 4] = [10_002, 10_023, 10_028, 10_047];
/// A failure to store, whose text has the cause, such as a full disk or a limit of the stream. A
/// stream that is being replaced can also cause it.
const NOT_STORED: u64 = 10_077;

impl Failure {
    /// Returns whether a repeated request may succeed.
    pub(super) const fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }

    /// Returns whether a code and a text stand for missing room.
    pub(super) fn is_no_room(code: u64, why: &str) -> bool {
        let is_full = why.contains("no space") || why.contains("exceeded");
        NO_ROOM.contains(&code) || (code == NOT_STORED && is_full)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(why) | Self::NotFound(why) | Self::Refused(0, why) => f.write_str(why),
            Self::Refused(code, why) => write!(f, "{why} (error {code} of JetStream)"),
        }
    }
}

impl From<Failure> for StorageError {
    fn from(failure: Failure) -> Self {
        let kind = match &failure {
            Failure::Refused(MESSAGE_TOO_LARGE, _) => StorageErrorKind::TooLarge,
            Failure::Refused(code, why) if Failure::is_no_room(*code, why) => {
                StorageErrorKind::Full
            }
            _ => StorageErrorKind::Unavailable,
        };
        Self::new(kind, format!("NATS: {failure}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_to_store_is_missing_room_only_if_its_text_says_so() {
        let kind =
            |why: &str| StorageError::from(Failure::Refused(NOT_STORED, why.to_owned())).kind();
        for why in ["write msgs/1.blk: no space left on device", "maximum bytes exceeded"] {
            assert_eq!(kind(why), StorageErrorKind::Full);
        }
        let why = "error opening msg block file: no such file or directory";
        assert_eq!(kind(why), StorageErrorKind::Unavailable);
    }
}
