//! The commands of the binary other than `tail`: `pub`, `completions` and `man`.

#[path = "support/dir.rs"]
mod dir;
mod support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use dir::Dir;
use support::contract::Origin;
use support::{Binary, RUNTIME_DIR, get, read_until};

/// Runs the binary with variables and standard input.
fn run_with(variables: &[(&str, &str)], input: &str, arguments: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"))
        .args(arguments)
        .env_remove("SSE_TOKEN")
        .env("XDG_RUNTIME_DIR", RUNTIME_DIR)
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may have closed it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Runs the binary and asserts that it succeeds. Returns its output.
fn run(input: &str, arguments: &[&str]) -> String {
    let output = run_with(&[], input, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the binary and asserts that it prints nothing. Returns the exit code and the error.
fn fail(variables: &[(&str, &str)], arguments: &[&str]) -> (i32, String) {
    let output = run_with(variables, "", arguments);
    assert!(output.stdout.is_empty(), "{arguments:?}");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Returns all events of a topic as lines of JSON.
fn events(server: &Binary, topic: &str, count: usize) -> Vec<String> {
    let url = format!("{}/topics/{topic}", server.address);
    let count = count.to_string();
    let arguments = ["tail", "--json", "--last-event-id", "earliest", "--count", &count, &url];
    run("", &arguments).lines().map(str::to_owned).collect()
}

#[test]
fn an_event_is_published_and_its_id_printed() {
    let server = Binary::start_guarded(&[]);
    let url = format!("http://{}/topics/news", server.address);
    let first = run("", &["pub", &url, "hello"]);
    let fields = ["--type", "greeting & more", "--id", "\u{e9} +%=#&?", "--key", "k"];
    let id = run("", &[&["pub", &url, "-5"], &fields[..]].concat());
    assert_eq!(id, "\u{e9} +%=#&?\n");
    assert_eq!(
        events(&server, "news", 2),
        [
            format!(r#"{{"type":"message","id":"{}","data":"hello"}}"#, first.trim_end()),
            r#"{"type":"greeting & more","id":"é +%=#&?","data":"-5"}"#.to_owned(),
        ]
    );

    // The same key and content again.
    let again = run_with(&[], "", &[&["pub", &url, "-5"], &fields[..]].concat());
    assert!(again.status.success());
    assert_eq!(String::from_utf8(again.stdout).unwrap(), id);
    assert_eq!(String::from_utf8(again.stderr).unwrap(), "published before with this key\n");
}

#[test]
fn data_are_read_from_standard_input() {
    let server = Binary::start(&[]);
    let url = format!("{}/topics/a", server.address);
    for (input, arguments) in [
        ("two\nlines\n", &["pub", &url][..]),
        ("no end", &["pub", &url, "-"]),
        ("a blank line\n\n", &["pub", &url]),
        ("of Windows\r\n", &["pub", &url]),
    ] {
        run(input, arguments);
    }
    let data: Vec<_> = events(&server, "a", 4)
        .iter()
        .map(|event| event.split_once("\"data\":").unwrap().1.to_owned())
        .collect();
    assert_eq!(
        data,
        [r#""two\nlines"}"#, r#""no end"}"#, r#""a blank line\n"}"#, r#""of Windows"}"#]
    );
}

#[test]
fn the_error_of_the_server_is_printed() {
    let server = Binary::start_guarded(&[]);
    let url = format!("http://{}/topics/news", server.address);
    run("", &["pub", &url, "a", "--id", "7"]);
    let refused = |variables: &[(&str, &str)], arguments: &[&str], reason: &str| {
        let (code, error) = fail(variables, &[&["pub", &url], arguments].concat());
        assert!(code == 1 && error.contains(reason), "{code} {error}");
        assert!(error.starts_with(&format!("error: {url}: 4")) && error.lines().count() == 1);
    };
    refused(&[], &["b", "--id", "7"], "409 Conflict: id \"7\": an event with this id");
    refused(&[], &["b", "--type", "a\nb"], "400 Bad Request: ");
    refused(&[], &[&"x".repeat(10), "--id", &"7".repeat(300)], "400 Bad Request: ");
    refused(&[("SSE_TOKEN", "other")], &["b"], "401 Unauthorized: This is not the token");
    let elsewhere = [("XDG_RUNTIME_DIR", "/nonexistent"), ("TMPDIR", "/nonexistent")];
    refused(&elsewhere, &["b"], "none of a server on this machine was found: set SSE_TOKEN.");
}

#[test]
fn the_token_is_read_from_the_environment_or_a_file() {
    let dir = Dir::new();
    dir.write("token", "from-file\n");
    let token = format!("{}/token", dir.path());
    for (variables, arguments, expected) in [
        (&[("SSE_TOKEN", "secret")][..], &[][..], "secret"),
        (&[("OTHER", "other"), ("SSE_TOKEN", "x")], &["--token-env", "OTHER"], "other"),
        (&[], &["--token-file", &token], "from-file"),
    ] {
        let origin = Origin::start();
        let url = origin.url("/topics/news");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"))
            .args(["pub", &url, "x"])
            .args(arguments)
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut exchange = origin.accept();
        assert_eq!(exchange.header("authorization"), Some(&*format!("Bearer {expected}")));
        assert_eq!((exchange.line(), &*exchange.body), ("POST /topics/news HTTP/1.1", "x"));
        exchange.write("HTTP/1.1 201 Created\r\n\r\n{\"duplicate\":false,\"id\":\"7\"}");
        drop(exchange);
        assert!(command.wait().unwrap().success());
    }
    for (arguments, reason) in [
        (&["--token-env", "NO_SUCH_VARIABLE"][..], "it is not set"),
        (&["--token-file", "/nonexistent"], "/nonexistent"),
    ] {
        let (code, error) = fail(&[], &[&["pub", "127.0.0.1:1/x", "x"], arguments].concat());
        assert!(code == 2 && error.contains(reason), "{code} {error}");
    }
}

/// Answers a publication with these bytes, and returns the exit code and the error.
fn answered(answer: &str) -> (i32, String) {
    let origin = Origin::start();
    let child = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"))
        .args(["pub", &origin.url("/"), "x"])
        .env("SSE_TOKEN", "secret")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    origin.accept().write(answer);
    let output = child.wait_with_output().unwrap();
    origin.assert_no_request();
    assert!(output.stdout.is_empty());
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn other_answers_and_none_are_errors() {
    // A redirect could lead to another server, which must not get the token.
    for (answer, code, reason) in [
        ("HTTP/1.1 307 Elsewhere\r\nLocation: /b\r\n\r\n", 1, ": 307 Temporary Redirect\n"),
        ("HTTP/1.1 200 OK\r\n\r\n<html>", 1, ": 200 OK: <html>\n"),
        ("HTTP/1.1 500 X\r\n\r\n\x1b[31mred\n\nor not", 1, ": \\u{1b}[31mred or not\n"),
        ("HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{", 3, "cut off"),
        ("HTTP/1.1 201 Cre", 3, "the connection ended before the response"),
        ("", 3, "the connection ended before the response"),
    ] {
        let (exit_code, error) = answered(answer);
        assert!(exit_code == code && error.contains(reason), "{answer:?}: {exit_code} {error}");
    }
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(70_000));
    let (code, error) = answered(&endless);
    assert!(code == 3 && error.contains("longer than 65536 bytes"), "{code} {error}");

    let (code, error) = fail(&[], &["pub", "127.0.0.1:1/topics/a", "x"]);
    assert!(code == 3 && error.contains("cannot connect to 127.0.0.1:1: "), "{code} {error}");
}

/// The default address is not free for tests, so the short forms are seen in error messages.
#[test]
fn short_forms_mean_the_default_address() {
    let variables = [("SSE_TOKEN", "secret")];
    for (short, long) in [
        ("news", "http://127.0.0.1:8080/topics/news"),
        ("/topics?topic=a", "http://127.0.0.1:8080/topics?topic=a"),
        ("127.0.0.1:1/a", "http://127.0.0.1:1/a"),
        ("127.0.0.1:1", "http://127.0.0.1:1/"),
        ("[::1]:1/../a/./b/..", "http://[::1]:1/a/"),
        (
            "HTTP://LOCALHOST:1/\u{e9} {}?\u{e9} {}#f",
            "http://localhost:1/%C3%A9%20%7B%7D?%C3%A9%20{}",
        ),
        ("unix:/no/such:socket:/a", "unix:/no/such:socket:/a"),
    ] {
        // No server publishes with this ID, if there should be one.
        let (code, error) = fail(&variables, &["pub", short, "x", "--id", "\n"]);
        assert!(code == 3 || code == 1, "{short}: {code} {error}");
        assert!(error.starts_with(&format!("error: {long}: ")), "{short}: {error}");
    }
}

#[test]
fn the_variables_of_the_server_do_not_apply_to_commands() {
    let server = Binary::start(&[]);
    let url = format!("{}/topics/a", server.address);
    let variables = [("SSE_MAX_TOPICS", "x"), ("SSE_LISTEN", "nowhere"), ("SSE_ID", "9")];
    let output = run_with(&variables, "", &["pub", &url, "x"]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && output.stdout != b"9\n", "{errors}");

    // A flag of the server before a command is an error, since it would have no effect.
    let (code, error) = fail(&[], &["--public", "pub", &url, "x"]);
    assert!(code == 2 && error.contains("'pub' cannot be used with '--public'"), "{error}");
    let (code, error) = fail(&[], &["publish", &url, "x"]);
    assert!(code == 2 && error.contains("'publish'"), "{error}");
}

#[test]
fn bash_completes_commands_and_their_flags() {
    let dir = Dir::new();
    dir.write("script", &run("", &["completions", "bash"]));
    let complete = |words: &[&str]| {
        // The name of the function is in the last line of the script.
        let probe = r#"
            source "$1"; shift
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            function=$(complete -p sse-smol-server | sed 's/.*-F \([^ ]*\).*/\1/')
            "$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            echo "${COMPREPLY[@]}"
        "#;
        let script = format!("{}/script", dir.path());
        let output = Command::new("bash")
            .args(["-c", probe, "bash", &script, "sse-smol-server"])
            .args(words)
            .output()
            .unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(complete(&["ta"]), "tail\n");
    assert_eq!(complete(&["--lis"]), "--listen\n");
    assert_eq!(complete(&["--log-format", ""]), "text json\n");
    assert_eq!(complete(&["tail", "--r"]), "--raw --read-timeout\n");
    assert_eq!(complete(&["pub", "--ke"]), "--key\n");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(run("", &["completions", shell]).contains("last-event-id"), "{shell}");
    }
    assert_eq!(fail(&[], &["completions", "cmd"]).0, 2);
}

#[test]
fn manual_pages_are_printed() {
    let page = run("", &["man"]);
    assert!(page.contains(".TH sse-smol-server 1") && page.contains("\\-\\-listen"), "{page}");
    let page = run("", &["man", "tail"]);
    assert!(page.contains(".TH sse-smol-server-tail 1"), "{page}");
    assert!(page.contains("\\-\\-last\\-event\\-id") && page.contains("Exit codes"), "{page}");
    assert_eq!(fail(&[], &["man", "ls"]).0, 2);
}

#[test]
fn the_documents_list_all_flags_of_the_commands() {
    for command in ["tail", "pub"] {
        let help = run("", &[command, "--help"]);
        let in_help: BTreeSet<_> = help
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("--"))
            .map(|flag| flag.trim_end_matches([',', '.', ';']))
            .filter(|flag| *flag != "help")
            .collect();
        let rows = format!("| `{command} --");
        let documented: BTreeSet<_> = include_str!("../../docs/server.md")
            .lines()
            .filter_map(|line| line.strip_prefix(&rows))
            .map(|line| line.split([' ', '`']).next().unwrap())
            .collect();
        assert!(documented.len() > 1);
        assert_eq!(documented, in_help, "{command}");
    }
}

/// `head` closes the output before all of it is written.
#[test]
fn a_closed_output_is_no_error() {
    let server = Binary::start(&[]);
    let mut socket = get(server.address, "/topics/a");
    let binary = env!("CARGO_BIN_EXE_sse-smol-server");
    let url = format!("{}/topics/a", server.address);
    for arguments in ["man", "completions bash", &format!("pub {url} x")] {
        let script = format!("set -o pipefail; {binary} {arguments} | true");
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && errors.is_empty(), "{arguments}: {errors}");
    }
    read_until(&mut socket, "data: x\n");
}
