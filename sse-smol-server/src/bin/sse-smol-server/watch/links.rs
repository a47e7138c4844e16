//! Finds the symbolic links below watched directories, and the directories that they lead to.
//!
//! A directory must be watched by its real path alone: inotify has one watch for each directory, so
//! that a second path to it would replace the first one, and removing either would end the watch.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::visible::visible_from;
use super::walk::Walk;
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
    /// with short paths first, except links that are hidden or ignored. Watches and reads each
    /// directory that is neither.
    pub(super) fn find(roots: &BTreeSet<PathBuf>, way: &mut Way, walk: &mut Walk<'_>) -> Self {
        let mut links = Self::default();
        let mut followed = 0;
        for root in roots {
            walk.add(root, root.clone());
        }
        while let Some(link) = walk.next_link() {
            if followed == MAX_FOLLOWED {
                links.is_cut_off = true;
                continue;
            }
            followed += 1;
            // An error means that the link has no target now. The names that were looked up are in
            // `names`.
            let Ok(target) = way.resolve(&link, &mut links.names) else { continue };
            let is_watched = |path: &Path| roots.contains(path) || links.targets.contains(path);
            let from = visible_from(&target, is_watched);
            if from.is_none_or(|base| walk.ignores(base, &target, true)) {
                walk.add(&target, target.clone());
                links.targets.insert(target);
            }
        }
        links
    }
}
