//! Which changes are reported, and how often.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

use super::dir::Dir;
use super::support::Binary;
use super::{Events, file};

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

#[test]
fn the_log_names_the_changed_files() {
    let dir = Dir::new();
    dir.write("v1/index.html", "1");
    symlink("v1", dir.0.join("current")).unwrap();
    let root = dir.0.join("current");
    let server = Binary::start(&["--watch", root.to_str().unwrap()]);
    let mut events = Events::of(server.address, "");
    events.connected();
    dir.write("v1/index.html", "2");
    events.updated();
    for number in 0..5 {
        dir.write(&format!("v1/{number}\n.txt"), "new");
    }
    dir.write("v1/.hidden", "new");
    events.updated();
    let (_, _, log) = server.stop("-TERM");
    // By the path that was given, and not by the real one.
    assert!(log.contains(&format!("files changed: \"{}/index.html\"\n", root.display())), "{log}");
    assert!(log.contains(&format!("files changed: \"{}/0\\n.txt\", ", root.display())), "{log}");
    assert!(log.contains("2\\n.txt\" and 2 more\n"), "{log}");
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
