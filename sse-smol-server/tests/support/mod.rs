//! Servers under test, and a client that checks every byte.

#![allow(dead_code)] // each test file uses a part of it

pub(crate) mod contract;
#[path = "../../examples/storage/log.rs"]
mod log;
#[path = "../../examples/storage/memory.rs"]
pub(crate) mod memory_storage;
pub(crate) mod proxy;
pub(crate) mod resources;
pub(crate) mod resuming;
pub(crate) mod storage;
pub(crate) mod subscriber;
pub(crate) mod topics;

use std::future::Future;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketType, connect, socket};
use smol::{Executor, channel, future};
use sse_proto::Decoder;
use sse_smol_server::{Config, Error, Request, Server};

/// The time after which a test gives up waiting. Used up only by a failure.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// The runtime directory of servers under test, where they offer their tokens.
pub(crate) const RUNTIME_DIR: &str = env!("CARGO_TARGET_TMPDIR");

/// Returns the output of a future that does not wait, as that of an operation on topics without a
/// storage.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    future::block_on(future::poll_once(future)).expect("ready at the first poll")
}

/// The library serving a handler of the test, on a free port of 127.0.0.1.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: Option<channel::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

pub(crate) fn serve<H, F>(config: Config, handler: H) -> Running
where
    H: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let server = Server::bind("127.0.0.1:0", config).unwrap();
    let address = server.local_addr().unwrap();
    let (stop, stopped) = channel::bounded::<()>(1);
    let thread = thread::spawn(move || {
        let executor = Executor::new();
        let stopped = async {
            let _ = stopped.recv().await;
        };
        future::block_on(executor.run(future::or(server.serve(&executor, handler), stopped)));
    });
    Running { address, stop: Some(stop), thread: Some(thread) }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || thread::panicking(), "the server panicked");
        }
    }
}

/// A process that runs the binary.
pub(crate) struct Binary {
    pub(crate) address: SocketAddr,
    /// The text that the binary printed to stdout at start-up.
    pub(crate) start_up_text: String,
    child: Child,
    log: Option<JoinHandle<String>>,
}

impl Binary {
    /// Starts the binary on a free port, with `--open-publishing`.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", arguments)
    }

    pub(crate) fn start_on(listen: &str, arguments: &[&str]) -> Self {
        Self::start_guarded_on(listen, &[&["--open-publishing"], arguments].concat())
    }

    /// Starts the binary on a free port. Publishing is guarded unless an argument opens it.
    pub(crate) fn start_guarded(arguments: &[&str]) -> Self {
        Self::start_guarded_on("127.0.0.1:0", arguments)
    }

    pub(crate) fn start_guarded_on(listen: &str, arguments: &[&str]) -> Self {
        let server = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"));
        Self::spawn(server, listen, arguments)
    }

    /// Like [`start_guarded`](Self::start_guarded), with an environment variable.
    pub(crate) fn start_with_variable(name: &str, value: &str, arguments: &[&str]) -> Self {
        let mut server = Command::new("env");
        server.arg(format!("{name}={value}")).arg(env!("CARGO_BIN_EXE_sse-smol-server"));
        Self::spawn(server, "127.0.0.1:0", arguments)
    }

    /// Like [`start`](Self::start), with a hard limit of `most` open files.
    pub(crate) fn start_with_descriptors(most: usize, arguments: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\"")]);
        shell.arg(env!("CARGO_BIN_EXE_sse-smol-server"));
        Self::spawn(shell, "127.0.0.1:0", &[&["--open-publishing"], arguments].concat())
    }

    /// Like [`start`](Self::start), with a soft limit of 3 MB for each file, which stands for a full
    /// disk. The signal for an exceeded limit is ignored, so writes fail.
    pub(crate) fn start_with_small_files(arguments: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        // In blocks of 512 bytes.
        shell.args(["-c", "ulimit -S -f 6000 && trap '' XFSZ && exec \"$0\" \"$@\""]);
        shell.arg(env!("CARGO_BIN_EXE_sse-smol-server"));
        Self::spawn(shell, "127.0.0.1:0", &[&["--open-publishing"], arguments].concat())
    }

    /// Like [`start`](Self::start), with a single malloc arena, so that memory use does not depend
    /// on which thread allocated.
    pub(crate) fn start_with_one_heap(arguments: &[&str]) -> Self {
        let mut server = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"));
        server.env("MALLOC_ARENA_MAX", "1");
        Self::spawn(server, "127.0.0.1:0", &[&["--open-publishing"], arguments].concat())
    }

    /// Like [`start`](Self::start), with a log that holds everything that a test publishes and
    /// without keep-alives, so that only `write_timeout` (in seconds) ends streams.
    pub(crate) fn start_for_flood(write_timeout: &str) -> Self {
        let timeouts = ["--write-timeout", write_timeout, "--keep-alive", "0", "--drain", "0.2"];
        let history = ["--history", "100000", "--history-bytes", "100000000"];
        Self::start(&[&timeouts[..], &history].concat())
    }

    /// Starts a command that runs the binary with the arguments appended to it.
    pub(crate) fn start_by(command: Command, listen: &str, arguments: &[&str]) -> Self {
        Self::spawn(command, listen, arguments)
    }

    fn spawn(mut command: Command, listen: &str, arguments: &[&str]) -> Self {
        let mut child = command
            .args(["--listen", listen])
            .args(arguments)
            .env_remove("RUST_LOG")
            .env_remove("SSE_TOKEN")
            .env("XDG_RUNTIME_DIR", RUNTIME_DIR)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut start_up_text = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        while !start_up_text.contains("Publish:") {
            let count = stdout.read_line(&mut start_up_text).unwrap();
            assert!(count > 0, "the server did not start: {start_up_text}");
        }
        let line = start_up_text.lines().next().unwrap();
        let address = line.strip_prefix("Listening on http://").unwrap();
        let mut address: SocketAddr = address.trim_end_matches('/').parse().unwrap();
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let mut stderr = child.stderr.take().unwrap();
        let log = thread::spawn(move || {
            let mut log = String::new();
            stderr.read_to_string(&mut log).unwrap();
            log
        });
        Self { address, start_up_text, child, log: Some(log) }
    }

    /// Returns the generated token that the start-up text contains.
    pub(crate) fn token(&self) -> &str {
        let (_, rest) = self.start_up_text.split_once("#token=").expect("a token was generated");
        rest.lines().next().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `-TERM`.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for the process to exit. Returns the time that took, whether it succeeded, and the log.
    pub(crate) fn wait(mut self) -> (Duration, bool, String) {
        let start = Instant::now();
        let status = self.child.wait().unwrap();
        (start.elapsed(), status.success(), self.log.take().unwrap().join().unwrap())
    }

    /// Sends a signal and waits for the process to exit, like [`wait`](Self::wait).
    pub(crate) fn stop(self, signal: &str) -> (Duration, bool, String) {
        self.signal(signal);
        self.wait()
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking()
            && let Some(Ok(log)) = self.log.take().map(JoinHandle::join)
        {
            eprintln!("the end of the log of {}:\n{}", self.address, last_lines(&log));
        }
    }
}

/// Returns the last lines of a log, for the output of a test that fails.
pub(crate) fn last_lines(log: &str) -> &str {
    let start = log.rmatch_indices('\n').nth(100).map_or(0, |(at, _)| at + 1);
    &log[start..]
}

/// Returns an address for a server that cannot report a port which the kernel chose. The host is one
/// that nothing else uses: on 127.0.0.1, another test could take a port that was free a moment ago.
pub(crate) fn unused_address() -> SocketAddr {
    static HOSTS: AtomicU8 = AtomicU8::new(1);
    let host = Ipv4Addr::new(127, 0, 77, HOSTS.fetch_add(1, Ordering::Relaxed));
    TcpListener::bind((host, 0)).unwrap().local_addr().unwrap()
}

/// Connects and sends these bytes.
pub(crate) fn send(address: SocketAddr, request: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    socket
}

/// Connects with a receive buffer of this size in bytes.
pub(crate) fn connect_narrow(server: SocketAddr, receive_buffer: usize) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    // The option limits the TCP window only if it is set before connecting.
    set_socket_recv_buffer_size(&socket, receive_buffer).unwrap();
    connect(&socket, &server).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket
}

pub(crate) fn get(address: SocketAddr, path: &str) -> TcpStream {
    send(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"))
}

/// Reads up to and including `end`, and nothing beyond it.
pub(crate) fn read_until(socket: &mut TcpStream, end: &str) -> String {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(end.as_bytes()) {
        socket.read_exact(&mut byte).unwrap_or_else(|error| {
            panic!("{error} before {end:?}, after {:?}", String::from_utf8_lossy(&seen))
        });
        seen.push(byte[0]);
    }
    String::from_utf8(seen).unwrap()
}

pub(crate) fn read_head(socket: &mut TcpStream) -> String {
    read_until(socket, "\r\n\r\n")
}

/// Reads one response by its `Content-Length`. Returns status, head and body.
pub(crate) fn read_response(socket: &mut TcpStream) -> (u16, String, String) {
    let head = read_head(socket);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    socket.read_exact(&mut body).unwrap();
    (status, head, String::from_utf8(body).unwrap())
}

/// Reads until the peer closes the connection.
pub(crate) fn read_to_end(socket: &mut TcpStream) -> String {
    let mut rest = String::new();
    socket.read_to_string(&mut rest).unwrap();
    rest
}

/// Decodes a chunked body. Returns its content, and whether the last chunk was present.
pub(crate) fn dechunk(mut body: &str) -> (String, bool) {
    let mut content = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk size");
        if size == 0 {
            assert_eq!(rest, "\r\n", "nothing follows the last chunk");
            return (content, true);
        }
        content.push_str(&rest[..size]);
        body = rest[size..].strip_prefix("\r\n").expect("a line end after the chunk");
    }
    assert_eq!(body, "", "the body ends with a whole chunk");
    (content, false)
}

/// Decodes the events of a stream, as (type, data).
pub(crate) fn events(stream: &str) -> Vec<(String, String)> {
    let mut decoder = Decoder::new();
    let mut input = stream.as_bytes();
    let mut events = Vec::new();
    while let Some(event) = decoder.next_event(&mut input).unwrap() {
        events.push((event.event_type().to_string(), event.data().to_string()));
    }
    events
}

/// Sends a message when it is dropped.
pub(crate) struct OnDrop(pub(crate) mpsc::Sender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// A future that counts how often it is polled.
pub(crate) struct Counted<F>(pub(crate) F, pub(crate) Arc<AtomicUsize>);

impl<F: Future + Unpin> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll(cx)
    }
}
