//! Watches of directories on Linux.
//!
//! Each directory has a watch of its own, so that ignored ones cost nothing. Opening and reading
//! files is not reported: a search in a large tree would fill the queue of the kernel.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::event::{Event, Kind, Notice};

const FLAGS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW);

const APPEARED: ReadFlags = ReadFlags::CREATE.union(ReadFlags::MOVED_TO);

const DISAPPEARED: ReadFlags = ReadFlags::DELETE
    .union(ReadFlags::MOVED_FROM)
    .union(ReadFlags::DELETE_SELF)
    .union(ReadFlags::MOVE_SELF)
    .union(ReadFlags::UNMOUNT);

/// The size of the buffer for events, in bytes: some hundred events with usual names.
const BUFFER: usize = 16 << 10;

/// Watches of directories, which have to be given by their real paths: a second path to a directory
/// replaces the first one.
#[derive(Debug)]
pub(crate) struct Watcher {
    inotify: Arc<OwnedFd>,
    watches: Arc<Mutex<Watches>>,
}

/// Which watch has which path.
#[derive(Debug, Default)]
struct Watches {
    descriptors: BTreeMap<PathBuf, i32>,
    paths: HashMap<i32, PathBuf>,
}

impl Watcher {
    /// Creates a watcher that calls `report` on a thread of its own, which runs until the process
    /// ends.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub(crate) fn new(
        _is_tree: bool,
        report: impl Fn(Notice) + Send + 'static,
    ) -> io::Result<Self> {
        let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC).map_err(explain)?);
        let created = Self { inotify, watches: Arc::default() };
        let (inotify, watches) = (Arc::clone(&created.inotify), Arc::clone(&created.watches));
        thread::Builder::new()
            .name("inotify".to_owned())
            .spawn(move || read(&inotify, &watches, report))?;
        Ok(created)
    }

    /// Watches a directory, without those below it. Returns whether it was not watched before.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub(crate) fn watch(&self, directory: &Path) -> io::Result<bool> {
        // Locked before the first event can arrive.
        let mut watches = lock(&self.watches);
        // Repeated for a directory that is watched: it may be another one by now.
        let descriptor = inotify::add_watch(&*self.inotify, directory, FLAGS).map_err(explain)?;
        let earlier = watches.descriptors.insert(directory.to_owned(), descriptor);
        if earlier == Some(descriptor) {
            return Ok(false);
        }
        if let Some(earlier) = earlier {
            self.end(&mut watches, directory, earlier);
        }
        watches.paths.insert(descriptor, directory.to_owned());
        Ok(true)
    }

    /// Ends the watches at and below a path.
    pub(crate) fn unwatch_below(&self, path: &Path) {
        let mut watches = lock(&self.watches);
        // Paths are ordered by their components.
        let below = watches.descriptors.range(path.to_owned()..);
        let below: Vec<_> = below
            .take_while(|(directory, _)| directory.starts_with(path))
            .map(|(directory, _)| directory.clone())
            .collect();
        for directory in below {
            self.unwatch(&mut watches, &directory);
        }
    }

    /// Ends the watches of the directories for which `is_needed` is false.
    pub(crate) fn retain(&self, is_needed: impl Fn(&Path) -> bool) {
        let mut watches = lock(&self.watches);
        let needless: Vec<_> =
            watches.descriptors.keys().filter(|directory| !is_needed(directory)).cloned().collect();
        for directory in needless {
            self.unwatch(&mut watches, &directory);
        }
    }

    fn unwatch(&self, watches: &mut Watches, directory: &Path) {
        if let Some(descriptor) = watches.descriptors.remove(directory) {
            self.end(watches, directory, descriptor);
        }
    }

    /// Ends a watch, unless the directory has been moved and is watched by its new path.
    fn end(&self, watches: &mut Watches, directory: &Path, descriptor: i32) {
        if watches.paths.get(&descriptor).is_some_and(|path| path == directory) {
            watches.paths.remove(&descriptor);
            // An error means that the directory does not exist any more.
            let _ = inotify::remove_watch(&*self.inotify, descriptor);
        }
    }
}

impl Watches {
    /// Forgets a watch that the system has ended.
    fn forget(&mut self, descriptor: i32) {
        if let Some(path) = self.paths.remove(&descriptor)
            && self.descriptors.get(&path) == Some(&descriptor)
        {
            self.descriptors.remove(&path);
        }
    }
}

fn lock(watches: &Mutex<Watches>) -> MutexGuard<'_, Watches> {
    watches.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reports events until reading them fails.
fn read(inotify: &OwnedFd, watches: &Mutex<Watches>, report: impl Fn(Notice)) {
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
    let mut reader = Reader::new(inotify, &mut buffer);
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(Errno::INTR) => continue,
            Err(error) => return report(Notice::Failed(error.into())),
        };
        let flags = event.events();
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            report(Notice::Lost);
            continue;
        }
        let mut watches = lock(watches);
        if flags.contains(ReadFlags::IGNORED) {
            watches.forget(event.wd());
            continue;
        }
        // Events of a watch that was ended may still be in the queue.
        let Some(directory) = watches.paths.get(&event.wd()) else { continue };
        let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
        let path = name.map_or_else(|| directory.clone(), |name| directory.join(name));
        drop(watches);
        let kind = if flags.intersects(APPEARED) {
            Kind::Appeared
        } else if flags.intersects(DISAPPEARED) {
            Kind::Disappeared
        } else {
            Kind::Modified
        };
        let is_dir = name.is_none() || flags.contains(ReadFlags::ISDIR);
        report(Notice::Event(Event { kind, path, is_dir, is_itself: name.is_none() }));
    }
}

/// Names the limit that an error is about. The system reports another one for a limit of watches.
fn explain(error: Errno) -> io::Error {
    let why = match error {
        Errno::NOSPC => "the limit of watched directories is reached: fs.inotify.max_user_watches",
        Errno::MFILE => {
            "the limit of watchers or open files is reached: \
                         fs.inotify.max_user_instances, ulimit -n"
        }
        _ => return error.into(),
    };
    io::Error::new(ErrorKind::QuotaExceeded, why)
}
