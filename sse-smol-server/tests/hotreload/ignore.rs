//! Which files are ignored.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::dir::Dir;
use super::support::Binary;
use super::{Events, in_parallel};

/// The files that a case writes, and whether that is a change.
type Writes = &'static [(&'static str, bool)];

/// Checks whether writing files is a change, with these contents of `.gitignore` files and these
/// flags.
fn check(git: &[(&str, &str)], watched: &str, flags: &[&str], writes: Writes) {
    let dir = Dir::new();
    for (name, _) in writes {
        dir.write(name, "1");
    }
    for (name, patterns) in git {
        dir.write(name, patterns);
    }
    let root = dir.0.join(watched);
    let flags = [&["--watch", root.to_str().unwrap()], flags].concat();
    let server = Binary::start(&flags);
    let mut events = Events::of(server.address, "");
    events.connected();
    for (name, is_change) in writes {
        println!("{name}");
        dir.write(name, "2");
        if *is_change {
            events.updated();
        } else {
            events.assert_silent();
        }
    }
}

#[test]
fn dependencies_and_temporary_files_of_editors_are_ignored() {
    let writes: &[Writes] = &[
        &[("node_modules/a/index.js", false), ("a/node_modules/b.js", false), ("a/b.js", true)],
        &[("a.html~", false), ("#a.html#", false), ("a.swp", false), ("x/4913", false)],
        &[("a.html___jb_tmp___", false), ("node_modules.js", true), ("#a", true)],
    ];
    in_parallel(writes, |writes| check(&[], "", &[], writes));
    let writes = &[("node_modules/a/index.js", true), ("a/node_modules/b.js", true)];
    check(&[], "", &["--ignore", "!node_modules"], writes);
}

#[test]
fn gitignore_files_are_honoured() {
    type Case = (&'static [(&'static str, &'static str)], &'static str, Writes);
    let cases: &[Case] = &[
        // In the watched directory, and below it.
        (
            &[(".gitignore", "*.log\n/dist/\n"), ("a/.gitignore", "!keep.log\nb\n")],
            "",
            &[
                ("x.log", false),
                ("a/x.log", false),
                ("a/keep.log", true),
                ("a/b/index.html", false),
                ("b/index.html", true),
                ("dist/index.html", false),
                ("a/dist/index.html", true),
            ],
        ),
        // Above it, in the same repository.
        (
            &[(".git/HEAD", ""), (".gitignore", "*.log\n/site/tmp\n")],
            "site",
            &[("site/x.log", false), ("site/tmp/x", false), ("site/a/tmp/x", true)],
        ),
        // Above the repository, or without one.
        (&[("site/.git/HEAD", ""), (".gitignore", "*.log\n")], "site", &[("site/x.log", true)]),
        (&[(".gitignore", "*.log\n")], "site", &[("site/x.log", true)]),
        // The watched directory is ignored itself, such as the output of a build.
        (
            &[(".git/HEAD", ""), (".gitignore", "dist\n*.log\n")],
            "dist",
            &[("dist/index.html", true), ("dist/dist/x", true)],
        ),
    ];
    in_parallel(cases, |(git, watched, writes)| check(git, watched, &[], writes));
}

#[test]
fn ignore_flags_have_precedence() {
    let git: &[(&str, &str)] = &[(".gitignore", "generated\n")];
    let writes: Writes = &[
        ("generated/a.html", true),
        ("a/generated/a.html", true),
        ("a/x.log", false),
        ("drafts/a.html", false),
        ("a/drafts/a.html", true),
    ];
    let flags = ["--ignore", "!generated", "--ignore", "*.log", "--ignore", "/drafts"];
    check(git, "", &flags, writes);
}

#[test]
fn a_changed_gitignore_file_counts_from_the_next_change_on() {
    let dir = Dir::new();
    dir.write("a.txt", "1");
    let server = Binary::start(&["--watch", dir.path()]);
    let mut events = Events::of(server.address, "");
    events.connected();
    dir.write("a.txt", "2");
    events.updated();
    dir.write(".gitignore", "*.txt\n");
    dir.write("a.txt", "3");
    events.assert_silent();
    fs::remove_file(dir.0.join(".gitignore")).unwrap();
    dir.write("a.txt", "4");
    events.updated();
}

#[test]
fn removing_an_ignored_directory_is_no_change() {
    let dir = Dir::new();
    dir.write(".gitignore", "dist/\n");
    dir.write("dist/a/index.html", "1");
    let server = Binary::start(&["--watch", dir.path()]);
    let mut events = Events::of(server.address, "");
    events.connected();
    fs::rename(dir.0.join("dist/a"), dir.0.join("dist/b")).unwrap();
    fs::remove_dir_all(dir.0.join("dist")).unwrap();
    events.assert_silent();
    fs::write(dir.0.join("dist"), "a file").unwrap();
    events.updated();
}

#[test]
fn links_in_ignored_directories_are_not_followed() {
    let dir = Dir::new();
    dir.write("store/lib.js", "1");
    dir.write("site/index.html", "1");
    fs::create_dir(dir.0.join("site/node_modules")).unwrap();
    for number in 0..=1000 {
        let link = format!("site/node_modules/{number}");
        symlink("../../store", dir.0.join(link)).unwrap();
    }
    let root = dir.0.join("site");
    let server = Binary::start(&["--watch", root.to_str().unwrap()]);
    let mut events = Events::of(server.address, "");
    events.connected();
    dir.write("store/lib.js", "2");
    events.assert_silent();
    // What a visible link leads to is watched, although it is ignored itself.
    dir.write("site/node_modules/lib/index.js", "1");
    symlink("node_modules/lib", root.join("lib")).unwrap();
    events.updated();
    dir.write("site/node_modules/lib/index.js", "2");
    events.updated();
    dir.write("site/node_modules/other/index.js", "1");
    events.assert_silent();
    let (_, _, log) = server.stop("-TERM");
    assert!(!log.contains("symbolic links"), "{log}");
}

#[test]
fn malformed_patterns_are_reported_at_startup() {
    for (flags, why) in
        [(&["--watch", ".", "--ignore", "[z-a]"][..], "[z-a]"), (&["--ignore", "*.log"], "--watch")]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"));
        let output = command.args(["--listen", "127.0.0.1:0"]).args(flags).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && errors.contains(why), "{errors}");
    }
}
