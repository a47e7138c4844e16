//! Deleting topics over HTTP, in memory and in a file.

#[path = "support/dir.rs"]
mod dir;
mod support;

use std::net::SocketAddr;

use dir::Dir;
use support::subscriber::{Publisher, Subscriber, topics};
use support::{Binary, read_response, send};

/// Sends a request without a body, with these headers, each ended by CRLF.
fn request(address: SocketAddr, line: &str, headers: &str) -> (u16, String, String) {
    let request = format!("{line} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
    read_response(&mut send(address, &request))
}

fn delete(address: SocketAddr, topic: &str) -> u16 {
    request(address, &format!("DELETE /topics/{topic}"), "").0
}

/// Reads until an event with these data.
fn read_until(subscriber: &mut Subscriber, data: &str) {
    subscriber.read_until(data, |subscriber| {
        subscriber.events.last().is_some_and(|event| event.data == data)
    });
}

/// Returns the data of the events, and the reason of each gap event.
fn summary(subscriber: &Subscriber) -> Vec<String> {
    let one = |event: &support::subscriber::Received| match event.event_type.as_str() {
        "gap" => {
            let gap: serde_json::Value = serde_json::from_str(&event.data).unwrap();
            format!("gap: {}", gap["reason"].as_str().unwrap())
        }
        _ => event.data.clone(),
    };
    subscriber.events.iter().map(one).collect()
}

#[test]
fn subscribers_get_a_gap_event_only_if_they_missed_deleted_events() {
    let dir = Dir::new();
    for arguments in [&[][..], &["--data", dir.path(), "--window", "2"]] {
        let server = Binary::start(arguments);
        let address = server.address;
        let mut publisher = Publisher::open(address);
        assert_eq!(delete(address, "news"), 404);
        let mut live = Subscriber::open(address, "/topics/news");
        let mut several = Subscriber::open(address, "/topics?topic=news&topic=other");
        let ids: Vec<String> = (0..4).map(|n| publisher.publish("news", &n.to_string())).collect();
        publisher.publish("other", "other");
        live.read_events(4);
        several.read_events(5);
        assert_eq!(delete(address, "news"), 204);
        assert_eq!(delete(address, "news"), 404);
        let rows = topics(address);
        let row = rows.iter().find(|row| row["name"] == "news").expect("it has subscribers");
        assert_eq!((&row["events"], &row["last_id"]), (&0.into(), &().into()));

        let mut behind = Subscriber::resume(address, "/topics/news", &ids[2]);
        let mut up_to_date = Subscriber::resume(address, "/topics/news", &ids[3]);
        let mut earliest = Subscriber::open(address, "/topics/news?lastEventId=earliest");
        let id = publisher.publish("news", "4");
        assert!(ids.iter().all(|earlier| *earlier < id), "positions are not reused");
        for subscriber in [&mut live, &mut several, &mut behind, &mut up_to_date, &mut earliest] {
            read_until(subscriber, "4");
        }
        assert_eq!(summary(&live), ["0", "1", "2", "3", "4"]);
        assert_eq!(summary(&several), ["0", "1", "2", "3", "other", "4"]);
        assert_eq!(summary(&behind), ["gap: evicted", "4"]);
        assert_eq!(summary(&up_to_date), ["4"]);
        assert_eq!(summary(&earliest), ["4"]);
    }
}

#[test]
fn keys_and_ids_of_deleted_events_can_be_used_again() {
    let dir = Dir::new();
    for arguments in [&[][..], &["--data", dir.path()]] {
        let server = Binary::start(arguments);
        let address = server.address;
        let publish = || {
            let headers = "Event-Id: own\r\nIdempotency-Key: key\r\nContent-Length: 0\r\n";
            request(address, "POST /topics/a", headers).0
        };
        assert_eq!(publish(), 201);
        assert_eq!(publish(), 200, "a duplicate");
        assert_eq!(delete(address, "a"), 204);
        let mut subscriber = Subscriber::resume(address, "/topics/a", "own");
        subscriber.read_events(1);
        assert_eq!(summary(&subscriber), ["gap: unknown"]);
        assert_eq!(publish(), 201);
    }
}

/// A killed server has no time to write anything after its answer.
#[test]
fn a_deletion_that_was_answered_survives_a_kill() {
    let dir = Dir::new();
    let server = Binary::start(&["--data", dir.path()]);
    let mut publisher = Publisher::open(server.address);
    let ids: Vec<String> = (0..3).map(|n| publisher.publish("a", &n.to_string())).collect();
    publisher.publish("b", "kept");
    assert_eq!(delete(server.address, "a"), 204);
    server.signal("-KILL");
    drop(server);

    let server = Binary::start(&["--data", dir.path()]);
    assert_eq!(delete(server.address, "a"), 404);
    let mut behind = Subscriber::resume(server.address, "/topics/a", &ids[1]);
    let mut up_to_date = Subscriber::resume(server.address, "/topics/a", &ids[2]);
    let mut other = Subscriber::open(server.address, "/topics/b?lastEventId=earliest");
    let id = Publisher::open(server.address).publish("a", "new");
    // The position after those of the events is that of the deletion. At a start, the positions of
    // one transaction are left out.
    let position = |id: &str| id.rsplit_once('-').unwrap().1.parse::<u64>().unwrap();
    assert_eq!(position(&id), position(&ids[2]) + 3 + 1024);
    read_until(&mut behind, "new");
    read_until(&mut up_to_date, "new");
    other.read_events(1);
    assert_eq!(summary(&behind), ["gap: evicted", "new"]);
    assert_eq!(summary(&up_to_date), ["new"]);
    assert_eq!(summary(&other), ["kept"]);
}

#[test]
fn deleting_needs_the_same_token_and_origin_as_publishing() {
    let server = Binary::start_guarded(&[]);
    let address = server.address;
    let token = format!("Authorization: Bearer {}\r\n", server.token());
    let (status, head, _) = request(address, "DELETE /topics/a", "");
    assert_eq!(status, 401);
    assert!(head.contains("\r\nWww-Authenticate: Bearer\r\n"), "{head}");
    let wrong = "Authorization: Bearer wrong\r\n";
    assert_eq!(request(address, "DELETE /topics/a", wrong).0, 401);
    let post = |headers: &str| {
        request(address, "POST /topics/a", &format!("{headers}Content-Length: 0\r\n")).0
    };
    assert_eq!(post(&token), 201);
    let other = format!("{token}Origin: https://other.example\r\n");
    assert_eq!(request(address, "DELETE /topics/a", &other).0, 403);
    let (status, _, line) = request(address, "DELETE /topics/not%20a%20name", &token);
    assert_eq!(status, 400);
    assert!(line.contains("names are 1 to 128 characters"), "{line}");
    let (status, head, _) = request(address, "PUT /topics/a", &token);
    assert_eq!(status, 405);
    assert!(head.contains("\r\nAllow: GET, HEAD, POST, DELETE\r\n"), "{head}");
    assert_eq!(request(address, "DELETE /topics/a", &token).0, 204);
}
