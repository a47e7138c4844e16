//! Watches directories, and reports each burst of changes in them as one change.

mod burst;
mod ignore;
mod links;
mod way;

use std::collections::BTreeSet;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind, RemoveKind, RenameMode};
use notify::{Config, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

pub(crate) use self::burst::Changes;

use self::burst::Burst;
use self::ignore::Ignore;
use self::links::{Links, visible_from};
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
/// their own files there. So are those that match one of the patterns `ignored`, in the syntax of
/// `.gitignore`, or a pattern of a `.gitignore` file, and dependencies and temporary files that have
/// well-known names. Symbolic links to directories are followed, wherever they lead, and those
/// directories are visible by the paths of the links.
///
/// # Errors
///
/// A description of the problem if a pattern is malformed, a directory cannot be watched or a thread
/// cannot be started.
pub(crate) fn watch(
    roots: Vec<PathBuf>,
    ignored: &[String],
    changed: impl Fn(&Changes) + Send + 'static,
) -> Result<(), String> {
    let ignore = Ignore::new(ignored)?;
    if roots.is_empty() {
        return Ok(());
    }
    let (sender, events) = mpsc::channel();
    // Two watchers, since a directory may be watched both recursively, as a root, and by itself, on
    // the path to another root.
    let watcher = |make: fn(notify::Result<notify::Event>) -> Observed| {
        let sender = sender.clone();
        let send = move |event| drop(sender.send(make(event)));
        // `Links` follows links.
        let config = Config::default().with_follow_symlinks(false);
        RecommendedWatcher::new(send, config)
            .map_err(|error| format!("cannot watch directories: {error}"))
    };
    let mut watch = Watch {
        watcher: watcher(Observed::Below)?,
        way: Way::new(watcher(Observed::OnTheWay)?),
        ignore,
        roots: roots.into_iter().map(Root::new).collect(),
        links: Links::default(),
        linked: BTreeSet::new(),
        links_changed: false,
        burst: None,
    };
    drop(sender);
    for index in 0..watch.roots.len() {
        watch.find(index).map_err(|error| {
            format!("cannot watch {}: {error}", watch.roots[index].path.display())
        })?;
    }
    watch.follow_links();
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
    ignore: Ignore,
    roots: Vec<Root>,
    links: Links,
    /// The directories outside the roots that are watched because links lead to them.
    linked: BTreeSet<PathBuf>,
    /// Whether links may have been added, removed or switched. The search for them waits for the
    /// end of the burst, since it reads all visible directories.
    links_changed: bool,
    /// The changes that have not been reported.
    burst: Option<Burst>,
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
    fn run(mut self, events: &Receiver<Observed>, changed: impl Fn(&Changes)) {
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
            if let Some(burst) = self.burst.take_if(|burst| is_due || burst.first + LONGEST <= now)
            {
                if self.links_changed {
                    // This precedes the report, so that no change falls between it and the new
                    // watches.
                    self.follow_links();
                }
                changed(&burst.changes);
                // Those above the watched directories may have changed without an event.
                self.ignore.forget();
            }
        }
    }

    /// Returns when the burst has to be reported. While a directory is missing, its replacement is
    /// waited for, up to the maximum time.
    fn due(&self) -> Option<Instant> {
        let burst = self.burst.as_ref()?;
        let latest = burst.first + LONGEST;
        Some(if self.is_any_lost() { latest } else { latest.min(burst.last + QUIET) })
    }

    fn is_any_lost(&self) -> bool {
        self.roots.iter().any(|root| root.lost)
    }

    /// Handles an event in a root or below it.
    fn handle(&mut self, event: &notify::Event) {
        const MOVED: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::From));
        if event.need_rescan() {
            self.all_replaced();
        }
        if event.paths.iter().any(|path| path.ends_with(".gitignore")) {
            self.ignore.forget();
        }
        let mut is_change = false;
        for path in &event.paths {
            if self.is_change(event, path) {
                let name = self.name(path);
                Burst::add(&mut self.burst, name);
                is_change = true;
            }
        }
        self.links_changed |= is_change && may_add_links(event);
        if event.kind.is_remove() || event.kind == MOVED {
            for root in &mut self.roots {
                root.lost |= root.real.as_ref().is_some_and(|real| event.paths.contains(real));
            }
        }
    }

    /// Handles an event in a directory that leads to a root or to the target of a link.
    fn handle_way(&mut self, event: &notify::Event) {
        if event.need_rescan() {
            self.all_replaced();
        }
        if !Way::is_replacement(event) {
            return;
        }
        for path in &event.paths {
            let mut leads_to_root = false;
            for root in self.roots.iter_mut().filter(|root| root.names.contains(path)) {
                root.lost = true;
                leads_to_root = true;
            }
            let leads_to_target = self.links.names.contains(path);
            if leads_to_target {
                let name = self.name(path);
                Burst::add(&mut self.burst, name);
            }
            if leads_to_root || leads_to_target {
                self.replaced(path);
            }
        }
    }

    /// Handles a loss of events, after which any directory may have changed.
    fn all_replaced(&mut self) {
        self.roots.iter_mut().for_each(|root| root.lost = true);
        self.replaced(Path::new("/"));
    }

    /// Handles the replacement of a path. Ends the watches of linked directories at and below it,
    /// until the links are followed again.
    fn replaced(&mut self, path: &Path) {
        self.links_changed = true;
        self.way.replaced(path);
        let watcher = &mut self.watcher;
        self.linked.retain(|directory| {
            let needless = directory.starts_with(path);
            if needless {
                // An error means that it is not there any more.
                let _ = watcher.unwatch(directory);
            }
            !needless
        });
    }

    /// Returns the path of a changed file by the root that it is in, instead of its real path.
    fn name(&self, path: &Path) -> PathBuf {
        let by_root = self.roots.iter().find_map(|root| {
            let below = path.strip_prefix(root.real.as_ref()?).ok()?;
            Some(root.path.join(below))
        });
        by_root.unwrap_or_else(|| path.to_owned())
    }

    /// Returns whether an event is a change of this path, which is one of its paths.
    fn is_change(&self, event: &notify::Event, path: &Path) -> bool {
        const WRITTEN: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
        // Files are also opened to serve them.
        if event.kind.is_access() && event.kind != WRITTEN {
            return false;
        }
        let is_watched = |path: &Path| {
            self.roots.iter().any(|root| root.real.as_deref() == Some(path))
                || self.links.targets.contains(path)
        };
        let Some(base) = visible_from(path, is_watched) else { return false };
        // A name that has been removed may have been that of a directory.
        let is_dir = event.kind == EventKind::Remove(RemoveKind::Folder) || path.is_dir();
        let is_gone = || path.symlink_metadata().is_err();
        let is_ignored = self.ignore.ignores(base, path, is_dir)
            || (is_gone() && self.ignore.ignores(base, path, true));
        !is_ignored
    }

    /// Looks up the lost directories, and watches those that exist. Each directory that is found
    /// counts as a change.
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
                Ok(()) => Burst::add(&mut self.burst, self.roots[index].path.clone()),
                Err(error) => {
                    log::debug!("cannot watch {}: {error}", self.roots[index].path.display());
                }
            }
        }
        if unwatched {
            self.watch_again();
        }
        self.links_changed = true;
        self.end_needless();
    }

    /// Watches the directories that links lead to now, and ends the watches of those that links led
    /// to before.
    fn follow_links(&mut self) {
        self.links_changed = false;
        let roots: BTreeSet<_> = self.roots.iter().filter_map(|root| root.real.clone()).collect();
        let was_cut_off = self.links.is_cut_off;
        self.links = Links::find(&roots, &mut self.way, &self.ignore);
        self.end_needless();
        if self.links.is_cut_off && !was_cut_off {
            log::warn!(
                "there are more than {} symbolic links to directories below the watched directories: \
                 changes in the directories that the others lead to go unnoticed",
                links::MAX_FOLLOWED
            );
        }
        // What is below a root is watched with it.
        let is_outside = |target: &&PathBuf| !roots.iter().any(|root| target.starts_with(root));
        let linked = self.links.targets.iter().filter(is_outside).cloned().collect();
        let before = mem::replace(&mut self.linked, linked);
        for target in self.linked.difference(&before) {
            watch_all_below(&mut self.watcher, target);
        }
        let mut unwatched = false;
        for target in before.difference(&self.linked) {
            // An error means that it is not there any more.
            let _ = self.watcher.unwatch(target);
            unwatched = true;
        }
        if unwatched {
            self.watch_again();
        }
    }

    /// Watches all directories again after some watches were ended. Ending the watch of a directory
    /// also ends those of all directories below it, which may be roots or targets of links.
    fn watch_again(&mut self) {
        let roots = self.roots.iter().filter_map(|root| root.real.as_ref());
        for directory in roots.chain(&self.linked) {
            watch_all_below(&mut self.watcher, directory);
        }
    }

    /// Ends the watches of directories that no longer lead to a root or to the target of a link.
    fn end_needless(&mut self) {
        let of_roots = self.roots.iter().flat_map(|root| &root.names);
        self.way.retain(of_roots.chain(&self.links.names));
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

/// Watches a directory and all below it.
fn watch_all_below(watcher: &mut RecommendedWatcher, directory: &Path) {
    match watcher.watch(directory, RecursiveMode::Recursive) {
        // The directory was removed after it was found, and an event reports that.
        Ok(()) | Err(notify::Error { kind: notify::ErrorKind::PathNotFound, .. }) => {}
        Err(error) => log::warn!("cannot watch {}: {error}", directory.display()),
    }
}

/// Returns whether new names are links, or directories, which may contain links.
fn may_add_links(event: &notify::Event) -> bool {
    let is_new =
        event.kind.is_create() || event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::To));
    let is_file = |path: &PathBuf| path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    is_new && !event.paths.iter().all(is_file)
}
