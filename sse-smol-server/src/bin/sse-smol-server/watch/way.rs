//! Resolves the paths of watched directories, and watches each name on the way: any of them may be
//! replaced, be it a symbolic link that is switched or a directory that is moved.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use notify::event::ModifyKind;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// The maximum number of symbolic links in a path: that of Linux.
const MAX_LINKS: usize = 40;

pub(super) struct Way {
    watcher: RecommendedWatcher,
    /// The directories that hold the names on the way, by their real paths.
    watched: BTreeSet<PathBuf>,
}

impl Way {
    pub(super) const fn new(watcher: RecommendedWatcher) -> Self {
        Self { watcher, watched: BTreeSet::new() }
    }

    /// Returns the real path of a directory. Adds the names that were looked up to `names`: those of
    /// links and directories, and the one that is missing, if any.
    ///
    /// # Errors
    ///
    /// The system's, or if there is no directory at the path.
    pub(super) fn resolve(
        &mut self,
        path: &Path,
        names: &mut BTreeSet<PathBuf>,
    ) -> io::Result<PathBuf> {
        let mut real = PathBuf::from("/");
        let mut rest = reversed(path);
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == ".." {
                real.pop();
                continue;
            }
            // First, so that no change falls between the look at the name and the watch.
            self.watch(&real);
            let next = real.join(name);
            names.insert(next.clone());
            match fs::read_link(&next) {
                Ok(_) if links == MAX_LINKS => {
                    return Err(io::Error::other("too many symbolic links"));
                }
                Ok(target) => {
                    links += 1;
                    if target.is_absolute() {
                        real = PathBuf::from("/");
                    }
                    rest.extend(reversed(&target));
                }
                // Not a link.
                Err(error) if error.kind() == ErrorKind::InvalidInput => real = next,
                Err(error) => return Err(error),
            }
        }
        if real.is_dir() { Ok(real) } else { Err(ErrorKind::NotADirectory.into()) }
    }

    /// Returns whether an event is of a kind that replaces names.
    pub(super) fn is_replacement(event: &notify::Event) -> bool {
        use ModifyKind::{Data, Metadata};
        let other = matches!(event.kind, EventKind::Modify(Data(_) | Metadata(_)));
        !other && !event.kind.is_access()
    }

    /// Notes that something else may be at this path: what was watched below it is gone.
    pub(super) fn replaced(&mut self, name: &Path) {
        self.forget(|directory| directory.starts_with(name));
    }

    /// Ends watching directories that hold none of these names.
    pub(super) fn retain<'n>(&mut self, names: impl Iterator<Item = &'n PathBuf>) {
        let needed: BTreeSet<&Path> = names.filter_map(|name| name.parent()).collect();
        self.forget(|directory| !needed.contains(directory));
    }

    fn watch(&mut self, directory: &Path) {
        if !self.watched.insert(directory.to_owned()) {
            return;
        }
        if let Err(error) = self.watcher.watch(directory, RecursiveMode::NonRecursive) {
            log::warn!("cannot watch what is replaced in {}: {error}", directory.display());
        }
    }

    fn forget(&mut self, is_needless: impl Fn(&Path) -> bool) {
        let watcher = &mut self.watcher;
        self.watched.retain(|directory| {
            let needless = is_needless(directory);
            if needless {
                // An error says that it is not there any more.
                let _ = watcher.unwatch(directory);
            }
            !needless
        });
    }
}

/// The names in a path, the first one last.
fn reversed(path: &Path) -> Vec<OsString> {
    let names = path
        .components()
        .rev()
        .filter(|name| matches!(name, Component::Normal(_) | Component::ParentDir));
    names.map(|name| name.as_os_str().to_owned()).collect()
}
