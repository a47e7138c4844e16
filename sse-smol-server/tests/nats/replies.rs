//! Answers of the engine that are lost, late or outdated.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::engine::with_each;
use super::failures::subscribe;
use super::support::Binary;
use super::support::subscriber::Publisher;

/// Passes connections on to a port. While the flag is set, the connection on which a publication is
/// acknowledged is cut instead, and the flag cleared.
fn cutting_proxy(port: u16, cut: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            let pass = |mut from: TcpStream, mut to: TcpStream, cut: Option<Arc<AtomicBool>>| {
                thread::spawn(move || {
                    let mut buffer = vec![0; 1 << 16];
                    while let Ok(len @ 1..) = from.read(&mut buffer) {
                        let is_ack =
                            || String::from_utf8_lossy(&buffer[..len]).contains("\"seq\":");
                        let is_cut = cut
                            .as_ref()
                            .is_some_and(|cut| is_ack() && cut.swap(false, Ordering::SeqCst));
                        if is_cut || to.write_all(&buffer[..len]).is_err() {
                            break;
                        }
                    }
                    let _ = from.shutdown(Shutdown::Both);
                    let _ = to.shutdown(Shutdown::Both);
                })
            };
            let copies = (client.try_clone().unwrap(), server.try_clone().unwrap());
            pass(client, server, None);
            pass(copies.1, copies.0, Some(Arc::clone(&cut)));
        }
    });
    address
}

/// The answer to a publication is lost, and the publication repeated by the server.
#[test]
fn a_publication_whose_answer_was_lost_is_stored_once() {
    with_each(|engine| {
        let cut = Arc::new(AtomicBool::new(false));
        let proxy = cutting_proxy(engine.port(), Arc::clone(&cut));
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
