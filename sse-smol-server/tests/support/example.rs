//! Examples that are servers, as processes.

#![allow(dead_code)] // each test file uses a part of it

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

/// A process that runs an example and has printed where it listens.
pub(crate) struct Example {
    /// The URL that it printed.
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Example {
    /// Starts an example, and waits until it has printed `listening on` and its URL. Its standard
    /// input is kept open.
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        // Examples are built beside the tests.
        let mut path = PathBuf::from(env!("CARGO_BIN_EXE_sse-smol-server"));
        path.pop();
        let mut child = Command::new(path.join("examples").join(name))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example is built");
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let line = read_line(&mut lines);
        let url = line.strip_prefix("listening on ").unwrap().to_owned();
        let authority = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
        Self { address: authority.parse().unwrap(), url, child, lines }
    }

    /// Returns the next line that the example prints.
    pub(crate) fn line(&mut self) -> String {
        read_line(&mut self.lines)
    }

    /// Closes the standard input, and waits until the example has exited. Returns the status, and
    /// what else it printed.
    pub(crate) fn close_input(&mut self) -> (ExitStatus, String) {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap(), rest)
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_line(lines: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}
