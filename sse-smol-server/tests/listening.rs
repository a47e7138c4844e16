//! Where servers listen: addresses, inherited sockets, Unix sockets.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs, io, process};

use smol::{Executor, future};
use sse_proto::Event;
use sse_smol_server::{Config, Error, Request, Server};
use support::subscriber::wait_until;
use support::{Binary, TIMEOUT, read_to_end, send};

/// Streams the address of the peer.
async fn peer(request: Request) -> Result<(), Error> {
    let peer = format!("{:?}", request.peer_addr().map(|address| address.ip()));
    request.open().await?.send(Event::new(&peer)).await
}

/// A directory for sockets, which is removed on drop. Its path is short, as those of sockets are.
struct Sockets(PathBuf);

impl Sockets {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("sse-{name}-{}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> PathBuf {
        self.0.join("socket")
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Runs a server until `client` returns.
fn while_serving<T: Send + 'static>(
    server: Server,
    client: impl FnOnce() -> T + Send + 'static,
) -> T {
    let executor = Executor::new();
    let serve = async {
        server.serve(&executor, peer).await;
        panic!("the server ended before the client");
    };
    future::block_on(executor.run(future::or(smol::unblock(client), serve)))
}

/// Returns the answer to a request over a Unix socket.
fn ask(path: &Path) -> io::Result<String> {
    let mut socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_server_on_an_inherited_tcp_socket_serves() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::from_listener(listener, Config::default()).unwrap();
    let answer =
        while_serving(server, move || read_to_end(&mut send(address, "GET / HTTP/1.0\r\n\r\n")));
    assert!(answer.ends_with("data: Some(127.0.0.1)\n\n"), "{answer}");
}

#[test]
fn a_server_on_a_unix_socket_serves_its_owner_and_removes_the_file() {
    let sockets = Sockets::new("serves");
    let path = sockets.path();
    // Limits for each peer do not apply to peers without an address.
    let config = Config::default().with_max_connections_per_peer(Some(1));
    let server = Server::bind_unix(&path, config).unwrap();
    assert_eq!(server.local_addr().unwrap_err().kind(), io::ErrorKind::Unsupported);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let of_client = path.clone();
    let answer = while_serving(server, move || {
        let _other = UnixStream::connect(&of_client).unwrap();
        ask(&of_client).unwrap()
    });
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("data: None\n\n"), "{answer}");
    assert!(!path.exists());
}

#[test]
fn the_file_of_a_dead_socket_is_replaced_and_no_other_file_is() {
    let sockets = Sockets::new("stale");
    let path = sockets.path();
    let bind = || Server::bind_unix(&path, Config::default());

    // The standard library leaves the file.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    // A process that another test has just forked holds the socket until it executes its program.
    wait_until("the socket is dead", || UnixStream::connect(&path).is_err());
    let server = bind().unwrap();
    assert_eq!(bind().unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert!(path.exists(), "the file of the live server is left");

    // A server that has lost its path does not remove the file of its successor.
    fs::rename(&path, sockets.0.join("moved")).unwrap();
    let successor = bind().unwrap();
    drop(server);
    assert!(path.exists());
    drop(successor);
    assert!(!path.exists());

    fs::write(&path, "text").unwrap();
    assert_eq!(bind().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&path).unwrap(), "text");
    fs::remove_file(&path).unwrap();
    symlink("nowhere", &path).unwrap();
    assert_eq!(bind().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn a_server_on_an_inherited_unix_socket_leaves_its_file() {
    let sockets = Sockets::new("inherited");
    let path = sockets.path();
    let listener = UnixListener::bind(&path).unwrap();
    let server = Server::from_listener(listener, Config::default()).unwrap();
    let of_client = path.clone();
    let answer = while_serving(server, move || ask(&of_client).unwrap());
    assert!(answer.ends_with("data: None\n\n"), "{answer}");
    assert!(path.exists());
}

/// A process of the binary, and the first line that it printed.
struct Process(Child, String);

impl Process {
    fn start(mut command: Command, arguments: &[&str]) -> Self {
        command.args(["--open-publishing", "--listen"]).args(arguments).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child, line.trim_end().to_owned())
    }

    /// Stops the process, and waits until it has ended.
    fn stop(mut self) {
        let killed = Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        assert!(killed.success() && self.0.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sse-smol-server"))
}

/// Passes a listening socket to the binary as systemd does.
fn activated(listener: impl Into<OwnedFd>) -> Command {
    let mut shell = Command::new("sh");
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
    shell.args(["-c", script, env!("CARGO_BIN_EXE_sse-smol-server")]);
    shell.stdin(Stdio::from(listener.into()));
    shell
}

/// Returns what curl prints for a request over a Unix socket.
fn curl(socket: &Path, arguments: &[&str]) -> String {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "20", "--unix-socket"]).arg(socket);
    String::from_utf8(curl.args(arguments).output().unwrap().stdout).unwrap()
}

#[test]
fn the_binary_serves_curl_on_a_unix_socket_and_removes_it() {
    let sockets = Sockets::new("binary");
    let path = sockets.path();
    drop(UnixListener::bind(&path).unwrap());
    let listen = format!("unix:{}", path.display());
    let server = Process::start(binary(), &[&listen, "--socket-mode", "660"]);
    assert_eq!(server.1, format!("Listening on {listen}"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);

    let status = ["-o", "/dev/null", "-w", "%{http_code}"];
    let topic = "http://localhost/topics/news";
    assert_eq!(curl(&path, &[&status[..], &["-d", "hello", topic]].concat()), "201");
    let stream = curl(&path, &["-N", "--max-time", "1", "-H", "Last-Event-ID: earliest", topic]);
    assert!(stream.ends_with("data: hello\n\n"), "{stream}");
    // Hosts and origins are checked as on a loopback address.
    assert_eq!(curl(&path, &[&status[..], &["http://elsewhere.example/healthz"]].concat()), "421");
    let foreign = ["-d", "x", "-H", "Origin: http://elsewhere.example", topic];
    assert_eq!(curl(&path, &[&status[..], &foreign].concat()), "403");

    server.stop();
    assert!(!path.exists());
}

#[test]
fn the_binary_takes_sockets_over_from_systemd() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Process::start(activated(listener), &["systemd"]);
    assert_eq!(server.1, format!("Listening on http://{address}/"));
    let answer = read_to_end(&mut send(address, "GET /healthz HTTP/1.0\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    server.stop();

    let sockets = Sockets::new("systemd");
    let path = sockets.path();
    let server = Process::start(activated(UnixListener::bind(&path).unwrap()), &["systemd"]);
    assert_eq!(server.1, "Listening on the Unix socket from systemd");
    assert_eq!(curl(&path, &["http://localhost/healthz"]), "ok\n");
    server.stop();
    assert!(path.exists());

    // Other machines can reach this one.
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let refused = activated(listener).args(["--listen", "systemd"]).output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--public"));
}

#[test]
fn listen_takes_host_names_and_ports_alone() {
    let server = Binary::start_on("localhost:0", &[]);
    assert!(server.address.ip().is_loopback());
    let server = Binary::start_on(":0", &["--public"]);
    let text = &server.start_up_text;
    let all = ["Listening on http://[::]:", "Listening on http://0.0.0.0:"];
    assert!(all.iter().any(|start| text.starts_with(start)), "{text}");
    for (listen, reason) in [
        (":0", "--public"),
        ("localhost", "HOST:PORT"),
        (":x", "invalid digit"),
        ("unix:", "missing"),
        ("systemd", "LISTEN_PID"),
    ] {
        let output = binary().args(["--listen", listen]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(reason), "{listen}: {errors}");
    }
}
