//! Follows an event stream with nothing but `std`, and connects again when it breaks off.
//!
//! ```text
//! cargo run -p sse-proto --example blocking -- http://127.0.0.1:8080/clock
//! ```
//!
//! The request is HTTP/1.0: its response has no framing that would have to be taken off. For
//! redirects, HTTP/1.1 and TLS, take an HTTP library; the loop stays the same.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use std::{env, thread};

use sse_proto::{Client, ClientConfig, ReadyState, Response};

/// A connection that is silent for longer is taken for dead.
const SILENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).ok_or("which URL?")?;
    let url = url.strip_prefix("http://").ok_or("the URL has to begin with http://")?;
    let (host, path) = url.split_once('/').unwrap_or((url, ""));
    let mut client = Client::new(ClientConfig::default());
    while client.ready_state() != ReadyState::Closed {
        if let Some(request) = client.poll_request(Instant::now()) {
            let mut head = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n").into_bytes();
            for (name, value) in request.headers() {
                head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
            }
            head.extend(b"\r\n");
            if let Err(error) = attempt(host, &head, &mut client) {
                eprintln!("{error}");
            }
            client.handle_end(Instant::now(), 0);
        } else if let Some(deadline) = client.poll_timeout() {
            thread::sleep(deadline.saturating_duration_since(Instant::now()));
        }
    }
    Ok(())
}

/// One connection, from the request to its end.
fn attempt(host: &str, head: &[u8], client: &mut Client<Instant>) -> Result<(), Box<dyn Error>> {
    let port = if host.contains(':') { "" } else { ":80" };
    let mut socket = TcpStream::connect(format!("{host}{port}"))?;
    socket.set_read_timeout(Some(SILENCE))?;
    socket.write_all(head)?;
    let mut socket = BufReader::new(socket);
    let mut lines = socket.by_ref().take(16 << 10).lines(); // a longer head is none
    let status = lines.next().ok_or("no response")??;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let mut content_type = Vec::new();
    for line in lines {
        match line?.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-type") => {
                content_type.push(value.trim().as_bytes().to_vec());
            }
            Some(_) => {}
            None => break,
        }
    }
    let content_type: Vec<&[u8]> = content_type.iter().map(Vec::as_slice).collect();
    let response = Response { status, content_type: &content_type, retry_after: None };
    client.handle_response(response, Instant::now())?;
    loop {
        let mut chunk = socket.fill_buf()?;
        if chunk.is_empty() {
            return Err("the stream has ended; connecting again".into());
        }
        let len = chunk.len();
        while let Some(event) = client.next_event(&mut chunk, Instant::now())? {
            println!("{} [{}] {}", event.event_type(), event.last_event_id(), event.data());
        }
        socket.consume(len);
    }
}
