//! How the command `pub` finds the token of a server on the same machine, and when it must not.

#[path = "support/dir.rs"]
mod dir;
mod support;

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use dir::Dir;
use support::contract::Origin;
use support::{Binary, unused_address};

const BINARY: &str = env!("CARGO_BIN_EXE_sse-smol-server");

/// A runtime directory, in which a server offers its token.
struct Runtime(Dir);

impl Runtime {
    fn new() -> Self {
        Self(Dir::new())
    }

    /// The directory of tokens.
    fn tokens(&self) -> PathBuf {
        self.0.0.join("sse-smol-server")
    }

    /// Returns the names and the modes of the files.
    fn files(&self) -> Vec<(String, u32)> {
        let Ok(entries) = fs::read_dir(self.tokens()) else { return Vec::new() };
        let entries = entries.map(|entry| entry.unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        entries
            .map(|entry| (entry.file_name().into_string().unwrap(), mode(&entry.path())))
            .collect()
    }

    fn file(&self, server: &Binary) -> PathBuf {
        self.tokens().join(server.address.to_string())
    }

    /// Starts a server with this runtime directory.
    fn start(&self, listen: &str, arguments: &[&str]) -> Binary {
        self.start_in(Command::new("env"), listen, arguments)
    }

    /// Starts a server with this runtime directory, as the last arguments of a command.
    fn start_in(&self, mut command: Command, listen: &str, arguments: &[&str]) -> Binary {
        // Without any directory other than this one.
        let variables =
            [format!("XDG_RUNTIME_DIR={}", self.0.path()), "TMPDIR=/nonexistent".into()];
        command.args(["env"]).args(variables).arg(BINARY);
        Binary::start_by(command, listen, arguments)
    }

    /// Publishes by the command.
    fn publish(&self, url: &str) -> Output {
        self.command(url).output().unwrap()
    }

    fn command(&self, url: &str) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(["pub", url, "x"])
            .env_remove("SSE_TOKEN")
            .env("XDG_RUNTIME_DIR", self.0.path())
            .env("TMPDIR", "/nonexistent");
        command
    }

    /// Asserts that a publication at this address comes without a token.
    fn assert_no_token(&self, origin: &Origin) {
        let mut child =
            self.command(&origin.url("/topics/a")).stderr(Stdio::piped()).spawn().unwrap();
        let mut exchange = origin.accept();
        assert_eq!(exchange.header("authorization"), None);
        exchange.write("HTTP/1.1 401 Unauthorized\r\n\r\n");
        drop(exchange);
        assert_eq!(child.wait().unwrap().code(), Some(1));
    }
}

fn assert_published(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn assert_unauthorized(output: &Output) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && errors.contains("401 Unauthorized"), "{errors}");
}

#[test]
fn the_file_exists_while_the_server_runs_and_is_private() {
    let runtime = Runtime::new();
    let server = runtime.start("127.0.0.1:0", &[]);
    let address = server.address;
    assert_eq!(runtime.files(), [(address.to_string(), 0o600)]);
    assert_eq!(fs::metadata(runtime.tokens()).unwrap().mode() & 0o7777, 0o700);
    assert_published(&runtime.publish(&format!("{address}/topics/a")));
    assert_published(&runtime.publish(&format!("localhost:{}/topics/a", address.port())));

    // Another server has a file of its own, also if its token is configured.
    let mut command = Command::new("env");
    command.arg("SSE_TOKEN=secret");
    let other = runtime.start_in(command, "127.0.0.1:0", &[]);
    assert_eq!(runtime.files().len(), 2);
    assert_published(&runtime.publish(&format!("{}/topics/a", other.address)));
    assert_published(&runtime.publish(&format!("{address}/topics/a")));

    for server in [server, other] {
        let (_, clean, log) = server.stop("-TERM");
        assert!(clean && !log.contains("pub`"), "{log}");
    }
    assert_eq!(runtime.files(), []);
}

#[test]
fn a_server_at_all_addresses_is_found() {
    for listen in ["0.0.0.0:0", "[::]:0", ":0"] {
        let runtime = Runtime::new();
        let server = runtime.start(listen, &["--public"]);
        assert_published(
            &runtime.publish(&format!("127.0.0.1:{}/topics/a", server.address.port())),
        );
    }
}

#[test]
fn a_server_without_a_token_leaves_no_file() {
    let runtime = Runtime::new();
    let server = runtime.start("127.0.0.1:0", &["--open-publishing"]);
    assert_eq!(runtime.files(), []);
    assert_published(&runtime.publish(&format!("{}/topics/a", server.address)));
}

#[test]
fn the_token_of_a_killed_server_goes_to_no_other() {
    let runtime = Runtime::new();
    let address = unused_address().to_string();
    let server = runtime.start(&address, &[]);
    let left = fs::read(runtime.file(&server)).unwrap();
    assert!(!server.stop("-KILL").1);
    let file = runtime.tokens().join(&address);
    assert_eq!(fs::read(&file).unwrap(), left);
    let other = Origin::on(&address);
    runtime.assert_no_token(&other);
    drop(other);

    // The next server at the address replaces the file.
    let address = unused_address().to_string();
    fs::rename(&file, runtime.tokens().join(&address)).unwrap();
    let server = runtime.start(&address, &[]);
    assert_ne!(fs::read(runtime.file(&server)).unwrap(), left);
    assert_published(&runtime.publish(&format!("{address}/topics/a")));
}

/// In another network namespace, the same address is that of another server.
#[test]
#[cfg(target_os = "linux")]
fn the_token_stays_in_its_network_namespace() {
    let runtime = Runtime::new();
    let address = unused_address().to_string();
    let mut command = Command::new("unshare");
    command.args(["-rn", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    let server = runtime.start_in(command, &address, &[]);
    assert!(runtime.file(&server).exists());
    runtime.assert_no_token(&Origin::on(&address));
}

#[test]
fn files_and_directories_that_others_can_change_are_not_used() {
    let runtime = Runtime::new();
    let server = runtime.start("127.0.0.1:0", &[]);
    let url = format!("{}/topics/a", server.address);
    let (tokens, file) = (runtime.tokens(), runtime.file(&server));
    let publish_with_mode = |path: &Path, mode| {
        let permissions = fs::metadata(path).unwrap().permissions();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let output = runtime.publish(&url);
        fs::set_permissions(path, permissions).unwrap();
        output
    };
    for mode in [0o640, 0o604, 0o620] {
        assert_unauthorized(&publish_with_mode(&file, mode));
    }
    for mode in [0o750, 0o705, 0o720] {
        assert_unauthorized(&publish_with_mode(&tokens, mode));
    }
    // Symbolic links, to the file and to the directory.
    let moved = runtime.0.0.join("moved");
    fs::rename(&file, &moved).unwrap();
    symlink(&moved, &file).unwrap();
    assert_unauthorized(&runtime.publish(&url));
    fs::remove_file(&file).unwrap();
    fs::rename(&moved, &file).unwrap();
    assert_published(&runtime.publish(&url));
    fs::rename(&tokens, &moved).unwrap();
    symlink(&moved, &tokens).unwrap();
    assert_unauthorized(&runtime.publish(&url));
}

#[test]
fn no_file_is_written_where_others_could_read_it() {
    let prepare: [fn(&Path); 3] = [
        |tokens| {
            fs::create_dir(tokens).unwrap();
            fs::set_permissions(tokens, Permissions::from_mode(0o755)).unwrap();
        },
        |tokens| {
            let target = tokens.with_file_name("target");
            fs::create_dir(&target).unwrap();
            fs::set_permissions(&target, Permissions::from_mode(0o700)).unwrap();
            symlink(target, tokens).unwrap();
        },
        |tokens| fs::write(tokens, "a file").unwrap(),
    ];
    for prepare in prepare {
        let runtime = Runtime::new();
        prepare(&runtime.tokens());
        // The server runs nevertheless.
        let server = runtime.start("127.0.0.1:0", &[]);
        assert_eq!(runtime.files(), []);
        drop(server);
    }
}

/// A server on a Unix socket, which has no address.
struct OnSocket(Child);

impl OnSocket {
    fn start(runtime: &Runtime, path: &Path) -> Self {
        let mut child = Command::new(BINARY)
            .arg("--listen")
            .arg(format!("unix:{}", path.display()))
            .env_remove("SSE_TOKEN")
            .env("XDG_RUNTIME_DIR", runtime.0.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("Listening on unix:"), "{line}");
        Self(child)
    }
}

impl Drop for OnSocket {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_on_a_unix_socket_is_found_by_any_path_to_it() {
    let runtime = Runtime::new();
    let directory = &runtime.0.0;
    let _server = OnSocket::start(&runtime, &directory.join("socket"));
    symlink(directory, directory.join("link")).unwrap();
    for path in ["socket", "link/socket"] {
        let url = format!("unix:{}/{path}:/topics/a", directory.display());
        assert_published(&runtime.publish(&url));
    }
    let mut tail = Command::new(BINARY);
    tail.args(["tail", "--raw", "--last-event-id", "earliest", "--count", "2"]);
    tail.arg("unix:socket:/topics/a").current_dir(directory);
    assert_eq!(tail.output().unwrap().stdout, b"x\nx\n");
}
