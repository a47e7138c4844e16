//! Watches of directories, and what is reported of them.

mod event;
#[cfg(target_os = "linux")]
mod inotify;
#[cfg(not(target_os = "linux"))]
mod portable;

pub(super) use self::event::{Event, Kind, Notice};
#[cfg(target_os = "linux")]
pub(super) use self::inotify::Watcher;
#[cfg(not(target_os = "linux"))]
pub(super) use self::portable::Watcher;
