//! What watchers report.

use std::io;
use std::path::PathBuf;

/// A report of a watcher.
#[derive(Debug)]
pub(crate) enum Notice {
    Event(Event),
    /// Events were lost, so anything may have changed.
    Lost,
    Failed(io::Error),
}

/// A change of a name in a watched directory, or of what it names.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    pub(crate) path: PathBuf,
    /// Whether it is known to be a directory. Symbolic links are not.
    pub(crate) is_dir: bool,
    /// Whether the path is that of the watched directory, and not of a name in it.
    pub(crate) is_itself: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Created, or moved here.
    Appeared,
    /// Removed, or moved away.
    Disappeared,
    /// Written, or its attributes were changed.
    Modified,
}
