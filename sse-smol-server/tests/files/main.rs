//! `--serve`: reading files, content types, symbolic links and permissions.

#[path = "../support/dir.rs"]
mod dir;
#[path = "../support/mod.rs"]
mod support;

mod conditions;
mod links;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use dir::Dir;
#[cfg(target_os = "linux")]
use support::resources::memory;
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
        ("module.mjs", "text/javascript; charset=utf-8"),
        ("module.MJS", "text/javascript; charset=utf-8"),
        ("types.ts", "text/javascript; charset=utf-8"),
        ("view.tsx", "text/javascript; charset=utf-8"),
        ("view.jsx", "text/javascript; charset=utf-8"),
        ("view.vue", "text/plain; charset=utf-8"),
        ("style.css.map", "application/json"),
        ("app.webmanifest", "application/manifest+json"),
        ("font.woff2", "font/woff2"),
        ("picture.avif", "image/avif"),
        ("film.mp4", "video/mp4"),
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
}

#[test]
fn paths_without_a_file_are_the_page_of_a_single_page_application() {
    let dir = Dir::new();
    dir.write("app/index.html", "the app");
    dir.write("page", "a page");
    dir.write("empty/.x", "hidden");
    dir.write("docs/index.html", "docs");
    let server = Binary::start(&["--serve", dir.path(), "--spa", "./app/index.html"]);
    for path in ["/", "/orders", "/orders/7/", "/orders/7?q=a.b", "/page/x", "/empty/", "/v1.2/a"] {
        let (status, head, body) = whole_file(server.address, path);
        assert_eq!((status, body.as_str()), (200, "the app"), "{path}: {head}");
        assert!(head.contains("Content-Type: text/html; charset=utf-8\r\n"), "{head}");
    }
    assert_eq!(file(server.address, "/page").1, "a page");
    assert_eq!(file(server.address, "/docs/").1, "docs");
    assert_eq!(file(server.address, "/docs").0, 307);
    for path in ["/app.js", "/a/logo.svg", "/.git", "/.git/config", "/%2e%2e/secret", "/a//b"] {
        assert_eq!(file(server.address, path).0, 404, "{path}");
    }
    assert_eq!(file(server.address, "/healthz").1, "ok\n");
    // As long as the file is missing, there is no page.
    fs::remove_file(dir.0.join("app/index.html")).unwrap();
    assert_eq!(file(server.address, "/orders").0, 404);
    assert!(!server.stop("-TERM").2.contains("(--spa)"));
    let server = Binary::start(&["--serve", dir.path(), "--spa", "./app/index.html"]);
    assert!(server.stop("-TERM").2.contains("app/index.html (--spa) is no file yet"));

    for (flags, why) in [
        (&["--spa", "index.html"][..], "--serve"),
        (&["--serve", ".", "--spa", "/index.html"], "relative"),
        (&["--serve", ".", "--spa", "../index.html"], "relative"),
        (&["--serve", ".", "--spa", ".hidden/index.html"], "hidden"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"));
        let output = command.args(["--listen", "127.0.0.1:0"]).args(flags).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && errors.contains(why), "{errors}");
    }
}

#[test]
fn files_have_precedence_over_the_demos_which_move() {
    let dir = Dir::new();
    let server = Binary::start(&["--serve", dir.path()]);
    for name in ["counter", "async", "clock", "score"] {
        let path = format!("/{name}");
        assert_eq!(file(server.address, &path).0, 404, "{path}");
        dir.write(name, name);
        assert_eq!(file(server.address, &path), (200, name.to_owned()));
        let head = read_head(&mut get(server.address, &format!("/__sse/{name}?stream=true")));
        assert!(head.contains("Content-Type: text/event-stream\r\n"), "{name}: {head}");
    }
    for path in ["/__sse", "/__sse/"] {
        let page = file(server.address, path).1;
        assert!(page.contains(r#"href="/__sse/counter""#) && !page.contains("{demos}"), "{page}");
    }
    assert_eq!(file(server.address, "/__sse/nowhere").0, 404);
    // The API stays.
    assert_eq!(file(server.address, "/healthz").1, "ok\n");
    assert!(file(server.address, "/topics").1.contains("topics"));

    let server = Binary::start(&[]);
    assert!(file(server.address, "/").1.contains(r#"href="/counter""#));
    assert_eq!(file(server.address, "/__sse").0, 404);
}
