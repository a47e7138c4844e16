//! Directories that are watched: a burst of changes in them is one change.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// Editors and build tools write in bursts: what comes closer together than this is one change.
const QUIET: Duration = Duration::from_millis(200);

/// A change is told after so long at the latest, be it quiet or not.
const LONGEST: Duration = Duration::from_secs(5);

/// How often a directory that is gone is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Has `changed` called for each change in the directories at these real paths and all that is below
/// them, from when this returns until the process ends.
///
/// Hidden files and directories do not count: that is where editors and version control keep what
/// is theirs.
pub(crate) fn watch(
    roots: Vec<PathBuf>,
    changed: impl Fn() + Send + 'static,
) -> Result<(), String> {
    if roots.is_empty() {
        return Ok(());
    }
    let (sender, events) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(sender)
        .map_err(|error| format!("cannot watch directories: {error}"))?;
    for root in &roots {
        watcher
            .watch(root, RecursiveMode::Recursive)
            .map_err(|error| format!("cannot watch {}: {error}", root.display()))?;
    }
    let watch = Watch { watcher, roots, lost: Vec::new(), burst: None };
    thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || watch.run(&events, changed))
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    Ok(())
}

struct Watch {
    watcher: RecommendedWatcher,
    roots: Vec<PathBuf>,
    /// The roots that were removed or moved away, as build tools do with what they make anew.
    lost: Vec<PathBuf>,
    /// When the changes that have not been told began, and when the last of them came.
    burst: Option<(Instant, Instant)>,
}

impl Watch {
    fn run(mut self, events: &Receiver<notify::Result<notify::Event>>, changed: impl Fn()) {
        loop {
            let look = (!self.lost.is_empty()).then(|| Instant::now() + LOOK);
            let event = match self.due().into_iter().chain(look).min() {
                Some(at) => events.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => events.recv().map_err(RecvTimeoutError::from),
            };
            match &event {
                Ok(Ok(event)) => self.handle(event),
                Ok(Err(error)) => log::warn!("changes may go unnoticed: {error}"),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.look_for_lost();
            // What waits to be received belongs to the burst, however late it is.
            let quiet = event.is_err();
            let now = Instant::now();
            let is_due = quiet && self.due().is_some_and(|due| due <= now);
            if is_due || self.burst.is_some_and(|(first, _)| first + LONGEST <= now) {
                self.burst = None;
                changed();
            }
        }
    }

    /// When the burst is over. While a directory is gone, whoever removed it is not done.
    fn due(&self) -> Option<Instant> {
        let (first, last) = self.burst?;
        let latest = first + LONGEST;
        Some(if self.lost.is_empty() { latest.min(last + QUIET) } else { latest })
    }

    fn handle(&mut self, event: &notify::Event) {
        const MOVED: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::From));
        if event.need_rescan() {
            // Events were lost, and who knows which.
            self.lost.clone_from(&self.roots);
        }
        if self.is_change(event) {
            self.changed();
        }
        if event.kind.is_remove() || event.kind == MOVED {
            let lost = event.paths.iter().filter(|path| self.roots.contains(path));
            self.lost.extend(lost.cloned());
        }
    }

    fn changed(&mut self) {
        let now = Instant::now();
        self.burst.get_or_insert((now, now)).1 = now;
    }

    fn is_change(&self, event: &notify::Event) -> bool {
        const WRITTEN: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
        // Files are also opened to be served.
        let is_read = event.kind.is_access() && event.kind != WRITTEN;
        !is_read && event.paths.iter().any(|path| is_visible(path, &self.roots))
    }

    /// Watches those again that are back, and takes that for a change.
    fn look_for_lost(&mut self) {
        for root in std::mem::take(&mut self.lost) {
            // The path may lead to another directory now.
            let _ = self.watcher.unwatch(&root);
            match self.watcher.watch(&root, RecursiveMode::Recursive) {
                Ok(()) => self.changed(),
                Err(error) => {
                    log::debug!("{error}");
                    self.lost.push(root);
                }
            }
        }
    }
}

/// Whether a path has no hidden part below the directory that is watched.
fn is_visible(path: &Path, roots: &[PathBuf]) -> bool {
    let mut below = roots.iter().filter_map(|root| path.strip_prefix(root).ok());
    below.any(|path| path.iter().all(|name| !name.as_encoded_bytes().starts_with(b".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_is_what_is_hidden_below_the_directory() {
        let roots = ["/home/.dev/site", "/home/.dev/site/.well-known"].map(PathBuf::from);
        for (path, visible) in [
            ("/home/.dev/site", true),
            ("/home/.dev/site/a/index.html", true),
            ("/home/.dev/site/.git/index", false),
            ("/home/.dev/site/a/.index.html.swp", false),
            ("/home/.dev/site/.well-known/x", true),
            ("/elsewhere", false),
        ] {
            assert_eq!(is_visible(Path::new(path), &roots), visible, "{path}");
        }
    }
}
