//! `tail -f` for event streams: prints what comes, and connects again when the stream breaks off.
//!
//! ```text
//! cargo run -p sse-smol-server --example tail -- http://127.0.0.1:8080/topics/news
//! cargo run -p sse-smol-server --example tail -- --json --last-event-id earliest URL
//! ```
//!
//! [`sse_proto::Client`] decides everything; what is here is sockets and HTTP.

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use http::Uri;
use smol::future::FutureExt as _;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::net::TcpStream;
use smol::{Timer, block_on};
use sse_proto::{Client, ClientConfig, Decoder, Event, ReadyState, Response};

/// Prints the events of a stream as they come.
#[derive(Parser)]
struct Args {
    /// Where the stream is; `http` only
    url: Uri,
    /// Print each event as a line of JSON
    #[arg(long)]
    json: bool,
    /// Begin behind this event
    #[arg(long, value_name = "ID", default_value = "")]
    last_event_id: String,
    /// Connect again after so many seconds without a byte
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    read_timeout: u64,
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// As many redirects as Fetch follows.
const MOST_REDIRECTS: usize = 20;

fn main() -> ExitCode {
    let args = Args::parse();
    let config = ClientConfig {
        read_timeout: Some(Duration::from_secs(args.read_timeout)),
        backoff_cap: Some(Duration::from_secs(30)),
        jitter: true,
        ..ClientConfig::default()
    };
    let mut decoder = Decoder::new();
    if let Err(error) = decoder.set_last_event_id(&args.last_event_id) {
        eprintln!("--last-event-id: {error}");
        return ExitCode::FAILURE;
    }
    block_on(follow(&args, Client::with_decoder(config, decoder)))
}

async fn follow(args: &Args, mut client: Client<Instant>) -> ExitCode {
    while client.ready_state() != ReadyState::Closed {
        if let Some(request) = client.poll_request(Instant::now()) {
            let headers: Vec<(&str, Vec<u8>)> =
                request.headers().map(|(name, value)| (name, value.to_vec())).collect();
            if let Err(error) = attempt(args, &mut client, &headers).await {
                eprintln!("{error}");
            }
            client.handle_end(Instant::now(), fastrand::u32(..));
        } else if let Some(deadline) = client.poll_timeout() {
            Timer::at(deadline).await;
        }
    }
    ExitCode::SUCCESS
}

/// One connection, from the request to its end.
async fn attempt(
    args: &Args,
    client: &mut Client<Instant>,
    headers: &[(&str, Vec<u8>)],
) -> Result<()> {
    let (mut socket, head, mut rest) = fetch(args.url.clone(), headers).await?;
    let content_type: Vec<&[u8]> = head.all("content-type").collect();
    let retry_after = head.all("retry-after").next().and_then(|value| {
        std::str::from_utf8(value).ok()?.trim().parse().ok().map(Duration::from_secs)
    });
    let response = Response { status: head.status, content_type: &content_type, retry_after };
    client.handle_response(response, Instant::now())?;
    eprintln!("open");
    let mut body = Body {
        chunked: head.all("transfer-encoding").any(|value| value.eq_ignore_ascii_case(b"chunked")),
        left: 0,
    };
    let mut buffer = vec![0; 16 << 10];
    loop {
        while let Some(chunk) = body.next(&mut rest)? {
            let mut input = &chunk[..];
            loop {
                match client.next_event(&mut input, Instant::now()) {
                    Ok(None) => break,
                    Ok(Some(event)) => print(args, &event)?,
                    Err(error) => eprintln!("{error}"),
                }
            }
        }
        let deadline = client.poll_timeout();
        let late = async {
            match deadline {
                Some(deadline) => Timer::at(deadline).await,
                None => Timer::never().await,
            };
            Err(io::ErrorKind::TimedOut.into())
        };
        match socket.read(&mut buffer).or(late).await? {
            0 => return Err("the stream has ended; connecting again".into()),
            count => rest.extend_from_slice(&buffer[..count]),
        }
    }
}

fn print(args: &Args, event: &Event<'_>) -> io::Result<()> {
    let time = httpdate::fmt_http_date(SystemTime::now());
    let (event_type, id) = (event.event_type().to_string(), event.last_event_id().to_string());
    let data = event.data().to_string();
    let mut out = io::stdout().lock();
    if args.json {
        let line = serde_json::json!({ "time": time, "type": event_type, "id": id, "data": data });
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "{time} {event_type} [{id}] {data}")?;
    }
    out.flush()
}

/// The head of a response.
struct Head {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
}

impl Head {
    fn all<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
        let named = move |(key, _): &&(String, Vec<u8>)| key.eq_ignore_ascii_case(name);
        self.headers.iter().filter(named).map(|(_, value)| value.as_slice())
    }
}

/// Makes the request, and follows redirects. Gives the last response's head, and what came with it.
async fn fetch(mut url: Uri, headers: &[(&str, Vec<u8>)]) -> Result<(TcpStream, Head, Vec<u8>)> {
    for _ in 0..=MOST_REDIRECTS {
        let authority = url.authority().ok_or("the URL has no host")?.clone();
        let port = authority.port_u16().unwrap_or(80);
        let mut socket = TcpStream::connect((authority.host(), port)).await?;
        let path = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
        for (name, value) in headers {
            request.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        request.extend(b"Connection: close\r\n\r\n");
        socket.write_all(&request).await?;
        let (head, rest) = read_head(&mut socket).await?;
        let redirect = matches!(head.status, 301 | 302 | 303 | 307 | 308);
        let location = head.all("location").next().filter(|_| redirect).map(<[u8]>::to_vec);
        let Some(location) = location else {
            return Ok((socket, head, rest));
        };
        if location.starts_with(b"/") {
            let mut parts = url.into_parts();
            parts.path_and_query = Some(location.try_into()?);
            url = Uri::from_parts(parts)?;
        } else {
            url = location.try_into()?;
        }
    }
    Err("too many redirects".into())
}

async fn read_head(socket: &mut TcpStream) -> Result<(Head, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        if let httparse::Status::Complete(len) = response.parse(&bytes)? {
            let owned =
                |field: &httparse::Header<'_>| (field.name.to_owned(), field.value.to_vec());
            let headers = response.headers.iter().map(owned).collect();
            let head = Head { status: response.code.unwrap_or(0), headers };
            return Ok((head, bytes.split_off(len)));
        }
        match socket.read(&mut buffer).await? {
            0 => return Err("no response".into()),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Takes HTTP's framing off a body.
struct Body {
    chunked: bool,
    /// So many bytes of the chunk, and of the line end after it, are still to come.
    left: usize,
}

impl Body {
    /// The next piece of the body, off the front of what has arrived.
    fn next(&mut self, input: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
        if input.is_empty() {
            return Ok(None);
        }
        if !self.chunked {
            return Ok(Some(std::mem::take(input)));
        }
        if self.left == 0 {
            match httparse::parse_chunk_size(input).map_err(|_| "a broken chunk")? {
                httparse::Status::Partial => return Ok(None),
                httparse::Status::Complete((_, 0)) => {
                    return Err("the stream is over; connecting again".into());
                }
                httparse::Status::Complete((len, size)) => {
                    input.drain(..len);
                    self.left = usize::try_from(size)? + 2;
                }
            }
        }
        let count = input.len().min(self.left);
        let ends = self.left.saturating_sub(2).min(count);
        self.left -= count;
        let piece = input[..ends].to_vec();
        input.drain(..count);
        Ok(Some(piece))
    }
}
