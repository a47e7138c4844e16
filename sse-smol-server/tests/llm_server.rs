//! Tests the example `llm_server` with curl: a `POST` with JSON, tokens as events, and cancelling.

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

struct LlmServer {
    child: Child,
    lines: BufReader<ChildStdout>,
    url: String,
}

impl LlmServer {
    fn start() -> Self {
        // Examples are built beside the tests.
        let mut path = PathBuf::from(env!("CARGO_BIN_EXE_sse-smol-server"));
        path.pop();
        let mut child = Command::new(path.join("examples/llm_server"))
            .arg("127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example is built");
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self { child, lines, url: String::new() };
        let line = server.line();
        line.strip_prefix("listening on ").unwrap().clone_into(&mut server.url);
        server
    }

    /// Returns the next line that the server prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn curl(&self, arguments: &[&str]) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["-sN", "--max-time", "20"]).args(arguments).arg(&self.url);
        curl.stdout(Stdio::piped());
        curl
    }

    /// Posts JSON, and returns the body and the status of the answer.
    fn post(&self, arguments: &[&str], json: &str) -> String {
        let all = [arguments, &["-w", "%{http_code}", "-d", json]].concat();
        String::from_utf8(self.curl(&all).output().unwrap().stdout).unwrap()
    }
}

impl Drop for LlmServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const JSON: [&str; 2] = ["-H", "Content-Type: application/json"];

#[test]
fn a_prompt_is_answered_with_its_tokens_and_an_end() {
    let mut server = LlmServer::start();
    let answer = server.post(&JSON, r#"{"prompt":"one two","max_tokens":3}"#);
    let expected = "data: {\"token\":\"one\"}\n\ndata: {\"token\":\"two\"}\n\n\
                    data: {\"token\":\"one\"}\n\ndata: [DONE]\n\n200";
    assert_eq!(answer, expected);
    assert_eq!(server.line(), "generated 3 tokens");
}

#[test]
fn a_client_that_leaves_cancels_the_generation() {
    let mut server = LlmServer::start();
    let prompt = r#"{"prompt":"one two","max_tokens":1000000}"#;
    let mut curl = server.curl(&[&JSON[..], &["-d", prompt]].concat()).spawn().unwrap();
    let mut first = [0; 6];
    curl.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"data: ");
    curl.kill().unwrap();
    curl.wait().unwrap();
    let line = server.line();
    assert!(line.starts_with("cancelled after "), "{line}");
}

#[test]
fn a_request_that_is_not_a_prompt_is_refused_with_the_reason() {
    let server = LlmServer::start();
    for (arguments, body, reason, status) in [
        (&JSON[..], r#"{"prompt":1}"#, "line 1 column 11", "400"),
        (&JSON, "{", "EOF", "400"),
        (&JSON, r#"{"prompt":""}"#, "The prompt is empty.", "400"),
        (&[], r#"{"prompt":"a"}"#, "Content-Type: application/json", "415"),
        (&["-X", "DELETE"], "", "Allowed methods: POST.", "405"),
    ] {
        let answer = server.post(arguments, body);
        assert!(answer.contains(reason) && answer.ends_with(status), "{body}: {answer}");
    }
}
