//! Prints what a language model says while it says it, on tokio and reqwest.
//!
//! ```text
//! cargo run -p sse-proto --example llm --features http-body,serde_json
//! ```
//!
//! Two vendors' ways to stream are understood. Both are played by a server of the example's own
//! (see `vendors.rs`), so that it needs no key; another server's base URL can be given as the
//! argument. The real ones require an `Authorization` header as well.
//!
//! There is no reconnecting here: each request costs money. Whatever the server does wrong ends the
//! example with exit code 1.

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
    match ask(env::args().nth(1)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Sends each vendor's request to a server, and prints the answers.
async fn ask(base: Option<String>) -> Result<()> {
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
            // What went wrong is in the body, most of the time.
            let status = Rejected::Status(response.status().as_u16());
            return Err(format!("{path}: {status}: {}", response.text().await?).into());
        } else if !is_event_stream(content_type.iter().map(HeaderValue::as_bytes)) {
            return Err(format!("{path}: {}", Rejected::ContentType).into());
        }
        print!("{path}: ");
        let mut events = Events::from_body(reqwest::Body::from(response));
        loop {
            let event = events.next().await.ok_or("the answer broke off")??;
            match said(&event)? {
                Said::Text(text) => print!("{text}"),
                Said::Nothing => {}
                Said::Everything => break,
            }
            io::stdout().flush()?;
        }
        println!();
    }
    Ok(())
}

/// What one event says.
enum Said {
    Text(String),
    Nothing,
    Everything,
}

fn said(event: &OwnedEvent) -> Result<Said> {
    match event.event_type().to_str()? {
        // One vendor leaves the type out, and ends with a word that is not JSON.
        "message" if event.data() == "[DONE]" => Ok(Said::Everything),
        "message" => {
            let mut chunk: Completion = event.json()?;
            if chunk.error.is_some() {
                return Err(event.data().to_string().into());
            }
            let text = chunk.choices.pop().and_then(|choice| choice.delta.content);
            Ok(text.map_or(Said::Nothing, Said::Text))
        }
        // The other names each event.
        "content_block_delta" => {
            // Without a text, it is what the model thinks, or a call of a tool.
            let text = event.json::<Block>()?.delta.text;
            Ok(text.map_or(Said::Nothing, Said::Text))
        }
        "message_stop" => Ok(Said::Everything),
        "error" => Err(event.data().to_string().into()),
        _ => Ok(Said::Nothing),
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
