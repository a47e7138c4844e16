//! Changes that belong together, and their names for the log.

use std::collections::BTreeSet;
use std::env;
use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::time::Instant;

/// The maximum number of paths that are kept of a burst.
const MAX_PATHS: usize = 100;

/// The maximum number of paths that are displayed.
const DISPLAYED: usize = 3;

/// Changes that follow each other closely.
#[derive(Debug)]
pub(super) struct Burst {
    pub(super) first: Instant,
    pub(super) last: Instant,
    pub(super) changes: Changes,
}

/// The paths of changed files.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    paths: BTreeSet<PathBuf>,
    /// More than [`MAX_PATHS`] have changed.
    is_cut_off: bool,
}

impl Burst {
    /// Adds a change to the burst, or begins one.
    pub(super) fn add(burst: &mut Option<Self>, path: PathBuf) {
        Self::extend(burst).changes.add(path);
    }

    /// Moves the end of the burst to now, or begins one.
    pub(super) fn extend(burst: &mut Option<Self>) -> &mut Self {
        let now = Instant::now();
        let burst = burst.get_or_insert_with(|| Self {
            first: now,
            last: now,
            changes: Changes::default(),
        });
        burst.last = now;
        burst
    }
}

impl Changes {
    pub(super) fn add(&mut self, path: PathBuf) {
        let Self { paths, is_cut_off } = self;
        if paths.len() < MAX_PATHS {
            paths.insert(path);
        } else {
            *is_cut_off |= !paths.contains(&path);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Returns whether only style sheets have changed, which exist. Blocks.
    pub(crate) fn are_styles(&self) -> bool {
        // Compilers write a source map beside a style sheet.
        let is_style = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            (name.ends_with(b".css") || name.ends_with(b".css.map")) && path.is_file()
        };
        !self.is_cut_off && self.paths.iter().all(is_style)
    }
}

/// Lists the first paths, relative to the current directory if they are below it, and the number of
/// others. Paths are quoted, since names may contain line ends.
impl Display for Changes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let here = env::current_dir().unwrap_or_default();
        for (index, path) in self.paths.iter().take(DISPLAYED).enumerate() {
            let below = path.strip_prefix(&here).ok().filter(|path| path.file_name().is_some());
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{:?}", below.unwrap_or(path).to_string_lossy())?;
        }
        match self.paths.len().saturating_sub(DISPLAYED) {
            0 => Ok(()),
            more if self.is_cut_off => write!(f, " and more than {more} others"),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_display_names_the_first_paths_and_counts_the_others() {
        let mut burst = None;
        let display = |burst: &Option<Burst>| burst.as_ref().unwrap().changes.to_string();
        let here = env::current_dir().unwrap();
        Burst::add(&mut burst, here.join("b/c.css"));
        Burst::add(&mut burst, here.join("b/c.css"));
        assert_eq!(display(&burst), r#""b/c.css""#);
        Burst::add(&mut burst, PathBuf::from("/elsewhere/a\nb"));
        let elsewhere = r#""/elsewhere/a\nb""#;
        assert!(display(&burst).contains(elsewhere), "{}", display(&burst));
        for number in 1..MAX_PATHS - 1 {
            Burst::add(&mut burst, here.join(format!("d/{number}")));
        }
        assert!(display(&burst).ends_with(" and 97 more"), "{}", display(&burst));
        Burst::add(&mut burst, here.join("e"));
        assert!(display(&burst).ends_with(" and more than 97 others"), "{}", display(&burst));
    }
}
