//! The file: its tables, how it is opened, and its errors.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _};

use super::index::{Index, Removals};
use super::new_file::{NewFile, remove_left};
use super::record::Record;
use super::salvage::Salvage;
use super::tables::{self, DROPPED, EVENTS, FORMAT, META};
use super::unwritten::Unwritten;
use crate::storage::{StorageError, StorageErrorKind, new_epoch};

/// The name of the file in the directory.
const NAME: &str = "events.redb";

/// The memory for pages of the file, in bytes.
const CACHE: usize = 32 << 20;

/// The interval at which a long start reports its progress.
const REPORT: Duration = Duration::from_secs(1);

/// An open file.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    /// `None` after a failure, until it is opened again.
    database: Option<Database>,
}

/// What [`File::load`] found.
pub(super) struct Loaded {
    pub(super) index: Index,
    pub(super) epoch: String,
}

/// Converts an error of redb.
fn error(error: impl Into<redb::Error>) -> StorageError {
    let error = error.into();
    let kind = match &error {
        redb::Error::Io(error) if is_full(error) => StorageErrorKind::Full,
        redb::Error::Io(error) if is_damage(error) => StorageErrorKind::Damaged,
        redb::Error::Corrupted(_) => StorageErrorKind::Damaged,
        _ => StorageErrorKind::Unavailable,
    };
    StorageError::new(kind, error)
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), FileTooLarge | QuotaExceeded | StorageFull)
}

/// Returns whether the error is that the file is not one of redb, or is too short.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

impl File {
    /// Opens the file in a directory, which is created if necessary, and [loads](Self::load) its
    /// events. If `recover` is set and the file is damaged, its intact events are copied to a new
    /// file, and it is kept under another name.
    pub(super) fn open(
        directory: &Path,
        recover: bool,
        is_lossy: bool,
    ) -> Result<(Self, Loaded), StorageError> {
        let io = |error: io::Error| not_usable(directory, &error);
        fs::create_dir_all(directory).map_err(io)?;
        let path = directory.join(NAME);
        let mut file = Self { path, database: None };
        let open = |file: &mut Self| {
            file.reopen()?;
            file.load(is_lossy, None)
        };
        let loaded = match open(&mut file) {
            Err(damaged) if recover && damaged.kind() == StorageErrorKind::Damaged => {
                log::warn!("{damaged}");
                // Releases the lock on the file.
                file.database = None;
                file.recover()?;
                open(&mut file)?
            }
            result => result?,
        };
        remove_left(&file.path).map_err(io)?;
        Ok((file, loaded))
    }

    /// Replaces a damaged file by one with its intact events.
    fn recover(&self) -> Result<(), StorageError> {
        let path = &self.path;
        let io = |error: io::Error| not_usable(path, &error);
        let mut source = fs::File::open(path).map_err(io)?;
        // Another process that uses or recovers the file holds the lock.
        source.try_lock().map_err(|_| in_use(path))?;
        let salvage = Salvage::read(&mut source).map_err(io)?;
        let new = NewFile::beside(path).map_err(|cause| not_opened(path, cause))?;
        salvage.copy(&mut source, &new.database).map_err(error)?;
        let aside = path.with_file_name(format!("{NAME}.damaged-{}", new_epoch()));
        // With a link, a file with the name `events.redb` exists at all times. On file systems
        // without links, it is renamed.
        fs::hard_link(path, &aside).or_else(|_| fs::rename(path, &aside)).map_err(io)?;
        new.replace(path).map_err(io)?;
        log::warn!("{}: {}", path.display(), salvage.report());
        log::warn!(
            "the damaged file is kept as {}; delete it if it is not needed",
            aside.display()
        );
        Ok(())
    }

    /// Closes the file if it is open, and opens it again.
    pub(super) fn reopen(&mut self) -> Result<(), StorageError> {
        // Dropping it first releases the lock on the file.
        self.database = None;
        self.create()?;
        let (path, started) = (self.path.clone(), Instant::now());
        let reported = std::cell::Cell::new(started);
        let opened = Database::builder()
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(true)
            .set_repair_callback(move |session| {
                if reported.get().elapsed() >= REPORT {
                    reported.set(Instant::now());
                    let percent = 100.0 * session.progress();
                    log::info!("{}: checking after an unclean end, {percent:.0} %", path.display());
                }
            })
            .open(&self.path);
        self.database = Some(opened.map_err(|cause| not_opened(&self.path, cause))?);
        Ok(())
    }

    /// Creates the file, if there is none. It gets its name when it is complete: redb takes one
    /// whose creation was interrupted for damaged.
    fn create(&self) -> Result<(), StorageError> {
        let path = &self.path;
        let failed = |error: io::Error| not_usable(path, &error);
        if path.try_exists().map_err(failed)? {
            return Ok(());
        }
        let new = NewFile::beside(path).map_err(|cause| not_opened(path, cause))?;
        new.link(path).map_err(failed)
    }

    fn database(&self) -> Result<&Database, StorageError> {
        let closed = || {
            StorageError::new(StorageErrorKind::Unavailable, "the file is closed after a failure")
        };
        self.database.as_ref().ok_or_else(closed)
    }

    /// Reads all events into an index. The file gets a new epoch if it has none, or if events may
    /// have been lost after an unclean end of a process with `is_lossy`. If this process has had the
    /// file open before, `known` is the last position, and the file gets a new epoch if it has not
    /// reached that.
    ///
    /// `is_lossy` marks the file as one whose next end may be unclean.
    pub(super) fn load(&self, is_lossy: bool, known: Option<u64>) -> Result<Loaded, StorageError> {
        let transaction = self.database()?.begin_write().map_err(error)?;
        let loaded = {
            let mut meta = transaction.open_table(META).map_err(error)?;
            let get = |name: &str| -> Result<Option<String>, StorageError> {
                Ok(meta.get(name).map_err(error)?.map(|value| value.value().to_owned()))
            };
            let number =
                |text: Option<String>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
            let (format, epoch) = (get("format")?, get("epoch")?);
            let (last, forgotten) = (number(get("last")?), number(get("forgotten")?));
            let reserved = number(get("reserved")?);
            let was_clean = get("clean")?.as_deref() != Some("no");
            if let Some(format) = format.filter(|format| format != FORMAT) {
                let why = format!(
                    "{} has the format {format}, and this version reads the format {FORMAT}",
                    self.path.display()
                );
                return Err(StorageError::new(StorageErrorKind::Unavailable, why));
            }
            let events = transaction.open_table(EVENTS).map_err(error)?;
            let mut dropped = transaction.open_table(DROPPED).map_err(error)?;
            let mut index = Index::new(forgotten);
            self.read_all(&mut index, &events, &dropped)?;
            index.last_position = index.last_position.max(last);
            let is_whole = known.map_or(was_clean, |known| index.last_position >= known);
            let kept = epoch.filter(|_| is_whole);
            let reserved = if kept.is_some() { index.reserve(reserved) } else { 0 };
            let epoch = kept.unwrap_or_else(new_epoch);
            if !is_whole {
                dropped.retain(|_, _| false).map_err(error)?;
            }
            for (name, value) in [
                ("format", FORMAT),
                ("epoch", &epoch),
                ("clean", if is_lossy { "no" } else { "yes" }),
                ("reserved", &reserved.to_string()),
            ] {
                meta.insert(name, value).map_err(error)?;
            }
            Loaded { index, epoch }
        };
        transaction.commit().map_err(error)?;
        Ok(loaded)
    }

    /// Adds the events to the index.
    fn read_all(
        &self,
        index: &mut Index,
        events: &impl redb::ReadableTable<u64, &'static [u8]>,
        dropped: &impl redb::ReadableTable<&'static str, (u64, u32)>,
    ) -> Result<(), StorageError> {
        let mut reported = Instant::now();
        for row in dropped.iter().map_err(error)? {
            let (topic, value) = row.map_err(error)?;
            let (topic, value) = (topic.value(), value.value());
            if value != tables::dropped(topic, value.0) {
                let why = format!("the dropped position of the topic {topic:?} is not readable");
                return Err(damaged(&self.path.display(), &why));
            }
            index.set_dropped(topic, value.0);
        }
        for row in events.iter().map_err(error)? {
            let (position, value) = row.map_err(error)?;
            let record = Record::decode(position.value(), value.value());
            let record = record.ok_or_else(|| self.unreadable(position.value()))?;
            index.push(position.value(), &record);
            if reported.elapsed() >= REPORT {
                reported = Instant::now();
                log::info!("{}: reading, {} events so far", self.path.display(), index.len());
            }
        }
        Ok(())
    }

    fn unreadable(&self, position: u64) -> StorageError {
        let why = format!("the event at position {position} is not readable");
        damaged(&self.path.display(), &why)
    }

    /// Writes new events and drops old ones, in one transaction, which is durable when this returns.
    /// A new event that is dropped already is not written. `last` is the last assigned position.
    pub(super) fn write(
        &self,
        new: &Unwritten,
        last: u64,
        old: &Removals,
    ) -> Result<(), StorageError> {
        let transaction = self.database()?.begin_write().map_err(error)?;
        {
            let mut events = transaction.open_table(EVENTS).map_err(error)?;
            let first = new.first().unwrap_or(u64::MAX);
            let is_new = |(position, _): &&(u64, Arc<str>)| *position >= first;
            let skipped: HashSet<u64> = old.events.iter().filter(is_new).map(|one| one.0).collect();
            let mut bytes = Vec::new();
            for (position, record) in new.records().filter(|one| !skipped.contains(&one.0)) {
                record.encode(position, &mut bytes).ok_or_else(too_long)?;
                events.insert(position, bytes.as_slice()).map_err(error)?;
            }
            // The last position by topic.
            let mut dropped = BTreeMap::new();
            for (position, topic) in &old.events {
                if !skipped.contains(position) {
                    events.remove(position).map_err(error)?;
                }
                dropped.insert(&**topic, *position);
            }
            if !old.is_empty() {
                let mut table = transaction.open_table(DROPPED).map_err(error)?;
                for topic in &old.topics {
                    table.remove(&**topic).map_err(error)?;
                    // One that was used again since has a later position.
                    if dropped.get(&**topic).is_some_and(|last| *last <= old.forgotten) {
                        dropped.remove(&**topic);
                    }
                }
                for (topic, position) in dropped {
                    table.insert(topic, tables::dropped(topic, position)).map_err(error)?;
                }
            }
            // Each changed table costs the write of a page, so the last position is stored only if
            // no event has it.
            let is_known = events.get(last).map_err(error)?.is_some();
            let last = (!is_known).then_some(("last", last));
            let forgotten = (!old.topics.is_empty()).then_some(("forgotten", old.forgotten));
            if last.is_some() || forgotten.is_some() {
                let mut meta = transaction.open_table(META).map_err(error)?;
                for (name, position) in last.into_iter().chain(forgotten) {
                    meta.insert(name, position.to_string().as_str()).map_err(error)?;
                }
            }
        }
        transaction.commit().map_err(error)
    }

    /// Marks the file as complete: every appended event has been written durably.
    pub(super) fn mark_clean(&self) -> Result<(), StorageError> {
        let transaction = self.database()?.begin_write().map_err(error)?;
        transaction.open_table(META).map_err(error)?.insert("clean", "yes").map_err(error)?;
        transaction.commit().map_err(error)
    }

    /// Passes the records at these positions to `each`. A position that the file does not have is
    /// left out.
    pub(super) fn read(
        &self,
        positions: &[u64],
        mut each: impl FnMut(u64, Record<'_>),
    ) -> Result<(), StorageError> {
        let transaction = self.database()?.begin_read().map_err(error)?;
        let events = transaction.open_table(EVENTS).map_err(error)?;
        for position in positions {
            if let Some(value) = events.get(position).map_err(error)? {
                let record = Record::decode(*position, value.value());
                each(*position, record.ok_or_else(|| self.unreadable(*position))?);
            }
        }
        Ok(())
    }

    /// Returns the positions of all events after one.
    pub(super) fn positions_after(&self, after: u64) -> Result<Vec<u64>, StorageError> {
        let transaction = self.database()?.begin_read().map_err(error)?;
        let events = transaction.open_table(EVENTS).map_err(error)?;
        let range = events.range(after.saturating_add(1)..).map_err(error)?;
        range.map(|row| row.map(|(position, _)| position.value()).map_err(error)).collect()
    }
}

/// Returns the error for an event that does not fit into the format.
pub(super) fn too_long() -> StorageError {
    let why = "the idempotency key is longer than 65534 bytes";
    StorageError::new(StorageErrorKind::TooLarge, why)
}

/// Converts the error of opening a file.
fn not_opened(path: &Path, cause: DatabaseError) -> StorageError {
    match cause {
        DatabaseError::DatabaseAlreadyOpen => in_use(path),
        DatabaseError::Storage(redb::StorageError::Corrupted(why)) => {
            damaged(&path.display(), &why)
        }
        DatabaseError::Storage(redb::StorageError::Io(why)) if is_damage(&why) => {
            damaged(&path.display(), &why)
        }
        cause => not_usable(path, &cause),
    }
}

fn in_use(path: &Path) -> StorageError {
    let path = path.display();
    let why = format!("{path} is in use by another process; stop it, or choose another directory");
    StorageError::new(StorageErrorKind::Unavailable, why)
}

fn not_usable(path: &Path, why: &dyn std::fmt::Display) -> StorageError {
    let path = path.display();
    StorageError::new(StorageErrorKind::Unavailable, format!("{path}: {why}"))
}

fn damaged(path: &std::path::Display<'_>, why: &dyn std::fmt::Display) -> StorageError {
    StorageError::new(StorageErrorKind::Damaged, format!("{path}: {why}"))
}
