//! `--open`: shows a URL in the browser of the desktop.

use std::process::{Command, Stdio};
use std::thread;

/// The program that opens a URL with the browser that the user has chosen.
const OPENER: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };

/// Opens a URL in the user's browser, without waiting for it. A failure is logged.
///
/// Other users of the machine can see the URL in the list of processes, so it must not contain a
/// token.
pub(crate) fn open(url: String) {
    let open = move || {
        let mut command = Command::new(OPENER);
        command.arg(&url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.status() {
            Ok(status) if status.success() => {}
            Ok(status) => log::warn!("cannot open {url}: {OPENER} failed: {status}"),
            Err(error) => log::warn!("cannot open {url}: cannot run {OPENER}: {error}"),
        }
    };
    if let Err(error) = thread::Builder::new().name("open".to_owned()).spawn(open) {
        log::warn!("cannot start the thread that opens the browser: {error}");
    }
}
