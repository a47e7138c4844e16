//! Several servers on one stream.

use super::engine::{Engine, with_each};
use super::support::subscriber::{Publisher, Subscriber, topics};
use super::support::{Binary, read_response, send};

/// Starts a server on the stream.
pub(crate) fn node(engine: &Engine) -> Binary {
    Binary::start(&["--nats", &engine.url(), "--history", "20000", "--window", "10"])
}

/// Sends a request without a body. Returns the status and the body of the response.
pub(crate) fn request(server: &Binary, method: &str, path: &str, headers: &str) -> (u16, String) {
    let address = server.address;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Length: 0\r\n\r\n"
    );
    let (status, _, body) = read_response(&mut send(address, &head));
    (status, body)
}

#[test]
fn servers_have_the_same_events_with_the_same_ids() {
    with_each(|engine| {
        let [a, b, c] = [(); 3].map(|()| node(&engine));
        let mut on_b = Subscriber::open(b.address, "/topics?topic=a.b&topic=other");
        on_b.read_until("the start", |one| one.text.ends_with(b"\n\n"));
        let mut publishers = [Publisher::open(a.address), Publisher::open(c.address)];
        let mut ids = Vec::new();
        for n in 0..300 {
            // One waits for the other, so the order is known.
            let topic = ["a.b", "other", "a.b"][n % 3];
            ids.push(publishers[n % 2].publish(topic, &n.to_string()));
        }
        let seen = on_b.read_events(300).to_vec();
        for (n, (event, id)) in seen.iter().zip(&ids).enumerate() {
            assert_eq!((&event.id, event.data.as_str()), (id, n.to_string().as_str()));
        }
        // From the window and from the stream, on each server.
        for server in [&a, &b, &c] {
            for from in [0, 17, 150, 290, 299] {
                let path = "/topics?topic=a.b&topic=other";
                let mut resumed = Subscriber::resume(server.address, path, &ids[from]);
                assert_eq!(resumed.read_events(299 - from), &seen[from + 1..]);
            }
        }
        assert_eq!(topics(a.address).len(), 2);
        assert_eq!(topics(c.address)[0]["events"], 200);
        assert_eq!(topics(c.address)[1]["last_id"], ids[298].as_str());
    });
}

#[test]
fn keys_ids_and_deletions_count_on_all_servers() {
    with_each(|engine| {
        let [a, b] = [(); 2].map(|()| node(&engine));
        let mut on_b = Subscriber::open(b.address, "/topics/t?lastEventId=earliest");
        let (status, first) = request(&a, "POST", "/topics/t?key=k&id=own", "");
        assert_eq!(status, 201, "{first}");
        let (status, again) = request(&b, "POST", "/topics/t?key=k&id=own", "");
        assert_eq!((status, again), (200, first.replace("false", "true")));
        assert_eq!(request(&b, "POST", "/topics/t?key=k&type=x&id=own", "").0, 422);
        assert_eq!(request(&b, "POST", "/topics/t?id=own", "").0, 409);
        assert_eq!(on_b.read_events(1)[0].id, "own");
        let (status, body) = request(&a, "DELETE", "/topics/t", "");
        assert!((200..300).contains(&status), "{body}");
        assert_eq!(request(&b, "DELETE", "/topics/t", "").0, 404);
        // The key and the ID are free again.
        assert_eq!(request(&b, "POST", "/topics/t?key=k&id=own", "").0, 201);
        assert_eq!(on_b.read_events(2)[1].event_type, "message");
        let mut on_a = Subscriber::resume(a.address, "/topics/t", "unknown");
        assert_eq!(on_a.read_events(2)[0].event_type, "gap");
    });
}

#[test]
fn messages_of_other_programs_are_events() {
    with_each(|engine| {
        let [a, b] = [(); 2].map(|()| node(&engine));
        let mut on_a = Subscriber::open(a.address, "/topics/x.y?lastEventId=earliest");
        engine.publish("sse.x=dy", "two\nlines");
        let seen = on_a.read_events(1).to_vec();
        assert_eq!(seen[0].data, "two\nlines");
        let mut on_b = Subscriber::open(b.address, "/topics/x.y?lastEventId=earliest");
        assert_eq!(on_b.read_events(1), seen);
        let id = Publisher::open(b.address).publish("x.y", "next");
        let mut resumed = Subscriber::resume(a.address, "/topics/x.y", &seen[0].id);
        assert_eq!(resumed.read_events(1)[0].id, id);
    });
}
