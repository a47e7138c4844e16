//! Finds the symbolic links below watched directories, and the directories that they lead to.
//!
//! A directory must be watched by its real path alone: inotify has one watch for each directory, so
//! that a second path to it would replace the first one, and removing either would end the watch.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use super::ignore::Ignore;
use super::way::Way;

/// The maximum number of symbolic links that are followed.
pub(super) const MAX_FOLLOWED: usize = 1000;

#[derive(Default)]
pub(super) struct Links {
    /// The names that the links and their targets depend on.
    pub(super) names: BTreeSet<PathBuf>,
    /// The real paths of directories that are visible because a link leads to them.
    pub(super) targets: BTreeSet<PathBuf>,
    /// The number of links was limited.
    pub(super) is_cut_off: bool,
}

impl Links {
    /// Finds the links below these directories and below the directories that they lead to, those
    /// with short paths first, except links that are hidden or ignored. Reads each directory that
    /// is neither once: that takes less time than the watcher needs for the same tree.
    pub(super) fn find(roots: &BTreeSet<PathBuf>, way: &mut Way, ignore: &Ignore) -> Self {
        let mut links = Self::default();
        let mut followed = 0;
        // With the watched directory that each is in.
        let mut directories: VecDeque<(PathBuf, PathBuf)> =
            roots.iter().map(|root| (root.clone(), root.clone())).collect();
        while let Some((base, directory)) = directories.pop_front() {
            // An error means that it is gone, or may not be read and so is not watched either.
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries.flatten().filter(|entry| !is_hidden(Path::new(&entry.file_name())))
            {
                let path = entry.path();
                let Ok(file_type) = entry.file_type() else { continue };
                if ignore.ignores(&base, &path, file_type.is_dir()) {
                    continue;
                }
                if file_type.is_dir() {
                    directories.push_back((base.clone(), path));
                    continue;
                }
                let is_file = || fs::metadata(&path).is_ok_and(|metadata| !metadata.is_dir());
                if !file_type.is_symlink() || is_file() {
                    continue;
                }
                if followed == MAX_FOLLOWED {
                    links.is_cut_off = true;
                    return links;
                }
                followed += 1;
                // An error means that the link has no target now. The names that were looked up are
                // in `names`.
                let Ok(target) = way.resolve(&path, &mut links.names) else { continue };
                let is_watched = |path: &Path| roots.contains(path) || links.targets.contains(path);
                let from = visible_from(&target, is_watched);
                if from.is_none_or(|base| ignore.ignores(base, &target, true)) {
                    directories.push_back((target.clone(), target.clone()));
                    links.targets.insert(target);
                }
            }
        }
        links
    }
}

/// Returns the closest watched directory of a path, or `None` if there is none or a part of the
/// path below it is hidden.
pub(super) fn visible_from(path: &Path, is_watched: impl Fn(&Path) -> bool) -> Option<&Path> {
    for ancestor in path.ancestors() {
        if is_watched(ancestor) {
            return Some(ancestor);
        }
        if is_hidden(ancestor) {
            return None;
        }
    }
    None
}

/// Returns whether the last name in a path is hidden.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_is_what_is_hidden_below_the_directory() {
        let roots = ["/home/.dev/site", "/home/.dev/site/.well-known"].map(Path::new);
        for (path, visible) in [
            ("/home/.dev/site", true),
            ("/home/.dev/site/a/index.html", true),
            ("/home/.dev/site/.git/index", false),
            ("/home/.dev/site/a/.index.html.swp", false),
            ("/home/.dev/site/.well-known/x", true),
            ("/elsewhere", false),
        ] {
            let from = visible_from(Path::new(path), |path| roots.contains(&path));
            assert_eq!(from.is_some(), visible, "{path}");
        }
    }
}
