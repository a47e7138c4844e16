//! Limits of connections and descriptors.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::support::resources::{cpu_time, descriptor_table_size};
use super::support::subscriber::{Publisher, Subscriber, read_all_until, wait_until};
use super::support::{Binary, TIMEOUT, get, read_head, read_response, read_to_end};
use super::{assert_numbers, request, serialize};

/// Connects from a loopback address.
fn connect_from(source: Ipv4Addr, server: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddrV4::new(source, 0)).unwrap();
    connect(&socket, &server).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket
}

#[test]
fn a_server_without_free_descriptors_serves_its_clients_and_waits() {
    let _turn = serialize();
    let server = Binary::start_with_descriptors(64, &["--keep-alive", "0", "--drain", "0.2"]);
    let mut publisher = Publisher::open(server.address);
    publisher.publish("news", "creates the topic");
    let mut clients = Vec::new();
    // The kernel completes further connections, but the server cannot accept them.
    let mut waiting = loop {
        assert!(clients.len() < 64, "the descriptor limit is reached");
        let socket = get(server.address, "/topics/news");
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut byte = [0];
        match socket.peek(&mut byte) {
            Ok(1) => clients.push(Subscriber::on(socket)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break socket,
            other => panic!("expected a response or a timeout: {other:?}"),
        }
    };
    assert!(clients.len() > 40, "{} streams", clients.len());

    let (start, before) = (Instant::now(), cpu_time(&server));
    for n in 0..20 {
        publisher.publish("news", &n.to_string());
        read_all_until(&mut clients, "an event", |one| one.events.len() > n);
        thread::sleep(Duration::from_millis(100));
    }
    assert!(start.elapsed() >= Duration::from_secs(2));
    let taken = cpu_time(&server).saturating_sub(before);
    println!("{} streams; {taken:?} of CPU time in {:?}", clients.len(), start.elapsed());
    assert!(taken < Duration::from_millis(500), "{taken:?}");
    for client in &clients {
        assert_numbers(client, 0..20);
    }
    let nothing = waiting.read(&mut [0]).expect_err("the waiting connection has no descriptor yet");
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);

    clients.truncate(clients.len() - 10);
    waiting.set_read_timeout(Some(TIMEOUT)).unwrap();
    clients.push(Subscriber::on(waiting));
    for _ in 0..5 {
        clients.push(Subscriber::open(server.address, "/topics/news"));
    }
    let seen = clients.iter().map(|one| one.events.len()).collect::<Vec<_>>();
    publisher.publish("news", "20");
    for (client, seen) in clients.iter_mut().zip(seen) {
        client.read_events(seen + 1);
        assert_eq!(client.data()[seen..], ["20"]);
    }
    let (_, clean, log) = server.stop("-INT");
    assert!(clean, "{log}");
    // The server retries ten times a second and logs once.
    assert_eq!(log.matches("cannot accept connections").count(), 1, "{log}");
}

/// Reads a response head. Returns the status and the seconds of `Retry-After`, if present.
fn read_status(mut socket: TcpStream) -> (u16, Option<u64>) {
    let head = read_head(&mut socket);
    let seconds = head.lines().find_map(|line| line.strip_prefix("Retry-After: "));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, seconds.map(|seconds| seconds.parse().unwrap()))
}

#[test]
fn connections_above_the_limit_get_503_with_a_retry_time() {
    let _turn = serialize();
    let server = Binary::start(&["--max-connections", "10"]);
    let mut clients: Vec<_> =
        (0..10).map(|_| Subscriber::open(server.address, "/topics/news")).collect();
    let mut seconds = BTreeSet::new();
    for _ in 0..20 {
        let mut socket = get(server.address, "/topics/news");
        let (status, head, _) = read_response(&mut socket);
        assert_eq!(status, 503, "{head}");
        let wait = head.lines().find_map(|line| line.strip_prefix("Retry-After: "));
        seconds.insert(wait.expect("a Retry-After header").parse::<u64>().unwrap());
        assert_eq!(read_to_end(&mut socket), "", "the connection is closed");
    }
    assert!(seconds.len() > 1, "retry times are spread: {seconds:?}");
    assert!(seconds.iter().all(|seconds| (1..=60).contains(seconds)), "{seconds:?}");

    clients.pop();
    wait_until("a connection is accepted", || {
        read_status(get(server.address, "/healthz")).0 == 200
    });
    // That connection has closed. A stream takes the free place and keeps it.
    let mut tenth = None;
    wait_until("a stream is accepted", || {
        let mut socket = get(server.address, "/topics/news");
        let accepted = read_head(&mut socket).starts_with("HTTP/1.1 200 ");
        tenth = accepted.then_some(socket);
        accepted
    });
    assert_eq!(read_status(get(server.address, "/topics/news")).0, 503);
}

/// Growing the descriptor table takes the kernel long and delays new connections.
#[test]
fn the_descriptor_table_has_room_for_all_connections_from_the_start() {
    let _turn = serialize();
    let server = Binary::start(&["--max-connections", "1500"]);
    assert!(descriptor_table_size(&server) > 1500);
    let server = Binary::start_with_descriptors(300, &["--max-connections", "1500"]);
    assert!(descriptor_table_size(&server) >= 300, "the table has the size of the limit");
    assert_eq!(read_status(get(server.address, "/healthz")).0, 200);
}

#[test]
fn the_limit_per_peer_applies_to_each_address() {
    let _turn = serialize();
    let server = Binary::start(&["--max-connections-per-peer", "3"]);
    let from = |last: u8| {
        let mut socket = connect_from(Ipv4Addr::new(127, 0, 0, last), server.address);
        let head = request(server.address, "/topics/news");
        socket.write_all(head.as_bytes()).unwrap();
        socket
    };
    let mut second: Vec<_> = (0..3).map(|_| Subscriber::on(from(2))).collect();
    let (status, seconds) = read_status(from(2));
    assert_eq!(status, 503);
    assert!(seconds.is_some());
    let third: Vec<_> = (0..3).map(|_| Subscriber::on(from(3))).collect();
    assert_eq!(read_status(from(3)).0, 503);
    assert_eq!(read_status(from(2)).0, 503, "the limit still applies");
    second.pop();
    wait_until("127.0.0.2 may connect again", || read_status(from(2)).0 == 200);
    assert_eq!(read_status(from(3)).0, 503, "a place freed by one address is not for another");
    drop(third);
}
