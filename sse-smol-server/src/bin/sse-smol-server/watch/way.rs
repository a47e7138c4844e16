//! Resolves the paths of watched directories, and watches the names in them: a symbolic link may be
//! switched to another directory, and a directory may be moved or replaced.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::steps::Steps;

use super::watcher::Watcher;

/// A watcher of the names on the paths to watched directories.
pub(super) struct Way {
    watcher: Watcher,
    /// The real paths of the directories that contain these names.
    watched: BTreeSet<PathBuf>,
}

impl Way {
    pub(super) const fn new(watcher: Watcher) -> Self {
        Self { watcher, watched: BTreeSet::new() }
    }

    /// Returns the real path of a directory. Adds the paths of all names that were looked up to
    /// `names`, including that of a missing one, and watches the directories that contain them.
    ///
    /// # Errors
    ///
    /// The error of the system, `NotADirectory` if the path leads to something else, or an error if
    /// it has too many symbolic links.
    pub(super) fn resolve(
        &mut self,
        path: &Path,
        names: &mut BTreeSet<PathBuf>,
    ) -> io::Result<PathBuf> {
        let mut real = PathBuf::from("/");
        let mut steps = Steps::new(path);
        while let Some(name) = steps.next() {
            if name == ".." {
                real.pop();
                continue;
            }
            // This precedes the lookup, so that no change in between is missed.
            self.watch(&real);
            let next = real.join(name);
            names.insert(next.clone());
            match fs::read_link(&next) {
                Ok(target) => {
                    if target.is_absolute() {
                        real = PathBuf::from("/");
                    }
                    steps.follow(&target)?;
                }
                // Not a link.
                Err(error) if error.kind() == ErrorKind::InvalidInput => real = next,
                Err(error) => return Err(error),
            }
        }
        if real.is_dir() { Ok(real) } else { Err(ErrorKind::NotADirectory.into()) }
    }

    /// Ends the watches at and below a path at which there may be another directory now.
    pub(super) fn replaced(&mut self, name: &Path) {
        self.watched.retain(|directory| !directory.starts_with(name));
        self.watcher.unwatch_below(name);
    }

    /// Ends the watches of directories that contain none of these names.
    pub(super) fn retain<'n>(&mut self, names: impl Iterator<Item = &'n PathBuf>) {
        let needed: BTreeSet<&Path> = names.filter_map(|name| name.parent()).collect();
        self.watched.retain(|directory| needed.contains(&**directory));
        self.watcher.retain(|directory| needed.contains(directory));
    }

    fn watch(&mut self, directory: &Path) {
        if !self.watched.insert(directory.to_owned()) {
            return;
        }
        if let Err(error) = self.watcher.watch(directory) {
            log::warn!(
                "cannot watch {}, so directories replaced in it are noticed late: {error}",
                directory.display()
            );
        }
    }
}
