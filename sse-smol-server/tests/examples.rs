//! Tests the small examples that are servers. The larger ones have tests of their own.

#[path = "support/dir.rs"]
mod dir;
#[path = "support/example.rs"]
mod example;
mod support;

use dir::Dir;
use example::Example;
use support::subscriber::{StreamEnd, Subscriber};
use support::{dechunk, get, read_head, read_response, read_to_end, read_until, send};

#[test]
fn topics_are_published_resumed_and_drained() {
    let mut example = Example::start("topics", &["127.0.0.1:0"]);
    let address = example.address;
    let publish = |token: &str, data: &str| {
        let length = data.len();
        read_response(&mut send(
            address,
            &format!(
                "POST /news HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
                 Content-Length: {length}\r\n\r\n{data}"
            ),
        ))
    };
    let (status, head, _) = publish("guess", "x");
    assert_eq!(status, 401);
    assert!(head.contains("\r\nAccess-Control-Allow-Origin: *\r\n"), "{head}");
    let mut first = Subscriber::open(address, "/news");
    for data in ["one", "two"] {
        assert_eq!(publish("secret", data).0, 201);
    }
    let seen = first.read_events(2)[0].id.clone();
    let mut again = Subscriber::resume(address, "/news", &seen);
    again.read_events(1);
    assert_eq!((first.data(), again.data()), (vec!["one", "two"], vec!["two"]));
    drop(again);
    assert_eq!(example.line(), "a subscriber has left: closed by the peer");
    assert_eq!(read_response(&mut get(address, "/other")).0, 404);

    let (status, printed) = example.close_input();
    first.read_until("the end", |one| one.end.is_some());
    assert_eq!(first.end, Some(StreamEnd::Whole));
    assert!(status.success() && printed == "a subscriber has left: drained\n", "{printed}");
}

#[test]
fn the_documentation_shows_the_example_of_topics() {
    let (_, program) = include_str!("../examples/topics.rs").split_once("\n\n").unwrap();
    let block = format!("```rust,no_run\n{program}```\n");
    assert!(include_str!("../../docs/library.md").contains(&block), "not in docs/library.md");
}

#[test]
fn middleware_authorizes_sets_headers_and_logs() {
    let mut example = Example::start("middleware", &["127.0.0.1:0"]);
    let address = example.address;
    let request = |headers: &str| format!("GET /path HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
    let shared = "\r\nAccess-Control-Allow-Origin: *\r\n";
    let (status, head, _) = read_response(&mut send(address, &request("")));
    assert!(status == 401 && head.contains(shared), "{head}");
    assert!(example.line().starts_with("/path: None after "));
    let mut socket = send(address, &request("Authorization: Bearer secret\r\n"));
    let head = read_head(&mut socket);
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains(shared), "{head}");
    assert_eq!(dechunk(&read_to_end(&mut socket)), ("data: hello\n\n".to_owned(), true));
    assert!(example.line().starts_with("/path: None after "));
}

#[test]
fn a_job_reports_through_a_channel_until_the_client_leaves() {
    let mut example = Example::start("channel", &["127.0.0.1:0"]);
    let mut socket = get(example.address, "/?steps=2");
    read_head(&mut socket);
    let expected = "data: {\"of\":2,\"step\":1}\n\ndata: {\"of\":2,\"step\":2}\n\n\
                    event: done\ndata: \n\n";
    assert_eq!(dechunk(&read_to_end(&mut socket)), (expected.to_owned(), true));
    assert_eq!(example.line(), "done");
    let mut socket = get(example.address, "/?steps=1000000");
    read_until(&mut socket, "\"step\":2}\n\n\r\n");
    drop(socket);
    assert_eq!(example.line(), "the client has left");
    let (status, _, body) = read_response(&mut get(example.address, "/?steps=many"));
    assert!(status == 400 && body.contains("steps: invalid digit"), "{body}");
}

#[test]
fn a_polled_file_is_a_response_and_a_stream_of_its_changes() {
    let dir = Dir::new();
    dir.write("file", "one");
    let file = dir.0.join("file");
    let example = Example::start("polled", &[file.to_str().unwrap(), "127.0.0.1:0"]);
    assert_eq!(read_response(&mut get(example.address, "/")).2, "one");
    let mut socket = get(example.address, "/?stream=true");
    read_until(&mut socket, "data: one\n\n\r\n");
    // Renamed, so that it is never read when it is partly written.
    dir.write("next", "two");
    std::fs::rename(dir.0.join("next"), &file).unwrap();
    read_until(&mut socket, "data: two\n\n\r\n");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(read_response(&mut get(example.address, "/")).0, 500);
}
