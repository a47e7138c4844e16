//! A server that streams in the formats of two vendors, in very small pieces.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use futures_lite::{Stream, StreamExt as _, stream};
use tokio::net::TcpListener;

const WORDS: [&str; 6] = ["Hello", ", wörld", ": 世界", " 🦀", "\\n", "“done”"];

/// Starts the server on a free port. It runs until the program ends.
pub(crate) async fn serve() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let vendors = Router::new()
        .route("/v1/chat/completions", post(async || answer(completions())))
        .route("/v1/messages", post(async || answer(messages())));
    tokio::spawn(async move { axum::serve(listener, vendors).await });
    Ok(address)
}

fn answer(stream: String) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/event-stream; charset=utf-8")], Body::from_stream(cut(stream.into())))
}

/// Cuts a stream into pieces of one, two, three and seven bytes, which end within names, line ends
/// and characters.
fn cut(mut stream: Bytes) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let pieces = [1, 2, 3, 7].into_iter().cycle().map_while(move |len| {
        let piece = stream.split_to(len.min(stream.len()));
        (!piece.is_empty()).then_some(Ok(piece))
    });
    stream::iter(pieces).then(async |piece| {
        tokio::task::yield_now().await;
        piece
    })
}

fn completions() -> String {
    let chunk = |delta: &str, reason: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"choices\":\
             [{{\"index\":0,\"delta\":{delta},\"finish_reason\":{reason}}}]}}\n\n"
        )
    };
    let mut stream = chunk(r#"{"role":"assistant","content":""}"#, "null");
    for word in WORDS {
        stream += &chunk(&format!("{{\"content\":\"{word}\"}}"), "null");
    }
    stream + &chunk("{}", "\"stop\"") + "data: [DONE]\n\n"
}

fn messages() -> String {
    let event = |name: &str, rest: &str| {
        format!("event: {name}\r\ndata: {{\"type\":\"{name}\"{rest}}}\r\n\r\n")
    };
    let mut stream = event("message_start", r#","message":{"role":"assistant","content":[]}"#);
    stream +=
        &event("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#);
    stream += &event("ping", "");
    let thought = r#","index":0,"delta":{"type":"thinking_delta","thinking":"a greeting"}"#;
    stream += &event("content_block_delta", thought);
    for word in WORDS {
        let delta = format!(r#","index":0,"delta":{{"type":"text_delta","text":"{word}"}}"#);
        stream += &event("content_block_delta", &delta);
    }
    stream += &event("content_block_stop", r#","index":0"#);
    stream + &event("message_stop", "")
}
