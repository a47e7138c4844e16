//! Prints what a language model says while it says it, on tokio and reqwest.
//!
//! ```text
//! cargo run -p sse-proto --example llm --features http-body,serde_json
//! ```
//!
//! Two vendors' ways to stream are understood. Both are played by a server of the example's own
//! (see `vendors.rs`), so that it needs no key; against the real ones, the URL and an
//! `Authorization` header change.
//!
//! There is no reconnecting here: to ask again would be to pay again.

mod vendors;

use std::error::Error;
use std::io::{self, Write as _};

use futures_lite::StreamExt as _;
use serde::Deserialize;
use serde::de::IgnoredAny;
use sse_proto::{Events, OwnedEvent};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let address = vendors::serve().await?;
    for path in ["v1/chat/completions", "v1/messages"] {
        let response = reqwest::Client::new()
            .post(format!("http://{address}/{path}"))
            .header("Content-Type", "application/json")
            .header("Accept", "text/event-stream")
            .body(r#"{"stream":true,"messages":[{"role":"user","content":"Say hello"}]}"#)
            .send()
            .await?
            .error_for_status()?;
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
