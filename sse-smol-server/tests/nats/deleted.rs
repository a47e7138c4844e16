//! Deleted topics, whose deletions remain in the stream.

use super::engine::{Engine, with_each, with_each_and};
use super::nodes::request;
use super::support::Binary;
use super::support::subscriber::{Publisher, Subscriber, topics};

/// The number of topics that are created and deleted.
const CYCLES: usize = 50;

/// Starts a server for at most five topics.
fn small(engine: &Engine) -> Binary {
    Binary::start(&["--nats", &engine.url(), "--max-topics", "5"])
}

/// Publishes an event to each topic. Returns the status of each response.
fn publish(server: &Binary, topics: impl IntoIterator<Item = String>) -> Vec<u16> {
    let path = |topic| format!("/topics/{topic}");
    topics.into_iter().map(|topic| request(server, "POST", &path(topic), "").0).collect()
}

/// Creates and deletes topics.
fn cycle(server: &Binary) {
    let mut publisher = Publisher::open(server.address);
    for n in 0..CYCLES {
        publisher.publish(&format!("t{n}"), "x");
        let (status, body) = request(server, "DELETE", &format!("/topics/t{n}"), "");
        assert_eq!(status, 204, "{body}");
    }
}

fn names(server: &Binary) -> Vec<String> {
    topics(server.address).iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn deleted_topics_do_not_count_on_any_server() {
    with_each(|engine| {
        let [first, second] = [(); 2].map(|()| small(&engine));
        cycle(&first);
        let kept = || ["a", "b", "c", "d"].map(str::to_owned);
        // One that has seen the deletions, and one that has started after them.
        assert_eq!(publish(&second, kept()), [201; 4]);
        let third = small(&engine);
        assert_eq!(publish(&third, ["t7".to_owned()]), [201]);
        for server in [&first, &second, &third] {
            assert_eq!(names(server), ["a", "b", "c", "d", "t7"]);
            let refused = ["more".to_owned(), "t8".to_owned()];
            assert_eq!(publish(server, refused), [429; 2]);
            // It exists.
            assert_eq!(publish(server, ["t7".to_owned()]), [201]);
        }
        // Room that one server makes is there for the others at once.
        for (n, [from, to]) in [[&first, &third], [&third, &second]].into_iter().enumerate() {
            let names = ["a", "more", "other"];
            assert_eq!(request(from, "DELETE", &format!("/topics/{}", names[n]), "").0, 204);
            let mut others = Subscriber::open(to.address, "/topics/b?lastEventId=earliest");
            others.read_events(1);
            assert_eq!(publish(to, [names[n + 1].to_owned()]), [201], "{n}");
        }
    });
}

/// The number of messages to the engine does not depend on the number of deleted topics.
#[test]
fn many_deleted_topics_take_few_requests() {
    const DELETED: usize = 1500;
    with_each_and(&["-m", "-1"], |engine| {
        let first = small(&engine);
        assert_eq!(publish(&first, ["a".to_owned()]), [201]);
        for n in 0..DELETED {
            let headers = format!("NATS/1.0\r\nSse-Salt: 1\r\nSse-Deleted: {n}");
            engine.publish_with_headers(&format!("sse.deleted-{n}"), &headers, "");
        }
        let last = small(&engine);
        for (n, server) in [&first, &last].into_iter().enumerate() {
            let before = engine.messages();
            assert_eq!(publish(server, ["b", "c"].map(|topic| format!("{topic}{n}"))), [201; 2]);
            assert_eq!(names(server).len(), 3 + 2 * n);
            let requests = engine.messages() - before;
            assert!(requests < 100, "{requests}");
        }
        let before = engine.messages();
        assert_eq!(publish(&last, (0..50).map(|n| format!("more-{n}"))), [429; 50]);
        let requests = engine.messages() - before;
        assert!(requests < 300, "{requests}");
    });
}
