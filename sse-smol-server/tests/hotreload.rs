//! Live reload and files, as a dev server has them.

#[path = "support/browser.rs"]
mod browser;
#[path = "support/dir.rs"]
mod dir;
mod support;

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use browser::Browser;
use dir::Dir;
use serde_json::Value;
use support::{Binary, PATIENCE, get, read_head, read_response, read_to_end, read_until, send};

/// So long nothing comes where nothing is to come: longer than changes are collected for.
const SILENCE: Duration = Duration::from_millis(800);

/// A stream of events, as a client without chunks gets it.
struct Events(TcpStream);

impl Events {
    fn open(address: SocketAddr, target: &str, headers: &str) -> Self {
        let mut socket = send(address, &format!("GET {target} HTTP/1.0\r\n{headers}\r\n"));
        let head = read_head(&mut socket);
        assert!(head.contains("text/event-stream"), "{head}");
        Self(socket)
    }

    /// Connects as one that has this version, and sees what every stream begins with.
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

    /// The next event's type, id and version.
    fn next(&mut self) -> (String, String, String) {
        let block = self.block();
        let field = |name: &str| {
            let value = block.lines().find_map(|line| line.strip_prefix(name));
            value.unwrap_or_default().to_owned()
        };
        let data: Value = serde_json::from_str(&field("data: ")).unwrap();
        (field("event: "), field("id: "), data["version"].as_str().unwrap().to_owned())
    }

    /// Expects `connected` with the current version, and gives that.
    fn connected(&mut self) -> String {
        let (event_type, id, version) = self.next();
        assert_eq!((event_type.as_str(), &id), ("connected", &version));
        version
    }

    /// Expects `updated` with a new version, and gives that.
    fn updated(&mut self) -> String {
        let (event_type, id, version) = self.next();
        assert_eq!((event_type.as_str(), &id), ("updated", &version));
        version
    }

    fn is_silent(&mut self) {
        self.0.set_read_timeout(Some(SILENCE)).unwrap();
        let mut bytes = Vec::new();
        let end = self.0.read_to_end(&mut bytes);
        let timed_out = end.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(timed_out && bytes.is_empty(), "{end:?}: {}", String::from_utf8_lossy(&bytes));
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
    }
}

#[test]
fn a_burst_is_one_change() {
    loop {
        let dir = Dir::new();
        let server = Binary::start(&["--watch", dir.path()]);
        let mut events = Events::of(server.address, "");
        let first = events.connected();

        let start = Instant::now();
        for n in 0..5 {
            dir.write(&format!("{n}.txt"), "new");
        }
        if start.elapsed() > Duration::from_millis(100) {
            // The machine was busy elsewhere, and that may be more than one change.
            continue;
        }
        let second = events.updated();
        events.is_silent();

        dir.write("3.txt", "newer");
        let third = events.updated();
        events.is_silent();
        assert!(first != second && second != third && first != third);
        return;
    }
}

#[test]
fn what_is_a_change() {
    let dir = Dir::new();
    dir.write("index.html", "page");
    let server = Binary::start(&["--watch", dir.path(), "--serve", dir.path()]);
    let mut events = Events::of(server.address, "");
    events.connected();
    let path = |name: &str| dir.0.join(name);

    // Reading is none, nor is what is hidden.
    assert_eq!(file(server.address, "/").2, "page");
    dir.write(".git/index", "x");
    dir.write(".index.html.swp", "x");
    events.is_silent();

    // Editors that write another file and give it the name of the first.
    dir.write(".index.html.new", "new page");
    fs::rename(path(".index.html.new"), path("index.html")).unwrap();
    events.updated();

    // Directories that come later, and what is in them.
    dir.write("a/b/c.txt", "1");
    events.updated();
    dir.write("a/b/c.txt", "2");
    events.updated();
    fs::remove_file(path("a/b/c.txt")).unwrap();
    events.updated();
    events.is_silent();
}

#[test]
fn a_directory_that_is_made_anew_is_watched_again() {
    let parent = Dir::new();
    parent.write("dist/index.html", "1");
    let dist = parent.0.join("dist");
    let server = Binary::start(&["--watch", dist.to_str().unwrap()]);
    let mut events = Events::of(server.address, "");
    events.connected();

    // Told when it is back, not before.
    fs::remove_dir_all(&dist).unwrap();
    events.is_silent();
    parent.write("dist/index.html", "2");
    events.updated();
    events.is_silent();
    parent.write("dist/index.html", "3");
    events.updated();

    // Another directory in its place.
    parent.write("next/index.html", "4");
    fs::rename(&dist, parent.0.join("before")).unwrap();
    fs::rename(parent.0.join("next"), &dist).unwrap();
    events.updated();
    parent.write("before/index.html", "nobody looks there any more");
    events.is_silent();
    parent.write("dist/index.html", "5");
    events.updated();
}

#[test]
fn a_client_that_comes_back_misses_nothing_and_gets_nothing_twice() {
    let dir = Dir::new();
    let server = Binary::start(&["--watch", dir.path()]);
    let mut events = Events::of(server.address, "");
    let old = events.connected();
    dir.write("a", "1");
    let new = events.updated();
    drop(events);

    let stale = |events: &mut Events| {
        // Until it has `updated`, it keeps the id that it came with.
        assert_eq!(events.next(), ("connected".to_owned(), String::new(), new.clone()));
        assert_eq!(events.updated(), new);
        events.is_silent();
    };
    let current = |events: &mut Events| {
        assert_eq!(events.connected(), new);
        events.is_silent();
    };
    stale(&mut Events::of(server.address, &old));
    current(&mut Events::of(server.address, &new));
    current(&mut Events::of(server.address, ""));

    // The header wins over the query: it is newer.
    let with = |query: &str, header: &str| {
        let target = format!("/__hotreload?lastEventId={query}");
        let header = format!("Last-Event-ID: {header}\r\n");
        let header = if header.contains(": \r") { "" } else { &header };
        let mut events = Events::open(server.address, &target, header);
        events.retry();
        events
    };
    stale(&mut with(&old, ""));
    current(&mut with(&new, ""));
    current(&mut with(&old, &new));
    stale(&mut with(&new, &old));
}

#[test]
fn a_server_that_was_started_again_is_a_change() {
    let dir = Dir::new();
    let server = Binary::start(&["--watch", dir.path()]);
    let address = server.address;
    let old = Events::of(address, "").connected();
    server.stop("-KILL");
    let _server = Binary::start_on(&address.to_string(), &["--watch", dir.path()]);
    let mut events = Events::of(address, &old);
    assert_eq!(events.next().0, "connected");
    let new = events.updated();
    assert_ne!(old, new);
    events.is_silent();
    assert_eq!(Events::of(address, &new).connected(), new);
}

#[test]
fn open_streams_do_not_hold_up_a_server_that_stops() {
    let dir = Dir::new();
    let server = Binary::start(&["--watch", dir.path(), "--drain", "60"]);
    let mut streams: Vec<_> = (0..10).map(|_| Events::of(server.address, "")).collect();
    for events in &mut streams {
        events.connected();
    }
    // Nobody closes, and all are to come back as soon as they can.
    let (time, clean, log) = server.stop("-TERM");
    assert!(clean && time < Duration::from_secs(1), "{time:?}: {log}");
    assert_eq!(log.matches("GET /__hotreload 200: drained, ").count(), 10, "{log}");
    for mut events in streams {
        let rest = read_to_end(&mut events.0);
        let retry = rest.rsplit("retry: ").next().unwrap().trim().parse::<u64>();
        assert!(retry.unwrap() <= 50, "{rest:?}");
    }
}

#[test]
fn the_script_has_the_version() {
    let server = Binary::start(&[]);
    let version = Events::of(server.address, "").connected();
    let (status, head, script) = file(server.address, "/__hotreload.js");
    assert_eq!(status, 200);
    assert!(head.contains("Content-Type: text/javascript; charset=utf-8\r\n"), "{head}");
    assert!(head.contains("Cache-Control: no-store\r\n"), "{head}");
    assert!(script.contains(&format!("__hotreload?lastEventId={version}\"")), "{script}");
}

#[test]
fn directories_have_to_be_there() {
    for flag in ["--watch", "--serve"] {
        for (path, why) in [("no/such/place", "No such file"), ("Cargo.toml", "not a directory")] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"));
            let output = command.args(["--listen", "127.0.0.1:0", flag, path]).output().unwrap();
            let errors = String::from_utf8(output.stderr).unwrap();
            let says = [flag, path, why].iter().all(|part| errors.contains(part));
            assert!(!output.status.success() && says, "{errors}");
        }
    }
}

/// Status, head and body.
fn file(address: SocketAddr, path: &str) -> (u16, String, String) {
    read_response(&mut get(address, path))
}

#[test]
fn files_have_their_types() {
    let dir = Dir::new();
    let server = Binary::start(&["--serve", dir.path()]);
    for (name, content_type) in [
        ("index.html", "text/html; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("app.js", "text/javascript; charset=utf-8"),
        ("data.json", "application/json"),
        ("logo.svg", "image/svg+xml"),
        ("app.wasm", "application/wasm"),
        ("LICENSE", "application/octet-stream"),
        ("two words/ü.txt", "text/plain; charset=utf-8"),
        ("sub/index.html", "text/html; charset=utf-8"),
    ] {
        dir.write(name, name);
        let path = format!("/{}", name.replace(' ', "%20").replace('ü', "%c3%bc"));
        let (status, head, body) = file(server.address, &path);
        assert_eq!((status, body.as_str()), (200, name), "{head}");
        assert!(head.contains(&format!("Content-Type: {content_type}\r\n")), "{head}");
        assert!(head.contains("Cache-Control: no-cache\r\n"), "{head}");
    }
    assert_eq!(file(server.address, "/").2, "index.html");
    assert_eq!(file(server.address, "/?query").2, "index.html");
    assert_eq!(file(server.address, "/sub/").2, "sub/index.html");
    let (status, head, _) = file(server.address, "/sub?query");
    assert_eq!(status, 307);
    assert!(head.contains("Location: /sub/?query\r\n"), "{head}");

    let host = format!("Host: {}\r\nConnection: close\r\n\r\n", server.address);
    let mut socket = send(server.address, &format!("HEAD /sub/ HTTP/1.1\r\n{host}"));
    let head = read_to_end(&mut socket);
    assert!(head.contains("Content-Length: 14\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let mut socket = send(server.address, &format!("DELETE /app.js HTTP/1.1\r\n{host}"));
    let answer = read_to_end(&mut socket);
    assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("Allow: GET, HEAD\r\n"));

    // The page of streams makes room, all else stays.
    assert!(file(server.address, "/__sse").2.contains("EventSource"));
    assert_eq!(file(server.address, "/healthz").2, "ok\n");
}

#[test]
fn there_is_no_way_out() {
    let parent = Dir::new();
    for name in [
        "secret",
        "site-secret",
        "outside/index.html",
        "site/seen",
        "site/a/seen",
        "site/empty/x",
        "site/.hidden",
        "site/.git/config",
    ] {
        parent.write(name, "content");
    }
    let site = parent.0.join("site");
    symlink(parent.0.join("secret"), site.join("link-out")).unwrap();
    symlink("../outside", site.join("dir-out")).unwrap();
    symlink("../../secret", site.join("a/index.html")).unwrap();
    symlink("seen", site.join("link-in")).unwrap();
    symlink("loop", site.join("loop")).unwrap();
    assert!(Command::new("mkfifo").arg(site.join("pipe")).status().unwrap().success());
    let server = Binary::start(&["--serve", site.to_str().unwrap()]);

    let secret = parent.0.join("secret");
    let absolute = secret.to_str().unwrap();
    for path in [
        "/nowhere",
        "/seen/",
        "/seen/x",
        "/empty/",
        "/../secret",
        "/a/../seen",
        "/./seen",
        "/%2e%2e/secret",
        "/%2E%2e%2Fsecret",
        "/..%2fsecret",
        "/a%2fseen",
        "/..%5csecret",
        "/a%5cseen",
        "/..%c0%afsecret",
        "/%252e%252e/secret",
        "/../site-secret",
        "/seen%00",
        "/%00",
        "/seen%00.html",
        "/%ff",
        "//seen",
        "/a//seen",
        "//127.0.0.1/..",
        "/.hidden",
        "/%2ehidden",
        "/.git/config",
        "/link-out",
        "/dir-out/",
        "/dir-out/index.html",
        "/a/",
        "/a/index.html",
        "/loop",
        "/pipe",
        absolute,
        &format!("/{absolute}"),
        &format!("/{}", absolute.replace('/', "%2f")),
        &format!("/{}", "x".repeat(5000)),
    ] {
        let (status, _, body) = file(server.address, path);
        assert_eq!(status, 404, "{path}: {body}");
    }
    for path in ["/seen", "/%73een", "/a/seen", "/link-in"] {
        let (status, _, body) = file(server.address, path);
        assert_eq!((status, body.as_str()), (200, "content"), "{path}");
    }
    // Nor by what no URL is.
    let host = format!("Host: {}\r\n\r\n", server.address);
    for path in ["\\..\\secret", "/\\..\\secret", "/\0", "*", "http://127.0.0.1/../secret"] {
        let mut socket = send(server.address, &format!("GET {path} HTTP/1.1\r\n{host}"));
        let (status, _, body) = read_response(&mut socket);
        assert!(status == 400 || status == 404, "{path:?}: {status} {body}");
    }
}

/// Each time it is loaded, the page publishes how often that has been, and what it shows.
fn page(shows: &str) -> String {
    format!(
        r#"<!doctype html>
        <script src="/__hotreload.js"></script>
        <p>{shows}</p>
        <script>
          const loads = (sessionStorage.loads = 1 + Number(sessionStorage.loads ?? 0));
          const body = `${{loads}} ${{document.querySelector("p").innerText}}`;
          fetch("/topics/loads", {{ method: "POST", body }});
        </script>"#
    )
}

#[test]
fn a_page_in_a_browser_is_reloaded_once_for_each_change() {
    let dir = Dir::new();
    let write = |path: &Path, shows: &str| fs::write(path, page(shows)).unwrap();
    let index = dir.0.join("index.html");
    write(&index, "one");
    let arguments = ["--serve", dir.path(), "--watch", dir.path(), "--drain", "60"];
    let mut server = Binary::start(&arguments);
    let address = server.address;
    let loads = || {
        let mut events = Events::open(address, "/topics/loads?lastEventId=earliest", "");
        let start = events.block();
        assert!(start.starts_with("id: ") && !start.contains("data"), "{start}");
        events
    };
    let says = |events: &mut Events, line: &str| {
        let block = events.block();
        assert!(block.contains(&format!("data: {line}\n")), "{line}, not {block:?}");
    };

    let mut events = loads();
    let mut browser = Browser::open(&format!("http://{address}/"));
    says(&mut events, "1 one");
    write(&index, "two");
    says(&mut events, "2 two");
    events.is_silent();

    // Whether the server falls or is told to go, once it is back so is the page.
    for (signal, shows, loads_again) in [("-KILL", "three", 3), ("-TERM", "four", 4)] {
        // This one would be waited for.
        drop(events);
        let (time, ..) = server.stop(signal);
        assert!(time < Duration::from_secs(5), "{signal}: {time:?}");
        write(&index, shows);
        server = Binary::start_on(&address.to_string(), &arguments);
        events = loads();
        says(&mut events, &format!("{loads_again} {shows}"));
        events.is_silent();
    }

    // It listens again, and to one stream.
    write(&index, "five");
    says(&mut events, "5 five");
    events.is_silent();
    browser.wait_for("document.querySelector('p').innerText === 'five'", PATIENCE);

    // A reload by hand is no reason for another.
    browser.evaluate("location.reload()");
    says(&mut events, "6 five");
    events.is_silent();
}

/// Whoever restarts a dev server does not wait for it, whatever its pages listen to.
#[test]
fn a_server_that_watches_stops_at_once_with_any_stream_open() {
    let dir = Dir::new();
    let server = Binary::start(&["--watch", dir.path()]);
    let mut sockets: Vec<_> = ["/clock", "/topics/a", "/__hotreload", "/score?stream=true"]
        .iter()
        .map(|path| get(server.address, path))
        .collect();
    for socket in &mut sockets {
        read_head(socket);
    }
    let (time, clean, log) = server.stop("-TERM");
    assert!(clean && time < Duration::from_secs(1), "{time:?}: {log}");
}
