//! Watches of directories on systems other than Linux.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Config, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::event::{Event, Kind, Notice};

/// Watches of directories by their real paths. In a tree, only the topmost directories are watched
/// themselves, since a watch of each is slow on some of these systems.
#[derive(Debug)]
pub(crate) struct Watcher {
    watcher: RecommendedWatcher,
    is_tree: bool,
    watched: BTreeSet<PathBuf>,
}

impl Watcher {
    /// Creates a watcher that calls `report` on a thread of its own.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub(crate) fn new(is_tree: bool, report: impl Fn(Notice) + Send + 'static) -> io::Result<Self> {
        let handle = move |event| match event {
            Ok(event) => notices(&event, &report),
            Err(error) => report(Notice::Failed(explain(error))),
        };
        // `Links` follows links.
        let config = Config::default().with_follow_symlinks(false);
        let watcher = RecommendedWatcher::new(handle, config).map_err(explain)?;
        Ok(Self { watcher, is_tree, watched: BTreeSet::new() })
    }

    /// Watches a directory. Returns whether it was not watched before.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub(crate) fn watch(&mut self, directory: &Path) -> io::Result<bool> {
        let is_watched = if self.is_tree {
            directory.ancestors().any(|directory| self.watched.contains(directory))
        } else {
            self.watched.contains(directory)
        };
        if is_watched {
            return Ok(false);
        }
        let mode =
            if self.is_tree { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
        self.watcher.watch(directory, mode).map_err(explain)?;
        self.watched.insert(directory.to_owned());
        Ok(true)
    }

    /// Ends the watches at and below a path.
    pub(crate) fn unwatch_below(&mut self, path: &Path) {
        self.retain(|directory| !directory.starts_with(path));
    }

    /// Ends the watches of the directories for which `is_needed` is false.
    pub(crate) fn retain(&mut self, is_needed: impl Fn(&Path) -> bool) {
        let watcher = &mut self.watcher;
        self.watched.retain(|directory| {
            let is_needed = is_needed(directory);
            if !is_needed {
                // An error means that the directory does not exist any more.
                let _ = watcher.unwatch(directory);
            }
            is_needed
        });
    }
}

/// Reports what an event is about.
fn notices(event: &notify::Event, report: &impl Fn(Notice)) {
    const WRITTEN: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    if event.need_rescan() {
        report(Notice::Lost);
    }
    // Files are also opened to serve them.
    if event.kind.is_access() && event.kind != WRITTEN {
        return;
    }
    for path in &event.paths {
        let exists = || path.symlink_metadata().is_ok();
        let kind = match event.kind {
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                Kind::Appeared
            }
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                Kind::Disappeared
            }
            EventKind::Modify(ModifyKind::Name(_)) if exists() => Kind::Appeared,
            EventKind::Modify(ModifyKind::Name(_)) => Kind::Disappeared,
            _ => Kind::Modified,
        };
        let is_dir = match event.kind {
            EventKind::Create(CreateKind::Folder) | EventKind::Remove(RemoveKind::Folder) => true,
            _ => path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()),
        };
        report(Notice::Event(Event { kind, path: path.clone(), is_dir, is_itself: false }));
    }
}

/// Converts an error, so that its kind is that of the system.
fn explain(error: notify::Error) -> io::Error {
    match error.kind {
        notify::ErrorKind::Io(error) => error,
        notify::ErrorKind::PathNotFound => ErrorKind::NotFound.into(),
        kind => io::Error::other(notify::Error::new(kind)),
    }
}
