//! Follows an event stream with only `std`, and reconnects when the connection ends.
//!
//! ```text
//! cargo run -p sse-proto --example blocking -- http://127.0.0.1:8080/clock
//! ```
//!
//! The URL must include the port. Exit codes: 0 if the server ended the stream with status 204, 1
//! if it rejected the request or sent something other than an event stream, 2 for an invalid
//! command line.
//!
//! The request is HTTP/1.0, so the response's body has no chunked framing. For redirects, HTTP/1.1
//! and TLS, use an HTTP library; the loop stays the same.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, thread};

use sse_proto::{Client, ClientConfig, ReadyState, Rejected, ResponseHead};

/// The period of silence after which a connection counts as dead.
const SILENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let url = env::args().nth(1).unwrap_or_default();
    let Some((host, path)) = parse(&url) else {
        eprintln!("error: {url:?} is not a URL of the form http://HOST:PORT/PATH");
        return ExitCode::from(2);
    };
    match follow(host, path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {url}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Splits a URL into the host with its port and the path without its first slash.
fn parse(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (name, port) = host.rsplit_once(':')?;
    (!name.is_empty() && port.parse::<u16>().is_ok()).then_some((host, path))
}

/// Follows the stream until the client is closed. Returns the error that closed it; status 204 is
/// not an error.
fn follow(host: &str, path: &str) -> Result<(), Box<dyn Error>> {
    let mut client = Client::new(ClientConfig::default());
    loop {
        if let Some(request) = client.poll_request(Instant::now()) {
            let mut head = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n").into_bytes();
            for (name, value) in request.headers() {
                head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
            }
            head.extend(b"\r\n");
            let result = attempt(host, &head, &mut client);
            client.handle_end(Instant::now(), 0);
            match result {
                Err(error) if client.ready_state() != ReadyState::Closed => eprintln!("{error}"),
                Err(error) if error.downcast_ref() == Some(&Rejected::Status(204)) => return Ok(()),
                result => return result,
            }
        } else if let Some(deadline) = client.poll_timeout() {
            thread::sleep(deadline.saturating_duration_since(Instant::now()));
        }
    }
}

/// Makes one connection, from the request to the end of the body.
fn attempt(host: &str, head: &[u8], client: &mut Client<Instant>) -> Result<(), Box<dyn Error>> {
    let mut socket = TcpStream::connect(host)?;
    socket.set_read_timeout(Some(SILENCE))?;
    socket.write_all(head)?;
    let mut socket = BufReader::new(socket);
    let mut lines = socket.by_ref().take(16 << 10).split(b'\n'); // a longer head is cut off
    let status = String::from_utf8(lines.next().ok_or("no response")??)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let mut content_type = Vec::new();
    for line in lines {
        let line = line?;
        match line.iter().position(|byte| *byte == b':') {
            Some(at) if line[..at].eq_ignore_ascii_case(b"content-type") => {
                content_type.push(line[at + 1..].trim_ascii().to_vec());
            }
            Some(_) => {}
            None => break,
        }
    }
    let content_type: Vec<&[u8]> = content_type.iter().map(Vec::as_slice).collect();
    let response = ResponseHead::new(status, &content_type);
    client.handle_response(response, Instant::now(), 0)?;
    loop {
        let mut chunk = socket.fill_buf()?;
        if chunk.is_empty() {
            return Err("the stream ended; reconnecting".into());
        }
        let len = chunk.len();
        loop {
            match client.next_event(&mut chunk, Instant::now()) {
                Ok(None) => break,
                Ok(Some(event)) => {
                    println!("{} [{}] {}", event.event_type(), event.last_event_id(), event.data());
                }
                // The event is dropped; the connection continues.
                Err(too_large) => eprintln!("{too_large}"),
            }
        }
        socket.consume(len);
    }
}
