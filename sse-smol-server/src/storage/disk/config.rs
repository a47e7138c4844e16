//! The configuration of a storage in a file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::storage::History;

/// The configuration of a [`DiskStorage`](super::DiskStorage).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DiskConfig {
    /// The directory of the file. It is created if it does not exist.
    pub directory: PathBuf,
    /// When events are written durably. Default: always.
    pub sync: Sync,
    /// The bounds of the events of each topic in the file. Default: 1000 events, 1 MiB, one hour.
    pub history: History,
    /// The maximum size of the events of all topics together in bytes. Beyond it, the oldest events
    /// are dropped. The file may be about twice as large. Default: 256 MiB.
    pub max_bytes: usize,
    /// The maximum number of topics that hold events. Default: 1000.
    pub max_topics: usize,
    /// Whether a damaged file is recovered. Its intact events are copied to a new file, which has a
    /// new epoch. The log has the number of intact events, and the positions of damaged ones. The
    /// damaged file is kept as `events.redb.damaged-`, followed by a unique text. Default: false.
    pub recover: bool,
}

/// When events are written durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sync {
    /// Before a publication is answered.
    Always,
    /// At this interval, or when they take 8 MiB. Publications are answered before that, and an
    /// unclean end loses the events since the last write.
    Interval(Duration),
}

impl DiskConfig {
    /// Creates the default configuration for a directory.
    pub fn new(directory: impl AsRef<Path>) -> Self {
        Self {
            directory: directory.as_ref().to_owned(),
            sync: Sync::Always,
            history: History::default(),
            max_bytes: 256 << 20,
            max_topics: 1000,
            recover: false,
        }
    }
}
