//! Watches directories, and reports each burst of changes in them as one change.

mod burst;
mod ignore;
mod links;
mod visible;
mod walk;
mod watcher;
mod way;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use self::burst::Changes;

use self::burst::Burst;
use self::ignore::Ignore;
use self::links::Links;
use self::visible::visible_from;
use self::walk::{Seen, Walk};
use self::watcher::{Event, Kind, Notice, Watcher};
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
/// directories are visible by the paths of the links. Directories that are hidden or ignored are not
/// watched.
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
    let watcher = |is_tree, make: fn(Notice) -> Observed| {
        let sender = sender.clone();
        Watcher::new(is_tree, move |notice| drop(sender.send(make(notice))))
            .map_err(|error| format!("cannot watch directories: {error}"))
    };
    let mut watch = Watch {
        watcher: watcher(true, Observed::Below)?,
        way: Way::new(watcher(false, Observed::OnTheWay)?),
        ignore,
        roots: roots.into_iter().map(Root::new).collect(),
        links: Links::default(),
        must_scan: false,
        burst: None,
    };
    drop(sender);
    for index in 0..watch.roots.len() {
        watch.find(index).map_err(|error| {
            format!("cannot watch {}: {error}", watch.roots[index].path.display())
        })?;
    }
    if let Some((path, error)) = watch.scan().error {
        return Err(format!("cannot watch {}: {error}", path.display()));
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
    Below(Notice),
    /// In a directory on the path to a root.
    OnTheWay(Notice),
}

struct Watch {
    /// The watcher of the roots, of the targets of links, and of everything visible below them.
    watcher: Watcher,
    way: Way,
    ignore: Ignore,
    roots: Vec<Root>,
    links: Links,
    /// Whether links may have been added, removed or switched, or the rules have changed by which
    /// directories are ignored. The search for them waits for the end of the burst, since it reads
    /// all visible directories.
    must_scan: bool,
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
                Ok(Observed::Below(Notice::Event(event))) => self.handle(event),
                Ok(Observed::OnTheWay(Notice::Event(event))) => self.handle_way(event),
                Ok(Observed::Below(Notice::Lost) | Observed::OnTheWay(Notice::Lost)) => {
                    self.all_replaced();
                }
                Ok(
                    Observed::Below(Notice::Failed(error))
                    | Observed::OnTheWay(Notice::Failed(error)),
                ) => {
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
            if let Some(mut burst) =
                self.burst.take_if(|burst| is_due || burst.first + LONGEST <= now)
            {
                if self.must_scan {
                    // This precedes the report, so that no change falls between it and the new
                    // watches. What changed in these directories before is not known.
                    let seen = self.scan();
                    warn_of(&seen);
                    seen.added.iter().for_each(|path| burst.changes.add(self.name(path)));
                }
                if !burst.changes.is_empty() {
                    changed(&burst.changes);
                }
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
    fn handle(&mut self, event: &Event) {
        let path = &event.path;
        if changes_rules(event) {
            self.rules_changed();
        }
        if event.kind == Kind::Disappeared {
            for root in &mut self.roots {
                root.lost |= root.real.as_ref() == Some(path);
            }
        }
        // The directory that contains it reports it, too, and by its current path.
        if event.is_itself && !self.is_base(path) {
            return;
        }
        let is_change = self.is_change(event);
        if is_change {
            let name = self.name(path);
            Burst::add(&mut self.burst, name);
        }
        match event.kind {
            Kind::Appeared if event.is_dir => {
                if let Some(base) = visible_from(path, |path| self.is_base(path))
                    && (is_change || self.ignore.may_include())
                {
                    let base = base.to_owned();
                    self.watch_below([(base, path.clone())]);
                }
            }
            // It may be a link.
            Kind::Appeared => {
                let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
                self.must_scan |= is_change && !is_file;
            }
            Kind::Disappeared if event.is_dir && !event.is_itself => {
                self.watcher.unwatch_below(path);
            }
            Kind::Disappeared | Kind::Modified => {}
        }
    }

    /// Handles an event in a directory that leads to a root or to the target of a link.
    fn handle_way(&mut self, event: &Event) {
        if changes_rules(event) {
            self.rules_changed();
        }
        if event.kind == Kind::Modified {
            return;
        }
        let path = &event.path;
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

    /// Handles a change of a file with rules by which files are ignored. Other directories may have
    /// to be watched by them.
    fn rules_changed(&mut self) {
        self.ignore.forget();
        self.must_scan = true;
        Burst::extend(&mut self.burst);
    }

    /// Handles a loss of events, after which any directory may have changed.
    fn all_replaced(&mut self) {
        self.roots.iter_mut().for_each(|root| root.lost = true);
        self.replaced(Path::new("/"));
    }

    /// Handles the replacement of a path. Ends the watches of directories at and below it, until
    /// those that are lost are found, and the links are followed again.
    fn replaced(&mut self, path: &Path) {
        self.must_scan = true;
        self.way.replaced(path);
        self.watcher.unwatch_below(path);
    }

    /// Returns whether a path is that of a root or of the target of a link.
    fn is_base(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| root.real.as_deref() == Some(path))
            || self.links.targets.contains(path)
    }

    /// Returns the path of a changed file by the root that it is in, instead of its real path.
    fn name(&self, path: &Path) -> PathBuf {
        let by_root = self.roots.iter().find_map(|root| {
            let below = path.strip_prefix(root.real.as_ref()?).ok()?;
            Some(root.path.join(below))
        });
        by_root.unwrap_or_else(|| path.to_owned())
    }

    /// Returns whether an event is a change of something visible that is not ignored.
    fn is_change(&self, event: &Event) -> bool {
        let path = &event.path;
        let Some(base) = visible_from(path, |path| self.is_base(path)) else { return false };
        let is_dir = event.is_dir || path.is_dir();
        // A name that has been removed may have been that of a directory.
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
        for index in &lost {
            if let Some(real) = self.roots[*index].real.take() {
                self.watcher.unwatch_below(&real);
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
        // Other roots and targets of links may be below those whose watches were ended.
        let roots = self.roots.iter().filter_map(|root| root.real.as_ref());
        let bases: Vec<_> = roots.chain(&self.links.targets).cloned().collect();
        self.watch_below(bases.into_iter().map(|base| (base.clone(), base)));
        self.must_scan = true;
        self.end_needless();
    }

    /// Watches directories and all that is visible below them. Each has the root or the target of a
    /// link that it is in.
    fn watch_below(&mut self, directories: impl IntoIterator<Item = (PathBuf, PathBuf)>) {
        let mut walk = Walk::new(&self.ignore, &mut self.watcher);
        for (base, directory) in directories {
            walk.add(&base, directory);
        }
        while walk.next_link().is_some() {
            self.must_scan = true;
        }
        warn_of(&walk.seen);
    }

    /// Watches all visible directories, also those that links lead to now, and ends the watches of
    /// all others.
    fn scan(&mut self) -> Seen {
        self.must_scan = false;
        let roots: BTreeSet<_> = self.roots.iter().filter_map(|root| root.real.clone()).collect();
        let was_cut_off = self.links.is_cut_off;
        let mut walk = Walk::new(&self.ignore, &mut self.watcher);
        self.links = Links::find(&roots, &mut self.way, &mut walk);
        let seen = walk.seen;
        self.watcher.retain(|directory| seen.directories.contains(directory));
        self.end_needless();
        if self.links.is_cut_off && !was_cut_off {
            log::warn!(
                "there are more than {} symbolic links to directories below the watched directories: \
                 changes in the directories that the others lead to go unnoticed",
                links::MAX_FOLLOWED
            );
        }
        seen
    }

    /// Ends the watches of directories that no longer lead to a root or to the target of a link.
    fn end_needless(&mut self) {
        let of_roots = self.roots.iter().flat_map(|root| &root.names);
        self.way.retain(of_roots.chain(&self.links.names));
    }

    /// Resolves the path of a root, and watches the directory there.
    fn find(&mut self, index: usize) -> io::Result<()> {
        let root = &mut self.roots[index];
        root.names.clear();
        root.lost = true;
        let real = self.way.resolve(&root.path, &mut root.names)?;
        self.watcher.watch(&real)?;
        root.real = Some(real);
        root.lost = false;
        Ok(())
    }
}

/// Returns whether an event changes the rules by which files are ignored: in a `.gitignore` file, or
/// by the top of a repository.
fn changes_rules(event: &Event) -> bool {
    let is_top = event.kind != Kind::Modified && event.path.ends_with(".git");
    is_top || event.path.ends_with(".gitignore")
}

/// Logs that a directory cannot be watched.
fn warn_of(seen: &Seen) {
    if let Some((path, error)) = &seen.error {
        log::warn!("cannot watch {}, so changes may go unnoticed: {error}", path.display());
    }
}
