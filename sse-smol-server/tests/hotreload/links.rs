//! Symbolic links in the path of a watched directory and beneath it.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::dir::Dir;
use super::support::Binary;
use super::{Events, file, in_parallel};

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
