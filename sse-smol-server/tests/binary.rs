//! Tests the binary from the command line, with curl as the client.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::{
    Binary, RUNTIME_DIR, dechunk, events, get, read_head, read_response, read_to_end, read_until,
};

fn curl(arguments: &[&str]) -> Output {
    let output = Command::new("curl").args(["-sS", "--max-time", "30"]).args(arguments).output();
    output.expect("curl is installed: see scripts/test")
}

fn server(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sse-smol-server")).args(arguments).output().unwrap()
}

fn utf8(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn curl_sees_ten_events_a_second_apart() {
    let server = Binary::start(&[]);
    let mut curl = Command::new("curl")
        .args(["-sSN", "--max-time", "60", &format!("http://{}/counter", server.address)])
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl is installed: see scripts/test");
    let start = Instant::now();
    let mut stream = String::new();
    let mut times = Vec::new();
    for line in BufReader::new(curl.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.starts_with("data") {
            times.push(start.elapsed());
        }
        stream.push_str(&line);
        stream.push('\n');
    }
    assert!(curl.wait().unwrap().success(), "curl received a complete body");
    let expected: Vec<_> = (0..10).map(|n| ("counter".to_owned(), n.to_string())).collect();
    assert_eq!(events(&stream), expected);
    for (n, time) in times.iter().enumerate() {
        let due = Duration::from_secs(n as u64);
        assert!(*time + Duration::from_millis(200) >= due, "event {n} is early: {time:?}");
        assert!(*time < due + Duration::from_secs(5), "event {n} is late: {time:?}");
    }
    let (_, _, log) = server.stop("-TERM");
    assert!(log.contains("GET /counter 200: finished, 10 events, "), "{log}");
}

#[test]
fn other_requests_by_curl_get_the_expected_status() {
    let server = Binary::start(&[]);
    let url = |path: &str| format!("http://{}{path}", server.address);
    let status = |arguments: &[&str]| {
        let all = [&["-o", "/dev/null", "-w", "%{http_code} %{http_version}"], arguments].concat();
        utf8(curl(&all).stdout)
    };
    assert_eq!(status(&[&url("/")]), "200 1.1");
    assert_eq!(status(&["-I", &url("/")]), "200 1.1");
    assert_eq!(status(&["-I", &url("/counter")]), "200 1.1");
    assert_eq!(status(&["-I", "--http1.0", &url("/counter")]), "200 1.1");
    assert_eq!(status(&[&url("/nowhere")]), "404 1.1");
    assert_eq!(status(&["-d", "x", &url("/")]), "405 1.1");
    assert_eq!(status(&["-d", "x", &url("/counter")]), "405 1.1");
    assert_eq!(status(&["-H", "Accept: application/json", &url("/counter")]), "406 1.1");
    assert_eq!(status(&["-H", &format!("X: {}", "y".repeat(20_000)), &url("/counter")]), "431 1.1");
    let page = utf8(curl(&[&url("/")]).stdout);
    assert!(page.contains("src=\"/__sse/page/main.js\""));
    assert!(!page.contains("://") && !page.contains("\"//"), "the page loads no external assets");
}

#[test]
fn a_curl_that_times_out_is_logged() {
    let server = Binary::start(&[]);
    let url = format!("http://{}/counter", server.address);
    let output = curl(&["-N", "--max-time", "0.5", "--http1.0", &url]);
    assert!(!output.status.success());
    assert_eq!(utf8(output.stdout), "event: counter\nid: 0\ndata: 0\n\n");
    let (_, clean, log) = server.stop("-INT");
    assert!(clean);
    assert!(log.contains("GET /counter 200: closed by the peer, 1 event, "), "{log}");
}

#[test]
fn a_signal_drains_and_a_second_one_stops_at_once() {
    for signal in ["-INT", "-TERM"] {
        let server = Binary::start(&["--drain", "600"]);
        // Enough streams that draining takes about ten seconds.
        let mut sockets: Vec<_> = (0..200).map(|_| get(server.address, "/clock")).collect();
        for socket in &mut sockets {
            read_head(socket);
        }
        server.signal(signal);
        // All streams get a reconnection time; few have ended yet.
        for socket in &mut sockets {
            read_until(socket, "retry: ");
        }
        let (time, clean, log) = server.stop(signal);
        assert!(time < Duration::from_secs(1), "{signal}: {time:?}");
        assert!(clean, "{signal}: {log}");
        let ends = (log.matches("200: server stopped").count(), log.matches("drained").count());
        assert!(ends.0 >= 150 && ends.0 + ends.1 == 200, "{ends:?}: {log}");
    }
}

#[test]
fn draining_ends_streams_gradually_and_completely() {
    let server = Binary::start(&["--drain", "2"]);
    let mut sockets: Vec<_> = (0..30).map(|_| get(server.address, "/clock")).collect();
    for socket in &mut sockets {
        read_head(socket);
    }
    let start = Instant::now();
    let ends: Vec<_> = sockets
        .into_iter()
        .map(|mut socket| {
            thread::spawn(move || {
                let (body, whole) = dechunk(&read_to_end(&mut socket));
                let retry = body.lines().find_map(|line| line.strip_prefix("retry: "));
                (start.elapsed(), retry.map(|retry| retry.parse::<u64>().unwrap()), whole)
            })
        })
        .collect();
    server.signal("-TERM");
    let address = server.address;
    let ends: Vec<_> = ends.into_iter().map(|end| end.join().unwrap()).collect();
    assert!(ends.iter().all(|(_, _, whole)| *whole), "{ends:?}");
    assert!(ends.iter().all(|(_, retry, _)| retry.is_some_and(|retry| retry < 10_000)), "{ends:?}");
    let retries: BTreeSet<_> = ends.iter().map(|(_, retry, _)| retry).collect();
    assert!(retries.len() > 5, "reconnection times are spread: {retries:?}");
    let (first, last) = ends.iter().fold((Duration::MAX, Duration::ZERO), |(first, last), end| {
        (first.min(end.0), last.max(end.0))
    });
    assert!(
        last > first + Duration::from_millis(500),
        "ends are spread over time: {first:?} to {last:?}"
    );
    assert!(last < Duration::from_secs(3), "{last:?}");
    assert!(TcpStream::connect(address).is_err(), "new connections are refused");
    let (time, clean, log) = server.wait();
    assert!(clean && time < Duration::from_secs(1), "{time:?} {log}");
    assert_eq!(log.matches("GET /clock 200: drained, ").count(), 30, "{log}");
}

#[test]
fn the_keep_alive_flag_sets_the_interval() {
    let server = Binary::start(&["--keep-alive", "0.1"]);
    let mut socket = get(server.address, "/counter");
    read_head(&mut socket);
    read_until(&mut socket, "data: 0\n\n\r\n");
    read_until(&mut socket, "3\r\n:\n\n\r\n");
}

#[test]
fn help_lists_flags_and_invalid_arguments_are_explained() {
    let help = utf8(server(&["--help"]).stdout);
    let flags = ["--listen", "--keep-alive", "--head-timeout", "--max-head", "--version"];
    for flag in flags.iter().chain(&["--public", "--open-publishing", "--token-env"]) {
        assert!(help.contains(flag), "{flag} in {help}");
    }
    for (arguments, reason) in [
        (["--keep-alive", "soon"], "not a number of seconds"),
        (["--keep-alive=-1", "--version"], "must be between 0"),
        (["--keep-alive", "1e300"], "must be between 0"),
        (["--keep-alive", "0.001"], "at least 0.05"),
        (["--gap-type", "a\nb"], "line feed"),
        (["--gap-type", ""], "must not be empty"),
        (["--max-topics", "0"], "must be at least 1"),
        (["--history-age", "0"], "must be at least 0.001"),
        (["--token-file", "/nonexistent"], "/nonexistent"),
        (["--listen", "nowhere"], "invalid socket address"),
        (["--lisen", "127.0.0.1:0"], "--listen"),
    ] {
        let output = server(&arguments);
        let errors = utf8(output.stderr);
        assert!(!output.status.success() && errors.contains(reason), "{arguments:?}: {errors}");
    }
}

#[test]
fn request_lines_are_escaped_and_shortened_in_the_log() {
    let server = Binary::start(&[]);
    let target = format!("/\u{9b}31m\u{202e}{}", "x".repeat(5000));
    read_response(&mut get(server.address, &target));
    let (_, _, log) = server.stop("-INT");
    assert!(log.is_ascii() && log.contains("GET /\\u{9b}31m\\u{202e}xxx"), "{log}");
    assert!(log.lines().all(|line| line.len() < 500), "{log}");
}

#[test]
fn an_address_in_use_is_reported_with_the_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = server(&["--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    let errors = utf8(output.stderr);
    assert!(errors.contains(&address) && errors.contains("--listen"), "{errors}");
}

#[test]
fn the_documents_list_all_flags_in_one_table() {
    let help = utf8(server(&["--help"]).stdout);
    let in_help: BTreeSet<_> = help
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--"))
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    let documented: Vec<_> = include_str!("../../docs/server.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `--"))
        .map(|line| line.split([' ', '`']).next().unwrap())
        .filter(|flag| cfg!(feature = "nats") || !flag.starts_with("nats"))
        .collect();
    assert!(!in_help.is_empty());
    assert_eq!(documented.len(), in_help.len(), "{documented:?}");
    assert_eq!(BTreeSet::from_iter(documented), in_help);
}

/// Runs each command of the documents that publishes or subscribes.
#[test]
fn the_commands_of_the_documents_work() {
    let documents = concat!(include_str!("../../README.md"), include_str!("../../docs/server.md"));
    let token = documents.lines().find_map(|line| {
        line.strip_prefix("SSE_TOKEN=")?.split_once(" sse-smol-server").map(|(token, _)| token)
    });
    let server = Binary::start_with_variable("SSE_TOKEN", token.unwrap(), &[]);
    let address = server.address.to_string();
    let commands = documents.lines().filter_map(|line| {
        let command =
            line.strip_prefix("curl ").or(line.split_once("`curl ").map(|(_, rest)| rest))?;
        let command = command.split(['#', '`']).next().unwrap();
        command.contains(":8080/").then(|| format!("curl {command}"))
    });
    // At once, since the commands that subscribe only end at their time limit.
    let published: usize = thread::scope(|scope| {
        let runs: Vec<_> = commands
            .map(|command| {
                let address = &address;
                scope.spawn(move || usize::from(run_documented_command(&command, address)))
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    assert!(published >= 2, "the documents have commands that publish");

    let mut counts = BTreeMap::new();
    for line in documents.lines() {
        let command = line.strip_prefix("cargo run --release -- ");
        let Some(command) = command.or(line.strip_prefix("sse-smol-server ")) else { continue };
        let words: Vec<_> = command.split('#').next().unwrap().split_whitespace().collect();
        let end: &[&str] = match words[0] {
            // The events that have been published, instead of those to come.
            "tail" => &["--last-event-id", "earliest", "--count", "2"],
            "pub" => &[],
            _ => continue,
        };
        let url = format!("{address}/topics/{}", words[1]);
        let output = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"))
            .args([words[0], &url])
            .args(&words[2..])
            .args(end)
            .env("XDG_RUNTIME_DIR", RUNTIME_DIR)
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {}", utf8(output.stderr));
        *counts.entry(words[0]).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([("pub", 2), ("tail", 2)]));
}

/// Runs a curl command on a server other than the one in the documents. Returns whether it publishes.
fn run_documented_command(command: &str, address: &str) -> bool {
    let is_publication = command.contains(" -d ");
    let limits = "curl -sS --max-time 2 -o /dev/null -w '%{http_code}'";
    let command = command
        .replacen("curl", limits, 1)
        .replace("127.0.0.1:8080", address)
        .replace("localhost:8080", address);
    let status = utf8(Command::new("sh").args(["-c", &command]).output().unwrap().stdout);
    let expected = match command.contains(" -X DELETE ") {
        // The topic of this command holds no events.
        true => "404",
        false if is_publication => "201",
        false => "200",
    };
    assert_eq!(status, expected, "{command}");
    is_publication
}
