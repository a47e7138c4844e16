//! Test vectors from web-platform-tests, in `sse-proto/tests/data`.

use base64::Engine as _;
use bytes::Bytes;
use peers::decode::{Decoder, Start};
use serde_json::Value;

use crate::Score;
use crate::outcome::{Event, Outcome, run};

const FILE: &str = include_str!("../../../../../sse-proto/tests/data/wpt_vectors.json");

/// Runs a decoder on all vectors, in the chunks given by the file.
pub(crate) fn score(decoder: &Decoder) -> Score {
    let file: Value = serde_json::from_str(FILE).expect("the file is JSON");
    let mut score = Score::default();
    for vector in list(&file["vectors"]) {
        let chunks: Vec<Bytes> = list(&vector["chunks"]).iter().map(bytes).collect();
        let seed = vector.get("initial_last_event_id").map(text).unwrap_or_default();
        let expected = Outcome {
            events: list(&vector["expected"])
                .iter()
                .map(|event| Event {
                    event_type: text(&event["type"]),
                    data: text(&event["data"]),
                    id: text(&event["last_event_id"]),
                })
                .collect(),
            retry: match &vector["retry_ms"] {
                Value::String(number) => number.parse().ok(),
                number => number.as_u64(),
            },
            ..Outcome::default()
        };
        let got = run(decoder, &chunks, Start { seed: &seed, ..Start::default() });
        score.add(&expected, got.as_ref());
    }
    score
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// Returns a text value, which may be given as a piece and the number of its repetitions.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        piece => piece["text"].as_str().expect("a piece of text").repeat(times(piece)),
    }
}

fn bytes(value: &Value) -> Bytes {
    let (base64, times) = match value {
        Value::String(base64) => (base64.as_str(), 1),
        piece => (piece["b64"].as_str().expect("a piece in base64"), times(piece)),
    };
    let piece = base64::engine::general_purpose::STANDARD.decode(base64).expect("base64");
    piece.repeat(times).into()
}

fn times(piece: &Value) -> usize {
    piece["repeat"].as_u64().and_then(|times| times.try_into().ok()).expect("a number")
}
