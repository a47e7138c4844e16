//! Answers of the engine that are lost, late or outdated.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::str;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use smol::future::block_on;
use sse_smol_server::storage::nats::{NatsConfig, NatsStorage};
use sse_smol_server::storage::{Appended, NewEvent, Storage as _};

use super::engine::with_each;
use super::failures::subscribe;
use super::nodes::request;
use super::support::subscriber::Publisher;
use super::support::{Binary, read_response, send};

/// Passes connections on to a port. The function may change what the engine sends, and has the
/// connection cut by returning false.
fn proxy(port: u16, alter: impl Fn(&mut [u8]) -> bool + Send + Sync + 'static) -> SocketAddr {
    type Alter = Arc<dyn Fn(&mut [u8]) -> bool + Send + Sync>;
    let alter: Alter = Arc::new(alter);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            let pass = |mut from: TcpStream, mut to: TcpStream, alter: Option<Alter>| {
                thread::spawn(move || {
                    let mut buffer = vec![0; 1 << 16];
                    while let Ok(len @ 1..) = from.read(&mut buffer) {
                        let bytes = &mut buffer[..len];
                        let is_cut = alter.as_ref().is_some_and(|alter| !alter(bytes));
                        if is_cut || to.write_all(bytes).is_err() {
                            break;
                        }
                    }
                    let _ = from.shutdown(Shutdown::Both);
                    let _ = to.shutdown(Shutdown::Both);
                })
            };
            let copies = (client.try_clone().unwrap(), server.try_clone().unwrap());
            pass(client, server, None);
            pass(copies.1, copies.0, Some(Arc::clone(&alter)));
        }
    });
    address
}

/// Returns whether the engine acknowledges a publication, or sends a message in JSON.
fn is_ack(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).contains("\"seq\":")
}

/// The answer to a publication is lost, and the publication repeated by the server.
#[test]
fn a_publication_whose_answer_was_lost_is_stored_once() {
    with_each(|engine| {
        let cut = Arc::new(AtomicBool::new(false));
        let is_set = Arc::clone(&cut);
        let proxy = proxy(engine.port(), move |bytes| {
            !(is_ack(bytes) && is_set.swap(false, Ordering::SeqCst))
        });
        let node = Binary::start(&["--nats", &format!("nats://{proxy}")]);
        let mut publisher = Publisher::open(node.address);
        let mut subscriber = subscribe(node.address, "a");
        publisher.publish("a?id=first", "0");
        for (n, query) in ["", "?id=own", "?key=k", "?id=own-2&key=k2"].iter().enumerate() {
            cut.store(true, Ordering::SeqCst);
            publisher.send(&format!("a{query}"), &(n + 1).to_string());
            let (status, body) = publisher.receive();
            assert_eq!(status, 201, "{query}: {body}");
            assert!(!cut.load(Ordering::SeqCst), "the answer was not lost");
        }
        publisher.send("a?id=own", "again");
        assert_eq!(publisher.receive().0, 409);
        publisher.publish("a", "5");
        subscriber.read_events(6);
        assert_eq!(subscriber.data(), ["0", "1", "2", "3", "4", "5"]);
        assert!(subscriber.end.is_none());
    });
}

/// What a member of a cluster that lags behind does not have yet.
#[derive(Default)]
struct Lag {
    /// The sequence of a message.
    sequence: u64,
    /// The number of answers that are still without it.
    answers: usize,
    /// Whether descriptions of the stream are without it, too. It is the last message then.
    has_older_state: bool,
}

impl Lag {
    /// Replaces answers with the message by one without it, and has the stream appear to have
    /// replicas.
    fn alter(&mut self, bytes: &mut [u8]) {
        const START: &str = r#"{"type":"io.nats.jetstream.api.v1.stream_msg_get_response""#;
        const NONE: &[u8] = br#"{"error":{"code":404,"description":"no message found"}}"#;
        const REPLICAS: &str = r#""num_replicas":"#;
        let text = str::from_utf8(bytes).unwrap().to_owned();
        for (index, _) in text.match_indices(REPLICAS) {
            bytes[index + REPLICAS.len()] = b'3';
        }
        let last = format!("\"last_seq\":{},", self.sequence);
        for (start, _) in text.match_indices(&last) {
            if self.has_older_state && self.answers > 0 {
                self.answers -= 1;
                let older = format!("\"last_seq\":{},", self.sequence - 1);
                bytes[start..start + last.len()].copy_from_slice(older.as_bytes());
            }
        }
        for (start, _) in text.match_indices(START) {
            let size = text[..start].trim_end().rsplit(' ').next().unwrap();
            let end = start + size.parse::<usize>().unwrap();
            let is_it = text[start..end].contains(&format!("\"seq\":{},", self.sequence));
            if is_it && self.answers > 0 {
                self.answers -= 1;
                bytes[start..end].fill(b' ');
                bytes[start..start + NONE.len()].copy_from_slice(NONE);
            }
        }
    }
}

/// A member that was the leader answers that it does not have a message, which is not gone.
#[test]
fn a_message_that_a_replica_does_not_have_yet_is_not_stored_again() {
    with_each(|engine| {
        let cut = Arc::new(AtomicBool::new(false));
        let lag = Arc::new(Mutex::new(Lag::default()));
        let shared = (Arc::clone(&cut), Arc::clone(&lag));
        let proxy = proxy(engine.port(), move |bytes| {
            let is_cut = is_ack(bytes) && shared.0.swap(false, Ordering::SeqCst);
            shared.1.lock().unwrap().alter(bytes);
            !is_cut
        });
        let node = Binary::start(&["--nats", &format!("nats://{proxy}")]);
        let mut publisher = Publisher::open(node.address);
        let mut subscriber = subscribe(node.address, "a");
        publisher.publish("a", "0");
        // The publication is repeated, and the engine answers that it has it. The feed may need the
        // message, too.
        *lag.lock().unwrap() = Lag { sequence: 2, answers: 3, ..Lag::default() };
        cut.store(true, Ordering::SeqCst);
        publisher.publish("a?key=k", "1");
        assert!(!cut.load(Ordering::SeqCst), "the answer was not lost");
        assert_eq!(lag.lock().unwrap().answers, 0);
        // An ID that this server has read.
        publisher.publish("a?id=own", "2");
        *lag.lock().unwrap() = Lag { sequence: 3, answers: 2, ..Lag::default() };
        publisher.send("a?id=own", "again");
        let (status, body) = publisher.receive();
        assert_eq!(status, 409, "{body}");
        assert_eq!(lag.lock().unwrap().answers, 0);
        publisher.publish("a", "3");
        subscriber.read_events(4);
        assert_eq!(subscriber.data(), ["0", "1", "2", "3"]);
    });
}

/// A former leader answers as if the last message had not been stored.
#[test]
fn an_event_that_a_replica_does_not_have_yet_can_be_deleted() {
    with_each(|engine| {
        let lag = Arc::new(Mutex::new(Lag::default()));
        let shared = Arc::clone(&lag);
        let proxy = proxy(engine.port(), move |bytes| {
            shared.lock().unwrap().alter(bytes);
            true
        });
        let node = Binary::start(&["--nats", &format!("nats://{proxy}")]);
        let mut subscriber = subscribe(node.address, "a");
        let mut publisher = Publisher::open(node.address);
        publisher.publish("other", "0");
        publisher.publish("a", "1");
        subscriber.read_events(1);
        *lag.lock().unwrap() = Lag { sequence: 2, answers: 2, has_older_state: true };
        let (status, body) = request(&node, "DELETE", "/topics/a", "");
        assert!((200..300).contains(&status), "{status} {body}");
        assert_eq!(lag.lock().unwrap().answers, 0);
    });
}

/// A former leader, which does not have the last message, answers first.
#[test]
fn the_last_position_is_that_of_the_last_message() {
    with_each(|engine| {
        let lag = Arc::new(Mutex::new(Lag { sequence: 1, answers: 2, ..Lag::default() }));
        let shared = Arc::clone(&lag);
        let proxy = proxy(engine.port(), move |bytes| {
            shared.lock().unwrap().alter(bytes);
            true
        });
        let open = |url: String| block_on(NatsStorage::open(NatsConfig::new(url))).unwrap();
        let event = NewEvent::new("a", "data: 0\n\n");
        let appended = block_on(open(engine.url()).append(event)).unwrap();
        let last = block_on(open(format!("nats://{proxy}")).last_position()).unwrap();
        assert_eq!(Appended::New(last), appended);
        assert_eq!(lag.lock().unwrap().answers, 0);
    });
}

/// Each event takes so long that a batch is not complete in time.
#[test]
fn the_events_of_a_slow_batch_that_were_published_are_reported() {
    const EVENTS: usize = 400;
    with_each(|engine| {
        let proxy = proxy(engine.port(), |bytes| {
            if is_ack(bytes) {
                thread::sleep(Duration::from_millis(20));
            }
            true
        });
        let url = format!("nats://{proxy}");
        let node = Binary::start(&["--nats", &url, "--publish-timeout", "3"]);
        let mut subscriber = subscribe(node.address, "a");
        let line = |n| format!("{{\"data\":\"{n}\"}}\n");
        let body: String = (0..EVENTS).map(line).collect();
        let head = format!(
            "POST /topics/a HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: {}\r\n\r\n",
            node.address,
            body.len()
        );
        let (status, _, body) = read_response(&mut send(node.address, &(head + &body)));
        let lines: Vec<serde_json::Value> =
            body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((status, lines.len()), (503, EVENTS), "{body}");
        let ids: Vec<_> = lines.iter().map_while(|line| line["id"].as_str()).collect();
        assert!((1..EVENTS).contains(&ids.len()), "{body}");
        assert!(lines[ids.len()..].iter().all(|line| line["status"] == 503), "{body}");
        let last = lines.last().unwrap()["error"].as_str().unwrap();
        assert!(last.contains("not published: "), "{last}");
        let events = subscriber.read_events(ids.len());
        for (n, (event, id)) in events.iter().zip(&ids).enumerate() {
            assert_eq!((&*event.id, event.data.as_str()), (*id, n.to_string().as_str()));
        }
    });
}

/// The events that the server saw last are dropped while it has no connection. As the engine was not
/// restarted, it has lost nothing of other topics.
#[test]
fn a_lost_connection_alone_causes_no_gap_event() {
    with_each(|engine| {
        let cut = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&cut);
        let proxy = proxy(engine.port(), move |_| !shared.load(Ordering::SeqCst));
        let start =
            |url: &str| Binary::start(&["--nats", url, "--history", "20", "--on-lag", "gap"]);
        let (a, b) = (start(&engine.url()), start(&format!("nats://{proxy}")));
        let [mut quiet, mut busy] = ["quiet", "busy"].map(|topic| subscribe(b.address, topic));
        let mut publisher = Publisher::open(a.address);
        publisher.publish("quiet", "0");
        quiet.read_events(1);
        for n in 0..50 {
            publisher.publish("busy", &n.to_string());
            busy.read_events(n + 1);
        }
        cut.store(true, Ordering::SeqCst);
        publisher.publish("quiet", "1");
        for n in 50..100 {
            publisher.publish("busy", &n.to_string());
        }
        publisher.publish("quiet", "2");
        cut.store(false, Ordering::SeqCst);
        quiet.read_events(3);
        assert_eq!(quiet.data(), ["0", "1", "2"]);
        busy.read_until("the last event", |one| one.data().last() == Some(&"99"));
        assert_eq!(busy.events[50].event_type, "gap");
    });
}
