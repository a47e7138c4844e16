//! The binary as people run it, with real curl.

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::{Binary, events, get, read_head, read_until};

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
    assert!(curl.wait().unwrap().success(), "the body is whole");
    let expected: Vec<_> = (0..10).map(|n| ("counter".to_owned(), n.to_string())).collect();
    assert_eq!(events(&stream), expected);
    for (n, time) in times.iter().enumerate() {
        let due = Duration::from_secs(n as u64);
        assert!(*time + Duration::from_millis(200) >= due, "event {n} came early: {time:?}");
        assert!(*time < due + Duration::from_secs(5), "event {n} came late: {time:?}");
    }
    let (_, _, log) = server.stop("-TERM");
    assert!(log.contains("GET /counter 200: finished, 10 events, "), "{log}");
}

#[test]
fn curl_gets_what_other_requests_get() {
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
    assert!(page.contains("new EventSource(\"/counter\")"));
    assert!(!page.contains("src=") && !page.contains("@import"), "no external assets");
}

#[test]
fn curl_that_gives_up_is_logged_at_once() {
    let server = Binary::start(&[]);
    let url = format!("http://{}/counter", server.address);
    let output = curl(&["-N", "--max-time", "0.5", "--http1.0", &url]);
    assert!(!output.status.success());
    assert_eq!(utf8(output.stdout), "event: counter\ndata: 0\n\n");
    let (_, clean, log) = server.stop("-INT");
    assert!(clean);
    assert!(log.contains("GET /counter 200: closed by the peer, 1 events, "), "{log}");
}

#[test]
fn ctrl_c_ends_it_within_a_second_with_streams_open() {
    for signal in ["-INT", "-TERM"] {
        let server = Binary::start(&[]);
        let mut sockets: Vec<_> = (0..20).map(|_| get(server.address, "/counter")).collect();
        for socket in &mut sockets {
            read_head(socket);
        }
        let (time, clean, log) = server.stop(signal);
        assert!(time < Duration::from_secs(1), "{signal}: {time:?}");
        assert!(clean, "{signal}: {log}");
        assert_eq!(log.matches("200: server stopped").count(), 20, "{log}");
        for mut socket in sockets {
            let mut rest = Vec::new();
            let _ = socket.read_to_end(&mut rest);
            assert!(!rest.ends_with(b"0\r\n\r\n"), "the client can tell");
        }
    }
}

#[test]
fn the_keep_alive_flag_is_obeyed() {
    let server = Binary::start(&["--keep-alive", "0.1"]);
    let mut socket = get(server.address, "/counter");
    read_head(&mut socket);
    read_until(&mut socket, "data: 0\n\n\r\n");
    read_until(&mut socket, "3\r\n:\n\n\r\n");
}

#[test]
fn help_names_every_flag_and_mistakes_are_explained() {
    let help = utf8(server(&["--help"]).stdout);
    for flag in ["--listen", "--keep-alive", "--head-timeout", "--max-head", "--version"] {
        assert!(help.contains(flag), "{flag} in {help}");
    }
    for (arguments, says) in [
        (["--keep-alive", "soon"], "not a number of seconds"),
        (["--keep-alive=-1", "--version"], "must be between 0"),
        (["--keep-alive", "1e300"], "must be between 0"),
        (["--listen", "nowhere"], "invalid socket address"),
        (["--lisen", "127.0.0.1:0"], "--listen"),
    ] {
        let output = server(&arguments);
        let errors = utf8(output.stderr);
        assert!(!output.status.success() && errors.contains(says), "{arguments:?}: {errors}");
    }
}

#[test]
fn an_address_in_use_is_said_clearly() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = server(&["--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    let errors = utf8(output.stderr);
    assert!(errors.contains(&address) && errors.contains("--listen"), "{errors}");
}
