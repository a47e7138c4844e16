//! Which visible files are ignored: by the caller's patterns, by `.gitignore` files, and by default.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Patterns of files that no page is made of: dependencies, which are changed by package managers,
/// and files that editors leave beside the file that they save. Those that are hidden are ignored
/// in any case.
const DEFAULT: [&str; 7] = [
    "node_modules",
    // Backups of Emacs, Vim and others, and files that Emacs saves automatically.
    "*~",
    "\\#*#",
    // Vim, for files that are hidden themselves and for unnamed ones; it also creates the file 4913
    // to learn about permissions.
    "*.sw[a-p]",
    "4913",
    // JetBrains.
    "*___jb_tmp___",
    "*___jb_old___",
];

/// The rules by which changes are ignored.
pub(super) struct Ignore {
    /// The caller's patterns, which have precedence.
    own: Gitignore,
    default: Gitignore,
    /// What was read of `.gitignore` files, by directory.
    read: RefCell<HashMap<PathBuf, Option<Gitignore>>>,
}

impl Ignore {
    /// Creates the rules with these patterns of the caller, in the syntax of `.gitignore`.
    ///
    /// # Errors
    ///
    /// A description of a pattern that is malformed.
    pub(super) fn new(patterns: &[String]) -> Result<Self, String> {
        let own = patterns.iter().map(String::as_str);
        Ok(Self { own: rules(own)?, default: rules(DEFAULT)?, read: RefCell::default() })
    }

    /// Forgets what was read of `.gitignore` files, since they may have changed.
    pub(super) fn forget(&self) {
        self.read.borrow_mut().clear();
    }

    /// Returns whether there may be something in an ignored directory that is not ignored. A pattern
    /// of the caller that begins with `!` may match there.
    pub(super) fn may_include(&self) -> bool {
        self.own.num_whitelists() > 0
    }

    /// Returns whether a path below the watched directory `base` is ignored, by itself or with a
    /// directory that it is in. The rules apply only to names below `base`: an ignored directory,
    /// such as the output of a build, can be watched by itself.
    pub(super) fn ignores(&self, base: &Path, path: &Path, is_dir: bool) -> bool {
        let Some(below) = path.strip_prefix(base).ok().filter(|below| below.file_name().is_some())
        else {
            return false;
        };
        let own = self.own.matched_path_or_any_parents(below, is_dir);
        if !own.is_none() {
            return own.is_ignore();
        }
        // From `base` down, since nothing in an ignored directory can be included again.
        let mut paths: Vec<_> = path.ancestors().take_while(|ancestor| *ancestor != base).collect();
        paths.reverse();
        paths.iter().any(|name| {
            let is_dir = is_dir || *name != path;
            let by_git = self.by_git(base, name, is_dir);
            by_git.unwrap_or_else(|| self.default.matched(name, is_dir).is_ignore())
        })
    }

    /// Returns what the `.gitignore` files decide about a path: the one in the closest directory
    /// that has a pattern for it. Those above `base`, up to the top of the repository, count unless
    /// they ignore `base` itself.
    fn by_git(&self, base: &Path, path: &Path, is_dir: bool) -> Option<bool> {
        let (below, above): (Vec<_>, Vec<_>) =
            path.ancestors().skip(1).partition(|directory| directory.starts_with(base));
        below.iter().find_map(|directory| self.by_file(directory, path, is_dir)).or_else(|| {
            let top = base.ancestors().position(|directory| directory.join(".git").exists())?;
            let above = &above[..top.min(above.len())];
            let is_ignored = |path: &Path| {
                above.iter().find_map(|directory| {
                    let is_below = path != *directory && path.starts_with(directory);
                    is_below.then(|| self.by_file(directory, path, true)).flatten()
                })
            };
            if base.ancestors().take(top).any(|path| is_ignored(path) == Some(true)) {
                return None;
            }
            above.iter().find_map(|directory| self.by_file(directory, path, is_dir))
        })
    }

    /// Returns what the `.gitignore` file in a directory decides about a path below it.
    fn by_file(&self, directory: &Path, path: &Path, is_dir: bool) -> Option<bool> {
        let mut read = self.read.borrow_mut();
        let rules = read.entry(directory.to_owned()).or_insert_with(|| {
            let file = directory.join(".gitignore");
            if !file.is_file() {
                return None;
            }
            let mut builder = GitignoreBuilder::new(directory);
            if let Some(error) = builder.add(&file) {
                log::warn!("cannot use all patterns of {}: {error}", file.display());
            }
            builder.build().ok()
        });
        let matched = rules.as_ref()?.matched(path, is_dir);
        (!matched.is_none()).then(|| matched.is_ignore())
    }
}

/// Returns rules that are not bound to a directory.
fn rules<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Result<Gitignore, String> {
    let mut builder = GitignoreBuilder::new("");
    for pattern in patterns {
        builder.add_line(None, pattern).map_err(|error| error.to_string())?;
    }
    builder.build().map_err(|error| error.to_string())
}
