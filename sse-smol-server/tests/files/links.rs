//! Symbolic links and permissions: which files beneath the directory are served.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::dir::Dir;
use super::support::{Binary, read_response, send};
use super::{file, request, whole_file};

#[test]
fn symbolic_links_are_followed_only_to_visible_files_beneath_the_directory() {
    let parent = Dir::new();
    for name in ["secret", "site/.env", "site/.git/config", "outside/page", "site-2/page"] {
        parent.write(name, "secret");
    }
    for name in ["site/page", "site/a/page", "site/a/b/page", "site/a/index.html"] {
        parent.write(name, "content");
    }
    let site = parent.0.join("site");
    let link = |target: &str, name: &str| symlink(target, site.join(name)).unwrap();
    let absolute = |below: &str| format!("{}/{below}", parent.path());

    let mut found = vec!["/page".to_owned(), "/a/".to_owned()];
    for (number, target) in [
        "page",
        "./page",
        "a/page",
        "a//page",
        "a/../page",
        "a/b/../../a/./page",
        "to-b/page",
        "to-b/../page",
        "to-a/b/../page",
        "to-root/page",
        "link-0",
        &absolute("site/page"),
        &absolute("site/a/../page"),
        &absolute("site/to-b/page"),
        &absolute("current/page"),
    ]
    .iter()
    .enumerate()
    {
        link(target, &format!("link-{number}"));
        found.push(format!("/link-{number}"));
    }
    link("a", "to-a");
    link("to-a/b", "to-b");
    link(".", "to-root");
    link("../page", "a/up");
    link(&absolute("site/a/b"), "a/b-again");
    let others = ["/to-a/", "/to-b/page", "/to-root/a/page", "/a/up", "/a/b-again/page"];
    found.extend(others.map(str::to_owned));

    let mut hidden = Vec::new();
    for (number, target) in [
        "../secret",
        "../outside/page",
        "a/../../secret",
        "to-b/../../../secret",
        "../site/page",
        "../../../../../../../../etc/passwd",
        ".env",
        "./.env",
        ".git/config",
        "a/../.git/config",
        "to-root/.env",
        "/etc/passwd",
        "/",
        "..",
        "nowhere",
        "page/x",
        "page/../page",
        &absolute("secret"),
        &absolute("site-2/page"),
        &absolute("site/.env"),
        &absolute("site/../secret"),
        &absolute("site/a/../../secret"),
        &absolute("outside"),
    ]
    .iter()
    .enumerate()
    {
        link(target, &format!("hidden-{number}"));
        hidden.push(format!("/hidden-{number}"));
        hidden.push(format!("/hidden-{number}/"));
        hidden.push(format!("/hidden-{number}/page"));
    }
    link(".git", "git");
    link("to-git", "to-git");
    hidden.extend(["/git/config", "/to-git", "/to-git/x", "/a"].map(str::to_owned));
    // 40 links are followed, as Linux does.
    link("page", "chain-1");
    for number in 2..=41 {
        link(&format!("chain-{}", number - 1), &format!("chain-{number}"));
    }
    found.push("/chain-40".to_owned());
    hidden.push("/chain-41".to_owned());

    // The root itself may be a link.
    symlink("site", parent.0.join("current")).unwrap();
    for root in [site.to_str().unwrap(), &absolute("current")] {
        let server = Binary::start(&["--serve", root]);
        for path in &found {
            // An absolute target must begin with the path of the root, as given or resolved.
            if path == "/link-14" && !root.ends_with("current") {
                continue;
            }
            assert_eq!(file(server.address, path), (200, "content".to_owned()), "{root}: {path}");
        }
        for path in &hidden {
            let (status, body) = file(server.address, path);
            let expected = if path == "/a" { 307 } else { 404 };
            assert_eq!(status, expected, "{root}: {path}: {body}");
        }
    }
}

#[test]
fn replacing_files_and_directories_by_links_exposes_nothing() {
    let parent = Dir::new();
    parent.write("secret", "secret");
    parent.write("outside/page", "secret");
    parent.write("site/page", "content");
    parent.write("site/dir/page", "content");
    parent.write("site/.hidden", "secret");
    let site = parent.0.join("site");
    let server = Binary::start(&["--serve", site.to_str().unwrap()]);

    let (mut swaps, mut found) = (0_usize, 0);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut found = 0;
            let mut socket = send(server.address, "");
            let until = Instant::now() + Duration::from_secs(4);
            while Instant::now() < until {
                for path in ["/page", "/dir/page"] {
                    request(&mut socket, "GET", path);
                    let (status, _, body) = read_response(&mut socket);
                    match status {
                        200 => assert_eq!(body, "content", "{path}"),
                        _ => assert_eq!(status, 404, "{path}: {body}"),
                    }
                    found += u32::from(status == 200);
                }
            }
            found
        });
        let rename = |from: &str, to: &str| fs::rename(site.join(from), site.join(to)).unwrap();
        while !client.is_finished() {
            let target = ["../secret", ".hidden"][swaps % 2];
            symlink(target, site.join("new-link")).unwrap();
            rename("new-link", "page");
            fs::write(site.join("new-page"), "content").unwrap();
            rename("new-page", "page");

            symlink("../outside", site.join("new-link")).unwrap();
            rename("dir", "old-dir");
            rename("new-link", "dir");
            fs::remove_file(site.join("dir")).unwrap();
            rename("old-dir", "dir");
            swaps += 1;
        }
        found = client.join().unwrap();
    });
    println!("{swaps} swaps, {found} files");
    assert!(swaps > 200 && found > 100, "{swaps} swaps, {found} files");
}

#[test]
fn the_directory_may_be_a_symbolic_link_that_is_retargeted() {
    let parent = Dir::new();
    for version in ["v1", "v2"] {
        parent.write(&format!("{version}/page"), version);
        parent.write(&format!("{version}/public/page"), version);
    }
    let path = |name: &str| parent.0.join(name);
    symlink("v1", path("current")).unwrap();
    let direct = Binary::start(&["--serve", path("current").to_str().unwrap()]);
    let below = Binary::start(&["--serve", path("current/public").to_str().unwrap()]);
    let is = |version: &str| {
        for server in [&direct, &below] {
            assert_eq!(file(server.address, "/page"), (200, version.to_owned()));
        }
    };
    is("v1");
    symlink("v2", path("new")).unwrap();
    fs::rename(path("new"), path("current")).unwrap();
    is("v2");
    // While the link is missing, requests get 404, and the log has the reason.
    fs::remove_file(path("current")).unwrap();
    assert_eq!(file(direct.address, "/page").0, 404);
    symlink("v1", path("current")).unwrap();
    is("v1");
    let (_, _, log) = direct.stop("-TERM");
    assert!(log.contains(&format!("cannot open {}", path("current").display())), "{log}");
}

/// Returns a command that runs the binary with file permissions enforced. `searchable` is a directory
/// without read permission.
fn bound_by_permissions(searchable: &Path) -> Command {
    let binary = env!("CARGO_BIN_EXE_sse-smol-server");
    if fs::read_dir(searchable).is_err() {
        return Command::new(binary);
    }
    // The test runs as root: the binary runs without the capabilities to bypass permissions.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-dac_override,-dac_read_search", binary]);
    command
}

#[test]
#[cfg(target_os = "linux")]
fn search_permission_on_directories_is_enough() {
    let dir = Dir::new();
    for name in ["site/page", "site/a/page", "site/a/b/page", "site/a/index.html", "site/shut/page"]
    {
        dir.write(name, "content");
    }
    symlink("a/b/../page", dir.0.join("site/link")).unwrap();
    symlink("../a/b", dir.0.join("site/a/to-b")).unwrap();
    fs::write(dir.0.join("site/a/unreadable"), "content").unwrap();
    let set_mode = |name: &str, mode: u32| {
        fs::set_permissions(dir.0.join(name), Permissions::from_mode(mode)).unwrap();
    };
    set_mode("site/a/unreadable", 0);
    let directories = ["site/shut", "site/a/b", "site/a", "site"];
    for name in directories {
        set_mode(name, 0o111);
    }
    set_mode("site/shut", 0o666);

    let site = dir.0.join("site");
    let arguments = ["--open-publishing", "--serve", site.to_str().unwrap()];
    let server = Binary::start_by(bound_by_permissions(&site), "127.0.0.1:0", &arguments);
    for path in ["/page", "/a/page", "/a/b/page", "/a/", "/link", "/a/to-b/page"] {
        assert_eq!(file(server.address, path), (200, "content".to_owned()), "{path}");
    }
    for path in ["/a/unreadable", "/shut/page", "/a/none"] {
        assert_eq!(file(server.address, path).0, 404, "{path}");
    }
    assert_eq!(file(server.address, "/a/b").0, 307);

    // Without search permission on the directory itself, the server does not start.
    set_mode("site", 0o666);
    let mut command = bound_by_permissions(&site);
    let output = command.args(["--listen", "127.0.0.1:0"]).args(arguments).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    let is_reported = errors.contains("--serve") && errors.contains("Permission denied");
    for name in directories.iter().rev() {
        set_mode(name, 0o755);
    }
    assert!(!output.status.success() && is_reported, "{errors}");
}

#[test]
fn paths_that_leave_the_directory_get_404() {
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
        let (status, _, body) = whole_file(server.address, path);
        assert_eq!(status, 404, "{path}: {body}");
    }
    for path in ["/seen", "/%73een", "/a/seen", "/link-in"] {
        let (status, _, body) = whole_file(server.address, path);
        assert_eq!((status, body.as_str()), (200, "content"), "{path}");
    }
    // Request targets that are not valid URLs.
    let host = format!("Host: {}\r\n\r\n", server.address);
    for path in ["\\..\\secret", "/\\..\\secret", "/\0", "*", "http://127.0.0.1/../secret"] {
        let mut socket = send(server.address, &format!("GET {path} HTTP/1.1\r\n{host}"));
        let (status, _, body) = read_response(&mut socket);
        assert!(status == 400 || status == 404, "{path:?}: {status} {body}");
    }
}
