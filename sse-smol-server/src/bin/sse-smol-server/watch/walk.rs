//! Watches the visible directories of trees, and finds the symbolic links in them.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, ReadDir};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::ignore::Ignore;
use super::visible::is_hidden;
use super::watcher::Watcher;

/// A walk over directories, those with short paths first, except hidden and ignored ones. Each is
/// watched before it is read, so that no change is missed.
pub(super) struct Walk<'w> {
    ignore: &'w Ignore,
    watcher: &'w mut Watcher,
    /// The directories to read. The first path of each pair is the root or the target of a link that
    /// the directory is in.
    queue: VecDeque<(PathBuf, PathBuf)>,
    reading: Option<(PathBuf, ReadDir)>,
    pub(super) seen: Seen,
}

/// The result of a walk.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) directories: BTreeSet<PathBuf>,
    /// Those that were not watched before.
    pub(super) added: Vec<PathBuf>,
    /// The first directory that could not be watched.
    pub(super) error: Option<(PathBuf, io::Error)>,
}

impl<'w> Walk<'w> {
    pub(super) fn new(ignore: &'w Ignore, watcher: &'w mut Watcher) -> Self {
        let seen = Seen::default();
        Self { ignore, watcher, queue: VecDeque::new(), reading: None, seen }
    }

    /// Adds a directory, and the root or the target of a link that it is in.
    pub(super) fn add(&mut self, base: &Path, directory: PathBuf) {
        self.queue.push_back((base.to_owned(), directory));
    }

    /// Returns whether a path is ignored: see [`Ignore::ignores`].
    pub(super) fn ignores(&self, base: &Path, path: &Path, is_dir: bool) -> bool {
        self.ignore.ignores(base, path, is_dir)
    }

    /// Walks on until there is a visible symbolic link that may lead to a directory. Returns its
    /// path, or `None` at the end.
    pub(super) fn next_link(&mut self) -> Option<PathBuf> {
        loop {
            let Some((base, entries)) = &mut self.reading else {
                let (base, directory) = self.queue.pop_front()?;
                self.watch(&directory);
                // An error means that it is gone, or may not be read and so is not watched either.
                self.reading = fs::read_dir(&directory).ok().map(|entries| (base, entries));
                self.seen.directories.insert(directory);
                continue;
            };
            let Some(entry) = entries.next() else {
                self.reading = None;
                continue;
            };
            let Ok(entry) = entry else { continue };
            let Ok(file_type) = entry.file_type() else { continue };
            if file_type.is_file() || is_hidden(Path::new(&entry.file_name())) {
                continue;
            }
            let path = entry.path();
            let is_ignored = self.ignore.ignores(base, &path, file_type.is_dir());
            if file_type.is_dir() {
                if !is_ignored || self.ignore.may_include() {
                    self.queue.push_back((base.clone(), path));
                }
                continue;
            }
            let is_file = || fs::metadata(&path).is_ok_and(|metadata| !metadata.is_dir());
            if file_type.is_symlink() && !is_ignored && !is_file() {
                return Some(path);
            }
        }
    }

    fn watch(&mut self, directory: &Path) {
        match self.watcher.watch(directory) {
            Ok(true) => self.seen.added.push(directory.to_owned()),
            Ok(false) => {}
            // It was removed or replaced after it was found, which an event reports.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                log::debug!("cannot watch {}: {error}", directory.display());
            }
            Err(error) => {
                self.seen.error.get_or_insert_with(|| (directory.to_owned(), error));
            }
        }
    }
}
