//! Tests the example `llm_server` with curl: a `POST` with JSON, tokens as events, and cancelling.

#[path = "support/example.rs"]
mod example;

use std::io::Read as _;
use std::process::{Command, Stdio};

use example::Example;

fn start() -> Example {
    Example::start("llm_server", &["127.0.0.1:0"])
}

fn curl(server: &Example, arguments: &[&str]) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["-sN", "--max-time", "20"]).args(arguments).arg(&server.url);
    curl.stdout(Stdio::piped());
    curl
}

/// Posts JSON, and returns the body and the status of the answer.
fn post(server: &Example, arguments: &[&str], json: &str) -> String {
    let all = [arguments, &["-w", "%{http_code}", "-d", json]].concat();
    String::from_utf8(curl(server, &all).output().unwrap().stdout).unwrap()
}

const JSON: [&str; 2] = ["-H", "Content-Type: application/json"];

#[test]
fn a_prompt_is_answered_with_its_tokens_and_an_end() {
    let mut server = start();
    let answer = post(&server, &JSON, r#"{"prompt":"one two","max_tokens":3}"#);
    let expected = "data: {\"token\":\"one\"}\n\ndata: {\"token\":\"two\"}\n\n\
                    data: {\"token\":\"one\"}\n\ndata: [DONE]\n\n200";
    assert_eq!(answer, expected);
    assert_eq!(server.line(), "generated 3 tokens");
}

#[test]
fn a_client_that_leaves_cancels_the_generation() {
    let mut server = start();
    let prompt = r#"{"prompt":"one two","max_tokens":1000000}"#;
    let mut curl = curl(&server, &[&JSON[..], &["-d", prompt]].concat()).spawn().unwrap();
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
    let server = start();
    for (arguments, body, reason, status) in [
        (&JSON[..], r#"{"prompt":1}"#, "line 1 column 11", "400"),
        (&JSON, "{", "EOF", "400"),
        (&JSON, r#"{"prompt":""}"#, "The prompt is empty.", "400"),
        (&[], r#"{"prompt":"a"}"#, "Content-Type: application/json", "415"),
        (&["-X", "DELETE"], "", "Allowed methods: POST.", "405"),
    ] {
        let answer = post(&server, arguments, body);
        assert!(answer.contains(reason) && answer.ends_with(status), "{body}: {answer}");
    }
}
