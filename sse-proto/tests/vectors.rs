//! Test vectors from web-platform-tests, in `data/wpt_vectors.json`.

#![cfg(feature = "alloc")]

mod oracle;

use std::time::Duration;

use base64::Engine as _;
use oracle::{Item, check, decode, feed};
use serde_json::Value;
use sse_proto::{Decoder, Field, Lexer, Limits, LineToken};

struct Vector {
    name: String,
    chunks: Vec<Vec<u8>>,
    seed: String,
    expected: Vec<Expected>,
    retry: Option<u64>,
    last_event_id: String,
    comments: Vec<String>,
}

struct Expected {
    event_type: String,
    data: String,
    last_event_id: String,
    after_chunk: usize,
}

impl Vector {
    fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks.iter().map(Vec::as_slice)
    }

    /// Asserts that the decoded events are those of the file.
    fn assert(&self, got: &oracle::Outcome, how: &str) {
        let name = &self.name;
        assert_eq!(got.items.len(), self.expected.len(), "{name}, {how}: number of events");
        for (item, expected) in got.items.iter().zip(&self.expected) {
            let Item::Event { event_type, data, last_event_id, .. } = item else {
                panic!("{name}, {how}: {item:?}");
            };
            assert_eq!(lossy(event_type), expected.event_type, "{name}, {how}: type");
            assert_eq!(lossy(data), expected.data, "{name}, {how}: data");
            assert_eq!(lossy(last_event_id), expected.last_event_id, "{name}, {how}: id");
        }
        assert_eq!(
            got.retry,
            self.retry.map(Duration::from_millis),
            "{name}, {how}: reconnection time"
        );
        assert_eq!(lossy(&got.last_event_id), self.last_event_id, "{name}, {how}: last event ID");
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns a text of the file, which may be given as a piece and its number of repetitions.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(piece) => {
            let times = usize::try_from(piece["repeat"].as_u64().unwrap()).unwrap();
            piece["text"].as_str().unwrap().repeat(times)
        }
        other => panic!("not a text: {other}"),
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    let (base64, times) = match value {
        Value::String(base64) => (base64.as_str(), 1),
        piece => (piece["b64"].as_str().unwrap(), piece["repeat"].as_u64().unwrap()),
    };
    let piece = base64::engine::general_purpose::STANDARD.decode(base64).unwrap();
    piece.repeat(usize::try_from(times).unwrap())
}

fn vectors() -> Vec<Vector> {
    let file: Value = serde_json::from_str(include_str!("data/wpt_vectors.json")).unwrap();
    let list = |value: &Value| value.as_array().unwrap().clone();
    let vectors: Vec<Vector> = list(&file["vectors"])
        .iter()
        .map(|vector| Vector {
            name: text(&vector["name"]),
            chunks: list(&vector["chunks"]).iter().map(bytes).collect(),
            seed: vector.get("initial_last_event_id").map(text).unwrap_or_default(),
            expected: list(&vector["expected"])
                .iter()
                .map(|event| Expected {
                    event_type: text(&event["type"]),
                    data: text(&event["data"]),
                    last_event_id: text(&event["last_event_id"]),
                    after_chunk: usize::try_from(event["after_chunk"].as_u64().unwrap()).unwrap(),
                })
                .collect(),
            retry: match &vector["retry_ms"] {
                Value::String(number) => Some(number.parse().unwrap()),
                number => number.as_u64(),
            },
            last_event_id: text(&vector["final_last_event_id"]),
            comments: list(&vector["comments"]).iter().map(text).collect(),
        })
        .collect();
    assert!(vectors.len() >= 57, "vectors are missing from the file");
    vectors
}

fn seeded(vector: &Vector) -> Decoder {
    let mut decoder = Decoder::new();
    decoder.set_last_event_id(&vector.seed).unwrap();
    decoder
}

#[test]
fn vectors_decode_in_their_chunks_with_no_event_late() {
    for vector in vectors() {
        let mut decoder = seeded(&vector);
        let mut items = Vec::new();
        for (index, mut chunk) in vector.chunks().enumerate() {
            feed(&mut decoder, &mut chunk, &mut items);
            let due = vector.expected.iter().filter(|event| event.after_chunk <= index).count();
            assert_eq!(items.len(), due, "{}, events after chunk {index}", vector.name);
        }
        let again = decode(&mut seeded(&vector), vector.chunks());
        assert_eq!(again.items, items);
        vector.assert(&again, "as in the file");
    }
}

#[test]
fn vectors_decode_whole_and_byte_by_byte_and_with_empty_chunks() {
    for vector in vectors() {
        let stream = vector.chunks.concat();
        vector.assert(&decode(&mut seeded(&vector), [&stream[..]]), "whole");
        vector.assert(&decode(&mut seeded(&vector), stream.chunks(1)), "byte by byte");
        let empty = stream.chunks(1).flat_map(|byte| [byte, &[]]);
        vector.assert(&decode(&mut seeded(&vector), empty), "with empty chunks");
        let (mut fields, mut data) = (vec![0; stream.len() + 64], vec![0; stream.len()]);
        let mut borrowed = Decoder::with_buffers(&mut fields, &mut data);
        borrowed.set_last_event_id(&vector.seed).unwrap();
        vector.assert(&decode(&mut borrowed, stream.chunks(1)), "byte by byte, borrowed buffers");
    }
}

#[test]
fn vectors_decode_with_any_single_cut() {
    for vector in vectors() {
        let stream = vector.chunks.concat();
        for at in 0..=stream.len() {
            let (left, right) = stream.split_at(at);
            vector.assert(&decode(&mut seeded(&vector), [left, right]), &format!("cut at {at}"));
            check(&[left, right], vector.seed.as_bytes(), Limits::default());
        }
    }
}

#[test]
fn the_lexer_returns_the_comments_of_vectors() {
    for vector in vectors() {
        let stream = vector.chunks.concat();
        let mut lexer = Lexer::new();
        let (mut comments, mut comment) = (Vec::new(), Vec::new());
        for mut chunk in stream.chunks(3) {
            while let Some(token) = lexer.next_token(&mut chunk) {
                if let LineToken::Value { field: Field::Comment, bytes, end } = token {
                    comment.extend(bytes);
                    if end {
                        comments.push(lossy(&std::mem::take(&mut comment)));
                    }
                }
            }
        }
        assert_eq!(comments, vector.comments, "{}", vector.name);
    }
}
