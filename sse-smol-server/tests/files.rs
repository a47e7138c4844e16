//! `--serve`: reading files, content types, and symbolic links.

#[path = "support/dir.rs"]
mod dir;
mod support;

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use dir::Dir;
use support::subscriber::wait_until;
use support::{Binary, get, read_head, read_response, read_to_end, send};

const MIB: usize = 1 << 20;

/// Creates a sparse file of this length in bytes.
fn sparse(dir: &Dir, name: &str, length: usize) -> File {
    let file = File::create(dir.0.join(name)).unwrap();
    file.set_len(length as u64).unwrap();
    file
}

/// Requests a file. Returns status and body.
fn file(address: SocketAddr, path: &str) -> (u16, String) {
    let (status, _, body) = read_response(&mut get(address, path));
    (status, body)
}

fn request(socket: &mut TcpStream, method: &str, path: &str) {
    // In one packet: the kernel would hold back a second one until the first is acknowledged.
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    socket.write_all(head.as_bytes()).unwrap();
}

/// Returns the resident memory of a server, in bytes.
#[cfg(target_os = "linux")]
fn memory(server: &Binary) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

#[test]
#[cfg(target_os = "linux")]
fn a_large_file_takes_little_memory_with_stalled_readers() {
    let dir = Dir::new();
    sparse(&dir, "large", 1 << 30);
    let server = Binary::start_with_one_heap(&["--serve", dir.path()]);
    let start = Instant::now();
    let mut socket = send(server.address, "");
    request(&mut socket, "HEAD", "/large");
    let head = read_head(&mut socket);
    assert!(head.contains("Content-Length: 1073741824\r\n"), "{head}");
    // No body follows, so the connection is reused.
    request(&mut socket, "HEAD", "/large");
    assert_eq!(head.lines().next(), read_head(&mut socket).lines().next());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());

    let before = memory(&server);
    let mut readers: Vec<_> = (0..3).map(|_| get(server.address, "/large")).collect();
    for reader in &mut readers {
        assert!(read_head(reader).contains("Content-Length: 1073741824\r\n"));
    }
    // The clients stop reading. A server that reads ahead would grow now.
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        let grown = memory(&server).saturating_sub(before);
        assert!(grown < 8 * MIB, "{} KiB for three readers", grown >> 10);
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_file_arrives_unchanged_and_the_connection_is_reused() {
    let dir = Dir::new();
    let server = Binary::start(&["--serve", dir.path()]);
    let mut socket = send(server.address, "");
    // Lengths around the size of a piece, and one far above the socket buffers.
    for length in [0, 1, 65_535, 65_536, 65_537, 131_072, 24 * MIB + 7] {
        // Each word is its index, so that all pieces differ.
        let words = (0..=u32::try_from(length / 4).unwrap()).flat_map(u32::to_be_bytes);
        let content: Vec<u8> = words.take(length).collect();
        fs::write(dir.0.join("file"), &content).unwrap();
        request(&mut socket, "GET", "/file");
        let head = read_head(&mut socket);
        assert!(head.contains(&format!("Content-Length: {length}\r\n")), "{head}");
        let mut body = vec![0; length];
        for piece in body.chunks_mut(MIB) {
            if length > MIB {
                thread::sleep(Duration::from_millis(20));
            }
            socket.read_exact(piece).unwrap();
        }
        assert!(body == content, "{length} bytes");
    }
    let old = read_to_end(&mut send(server.address, "HEAD /file HTTP/1.0\r\n\r\n"));
    assert!(old.contains("Content-Length: 25165831\r\n") && old.ends_with("\r\n\r\n"), "{old}");
    dir.write("file", "content");
    let old = read_to_end(&mut send(server.address, "GET /file HTTP/1.0\r\n\r\n"));
    assert!(old.contains("Content-Length: 7\r\n") && old.ends_with("\r\n\r\ncontent"), "{old}");
}

#[test]
fn a_file_that_grows_is_sent_as_announced_and_one_that_shrinks_is_cut_off() {
    const LENGTH: usize = 64 * MIB;
    let dir = Dir::new();
    let server = Binary::start(&["--serve", dir.path()]);
    let changed = |to: usize| {
        let file = sparse(&dir, "file", LENGTH);
        let mut socket = get(server.address, "/file");
        let head = read_head(&mut socket);
        assert!(head.contains(&format!("Content-Length: {LENGTH}\r\n")), "{head}");
        file.set_len(to as u64).unwrap();
        request(&mut socket, "GET", "/empty");
        socket
    };
    dir.write("empty", "");

    let mut grown = changed(LENGTH + MIB);
    let mut body = vec![1; LENGTH];
    grown.read_exact(&mut body).unwrap();
    assert!(body.iter().all(|byte| *byte == 0));
    let head = read_head(&mut grown);
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("Content-Length: 0\r\n"), "{head}");

    let mut body = Vec::new();
    changed(1000).read_to_end(&mut body).unwrap();
    assert!(body.len() < LENGTH && body.iter().all(|byte| *byte == 0), "{}", body.len());
    let (_, _, log) = server.stop("-TERM");
    assert!(log.contains("GET /file 200: failed: the file became shorter"), "{log}");
}

#[test]
fn a_client_that_does_not_read_a_file_is_disconnected() {
    let dir = Dir::new();
    sparse(&dir, "large", 1 << 30);
    let server = Binary::start(&["--serve", dir.path(), "--write-timeout", "0.5"]);
    let mut socket = get(server.address, "/large");
    read_head(&mut socket);
    wait_until("the client is disconnected", || {
        let (_, metrics) = file(server.address, "/metrics");
        metrics.contains("sse_requests_total{reason=\"stuck\"} 1\n")
    });
}

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

/// Requests a file. Returns status, head and body.
fn whole_file(address: SocketAddr, path: &str) -> (u16, String, String) {
    read_response(&mut get(address, path))
}

#[test]
fn files_have_a_content_type_and_directories_an_index() {
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
        let (status, head, body) = whole_file(server.address, &path);
        assert_eq!((status, body.as_str()), (200, name), "{head}");
        assert!(head.contains(&format!("Content-Type: {content_type}\r\n")), "{head}");
        assert!(head.contains("Cache-Control: no-cache\r\n"), "{head}");
    }
    assert_eq!(whole_file(server.address, "/").2, "index.html");
    assert_eq!(whole_file(server.address, "/?query").2, "index.html");
    assert_eq!(whole_file(server.address, "/sub/").2, "sub/index.html");
    let (status, head, _) = whole_file(server.address, "/sub?query");
    assert_eq!(status, 307);
    assert!(head.contains("Location: /sub/?query\r\n"), "{head}");

    let host = format!("Host: {}\r\nConnection: close\r\n\r\n", server.address);
    let mut socket = send(server.address, &format!("HEAD /sub/ HTTP/1.1\r\n{host}"));
    let head = read_to_end(&mut socket);
    assert!(head.contains("Content-Length: 14\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let mut socket = send(server.address, &format!("DELETE /app.js HTTP/1.1\r\n{host}"));
    let answer = read_to_end(&mut socket);
    assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("Allow: GET, HEAD\r\n"));

    // The demo page moves to `/__sse`; other routes stay.
    assert!(whole_file(server.address, "/__sse").2.contains("EventSource"));
    assert_eq!(whole_file(server.address, "/healthz").2, "ok\n");
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
