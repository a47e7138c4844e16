//! A harness for the contract service: origin servers whose every byte is chosen by the test, and
//! a receiver for the reports of the service.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

use super::{TIMEOUT, read_head, read_response, send};

/// The contract service, on a free port.
pub(crate) struct Service {
    child: Child,
    address: SocketAddr,
}

impl Service {
    pub(crate) fn start() -> Self {
        // Examples are built beside the tests.
        let mut path = PathBuf::from(env!("CARGO_BIN_EXE_sse-smol-server"));
        path.pop();
        let mut child = Command::new(path.join("examples/contract_service"))
            .arg("0")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example is built");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("Listening on http://").unwrap();
        let address = address.trim_end_matches('/').parse().unwrap();
        Self { child, address }
    }

    /// Sends a request and returns the status, head and body of the response.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> (u16, String, String) {
        let (address, length) = (self.address, body.len());
        read_response(&mut send(
            address,
            &format!(
                "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}"
            ),
        ))
    }

    /// Creates a stream with these parameters, plus the stream URL and the callback URL.
    pub(crate) fn follow(&self, url: &str, mut parameters: Value) -> Followed<'_> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        parameters["streamUrl"] = url.into();
        parameters["callbackUrl"] = format!("http://{}/x", listener.local_addr().unwrap()).into();
        let (sender, reports) = mpsc::channel();
        thread::spawn(move || {
            for n in 1.. {
                let mut report = Exchange::receive(listener.accept().unwrap().0);
                assert_eq!(report.line(), format!("POST /x/{n} HTTP/1.1"), "reports are numbered");
                assert_eq!(report.header("content-type"), Some("application/json"));
                let sent = sender.send(serde_json::from_str(&report.body).unwrap());
                report.write("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
                if sent.is_err() {
                    return;
                }
            }
        });
        let (status, head, body) = self.request("POST", "/", &parameters.to_string());
        assert_eq!(status, 201, "{body}");
        let path = head.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap();
        Followed { service: self, path: path.to_owned(), reports }
    }

    /// Waits for the process to exit. Returns whether it was successful.
    pub(crate) fn wait(mut self) -> bool {
        self.child.wait().unwrap().success()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A stream that the service follows.
pub(crate) struct Followed<'s> {
    service: &'s Service,
    pub(crate) path: String,
    reports: Receiver<Value>,
}

impl Followed<'_> {
    /// Returns the next report.
    pub(crate) fn next_report(&self) -> Value {
        self.reports.recv_timeout(TIMEOUT).expect("a report")
    }

    /// Asserts that the next report is this event, of type `message`.
    pub(crate) fn expect_event(&self, id: &str, data: &str) {
        let event = json!({ "type": "message", "data": data, "id": id });
        assert_eq!(self.next_report(), json!({ "kind": "event", "event": event }));
    }

    /// Asserts that the next report is an error. Returns its text.
    pub(crate) fn expect_error(&self) -> String {
        let report = self.next_report();
        assert_eq!(report["kind"], "error", "{report}");
        report["error"].as_str().unwrap().to_owned()
    }

    pub(crate) fn restart(&self) -> u16 {
        self.service.request("POST", &self.path, r#"{"command":"restart"}"#).0
    }

    pub(crate) fn stop(&self) -> u16 {
        self.service.request("DELETE", &self.path, "").0
    }

    /// Asserts that the client has closed permanently: it cannot be restarted, reports nothing
    /// more, and has made no further request.
    pub(crate) fn assert_closed(&self, origin: &Origin) {
        while self.restart() == 204 {
            origin.assert_no_request();
        }
        origin.assert_no_request();
        assert!(self.reports.try_recv().is_err());
    }
}

impl Drop for Followed<'_> {
    /// Stops the stream, so that it does not reconnect while other streams are tested.
    fn drop(&mut self) {
        if !thread::panicking() {
            self.stop();
        }
    }
}

/// A server that accepts connections and leaves the responses to the test.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    connections: Receiver<TcpStream>,
}

impl Origin {
    pub(crate) fn start() -> Self {
        Self::on("127.0.0.1:0")
    }

    pub(crate) fn on(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, connections) = mpsc::channel();
        thread::spawn(move || while accepted.send(listener.accept().unwrap().0).is_ok() {});
        Self { address, connections }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the next connection, before anything is read from it.
    pub(crate) fn connection(&self) -> TcpStream {
        self.connections.recv_timeout(TIMEOUT).expect("a connection")
    }

    /// Receives the next request.
    pub(crate) fn accept(&self) -> Exchange {
        Exchange::receive(self.connection())
    }

    /// Asserts that no connection waits to be accepted.
    pub(crate) fn assert_no_request(&self) {
        assert!(self.connections.try_recv().is_err(), "there is no further request");
    }
}

/// A received request and its connection.
pub(crate) struct Exchange {
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) socket: TcpStream,
}

impl Exchange {
    fn receive(mut socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        socket.set_nodelay(true).unwrap();
        let head = read_head(&mut socket);
        let mut exchange = Self { head, body: String::new(), socket };
        let length = exchange.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        exchange.socket.read_exact(&mut body).unwrap();
        exchange.body = String::from_utf8(body).unwrap();
        exchange
    }

    /// Returns the request line.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value.trim()))
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends the head of an event stream that ends when the connection closes.
    pub(crate) fn open(&mut self) {
        self.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
    }

    /// Sends the head of an event stream with chunked transfer coding.
    pub(crate) fn open_chunked(&mut self) {
        self.write(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
        );
    }

    pub(crate) fn chunk(&mut self, content: &str) {
        self.write(format!("{:x}\r\n{content}\r\n", content.len()));
    }

    pub(crate) fn redirect(&mut self, status: u16, location: &str) {
        self.write(format!(
            "HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        ));
    }

    /// Closes the connection with a reset.
    pub(crate) fn reset(self) {
        set_socket_linger(&self.socket, Some(Duration::ZERO)).unwrap();
    }

    /// Waits until the peer has closed or reset the connection.
    pub(crate) fn assert_closed(&mut self) {
        let end = self.socket.read(&mut [0]);
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
}
