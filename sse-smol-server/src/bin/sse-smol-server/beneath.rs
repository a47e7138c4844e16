//! Opens files beneath a directory, even while names in it are being replaced.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, open, openat, readlinkat};
use rustix::io::Errno;

use crate::steps::Steps;

/// `NOFOLLOW`, since symbolic links are resolved here and not by the system; `NONBLOCK`, so that
/// opening a FIFO does not wait for a writer.
const FLAGS: OFlags =
    OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// With `PATH`, search permission on a directory is enough, as it is for the system.
#[cfg(target_os = "linux")]
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// The file or directory at a path.
#[derive(Debug)]
pub(crate) enum Found {
    /// A regular file, open for reading.
    File(File),
    Directory,
}

/// Opens the file at `path`, which is relative to the directory `root`. Blocks.
///
/// Symbolic links are followed as long as they stay beneath `root`; an absolute one stays there if
/// its target begins with the path of `root`. Names that begin with a dot are not found, and
/// neither are special files.
///
/// Each name is opened relative to the directory that was opened before it. So a name that is
/// replaced by a link between a check and its use cannot lead out of `root`.
///
/// # Errors
///
/// `NotFound` if the path leads out of `root`, or to a hidden or special file; otherwise the error
/// of the system.
pub(crate) fn open_beneath(root: &Path, path: &Path) -> io::Result<Found> {
    let directory = open(root, DIRECTORY, Mode::empty()).map_err(|error| {
        io::Error::other(format!("cannot open {}: {}", root.display(), io::Error::from(error)))
    })?;
    Walk { root, directories: vec![directory], steps: Steps::new(path) }.run()
}

/// The state of resolving a path.
struct Walk<'r> {
    root: &'r Path,
    /// The directories from the root to the one that has been reached.
    directories: Vec<OwnedFd>,
    steps: Steps,
}

impl Walk<'_> {
    fn run(mut self) -> io::Result<Found> {
        while let Some(name) = self.steps.next() {
            if name == ".." && self.directories.len() > 1 {
                self.directories.pop();
                continue;
            }
            let directory = match self.directories.last() {
                Some(directory) if !name.as_bytes().starts_with(b".") => directory,
                _ => return Err(ErrorKind::NotFound.into()),
            };
            match openat(directory, &name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(opened) => {
                    self.directories.push(opened);
                    continue;
                }
                // A link gives one of these, depending on the system.
                Err(Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => {}
                Err(error) => return Err(error.into()),
            }
            match openat(directory, &name, FLAGS, Mode::empty()) {
                Ok(opened) => match FileType::from_raw_mode(fstat(&opened)?.st_mode) {
                    // The name was replaced by a directory since the first attempt.
                    FileType::Directory => self.directories.push(opened),
                    FileType::RegularFile if self.steps.is_done() => {
                        return Ok(Found::File(opened.into()));
                    }
                    _ => return Err(ErrorKind::NotFound.into()),
                },
                Err(error) => match readlinkat(directory, &name, Vec::new()) {
                    Ok(target) => {
                        self.follow(Path::new(&OsString::from_vec(target.into_bytes())))?;
                    }
                    // The name was a link when it was opened, and has been replaced since.
                    Err(Errno::INVAL) if matches!(error, Errno::LOOP | Errno::MLINK) => {
                        self.steps.follow(Path::new(&name))?;
                    }
                    Err(_) => return Err(error.into()),
                },
            }
        }
        Ok(Found::Directory)
    }

    /// Continues with the target of a symbolic link.
    fn follow(&mut self, target: &Path) -> io::Result<()> {
        if !target.is_absolute() {
            return self.steps.follow(target);
        }
        let below = self.below_root(target).ok_or(ErrorKind::NotFound)?;
        self.directories.truncate(1);
        self.steps.follow(&below)
    }

    /// Returns the part of an absolute path that is below the root, by its given or its real path.
    fn below_root(&self, path: &Path) -> Option<PathBuf> {
        let below = |root: &Path| path.strip_prefix(root).ok().map(Path::to_owned);
        below(self.root).or_else(|| below(&self.root.canonicalize().ok()?))
    }
}
