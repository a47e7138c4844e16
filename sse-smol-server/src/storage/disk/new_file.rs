//! A file that is being created. It gets its name when it is complete.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError};

use crate::storage::new_epoch;

/// A file under a temporary name, which is removed when this is dropped, or by the next start if
/// the process was killed.
#[derive(Debug)]
pub(super) struct NewFile {
    path: PathBuf,
    /// The database, which locks the file while it is open, so that no other process removes it.
    pub(super) database: Database,
}

/// Returns the prefix of the names of new files beside the file at a path.
fn prefix(path: &Path) -> String {
    format!("{}.new-", path.file_name().unwrap_or_default().to_string_lossy())
}

impl NewFile {
    /// Creates a file beside `path`, whose name it gets later.
    pub(super) fn beside(path: &Path) -> Result<Self, DatabaseError> {
        let path = path.with_file_name(format!("{}{}", prefix(path), new_epoch()));
        Ok(Self { database: Database::create(&path)?, path })
    }

    /// Gives the file its name, unless there is a file with that name.
    pub(super) fn link(self, path: &Path) -> io::Result<()> {
        match fs::hard_link(&self.path, path) {
            Ok(()) => {}
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            // Only on file systems without links, since it replaces the file of a faster process.
            Err(_) => fs::rename(&self.path, path)?,
        }
        sync_directory(path)
    }

    /// Gives the file its name in place of the file with that name.
    pub(super) fn replace(self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        sync_directory(path)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Fails if the file was renamed.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes the names of files durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::File::open(directory)?.sync_all()
}

/// Removes new files that another process has left beside the file at `path`, for example because it
/// was killed. This process must have the file at `path` open.
pub(super) fn remove_left(path: &Path) -> io::Result<()> {
    let (own, prefix) = (fs::metadata(path)?, prefix(path));
    for entry in fs::read_dir(path.parent().unwrap_or(Path::new(".")))? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(&prefix) {
            continue;
        }
        let file = match fs::File::open(entry.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        // A process that is still creating a file holds its lock. If a process was killed after its
        // file got the final name, the entry is a second name of the file at `path`, which this
        // process has locked.
        let other = file.metadata()?;
        let is_other_name = (other.dev(), other.ino()) == (own.dev(), own.ino());
        if is_other_name || file.try_lock().is_ok() {
            fs::remove_file(entry.path())?;
            log::info!("{}: removed, since its creation was interrupted", entry.path().display());
        }
    }
    Ok(())
}
