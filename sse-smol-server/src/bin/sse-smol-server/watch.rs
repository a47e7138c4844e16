//! Watches directories, and reports each burst of changes in them as one change.

mod way;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use self::way::Way;

/// The pause that ends a burst. Editors and build tools make changes in bursts.
const QUIET: Duration = Duration::from_millis(200);

/// The maximum time from the first change of a burst until it is reported, without such a pause.
const LONGEST: Duration = Duration::from_secs(5);

/// The interval at which a missing directory is looked up. It is also looked up when a name on the
/// path to it changes, but not all directories on the path can be watched.
const LOOK: Duration = Duration::from_millis(100);

/// Calls `changed` for each burst of changes in the directories at these absolute paths and in
/// everything below them, from when this returns until the process ends.
///
/// A path may contain symbolic links. Switching one of them to another directory is a change, and
/// the other directory is watched from then on.
///
/// Changes of hidden files and directories are ignored, since editors and version control keep
/// their own files there.
///
/// # Errors
///
/// A description of the problem if a directory cannot be watched or a thread cannot be started.
pub(crate) fn watch(
    roots: Vec<PathBuf>,
    changed: impl Fn() + Send + 'static,
) -> Result<(), String> {
    if roots.is_empty() {
        return Ok(());
    }
    let (sender, events) = mpsc::channel();
    // Two watchers, since a directory may be watched both recursively, as a root, and by itself, on
    // the path to another root.
    let watcher = |make: fn(notify::Result<notify::Event>) -> Observed| {
        let sender = sender.clone();
        let send = move |event| drop(sender.send(make(event)));
        notify::recommended_watcher(send)
            .map_err(|error| format!("cannot watch directories: {error}"))
    };
    let mut watch = Watch {
        watcher: watcher(Observed::Below)?,
        way: Way::new(watcher(Observed::OnTheWay)?),
        roots: roots.into_iter().map(Root::new).collect(),
        burst: None,
    };
    drop(sender);
    for index in 0..watch.roots.len() {
        watch.find(index).map_err(|error| {
            format!("cannot watch {}: {error}", watch.roots[index].path.display())
        })?;
    }
    thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || watch.run(&events, changed))
        .map_err(|error| format!("cannot start the thread that watches directories: {error}"))?;
    Ok(())
}

/// An event, by the watcher that it comes from.
enum Observed {
    /// In a root or below it.
    Below(notify::Result<notify::Event>),
    /// In a directory on the path to a root.
    OnTheWay(notify::Result<notify::Event>),
}

struct Watch {
    /// The watcher of the roots and of everything below them.
    watcher: RecommendedWatcher,
    way: Way,
    roots: Vec<Root>,
    /// The times of the first and of the last change that have not been reported.
    burst: Option<(Instant, Instant)>,
}

/// A directory to watch.
struct Root {
    path: PathBuf,
    /// The real path of the directory, while it is watched.
    real: Option<PathBuf>,
    /// The paths of all names that were looked up to find it.
    names: BTreeSet<PathBuf>,
    /// Whether the directory has to be looked up: it was removed or moved away, as build tools do
    /// with their output, or the path may lead to another directory.
    lost: bool,
}

impl Root {
    const fn new(path: PathBuf) -> Self {
        Self { path, real: None, names: BTreeSet::new(), lost: false }
    }
}

impl Watch {
    fn run(mut self, events: &Receiver<Observed>, changed: impl Fn()) {
        loop {
            let look = self.is_any_lost().then(|| Instant::now() + LOOK);
            let event = match self.due().into_iter().chain(look).min() {
                Some(at) => events.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => events.recv().map_err(RecvTimeoutError::from),
            };
            match &event {
                Ok(Observed::Below(Ok(event))) => self.handle(event),
                Ok(Observed::OnTheWay(Ok(event))) => self.handle_way(event),
                Ok(Observed::Below(Err(error)) | Observed::OnTheWay(Err(error))) => {
                    log::warn!("cannot watch directories, so changes may go unnoticed: {error}");
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.look_for_lost();
            // Events that have been queued already belong to the burst.
            let quiet = event.is_err();
            let now = Instant::now();
            let is_due = quiet && self.due().is_some_and(|due| due <= now);
            if is_due || self.burst.is_some_and(|(first, _)| first + LONGEST <= now) {
                self.burst = None;
                changed();
            }
        }
    }

    /// Returns when the burst has to be reported. While a directory is missing, its replacement is
    /// waited for, up to the maximum time.
    fn due(&self) -> Option<Instant> {
        let (first, last) = self.burst?;
        let latest = first + LONGEST;
        Some(if self.is_any_lost() { latest } else { latest.min(last + QUIET) })
    }

    fn is_any_lost(&self) -> bool {
        self.roots.iter().any(|root| root.lost)
    }

    /// Handles an event in a root or below it.
    fn handle(&mut self, event: &notify::Event) {
        const MOVED: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::From));
        if event.need_rescan() {
            // Events were lost, and any directory may have changed.
            self.roots.iter_mut().for_each(|root| root.lost = true);
        }
        if self.is_change(event) {
            self.changed();
            self.watch_links(event);
        }
        if event.kind.is_remove() || event.kind == MOVED {
            for root in &mut self.roots {
                root.lost |= root.real.as_ref().is_some_and(|real| event.paths.contains(real));
            }
        }
    }

    /// Watches the targets of new symbolic links below a root. The watcher itself only follows
    /// links that exist when it starts.
    fn watch_links(&mut self, event: &notify::Event) {
        const NAMED: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        if !event.kind.is_create() && event.kind != NAMED {
            return;
        }
        for path in event.paths.iter().filter(|path| path.is_symlink() && path.is_dir()) {
            if let Err(error) = self.watcher.watch(path, RecursiveMode::Recursive) {
                log::warn!("cannot watch {}: {error}", path.display());
            }
        }
    }

    /// Handles an event in a directory on the path to a root.
    fn handle_way(&mut self, event: &notify::Event) {
        if event.need_rescan() {
            self.way.replaced(Path::new("/"));
            self.roots.iter_mut().for_each(|root| root.lost = true);
        }
        if !Way::is_replacement(event) {
            return;
        }
        for path in &event.paths {
            for root in self.roots.iter_mut().filter(|root| root.names.contains(path)) {
                root.lost = true;
                self.way.replaced(path);
            }
        }
    }

    /// Adds a change to the burst.
    fn changed(&mut self) {
        let now = Instant::now();
        self.burst.get_or_insert((now, now)).1 = now;
    }

    fn is_change(&self, event: &notify::Event) -> bool {
        const WRITTEN: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
        // Files are also opened to serve them.
        let is_read = event.kind.is_access() && event.kind != WRITTEN;
        let roots = || self.roots.iter().filter_map(|root| root.real.as_deref());
        !is_read && event.paths.iter().any(|path| is_visible(path, roots()))
    }

    /// Looks up the lost directories, and watches those that exist. Each of them counts as a
    /// change.
    fn look_for_lost(&mut self) {
        if !self.is_any_lost() {
            return;
        }
        let lost: Vec<_> = (0..self.roots.len()).filter(|index| self.roots[*index].lost).collect();
        let mut unwatched = false;
        for index in &lost {
            if let Some(real) = self.roots[*index].real.take() {
                // An error means that the directory does not exist any more.
                let _ = self.watcher.unwatch(&real);
                unwatched = true;
            }
        }
        for index in lost {
            match self.find(index) {
                Ok(()) => self.changed(),
                Err(error) => {
                    log::debug!("cannot watch {}: {error}", self.roots[index].path.display());
                }
            }
        }
        if unwatched {
            // Unwatching a directory may have ended the watches of roots below it.
            for real in self.roots.iter().filter_map(|root| root.real.as_ref()) {
                if let Err(error) = self.watcher.watch(real, RecursiveMode::Recursive) {
                    log::warn!("cannot watch {}: {error}", real.display());
                }
            }
        }
        self.way.retain(self.roots.iter().flat_map(|root| &root.names));
    }

    /// Resolves the path of a root, and watches the directory there.
    fn find(&mut self, index: usize) -> notify::Result<()> {
        let root = &mut self.roots[index];
        root.names.clear();
        root.lost = true;
        let real = self.way.resolve(&root.path, &mut root.names)?;
        self.watcher.watch(&real, RecursiveMode::Recursive)?;
        root.real = Some(real);
        root.lost = false;
        Ok(())
    }
}

/// Returns whether a path is below one of the roots, and has no hidden name below that root.
fn is_visible<'r>(path: &Path, roots: impl Iterator<Item = &'r Path>) -> bool {
    let mut below = roots.filter_map(|root| path.strip_prefix(root).ok());
    below.any(|path| path.iter().all(|name| !name.as_encoded_bytes().starts_with(b".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_below_the_root_make_a_path_hidden() {
        let roots = ["/home/.dev/site", "/home/.dev/site/.well-known"].map(Path::new);
        for (path, visible) in [
            ("/home/.dev/site", true),
            ("/home/.dev/site/a/index.html", true),
            ("/home/.dev/site/.git/index", false),
            ("/home/.dev/site/a/.index.html.swp", false),
            ("/home/.dev/site/.well-known/x", true),
            ("/elsewhere", false),
        ] {
            let is_visible = is_visible(Path::new(path), roots.into_iter());
            assert_eq!(is_visible, visible, "{path}");
        }
    }
}
