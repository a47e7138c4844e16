//! Compares decoders with the algorithm of the standard (`sse-proto/tests/oracle`) on random streams.

use std::time::Duration;

use bytes::Bytes;
use peers::decode::{Decoder, Start};
use shapes::Numbers;
use sse_proto::Limits;

use crate::Score;
use crate::oracle::{Item, interpret};
use crate::outcome::{Event, Outcome, lossy, run};

/// The lines of a stream, with equal probability: mostly common ones, and some unusual valid ones.
const LINES: [&[u8]; 24] = [
    b"data: a",
    b"data: two words",
    b"data:b",
    b"data: {\"n\":1}",
    b"data:  c",
    b"data",
    b"data:",
    "data: é – 事件".as_bytes(),
    b"event: tick",
    b"event: message",
    b"event",
    b"id: 1",
    b"id: two",
    b"id",
    b"id: n\0l",
    b"retry: 3000",
    b"retry: x",
    b"retry: +5",
    b": comment",
    b":",
    b"unknown: x",
    b"dat: a",
    b"Data: a",
    "\u{FEFF}data: late".as_bytes(),
];

/// Lines with invalid UTF-8.
const BROKEN: [&[u8]; 4] = [b"data: a\xFF", b"data: \xE4\xBA", b"id: \xC3", b": \xC0\x80"];

/// Runs a decoder on this number of streams, cut at random.
pub(crate) fn score(decoder: &Decoder, streams: usize, broken: bool) -> Score {
    // Streams and cuts are the same for all decoders.
    let mut numbers = Numbers::new(if broken { 7 } else { 8 });
    let mut score = Score::default();
    for _ in 0..streams {
        let stream = stream(&mut numbers, broken);
        let chunks = cut(&mut numbers, &stream);
        score.add(&expected(&stream), run(decoder, &chunks, Start::default()).as_ref());
    }
    score
}

fn stream(numbers: &mut Numbers, broken: bool) -> Vec<u8> {
    let mut stream = Vec::new();
    if numbers.below(10) == 0 {
        stream.extend("\u{FEFF}".as_bytes());
    }
    // The same line end throughout, or a mix of all three.
    let line_ends: &[&[u8]] = match numbers.below(5) {
        0 => &[b"\r\n"],
        1 => &[b"\r"],
        2 => &[b"\n", b"\r\n", b"\r"],
        _ => &[b"\n"],
    };
    for _ in 0..=numbers.below(6) {
        for _ in 0..=numbers.below(4) {
            let line = if broken && numbers.below(6) == 0 {
                BROKEN[numbers.below(BROKEN.len())]
            } else {
                LINES[numbers.below(LINES.len())]
            };
            stream.extend(line);
            stream.extend(line_ends[numbers.below(line_ends.len())]);
        }
        stream.extend(line_ends[numbers.below(line_ends.len())]);
    }
    // A quarter of the streams are truncated.
    if numbers.below(4) == 0 {
        stream.truncate(numbers.below(stream.len()));
    }
    stream
}

/// Cuts a stream into one to six pieces.
fn cut(numbers: &mut Numbers, stream: &[u8]) -> Vec<Bytes> {
    let stream = Bytes::copy_from_slice(stream);
    let mut ends: Vec<usize> =
        (0..numbers.below(6)).map(|_| numbers.below(stream.len() + 1)).collect();
    ends.push(stream.len());
    ends.sort_unstable();
    ends.dedup();
    let mut start = 0;
    let ranges = ends.into_iter().map(|end| std::mem::replace(&mut start, end)..end);
    ranges.filter(|range| !range.is_empty()).map(|range| stream.slice(range)).collect()
}

fn expected(stream: &[u8]) -> Outcome {
    let outcome = interpret(stream, b"", Limits::default());
    let events = outcome.items.iter().map(|item| match item {
        Item::Event { event_type, data, last_event_id, .. } => {
            Event { event_type: lossy(event_type), data: lossy(data), id: lossy(last_event_id) }
        }
        Item::TooLarge { .. } => panic!("no event exceeds the limits"),
    });
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).expect("of a `u64`");
    let retry = outcome.retry.map(milliseconds);
    Outcome { events: events.collect(), retry, ..Outcome::default() }
}
