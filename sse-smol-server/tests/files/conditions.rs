//! Validators, conditional requests and ranges.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::dir::Dir;
use super::support::subscriber::wait_until;
use super::support::{Binary, TIMEOUT, read_response, read_to_end, send};

const CONTENT: &str = "0123456789";

/// Sends a request with these header lines. Returns status, head and body.
fn request(address: SocketAddr, line: &str, headers: &[String]) -> (u16, String, String) {
    let mut headers = headers.join("\r\n");
    if !headers.is_empty() {
        headers.push_str("\r\n");
    }
    let head = format!("{line} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\r\n");
    let mut socket = send(address, &head);
    if line.starts_with("HEAD") {
        let head = read_to_end(&mut socket);
        return (head.split(' ').nth(1).unwrap().parse().unwrap(), head, String::new());
    }
    let answer = read_response(&mut socket);
    assert_eq!(read_to_end(&mut socket), "", "{line}: {}", answer.1);
    answer
}

fn header(head: &str, name: &str) -> Option<String> {
    let prefix = format!("{name}: ");
    head.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
}

/// Requests a file until the response has an `ETag` and a `Last-Modified` header. Returns both.
fn validators(address: SocketAddr, path: &str) -> (String, String) {
    let start = Instant::now();
    loop {
        let (_, head, _) = request(address, &format!("HEAD {path}"), &[]);
        if let (Some(etag), Some(modified)) =
            (header(&head, "Etag"), header(&head, "Last-Modified"))
        {
            return (etag, modified);
        }
        assert!(start.elapsed() < TIMEOUT, "{head}");
    }
}

#[test]
fn a_file_that_the_client_holds_is_not_sent_again() {
    let dir = Dir::new();
    dir.write("file", CONTENT);
    let server = Binary::start(&["--serve", dir.path()]);
    let (etag, modified) = validators(server.address, "/file");
    let with = |headers: &[String]| request(server.address, "GET /file", headers);

    let none_match = |value: &str| format!("If-None-Match: {value}");
    let since = |value: &str| format!("If-Modified-Since: {value}");
    let other_date = "Thu, 01 Jan 2037 00:00:00 GMT";
    for headers in [
        vec![none_match(&etag)],
        vec![none_match(&format!("W/{etag}"))],
        vec![none_match(&format!("\"x\", {etag}"))],
        vec![none_match("\"x\""), none_match(&etag)],
        vec![none_match("*")],
        vec![since(&modified)],
        vec![none_match(&etag), since(other_date)],
        vec![none_match(&etag), "Range: bytes=0-1".to_owned()],
    ] {
        let (status, head, body) = with(&headers);
        assert_eq!((status, body.as_str()), (304, ""), "{headers:?}");
        assert_eq!(header(&head, "Etag"), Some(etag.clone()), "{headers:?}");
        assert_eq!(header(&head, "Cache-Control").as_deref(), Some("no-cache"), "{headers:?}");
        assert_eq!(header(&head, "Content-Length"), None, "{headers:?}");
        assert_eq!(request(server.address, "HEAD /file", &headers).0, 304, "{headers:?}");
    }
    for headers in [
        vec![none_match("\"x\"")],
        // The entity tag has precedence over the date.
        vec![none_match("\"x\""), since(&modified)],
        vec![none_match(etag.trim_matches('"'))],
        // A file may be replaced by an older one.
        vec![since(other_date)],
        vec![since("yesterday")],
        vec![since(&modified), since(&modified)],
    ] {
        let (status, _, body) = with(&headers);
        assert_eq!((status, body.as_str()), (200, CONTENT), "{headers:?}");
    }
}

#[test]
fn a_change_is_sent_even_with_the_same_length_and_time() {
    let dir = Dir::new();
    dir.write("file", CONTENT);
    let server = Binary::start(&["--serve", dir.path()]);
    let (mut etag, _) = validators(server.address, "/file");
    let original = fs::metadata(dir.0.join("file")).unwrap().modified().unwrap();
    let (path, new) = (dir.0.join("file"), dir.0.join("new"));
    for digit in 0..40 {
        let content = format!("{digit:010}");
        // In place, or by a file that is renamed.
        let name = if digit % 2 == 0 { &path } else { &new };
        fs::write(name, &content).unwrap();
        File::options().write(true).open(name).unwrap().set_modified(original).unwrap();
        if name == &new {
            fs::rename(&new, &path).unwrap();
        }
        let headers = [format!("If-None-Match: {etag}")];
        let (status, head, body) = request(server.address, "GET /file", &headers);
        assert_eq!((status, body), (200, content), "{head}");
        if digit % 10 == 0 {
            etag = validators(server.address, "/file").0;
        } else if let Some(new) = header(&head, "Etag") {
            etag = new;
        }
    }
}

#[test]
fn files_with_unusual_times_are_served() {
    let dir = Dir::new();
    let server = Binary::start(&["--serve", dir.path()]);
    let far = Duration::from_secs(1 << 34);
    for (name, time) in
        [("old", UNIX_EPOCH - far), ("epoch", UNIX_EPOCH), ("new", UNIX_EPOCH + far)]
    {
        dir.write(name, CONTENT);
        File::options().write(true).open(dir.0.join(name)).unwrap().set_modified(time).unwrap();
        wait_until("the file has an entity tag", || {
            let (status, head, body) = request(server.address, &format!("GET /{name}"), &[]);
            assert_eq!((status, body.as_str()), (200, CONTENT), "{name}: {head}");
            let modified = header(&head, "Last-Modified");
            let is_epoch = modified.as_deref() == Some("Thu, 01 Jan 1970 00:00:00 GMT");
            header(&head, "Etag").is_some() && is_epoch == (name == "epoch")
        });
    }
}

#[test]
fn one_range_of_a_file_can_be_requested() {
    let dir = Dir::new();
    dir.write("file", CONTENT);
    dir.write("empty", "");
    let server = Binary::start(&["--serve", dir.path()]);
    let (etag, modified) = validators(server.address, "/file");
    let get = |headers: &[String]| request(server.address, "GET /file", headers);
    let (_, head, _) = get(&[]);
    assert_eq!(header(&head, "Accept-Ranges").as_deref(), Some("bytes"));

    for (range, expected, part) in
        [("0-0", "0", "0-0"), ("3-5", "345", "3-5"), ("7-", "789", "7-9"), ("-2", "89", "8-9")]
    {
        let range = format!("Range: bytes={range}");
        for condition in
            ["X: y".to_owned(), format!("If-Range: {etag}"), format!("If-Range: {modified}")]
        {
            let (status, head, body) = get(&[range.clone(), condition.clone()]);
            assert_eq!((status, body.as_str()), (206, expected), "{range}, {condition}: {head}");
            assert_eq!(header(&head, "Content-Range"), Some(format!("bytes {part}/10")));
            assert_eq!(header(&head, "Etag"), Some(etag.clone()));
        }
        for condition in [
            "If-Range: \"x\"".to_owned(),
            format!("If-Range: W/{etag}"),
            "If-Range: Thu, 01 Jan 2037 00:00:00 GMT".to_owned(),
        ] {
            let (status, head, body) = get(&[range.clone(), condition.clone()]);
            assert_eq!((status, body.as_str()), (200, CONTENT), "{range}, {condition}: {head}");
            assert_eq!(header(&head, "Content-Range"), None);
        }
    }
    let (status, head, _) = get(&["Range: bytes=10-".to_owned()]);
    assert_eq!((status, header(&head, "Content-Range").as_deref()), (416, Some("bytes */10")));
    let several = get(&["Range: bytes=0-1,3-4".to_owned()]);
    assert_eq!((several.0, several.2.as_str()), (200, CONTENT));
    // A range applies to GET alone.
    let (status, head, _) = request(server.address, "HEAD /file", &["Range: bytes=0-1".to_owned()]);
    assert_eq!((status, header(&head, "Content-Length").as_deref()), (200, Some("10")));
    let empty = request(server.address, "GET /empty", &["Range: bytes=0-".to_owned()]);
    assert_eq!(empty.0, 416);
    assert_eq!(request(server.address, "GET /none", &["Range: bytes=0-".to_owned()]).0, 404);
}

#[test]
fn curl_resumes_a_download() {
    let dir = Dir::new();
    let content: String =
        (0..200_000).flat_map(|number| [number.to_string(), "\n".to_owned()]).collect();
    dir.write("file", &content);
    let server = Binary::start(&["--serve", dir.path()]);
    let copy = dir.0.join("copy");
    fs::write(&copy, &content[..700_001]).unwrap();
    let url = format!("http://{}/file", server.address);
    let mut curl = Command::new("curl");
    let status = curl.args(["-sSf", "-C", "-", "-o"]).arg(&copy).arg(&url).status().unwrap();
    assert!(status.success());
    assert!(fs::read_to_string(&copy).unwrap() == content);
    let (_, _, log) = server.stop("-TERM");
    assert!(log.contains("GET /file 206"), "{log}");
}
