//! An endpoint in the style of language models: `POST` with JSON in, tokens out as they are
//! generated, and no further work once the client has left.
//!
//! ```text
//! cargo run -p sse-smol-server --example llm_server
//! curl -N -H 'Content-Type: application/json' -d '{"prompt":"a b c"}' http://127.0.0.1:8080/v1/completions
//! ```
//!
//! An argument is the address to listen on, instead of `127.0.0.1:8080`.

use std::{env, thread, time::Duration};

use serde::Deserialize;
use serde_json::json;
use smol::channel::{self, Sender};
use smol::stream::StreamExt as _;
use sse_smol_server::http::{Method, StatusCode};
use sse_smol_server::sse_proto::Event;
use sse_smol_server::{CancelToken, Config, Error, Frame, Request, RequestError, Server};

#[derive(Debug, Deserialize)]
struct Prompt {
    prompt: String,
    max_tokens: Option<usize>,
}

async fn completions(mut request: Request) -> Result<(), Error> {
    request.allow(&[Method::POST])?;
    if request.path() != "/v1/completions" {
        Err(RequestError::new(StatusCode::NOT_FOUND, "Try /v1/completions."))?;
    }
    let prompt: Prompt = request.json().await?; // answers 400, 413 or 415 itself
    if prompt.prompt.is_empty() {
        Err(RequestError::new(StatusCode::BAD_REQUEST, "The prompt is empty."))?;
    }
    let mut stream = request.open().await?;
    let (sender, tokens) = channel::bounded(4);
    let token = stream.token();
    // A model computes and does not await, so it has a thread of its own.
    thread::spawn(move || generate(&prompt, &sender, &token));
    let events =
        tokens.map(|token: String| Frame::from(Event::new(&json!({ "token": token }).to_string())));
    stream.forward(events).await?;
    stream.send(Event::new("[DONE]")).await
}

/// Stands in for a model: repeats the words of the prompt. Stops if the client has left, of which
/// both the token and the closed channel are signs.
fn generate(prompt: &Prompt, tokens: &Sender<String>, left: &CancelToken) {
    let words = prompt.prompt.split_whitespace().cycle();
    let mut count = 0;
    for word in words.take(prompt.max_tokens.unwrap_or(16)) {
        thread::sleep(Duration::from_millis(2)); // the computation
        if left.is_cancelled() || tokens.send_blocking(word.to_owned()).is_err() {
            println!("cancelled after {count} tokens");
            return;
        }
        count += 1;
    }
    println!("generated {count} tokens");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    let server = Server::bind(address, Config::default())?;
    println!("listening on http://{}/v1/completions", server.local_addr()?);
    server.run(&smol::Executor::new(), completions)?;
    Ok(())
}
