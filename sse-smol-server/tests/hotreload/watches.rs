//! Which directories take one of the system's watches, and trees with many directories.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::Events;
use super::dir::Dir;
use super::support::{Binary, TIMEOUT};

/// Returns the number of watches below a root, which has no symbolic links in its path.
fn watches_below(server: &Binary, root: &Path) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{}/fdinfo", server.pid())).unwrap();
    let all: usize = descriptors
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok())
        .map(|info| info.lines().filter(|line| line.starts_with("inotify ")).count())
        .sum();
    // The directories above the root are watched for its replacement.
    let above = root.ancestors().skip(1).count();
    all - above
}

/// Waits until there are `expected` watches below a root.
fn wait_for_watches(server: &Binary, root: &Path, expected: usize) {
    let start = Instant::now();
    while watches_below(server, root) != expected {
        let actual = watches_below(server, root);
        assert!(start.elapsed() < TIMEOUT, "{actual} watches instead of {expected}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn only_visible_directories_are_watched() {
    let dir = Dir::new();
    let root = dir.0.clone();
    for name in ["node_modules/a/x", "target/b/x", "src/target/x", ".git/objects/x", "src/c/x"] {
        dir.write(name, "1");
    }
    dir.write(".gitignore", "target\n");
    let server = Binary::start(&["--watch", root.to_str().unwrap(), "--ignore", "/drafts"]);
    let mut events = Events::of(server.address, "");
    events.connected();
    // The root itself, `src` and `src/c`.
    assert_eq!(watches_below(&server, &root), 3);

    for name in ["src/node_modules/d/x", "drafts/e/x", ".cache/f/x", "target/g/x"] {
        dir.write(name, "1");
    }
    events.assert_silent();
    assert_eq!(watches_below(&server, &root), 3);
    dir.write("src/h/i/x", "1");
    events.updated();
    wait_for_watches(&server, &root, 5);
    fs::rename(root.join("src/h"), root.join("drafts/h")).unwrap();
    events.updated();
    wait_for_watches(&server, &root, 3);
}

#[test]
fn a_changed_gitignore_file_changes_which_directories_are_watched() {
    let dir = Dir::new();
    let root = dir.0.join("site");
    dir.write(".git/HEAD", "");
    dir.write("site/target/a/x", "1");
    dir.write("site/b/x", "1");
    // Both in the watched directory and above it.
    for file in ["site/.gitignore", ".gitignore"] {
        dir.write(file, "target\n");
        let server = Binary::start(&["--watch", root.to_str().unwrap()]);
        let mut events = Events::of(server.address, "");
        events.connected();
        assert_eq!(watches_below(&server, &root), 2);
        // A file in them may have changed at the same time.
        dir.write(file, "# nothing\n");
        events.updated();
        assert_eq!(watches_below(&server, &root), 4);
        dir.write("site/target/a/x", "2");
        events.updated();
        dir.write(file, "target\n");
        wait_for_watches(&server, &root, 2);
        dir.write("site/target/a/x", "3");
        events.assert_silent();
        fs::remove_file(dir.0.join(file)).unwrap();
        events.updated();
        assert_eq!(watches_below(&server, &root), 4);
    }
}

#[test]
fn patterns_that_include_count_in_ignored_directories() {
    let dir = Dir::new();
    dir.write(".gitignore", "dist\n");
    dir.write("dist/a/index.html", "1");
    let server = Binary::start(&["--watch", dir.path(), "--ignore", "!*.html"]);
    let mut events = Events::of(server.address, "");
    events.connected();
    dir.write("dist/a/index.js", "1");
    events.assert_silent();
    dir.write("dist/a/index.html", "2");
    events.updated();
    dir.write("dist/b/index.js", "1");
    events.assert_silent();
    dir.write("dist/b/index.html", "1");
    events.updated();
}

#[test]
fn a_tree_of_10_000_directories_is_not_reported_when_it_is_read() {
    let dir = Dir::new();
    let root = dir.0.clone();
    let names = || (0..100).flat_map(|outer| (0..100).map(move |inner| format!("{outer}/{inner}")));
    for name in names() {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    let server = Binary::start(&["--watch", root.to_str().unwrap()]);
    let mut events = Events::of(server.address, "");
    events.connected();
    assert_eq!(watches_below(&server, &root), 10_101);
    for name in names().chain(names()) {
        fs::read_dir(root.join(name)).unwrap();
    }
    events.assert_silent();
    // Directories are looked through again after a directory is created.
    dir.write("new/index.html", "1");
    events.updated();
    events.assert_silent();
    dir.write("99/99/index.html", "1");
    events.updated();
    events.assert_silent();
    // More events than the kernel queues.
    fs::remove_dir_all(&root).unwrap();
    dir.write("index.html", "1");
    events.updated();
    wait_for_watches(&server, &root, 1);
    dir.write("index.html", "2");
    events.updated();
}
