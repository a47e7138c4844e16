//! `--watch` and `--serve` together as a development server with live reload.

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
use std::thread;
use std::time::{Duration, Instant};

use browser::Browser;
use dir::Dir;
use serde_json::Value;
use support::{Binary, TIMEOUT, get, read_head, read_response, read_to_end, read_until, send};

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

#[test]
fn a_burst_of_writes_is_one_change() {
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
            // Too slow: the writes may count as more than one change. Try again.
            continue;
        }
        let second = events.updated();
        events.assert_silent();

        dir.write("3.txt", "newer");
        let third = events.updated();
        events.assert_silent();
        assert!(first != second && second != third && first != third);
        return;
    }
}

#[test]
fn changes_are_writes_renames_and_removals_of_visible_files() {
    let dir = Dir::new();
    dir.write("index.html", "page");
    let server = Binary::start(&["--watch", dir.path(), "--serve", dir.path()]);
    let mut events = Events::of(server.address, "");
    events.connected();
    let path = |name: &str| dir.0.join(name);

    // Reads and hidden files are not changes.
    assert_eq!(file(server.address, "/").2, "page");
    dir.write(".git/index", "x");
    dir.write(".index.html.swp", "x");
    events.assert_silent();

    // An editor that writes a new file and renames it over the old one.
    dir.write(".index.html.new", "new page");
    fs::rename(path(".index.html.new"), path("index.html")).unwrap();
    events.updated();

    // Directories that are created later, and their files.
    dir.write("a/b/c.txt", "1");
    events.updated();
    dir.write("a/b/c.txt", "2");
    events.updated();
    fs::remove_file(path("a/b/c.txt")).unwrap();
    events.updated();
    events.assert_silent();
}

#[test]
fn a_directory_that_is_recreated_is_watched_again() {
    let parent = Dir::new();
    parent.write("dist/index.html", "1");
    let dist = parent.0.join("dist");
    let server = Binary::start(&["--watch", dist.to_str().unwrap()]);
    let mut events = Events::of(server.address, "");
    events.connected();

    // The change is reported when the directory exists again, not before.
    fs::remove_dir_all(&dist).unwrap();
    events.assert_silent();
    parent.write("dist/index.html", "2");
    events.updated();
    events.assert_silent();
    parent.write("dist/index.html", "3");
    events.updated();

    // Another directory is moved into its place.
    parent.write("next/index.html", "4");
    fs::rename(&dist, parent.0.join("before")).unwrap();
    fs::rename(parent.0.join("next"), &dist).unwrap();
    events.updated();
    parent.write("before/index.html", "no longer watched");
    events.assert_silent();
    parent.write("dist/index.html", "5");
    events.updated();
}

/// Retargets a symbolic link atomically.
fn retarget(dir: &Dir, link: &str, target: &str) {
    symlink(target, dir.0.join("new-link")).unwrap();
    fs::rename(dir.0.join("new-link"), dir.0.join(link)).unwrap();
}

#[test]
fn retargeting_any_link_of_the_path_is_a_change() {
    // The watched path, the link that is retargeted, and its targets before and after.
    let cases = [
        ("current", "current", "v1", "v2"),
        ("current", "current", "./nested/../v1/", "v2"),
        ("current/public", "current", "v1", "v2"),
        ("current/public/docs", "current", "v1", "v2"),
        ("deploy/current/public", "deploy/current", "../v1", "../v2"),
        ("first/public", "second", "v1", "v2"),
        ("third", "second", "v1", "v2"),
        ("absolute", "second", "v1", "v2"),
        ("nested/../current", "current", "v1", "v2"),
    ];
    in_parallel(&cases, |&(watched, link, before, after)| {
        let dir = Dir::new();
        for version in ["v1", "v2"] {
            for page in ["page", "public/page", "public/docs/page"] {
                dir.write(&format!("{version}/{page}"), version);
            }
        }
        dir.write("deploy/page", "");
        dir.write("nested/page", "");
        symlink(before, dir.0.join(link)).unwrap();
        symlink("second", dir.0.join("first")).unwrap();
        symlink("first/public/docs", dir.0.join("third")).unwrap();
        symlink(dir.0.join("second"), dir.0.join("absolute")).unwrap();
        let root = dir.0.join(watched);
        let root = root.to_str().unwrap();
        let server = Binary::start(&["--watch", root, "--serve", root]);
        let mut events = Events::of(server.address, "");
        events.connected();
        let is = |version: &str| {
            assert_eq!(file(server.address, "/page").2, version, "{watched}");
        };
        for (version, other, target) in [("v2", "v1", after), ("v1", "v2", before)] {
            retarget(&dir, link, target);
            events.updated();
            is(version);
            // Only the current target is watched.
            dir.write(&format!("{other}/public/docs/page"), other);
            events.assert_silent();
            dir.write(&format!("{version}/public/docs/new"), "");
            events.updated();
        }
    });
}

#[test]
fn a_link_that_is_removed_and_recreated_is_a_change() {
    let dir = Dir::new();
    dir.write("v1/public/page", "v1");
    symlink("v1", dir.0.join("current")).unwrap();
    let root = dir.0.join("current/public");
    let root = root.to_str().unwrap();
    let server = Binary::start(&["--watch", root, "--serve", root]);
    let mut events = Events::of(server.address, "");
    events.connected();
    fs::remove_file(dir.0.join("current")).unwrap();
    events.assert_silent();
    symlink("v1", dir.0.join("current")).unwrap();
    events.updated();

    // The link dangles until its target is created.
    retarget(&dir, "current", "v2");
    events.assert_silent();
    assert_eq!(file(server.address, "/page").0, 404);
    dir.write("v2/public/page", "v2");
    events.updated();
    assert_eq!(file(server.address, "/page").2, "v2");
    dir.write("v2/public/page", "v2, again");
    events.updated();
    events.assert_silent();
}

#[test]
fn replacing_a_parent_directory_is_a_change() {
    let dir = Dir::new();
    dir.write("site/public/page", "1");
    dir.write("next/public/page", "2");
    let root = dir.0.join("site/public");
    let server = Binary::start(&["--watch", root.to_str().unwrap()]);
    let mut events = Events::of(server.address, "");
    events.connected();
    fs::rename(dir.0.join("site"), dir.0.join("before")).unwrap();
    fs::rename(dir.0.join("next"), dir.0.join("site")).unwrap();
    events.updated();
    dir.write("before/public/page", "3");
    events.assert_silent();
    dir.write("site/public/page", "4");
    events.updated();
}

#[test]
fn a_directory_watched_through_two_paths_stays_watched_through_one() {
    let dir = Dir::new();
    dir.write("v1/page", "1");
    dir.write("v2/page", "1");
    symlink("v1", dir.0.join("current")).unwrap();
    let [current, v1] = ["current", "v1"].map(|name| dir.0.join(name));
    let roots = ["--watch", current.to_str().unwrap(), "--watch", v1.to_str().unwrap()];
    let server = Binary::start(&roots);
    let mut events = Events::of(server.address, "");
    events.connected();
    retarget(&dir, "current", "v2");
    events.updated();
    for version in ["v1", "v2"] {
        dir.write(&format!("{version}/page"), "2");
        events.updated();
    }
    events.assert_silent();
}

#[test]
fn a_link_beneath_the_directory_is_followed_when_retargeted() {
    let dir = Dir::new();
    for name in ["v1/style", "v2/style", "site/page"] {
        dir.write(name, "1");
    }
    symlink("../v1", dir.0.join("site/assets")).unwrap();
    let server = Binary::start(&["--watch", dir.0.join("site").to_str().unwrap()]);
    let mut events = Events::of(server.address, "");
    events.connected();
    dir.write("v1/style", "2");
    events.updated();
    retarget(&dir, "site/assets", "../v2");
    events.updated();
    dir.write("v2/style", "2");
    events.updated();
}

/// Watches `site` below a directory, where a file is written at first.
fn watch_site(dir: &Dir) -> (Binary, Events) {
    dir.write("site/pages/x", "0");
    let server = Binary::start(&["--watch", dir.0.join("site").to_str().unwrap()]);
    let mut events = Events::of(server.address, "");
    events.connected();
    (server, events)
}

#[test]
fn links_to_a_watched_directory_leave_it_watched() {
    // Each step is a shell command in the watched directory. Those that change something visible are
    // reported, and after each of them a write to the directory is.
    const VISIBLE: bool = true;
    const HIDDEN: bool = false;
    type Steps = &'static [(&'static str, bool)];
    let cases: &[(&str, Steps)] = &[
        ("", &[("ln -s pages vis", VISIBLE), ("rm vis", VISIBLE)]),
        ("ln -s pages vis", &[("rm vis", VISIBLE), ("ln -s pages vis", VISIBLE)]),
        ("mkdir .c2; ln -s ../pages .c2/l", &[("mv .c2 c2", VISIBLE), ("rm -r c2", VISIBLE)]),
        (
            "mkdir ../c2; ln -s ../pages ../c2/l",
            &[("mv ../c2 c2", VISIBLE), ("mv c2 .c2", VISIBLE)],
        ),
        ("", &[("ln -s pages .hid", HIDDEN), ("rm .hid", HIDDEN)]),
        ("ln -s pages .hid", &[("mv .hid vis", VISIBLE), ("mv vis .hid", VISIBLE)]),
        (
            "mkdir other; ln -s pages vis",
            &[("ln -sfn other vis", VISIBLE), ("ln -sfn pages vis", VISIBLE)],
        ),
        ("ln -s pages a; ln -s pages b", &[("rm a", VISIBLE), ("rm b", VISIBLE)]),
        ("ln -s .. pages/up", &[("rm pages/up", VISIBLE)]),
        ("", &[("ln -s .. pages/up", VISIBLE), ("rm pages/up", VISIBLE)]),
        // To the directory above the watched one.
        ("ln -s .. up", &[("rm up", VISIBLE), ("ln -s .. up", VISIBLE), ("rm up", VISIBLE)]),
        ("ln -s pages a; ln -s a b", &[("rm a", VISIBLE), ("rm b", VISIBLE)]),
        ("ln -s nowhere dangling; ln -s loop loop", &[("rm dangling loop", VISIBLE)]),
    ];
    in_parallel(cases, |(before, steps)| {
        let dir = Dir::new();
        let site = dir.0.join("site");
        let run = |commands: &str| {
            let status = Command::new("sh").args(["-ec", commands]).current_dir(&site).status();
            assert!(status.unwrap().success(), "{commands}");
        };
        dir.write("site/pages/x", "0");
        run(before);
        let (_server, mut events) = watch_site(&dir);
        for (step, is_visible) in *steps {
            println!("{before:?}: {step}");
            run(step);
            if *is_visible {
                events.updated();
            } else {
                events.assert_silent();
            }
            dir.write("site/pages/x", "1");
            events.updated();
        }
        events.assert_silent();
    });
}

#[test]
fn directories_that_links_lead_to_are_watched_as_long_as_one_does() {
    // Outside the watched directory, and hidden in it.
    in_parallel(&[("out", "../out"), ("site/.cache", ".cache")], |&(real, target)| {
        let dir = Dir::new();
        dir.write(&format!("{real}/x"), "0");
        let (_server, mut events) = watch_site(&dir);
        let link = |name: &str| symlink(target, dir.0.join("site").join(name)).unwrap();
        let remove = |name: &str| fs::remove_file(dir.0.join("site").join(name)).unwrap();
        let write = || dir.write(&format!("{real}/x"), "1");
        write();
        link(".hidden");
        events.assert_silent();
        for name in ["one", "two"] {
            link(name);
            events.updated();
            write();
            events.updated();
        }
        remove("one");
        events.updated();
        write();
        events.updated();
        // What the link leads to is made anew.
        fs::rename(dir.0.join(real), dir.0.join("before")).unwrap();
        events.updated();
        dir.write("before/x", "2");
        events.assert_silent();
        write();
        events.updated();
        write();
        events.updated();
        remove("two");
        events.updated();
        write();
        events.assert_silent();
        dir.write("site/pages/x", "1");
        events.updated();
    });
}

#[test]
fn links_in_what_links_lead_to_are_followed() {
    let dir = Dir::new();
    for name in ["a/x", "b/x", "moved/y"] {
        dir.write(name, "0");
    }
    symlink("../b", dir.0.join("a/b")).unwrap();
    symlink("../a", dir.0.join("b/a")).unwrap();
    symlink("../../a", dir.0.join("moved/link")).unwrap();
    let (_server, mut events) = watch_site(&dir);
    // Links in a directory that is moved in.
    fs::rename(dir.0.join("moved"), dir.0.join("site/moved")).unwrap();
    events.updated();
    for name in ["a/x", "b/x", "site/pages/x"] {
        dir.write(name, "1");
        events.updated();
    }
    events.assert_silent();
    fs::rename(dir.0.join("site/moved"), dir.0.join("site/.moved")).unwrap();
    events.updated();
    dir.write("a/x", "2");
    dir.write("b/x", "2");
    events.assert_silent();
}

#[test]
fn the_number_of_links_that_are_followed_is_limited() {
    let dir = Dir::new();
    fs::create_dir(dir.0.join("site")).unwrap();
    for number in 0..=1000 {
        symlink("../nowhere", dir.0.join(format!("site/{number}"))).unwrap();
    }
    let (server, mut events) = watch_site(&dir);
    dir.write("site/pages/x", "1");
    events.updated();
    let (_, _, log) = server.stop("-TERM");
    assert!(log.contains("more than 1000 symbolic links"), "{log}");
}

#[test]
fn removing_the_parent_of_a_watched_directory_logs_no_warning() {
    let dir = Dir::new();
    dir.write("out/x", "0");
    dir.write("parent/site/pages/x", "0");
    symlink("../../out", dir.0.join("parent/site/link")).unwrap();
    let root = dir.0.join("parent/site");
    let server = Binary::start(&["--watch", root.to_str().unwrap()]);
    let mut events = Events::of(server.address, "");
    events.connected();
    fs::remove_dir_all(dir.0.join("parent")).unwrap();
    fs::remove_dir_all(dir.0.join("out")).unwrap();
    events.assert_silent();
    dir.write("parent/site/pages/x", "1");
    events.updated();
    let (_, _, log) = server.stop("-TERM");
    assert!(!log.lines().any(|line| line.contains("WARN") && line.contains("watch")), "{log}");
}

#[test]
fn a_reconnecting_client_gets_a_missed_change_exactly_once() {
    let dir = Dir::new();
    let server = Binary::start(&["--watch", dir.path()]);
    let mut events = Events::of(server.address, "");
    let old = events.connected();
    dir.write("a", "1");
    let new = events.updated();
    drop(events);

    let stale = |events: &mut Events| {
        // Until `updated`, the client keeps its last event ID.
        assert_eq!(events.next(), ("connected".to_owned(), String::new(), new.clone()));
        assert_eq!(events.updated(), new);
        events.assert_silent();
    };
    let current = |events: &mut Events| {
        assert_eq!(events.connected(), new);
        events.assert_silent();
    };
    // The header has precedence over the query, because it is newer.
    let with = |query: &str, header: &str| {
        let query = if query.is_empty() { String::new() } else { format!("?lastEventId={query}") };
        let mut header = format!("Last-Event-ID: {header}\r\n");
        if header.contains(": \r") {
            header.clear();
        }
        let mut events = Events::open(server.address, &format!("/__hotreload{query}"), &header);
        events.retry();
        events
    };
    // The query, the header, and whether the change was missed.
    let cases: [(&str, &str, bool); 7] = [
        ("", &old, true),
        ("", &new, false),
        ("", "", false),
        (&old, "", true),
        (&new, "", false),
        (&old, &new, false),
        (&new, &old, true),
    ];
    in_parallel(&cases, |&(query, header, is_stale)| {
        let mut events = with(query, header);
        if is_stale { stale(&mut events) } else { current(&mut events) }
    });
}

#[test]
fn a_restart_of_the_server_is_a_change() {
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
    events.assert_silent();
    assert_eq!(Events::of(address, &new).connected(), new);
}

#[test]
fn open_live_reload_streams_do_not_delay_shutdown() {
    let dir = Dir::new();
    let server = Binary::start(&["--watch", dir.path(), "--drain", "60"]);
    let mut streams: Vec<_> = (0..10).map(|_| Events::of(server.address, "")).collect();
    for events in &mut streams {
        events.connected();
    }
    // The clients keep their streams open, and are sent a short reconnection time.
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
fn the_script_contains_the_version() {
    let server = Binary::start(&[]);
    let version = Events::of(server.address, "").connected();
    let (status, head, script) = file(server.address, "/__hotreload.js");
    assert_eq!(status, 200);
    assert!(head.contains("Content-Type: text/javascript; charset=utf-8\r\n"), "{head}");
    assert!(head.contains("Cache-Control: no-store\r\n"), "{head}");
    assert!(script.contains(&format!("__hotreload?lastEventId={version}\"")), "{script}");
}

#[test]
fn missing_directories_are_reported_at_startup() {
    for flag in ["--watch", "--serve"] {
        for (path, why) in [("no/such/place", "No such file"), ("Cargo.toml", "not a directory")] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"));
            let output = command.args(["--listen", "127.0.0.1:0", flag, path]).output().unwrap();
            let errors = String::from_utf8(output.stderr).unwrap();
            let explained = [flag, path, why].iter().all(|part| errors.contains(part));
            assert!(!output.status.success() && explained, "{errors}");
        }
    }
}

/// Requests a file. Returns status, head and body.
fn file(address: SocketAddr, path: &str) -> (u16, String, String) {
    read_response(&mut get(address, path))
}

/// Returns a page that publishes the number of its loads and its text each time it is loaded.
fn page(text: &str) -> String {
    format!(
        r#"<!doctype html>
        <script src="/__hotreload.js"></script>
        <p>{text}</p>
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
    let write = |path: &Path, text: &str| fs::write(path, page(text)).unwrap();
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
    let expect_load = |events: &mut Events, line: &str| {
        let block = events.block();
        assert!(block.contains(&format!("data: {line}\n")), "{line}, not {block:?}");
    };

    let mut events = loads();
    let mut browser = Browser::open(&format!("http://{address}/"));
    expect_load(&mut events, "1 one");
    write(&index, "two");
    expect_load(&mut events, "2 two");
    events.assert_silent();

    // After a crash or a graceful shutdown, the page reloads once the server is back.
    for (signal, text, loads_again) in [("-KILL", "three", 3), ("-TERM", "four", 4)] {
        // Graceful shutdown would wait for this stream.
        drop(events);
        let (time, ..) = server.stop(signal);
        assert!(time < Duration::from_secs(5), "{signal}: {time:?}");
        write(&index, text);
        server = Binary::start_on(&address.to_string(), &arguments);
        events = loads();
        expect_load(&mut events, &format!("{loads_again} {text}"));
        events.assert_silent();
    }

    // The page has reconnected, with one stream.
    write(&index, "five");
    expect_load(&mut events, "5 five");
    events.assert_silent();
    browser.wait_for("document.querySelector('p').innerText === 'five'", TIMEOUT);

    // A manual reload does not cause another one.
    browser.reload();
    expect_load(&mut events, "6 five");
    events.assert_silent();
}

/// Restarting a development server must be quick, so `--watch` disables the drain period.
#[test]
fn with_watch_shutdown_does_not_wait_for_open_streams() {
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
