//! The command `pub`, which publishes an event.

use std::io::{self, IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use smol::future::FutureExt as _;
use smol::{Timer, block_on};

use super::output::{Failure, print, report};
use super::target::{FORMS, target};
use crate::client::refused::explanation;
use crate::client::socket::Socket;
use crate::client::{Body, Request, Result as ClientResult, Url};
use crate::local_token;
use crate::publishing::{Token, configured};

/// Publish an event to a topic, and print its ID
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The token is that of --token-file, --token-env or the environment variable \
                        SSE_TOKEN. Without them, the command finds the token of a server that the \
                        same user runs on this machine.\n\n\
                        Exit codes: 0 if the event was published, also if it had been before with \
                        the same --key; 1 if the server refused it; 2 for an invalid command line; \
                        3 if there was no response, so that it may have been published or not."
)]
pub(crate) struct Publish {
    #[arg(help = format!("Topic to publish to: {FORMS}"), value_parser = target)]
    url: Url,

    /// Data of the event; if it is - or absent, standard input without its last line end
    data: Option<String>,

    /// Type of the event [default: none, which subscribers receive as message]
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,

    /// ID of the event [default: the server assigns one]
    #[arg(long)]
    id: Option<String>,

    /// Idempotency key: a second publication with the same key and content has no effect
    #[arg(long)]
    key: Option<String>,

    /// File with the token, on one line
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Environment variable with the token, which must be set [default: `SSE_TOKEN`, if set]
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    token_env: Option<String>,
}

/// The time after which a server counts as one that does not respond.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum size of data from standard input in bytes, which is that of an event (16 MiB).
const MAX_DATA: u64 = 16 << 20;

/// The maximum size of a response body in bytes.
const MAX_BODY: usize = 64 << 10;

/// The response to a publication.
#[derive(Deserialize)]
struct Reply {
    duplicate: bool,
    id: String,
}

impl Publish {
    pub(super) fn run(self) -> Result<(), Failure> {
        let token = configured(self.token_file.as_deref(), self.token_env.as_deref())
            .map_err(Failure::Invalid)?;
        let data = match self.data {
            Some(data) if data != "-" => data.into_bytes(),
            _ => standard_input()?,
        };
        let place = self.url.to_string();
        let mut url = self.url;
        let parameters = [("type", self.event_type), ("id", self.id), ("key", self.key)];
        for (name, value) in parameters {
            if let Some(value) = value {
                url.add_parameter(name, &value);
            }
        }
        let send = send(url, data, token);
        let too_late = async {
            Timer::after(RESPONSE_TIMEOUT).await;
            Err(format!("no response within {} seconds", RESPONSE_TIMEOUT.as_secs()).into())
        };
        let (status, body) = block_on(send.or(too_late))
            .map_err(|error| Failure::NoResponse(format!("{place}: {error}")))?;
        let reply = match status {
            StatusCode::OK | StatusCode::CREATED => serde_json::from_slice(&body).ok(),
            _ => None,
        };
        let Some(Reply { duplicate, id }) = reply else {
            return Err(Failure::Refused(format!(
                "{place}: {status}{}",
                explanation(status, &body)
            )));
        };
        if duplicate {
            report(format_args!("published before with this key"));
        }
        print(format!("{id}\n").as_bytes()).map(drop)
    }
}

/// Reads the data from standard input, without the line end that most programs print last.
fn standard_input() -> Result<Vec<u8>, Failure> {
    let input = io::stdin().lock();
    if input.is_terminal() {
        report(format_args!("reading the data from standard input, up to Ctrl-D"));
    }
    let mut data = Vec::new();
    let read = input.take(MAX_DATA + 1).read_to_end(&mut data);
    read.map_err(|error| Failure::Refused(format!("cannot read standard input: {error}")))?;
    if data.len() as u64 > MAX_DATA {
        return Err(Failure::Invalid(format!("the data are longer than {MAX_DATA} bytes")));
    }
    if data.pop_if(|last| *last == b'\n').is_some() {
        data.pop_if(|last| *last == b'\r');
    }
    Ok(data)
}

/// Sends a publication. Returns the status and the body of the response.
async fn send(
    url: Url,
    data: Vec<u8>,
    token: Option<Token>,
) -> ClientResult<(StatusCode, Vec<u8>)> {
    let socket = Socket::connect(&url.server).await?;
    // After connecting: the token is found only if its server is the one at the other end.
    let token = token.or_else(|| local_token::find(&names(&socket)));
    let mut headers = HeaderMap::new();
    if let Some(token) = &token {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    // Redirects are not followed: the token and the event are for this server.
    let response = Request::new(url, Method::POST, headers, data).send(socket).await?;
    let status = response.status();
    let (head, incoming) = response.into_parts();
    let mut pieces = Body::new(incoming, &head.headers)?;
    let mut body = Vec::new();
    while let Some(piece) = pieces.next().await? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_BODY {
            return Err(format!("the body of the response is longer than {MAX_BODY} bytes").into());
        }
    }
    if status == StatusCode::UNAUTHORIZED && token.is_none() {
        body.extend_from_slice(
            b" No token was given, and none of a server on this machine was found: set SSE_TOKEN.",
        );
    }
    Ok((status, body))
}

/// Returns the names under which a server at the other end of this connection offers its token.
fn names(socket: &Socket) -> Vec<String> {
    match socket {
        Socket::Tcp(socket) => match (socket.local_addr(), socket.peer_addr()) {
            (Ok(local), Ok(peer)) => local_token::names_of_peer(local, peer),
            _ => Vec::new(),
        },
        Socket::Unix(socket) => local_token::names_of_socket_peer(socket),
    }
}
