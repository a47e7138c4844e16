//! `--watch` and `--serve` together as a development server with live reload.

#[path = "../support/browser.rs"]
mod browser;
#[path = "../support/dir.rs"]
mod dir;
#[path = "../support/mod.rs"]
mod support;

mod changes;
mod ignore;
mod links;
mod open;
mod stream;
mod tabs;
mod watches;

use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use support::{TIMEOUT, get, read_head, read_response, read_until, send};

/// The time without events that counts as silence. Longer than the debounce period for changes.
const SILENCE: Duration = Duration::from_millis(800);

/// A client of an event stream over HTTP/1.0, so without chunks.
struct Events(TcpStream);

impl Events {
    fn open(address: SocketAddr, target: &str, headers: &str) -> Self {
        let mut socket = send(address, &format!("GET {target} HTTP/1.0\r\n{headers}\r\n"));
        let head = read_head(&mut socket);
        assert!(head.contains("text/event-stream"), "{head}");
        Self(socket)
    }

    /// Opens the live-reload stream as a page of this version, and reads the reconnection time.
    fn of(address: SocketAddr, version: &str) -> Self {
        let headers = match version {
            "" => String::new(),
            version => format!("Last-Event-ID: {version}\r\n"),
        };
        let mut events = Self::open(address, "/__hotreload", &headers);
        events.retry();
        events
    }

    fn block(&mut self) -> String {
        read_until(&mut self.0, "\n\n")
    }

    fn retry(&mut self) {
        let block = self.block();
        let retry = block.strip_prefix("retry: ").map(|retry| retry.trim().parse::<u64>());
        assert!(retry.is_some_and(|retry| retry.unwrap() <= 50), "{block:?}");
    }

    /// Returns the type, ID and version of the next event.
    fn next(&mut self) -> (String, String, String) {
        let block = self.block();
        let field = |name: &str| {
            let value = block.lines().find_map(|line| line.strip_prefix(name));
            value.unwrap_or_default().to_owned()
        };
        let data: Value = serde_json::from_str(&field("data: ")).unwrap();
        (field("event: "), field("id: "), data["version"].as_str().unwrap().to_owned())
    }

    /// Asserts that the next event is `connected`. Returns its version.
    fn connected(&mut self) -> String {
        let (event_type, id, version) = self.next();
        assert_eq!((event_type.as_str(), &id), ("connected", &version));
        version
    }

    /// Asserts that the next event is `updated`. Returns its version.
    fn updated(&mut self) -> String {
        let (event_type, id, version) = self.next();
        assert_eq!((event_type.as_str(), &id), ("updated", &version));
        version
    }

    fn assert_silent(&mut self) {
        self.0.set_read_timeout(Some(SILENCE)).unwrap();
        let mut bytes = Vec::new();
        let end = self.0.read_to_end(&mut bytes);
        let timed_out = end.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(timed_out && bytes.is_empty(), "{end:?}: {}", String::from_utf8_lossy(&bytes));
        self.0.set_read_timeout(Some(TIMEOUT)).unwrap();
    }
}

/// Checks all cases at once, since they mostly wait for silence.
fn in_parallel<T: Sync>(cases: &[T], check: impl Fn(&T) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| check(case));
        }
    });
}

/// Requests a file. Returns status, head and body.
fn file(address: SocketAddr, path: &str) -> (u16, String, String) {
    read_response(&mut get(address, path))
}
