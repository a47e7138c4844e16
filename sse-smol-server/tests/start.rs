//! Arguments and environments with which the binary refuses to start.

mod support;

use std::fs;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::{Binary, get, read_until};

/// Runs the server and returns its output. A server that is still running after 5 s is killed.
fn run(variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"))
        .args(["--listen", "127.0.0.1:0"])
        .args(arguments)
        .env_remove("SSE_TOKEN")
        .env_remove("PUBLISH_TOKN")
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    child.wait_with_output().unwrap()
}

/// Asserts that the server fails to start and prints this reason.
fn assert_refused(variables: &[(&str, &str)], arguments: &[&str], reason: &str) {
    let output = run(variables, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code().is_some_and(|code| code > 0), "{arguments:?} starts: {errors}");
    assert!(errors.contains(reason), "{reason:?} for {arguments:?}: {errors}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
}

#[test]
fn a_named_token_must_exist_and_be_valid() {
    let dir = std::env::temp_dir().join(format!("sse-start-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    for (path, reason) in [
        (dir.join("missing").to_str().unwrap().to_owned(), "No such file"),
        (dir.to_str().unwrap().to_owned(), "directory"),
        (file("empty", b""), "empty"),
        (file("blank", b" \n\n"), "empty"),
        (file("lines", b"one\ntwo\n"), "several lines"),
        (file("words", b"one two\n"), "white space"),
        (file("binary", b"\xff\xfe"), "visible ASCII"),
        (file("unicode", "\u{e9}".as_bytes()), "visible ASCII"),
        (file("nul", b"a\0b"), "visible ASCII"),
        (file("long", &[b'x'; 5000]), "longer than 4096 bytes"),
        ("/dev/zero".to_owned(), "larger than"),
    ] {
        assert_refused(&[], &["--token-file", &path], reason);
        assert_refused(&[], &["--token-file", &path], &path);
    }
    let good = file("good", b"secret\n");
    fs::remove_file(dir.join("lines")).unwrap();

    assert_refused(&[], &["--token-env", "PUBLISH_TOKN"], "PUBLISH_TOKN: it is not set");
    assert_refused(&[("SSE_TOKEN", "secret")], &["--token-env", "PUBLISH_TOKN"], "PUBLISH_TOKN");
    assert_refused(&[], &["--token-env", "SSE_TOKEN"], "SSE_TOKEN: it is not set");
    assert_refused(&[], &["--token-env", ""], "not set");
    assert_refused(&[], &["--token-env", "A=B"], "not set");
    for variable in ["SSE_TOKEN", "PUBLISH_TOKN"] {
        for (value, reason) in [("", "empty"), ("a b", "white space"), ("\u{e9}", "visible ASCII")]
        {
            assert_refused(&[(variable, value)], &["--token-env", variable], reason);
        }
    }
    assert_refused(&[("SSE_TOKEN", "")], &[], "empty");

    let both = ["--token-file", &good, "--token-env", "PUBLISH_TOKN"];
    assert_refused(&[("PUBLISH_TOKN", "secret")], &both, "cannot be used with");
    assert_refused(&[], &["--token-file", &good, "--open-publishing"], "cannot be used with");
    let open = ["--token-env", "PUBLISH_TOKN", "--open-publishing"];
    assert_refused(&[("PUBLISH_TOKN", "secret")], &open, "cannot be used with");
    assert_refused(&[("SSE_TOKEN", "secret")], &["--open-publishing"], "unset SSE_TOKEN");
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn addresses_beyond_loopback_need_a_flag() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "10.1.2.3:80", "[::ffff:192.0.2.1]:0"] {
        // Without `run`, which sets `--listen` already: a second one would be an error.
        let output = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"))
            .args(["--listen", listen])
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && errors.contains("--public"), "{listen}: {errors}");
        assert!(errors.contains(listen), "{listen}: {errors}");
    }
    for (listen, flags) in [
        ("127.0.0.1:0", &[][..]),
        ("127.0.0.2:0", &[]),
        ("127.0.0.1:0", &["--public"]),
        ("0.0.0.0:0", &["--public"]),
    ] {
        Binary::start_on(listen, flags);
    }
}

#[test]
fn invalid_values_are_refused_with_the_reason() {
    for (flag, value, reason) in [
        ("--allow-origin", "https://app.example/x", "path"),
        ("--allow-origin", "https://*.example.org", "patterns"),
        ("--allow-origin", "app.example", "scheme"),
        ("--allow-origin", "null", "null"),
        ("--allow-origin", "", "scheme"),
        ("--allow-origin", "https://b\u{fc}cher.example", "Punycode"),
        ("--allow-host", "example.org:8080", "port 8080"),
        ("--allow-host", "http://example.org", "URL"),
        ("--allow-host", "*", "patterns"),
        ("--allow-host", "", "empty"),
        ("--allow-host", "a b", "host name"),
        ("--max-connections", "0", "at least 1"),
        ("--max-connections-per-peer", "0", "at least 1"),
        ("--max-topics", "0", "at least 1"),
        ("--max-head", "0", "at least 18"),
        ("--max-head", "17", "at least 18"),
        ("--history", "0", "at least 1"),
        ("--history-bytes", "0", "at least 1"),
        ("--max-bytes", "0", "at least 1"),
        ("--history-age", "0", "at least 0.001"),
        ("--head-timeout", "0", "at least 0.001"),
        ("--write-timeout", "0", "at least 0.001"),
        ("--head-timeout", "1e-12", "at least 0.001"),
        ("--max-topics", "many", "whole number"),
        ("--max-topics", "-1", "whole number"),
        ("--max-body", "1k", "without a sign or a unit"),
        ("--max-bytes", "99999999999999999999", "too large"),
        ("--drain", "-1", "between 0 and"),
        ("--socket-mode", "660", "--listen unix:PATH"),
        ("--gap-type", "", "empty"),
        ("--gap-type", "a\rb", "carriage return"),
        ("--gap-type", "open", "EventSource"),
        ("--gap-type", "error", "EventSource"),
        ("--hello", "open", "EventSource"),
        ("--hello", "", "empty"),
        ("--socket-mode", "800", "octal"),
    ] {
        assert_refused(&[], &[flag, value], reason);
    }
}

#[test]
fn the_smallest_valid_values_are_accepted() {
    let server = Binary::start(&[
        "--max-body",
        "0",
        "--max-connections",
        "1",
        "--max-connections-per-peer",
        "1",
        "--max-topics",
        "1",
        "--history",
        "1",
        "--history-bytes",
        "1",
        "--max-head",
        "18",
        "--gap-type",
        "message",
        "--drain",
        "0",
        "--keep-alive",
        "0",
    ]);
    let answer = support::read_to_end(&mut support::send(server.address, "GET / HTTP/1.0\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// Each flag has an environment variable, over which the command line takes precedence.
#[test]
fn flags_are_read_from_the_environment() {
    let run = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"));
        command.args(["--listen", "127.0.0.1:0"]).args(arguments).envs(variables.iter().copied());
        let run = command.output().unwrap();
        assert!(!run.status.success());
        String::from_utf8(run.stderr).unwrap()
    };
    let errors = run(&[("SSE_MAX_TOPICS", "0")], &[]);
    assert!(errors.contains("--max-topics") && errors.contains("at least 1"), "{errors}");
    // With a valid value on the command line, the next invalid variable counts.
    let errors = run(&[("SSE_MAX_TOPICS", "0"), ("SSE_DRAIN", "x")], &["--max-topics", "5"]);
    assert!(errors.contains("--drain") && !errors.contains("--max-topics"), "{errors}");
    let errors = run(&[("SSE_RECOVER", "true")], &[]);
    assert!(errors.contains("--data"), "{errors}");

    let variables = [("SSE_HELLO", "hello"), ("SSE_OPEN_PUBLISHING", "true")];
    let mut env = Command::new("env");
    env.args(variables.map(|(name, value)| format!("{name}={value}")));
    env.arg(env!("CARGO_BIN_EXE_sse-smol-server"));
    let server = Binary::start_by(env, "127.0.0.1:0", &[]);
    let mut socket = get(server.address, "/topics/news");
    read_until(&mut socket, "event: hello\n");
}
