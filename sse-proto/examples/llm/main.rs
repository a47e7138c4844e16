//! Prints the output of a language model while it is generated, on tokio and reqwest.
//!
//! ```text
//! cargo run -p sse-proto --example llm --features http-body,serde_json
//! ```
//!
//! It supports the streaming formats of two vendors. A local server plays both of them (see
//! `vendors.rs`), so that no key is needed; the base URL of another server can be given as the
//! argument. The vendors' own servers also require an `Authorization` header.
//!
//! It does not reconnect, because each request costs money. Any error ends it with exit code 1.

mod vendors;

use std::env;
use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

use futures_lite::StreamExt as _;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sse_proto::{Events, OwnedEvent, Rejected, is_event_stream};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(env::args().nth(1)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Sends each vendor's request to a server, and prints the output.
async fn run(base: Option<String>) -> Result<()> {
    let base = match base {
        Some(base) => base,
        None => format!("http://{}", vendors::serve().await?),
    };
    for path in ["v1/chat/completions", "v1/messages"] {
        let response = reqwest::Client::new()
            .post(format!("{base}/{path}"))
            .header("Content-Type", "application/json")
            .header("Accept", "text/event-stream")
            .body(r#"{"stream":true,"messages":[{"role":"user","content":"Say hello"}]}"#)
            .send()
            .await?;
        let content_type = response.headers().get_all(CONTENT_TYPE);
        if response.status() != 200 {
            // The body usually describes the error.
            let status = Rejected::Status(response.status().as_u16());
            return Err(format!("{path}: {status}: {}", response.text().await?).into());
        } else if !is_event_stream(content_type.iter().map(HeaderValue::as_bytes)) {
            return Err(format!("{path}: {}", Rejected::ContentType).into());
        }
        print!("{path}: ");
        let mut events = Events::from_body(reqwest::Body::from(response));
        loop {
            let event = events.next().await.ok_or("the response ended early")??;
            match parse(&event)? {
                Part::Text(text) => print!("{text}"),
                Part::Other => {}
                Part::End => break,
            }
            io::stdout().flush()?;
        }
        println!();
    }
    Ok(())
}

/// The meaning of an event.
enum Part {
    Text(String),
    Other,
    End,
}

fn parse(event: &OwnedEvent) -> Result<Part> {
    match event.event_type().to_str()? {
        // One vendor sends no event types, and ends with a marker that is not JSON.
        "message" if event.data() == "[DONE]" => Ok(Part::End),
        "message" => {
            let mut chunk: Completion = event.json()?;
            if chunk.error.is_some() {
                return Err(event.data().to_string().into());
            }
            let text = chunk.choices.pop().and_then(|choice| choice.delta.content);
            Ok(text.map_or(Part::Other, Part::Text))
        }
        // The other vendor sends a type with each event.
        "content_block_delta" => {
            // Without `text`, the delta belongs to the model's reasoning or to a tool call.
            let text = event.json::<Block>()?.delta.text;
            Ok(text.map_or(Part::Other, Part::Text))
        }
        "message_stop" => Ok(Part::End),
        "error" => Err(event.data().to_string().into()),
        _ => Ok(Part::Other),
    }
}

#[derive(Deserialize)]
struct Completion {
    error: Option<IgnoredAny>,
    #[serde(default)]
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Delta,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Block {
    delta: TextDelta,
}

#[derive(Deserialize)]
struct TextDelta {
    text: Option<String>,
}
