//! `--open`: the browser that is started.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::dir::Dir;
use super::support::Binary;
use super::support::subscriber::wait_until;

/// Starts the binary with `--open` and with a directory in front of the search path for programs.
fn start(programs: &Dir, listen: &str, flags: &[&str]) -> Binary {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"));
    command.env("PATH", format!("{}:/usr/bin:/bin", programs.path()));
    Binary::start_by(command, listen, &[&["--open"], flags].concat())
}

fn write_program(dir: &Dir, script: &str) {
    dir.write("xdg-open", script);
    fs::set_permissions(dir.0.join("xdg-open"), Permissions::from_mode(0o755)).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn the_browser_opens_the_files_or_the_page_and_gets_no_token() {
    for (listen, flags) in
        [("127.0.0.1:0", &["--serve", "."][..]), ("127.0.0.1:0", &[]), ("0.0.0.0:0", &["--public"])]
    {
        let dir = Dir::new();
        let seen = dir.0.join("seen");
        write_program(
            &dir,
            &format!("#!/bin/sh\necho \"$*\" > {0}.new; mv {0}.new {0}", seen.display()),
        );
        let server = start(&dir, listen, flags);
        wait_until("the browser is opened", || seen.exists());
        let url = fs::read_to_string(&seen).unwrap();
        assert_eq!(url, format!("http://{}/\n", server.address), "{listen} {flags:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_browser_that_cannot_be_opened_is_logged_and_nothing_else() {
    let dir = Dir::new();
    let done = dir.0.join("done");
    write_program(&dir, &format!("#!/bin/sh\ntouch {}; exit 3", done.display()));
    let server = start(&dir, "127.0.0.1:0", &[]);
    wait_until("the program has run", || done.exists());
    wait_until("the program has ended", || {
        let pid = server.pid();
        !Command::new("pgrep").args(["-P", &pid.to_string()]).status().unwrap().success()
    });
    assert_eq!(super::file(server.address, "/healthz").2, "ok\n");
    let (_, clean, log) = server.stop("-TERM");
    assert!(clean && log.contains("xdg-open failed: exit status: 3"), "{log}");
}
