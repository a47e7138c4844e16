//! The names of a path that is resolved one by one, with the targets of symbolic links in place of
//! the links.
//!
//! The callers look the names up: `beneath.rs` opens each name relative to the directory before it
//! and never leaves a root, and `watch/way.rs` collects the names and the real path, wherever they
//! lead.

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path};

use rustix::io::Errno;

/// The maximum number of symbolic links that are followed in a path, the same as in Linux.
const MAX_LINKS: u32 = 40;

/// The state of resolving a path.
#[derive(Debug)]
pub(crate) struct Steps {
    /// The names that remain to be looked up, the next one last.
    rest: Vec<OsString>,
    /// The number of symbolic links that have been followed.
    links: u32,
}

impl Steps {
    pub(crate) fn new(path: &Path) -> Self {
        let mut steps = Self { rest: Vec::new(), links: 0 };
        steps.prepend(path);
        steps
    }

    /// Removes the next name, which may be `..`.
    pub(crate) fn next(&mut self) -> Option<OsString> {
        self.rest.pop()
    }

    /// Returns whether no names remain.
    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// Continues with the target of a symbolic link, before the names that remain. If the target is
    /// absolute, the caller has gone back to the directory that it begins at.
    ///
    /// # Errors
    ///
    /// Returns `ELOOP` if the path has more than [`MAX_LINKS`] symbolic links.
    pub(crate) fn follow(&mut self, target: &Path) -> io::Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        self.prepend(target);
        Ok(())
    }

    fn prepend(&mut self, path: &Path) {
        let names = path
            .components()
            .rev()
            .filter(|name| matches!(name, Component::Normal(_) | Component::ParentDir));
        self.rest.extend(names.map(|name| name.as_os_str().to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_links_come_before_the_rest_of_the_path() {
        let mut steps = Steps::new(Path::new("/a/./link/c"));
        assert_eq!(steps.next().unwrap(), "a");
        assert_eq!(steps.next().unwrap(), "link");
        steps.follow(Path::new("../b")).unwrap();
        for name in ["..", "b", "c"] {
            assert!(!steps.is_done());
            assert_eq!(steps.next().unwrap(), name);
        }
        assert!(steps.is_done() && steps.next().is_none());
    }

    #[test]
    fn as_many_links_are_followed_as_in_linux() {
        let mut steps = Steps::new(Path::new("link"));
        for _ in 0..40 {
            steps.follow(Path::new("link")).unwrap();
        }
        let error = steps.follow(Path::new("link")).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::LOOP));
    }
}
