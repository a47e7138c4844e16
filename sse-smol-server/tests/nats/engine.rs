//! NATS servers of the tests.

use std::env;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::dir::Dir;
use super::support::{TIMEOUT, last_lines, unused_address};

/// A NATS server with JetStream. It is killed when this is dropped.
pub(crate) struct Engine {
    program: PathBuf,
    dir: Dir,
    port: u16,
    child: Child,
    arguments: Vec<String>,
}

/// Returns the programs to test with: that of the system and, if scripts/test has installed it, a
/// current one.
fn programs() -> Vec<PathBuf> {
    // Debian installs it in a directory that is only in the PATH of root.
    let path = format!("{}:/usr/sbin", env::var("PATH").unwrap_or_default());
    let of_system = env::split_paths(&path).map(|directory| directory.join("nats-server"));
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let current = package.join("../target/nats-server/bin/nats-server");
    let mut programs: Vec<_> = of_system.filter(|program| program.exists()).take(1).collect();
    programs.extend(Some(current).filter(|program| program.exists()));
    assert!(!programs.is_empty(), "nats-server is not installed: see scripts/test");
    programs
}

/// Runs a test with each program, at the same time.
pub(crate) fn with_each(test: impl Fn(Engine) + Sync) {
    with_each_and(&[], test);
}

/// Like [`with_each`], with arguments for the program.
pub(crate) fn with_each_and(arguments: &[&str], test: impl Fn(Engine) + Sync) {
    thread::scope(|scope| {
        for program in programs() {
            let test = &test;
            scope.spawn(move || test(Engine::start(program, arguments)));
        }
    });
}

/// Runs a test with a cluster of three servers of each program.
pub(crate) fn with_each_cluster(test: impl Fn(Vec<Engine>) + Sync) {
    thread::scope(|scope| {
        for program in programs() {
            let test = &test;
            scope.spawn(move || test(cluster(&program)));
        }
    });
}

fn cluster(program: &Path) -> Vec<Engine> {
    let addresses = [(); 3].map(|()| format!("nats://{}", unused_address()));
    let routes = addresses.join(",");
    let member = |address: &String| {
        // The address is unique.
        let arguments = ["-n", address, "--cluster_name", "c", "--cluster", address, "--routes"];
        Engine::start(program.to_owned(), &[&arguments[..], &[&routes]].concat())
    };
    addresses.iter().map(member).collect()
}

impl Engine {
    fn start(program: PathBuf, arguments: &[&str]) -> Self {
        let dir = Dir::new();
        let arguments: Vec<String> = arguments.iter().map(|&one| one.to_owned()).collect();
        let child = spawn(&program, &dir, -1, &arguments);
        let mut engine = Self { program, dir, port: 0, child, arguments };
        engine.port = engine.wait_for_port();
        engine
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts the server again after it was killed, on the same port.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.program, &self.dir, self.port.into(), &self.arguments);
        self.wait_for_port();
    }

    /// Kills the server, and starts it again with other arguments.
    pub(crate) fn restart_with(&mut self, arguments: &[&str]) {
        self.kill();
        self.arguments = arguments.iter().map(|&one| one.to_owned()).collect();
        self.restart();
    }

    /// Sends a signal, such as `-STOP`.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Stops all threads of the server, until it gets the signal `-CONT`.
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
        let is_stopped = |task: fs::DirEntry| {
            let state = fs::read_to_string(task.path().join("stat")).unwrap();
            state.rsplit(") ").next().unwrap().starts_with('T')
        };
        let tasks = format!("/proc/{}/task", self.child.id());
        let start = Instant::now();
        while !fs::read_dir(&tasks).unwrap().all(|task| is_stopped(task.unwrap())) {
            assert!(start.elapsed() < TIMEOUT);
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends a request to JetStream, and returns the reply.
    pub(crate) fn api(&self, operation: &str, body: &str) -> serde_json::Value {
        self.publish(&format!("$JS.API.{operation}"), body)
    }

    /// Replaces a stream by a new one with these settings. While the files of the old one are being
    /// removed, the engine may be unable to create the new ones.
    pub(crate) fn replace_stream(&self, stream: &str, config: &str) {
        self.api(&format!("STREAM.DELETE.{stream}"), "");
        let start = Instant::now();
        loop {
            let create = format!("PUB $JS.API.STREAM.CREATE.{stream} reply {}", config.len());
            let reply = self.request(&format!("{create}\r\n{config}"));
            if reply["error"].is_null() {
                return;
            }
            let is_store = reply["error"]["err_code"] == 10_049;
            assert!(is_store && start.elapsed() < TIMEOUT, "{reply}");
        }
    }

    /// Publishes a message, and returns the reply of JetStream.
    pub(crate) fn publish(&self, subject: &str, body: &str) -> serde_json::Value {
        self.exchange(subject, &format!("PUB {subject} reply {}\r\n{body}", body.len()))
    }

    /// Publishes a message with headers, which begin with a line for the version, as they are.
    pub(crate) fn publish_with_headers(&self, subject: &str, headers: &str, body: &str) {
        let headers = format!("{headers}\r\n\r\n");
        let (len, all) = (headers.len(), headers.len() + body.len());
        self.exchange(subject, &format!("HPUB {subject} reply {len} {all}\r\n{headers}{body}"));
    }

    fn exchange(&self, subject: &str, message: &str) -> serde_json::Value {
        let reply = self.request(message);
        assert!(reply["error"].is_null(), "{subject}: {reply}");
        reply
    }

    fn request(&self, message: &str) -> serde_json::Value {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        let options = r#"{"verbose":false,"headers":true}"#;
        let request = format!("CONNECT {options}\r\nSUB reply 1\r\n{message}\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        let mut lines = BufReader::new(socket).lines();
        // The head of the message, and its payload, which has no line ends.
        let head = lines.find(|line| line.as_ref().unwrap().starts_with("MSG reply"));
        head.expect("a reply").unwrap();
        let reply = lines.next().unwrap().unwrap();
        serde_json::from_str(&reply).unwrap()
    }

    /// Returns the number of messages that the server has received. It needs the argument `-m`.
    pub(crate) fn messages(&self) -> u64 {
        let address = self.address("monitoring").unwrap();
        let mut socket = TcpStream::connect(&address).unwrap();
        let head = format!("GET /varz HTTP/1.0\r\nHost: {address}\r\n\r\n");
        socket.write_all(head.as_bytes()).unwrap();
        let response = io::read_to_string(socket).unwrap();
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<serde_json::Value>(body).unwrap()["in_msgs"].as_u64().unwrap()
    }

    /// Copies the data of a server that is not running.
    pub(crate) fn save(&self) -> Dir {
        let copy = Dir::new();
        copy_all(&self.dir.0.join("data"), &copy.0.join("data"));
        copy
    }

    /// Replaces the data of a server that is not running.
    pub(crate) fn restore(&self, copy: &Dir) {
        fs::remove_dir_all(self.dir.0.join("data")).unwrap();
        copy_all(&copy.0.join("data"), &self.dir.0.join("data"));
    }

    /// Returns the address of a service of the server, when it has one.
    fn address(&self, service: &str) -> Option<String> {
        let name = self.program.file_name().unwrap().to_str().unwrap();
        let file = self.dir.0.join(format!("{name}_{}.ports", self.child.id()));
        let ports = fs::read(&file).unwrap_or_default();
        let ports = serde_json::from_slice::<serde_json::Value>(&ports).unwrap_or_default();
        Some(ports[service][0].as_str()?.rsplit('/').next()?.to_owned())
    }

    /// Waits until the server is ready. Returns its port.
    fn wait_for_port(&mut self) -> u16 {
        let start = Instant::now();
        loop {
            let address = self.address("nats");
            let port = address.as_ref().and_then(|address| address.rsplit(':').next());
            if let Some(port) = port.and_then(|port| port.parse().ok())
                && TcpStream::connect(("127.0.0.1", port)).is_ok()
            {
                return port;
            }
            let log = || fs::read_to_string(self.dir.0.join("log")).unwrap_or_default();
            let has_exited = self.child.try_wait().unwrap().is_some();
            assert!(!has_exited && start.elapsed() < TIMEOUT, "no NATS server: {}", log());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = fs::read_to_string(self.dir.0.join("log")).unwrap_or_default();
            eprintln!("the end of the log of {}:\n{}", self.program.display(), last_lines(&log));
        }
    }
}

fn spawn(program: &Path, dir: &Dir, port: i32, arguments: &[String]) -> Child {
    Command::new(program)
        .args(["-js", "-a", "127.0.0.1", "-p", &port.to_string()])
        .arg("-sd")
        .arg(dir.0.join("data"))
        .arg("--ports_file_dir")
        .arg(&dir.0)
        .arg("-l")
        .arg(dir.0.join("log"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
