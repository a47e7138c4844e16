//! The cases of the protocol.

use std::convert::Infallible;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use shapes::{CHUNKINGS, Chunking, Shape};
use sse_proto::{Decoder, Event, EventId, EventType, Events};

use crate::count::counted;

/// The stream size in bytes. Large enough that one-time costs do not matter.
const SIZE: usize = 128 << 10;

/// The number of events that each encoding case encodes.
const EVENTS: usize = 500;

/// Runs all cases once, in order, and prints their names.
pub(crate) fn run() {
    for shape in Shape::all(SIZE) {
        for chunking in CHUNKINGS {
            decode(&shape, chunking);
        }
        if shape.name == "openai" || shape.name == "ticks" {
            decode(&shape, Chunking::Size(1));
        }
        if shape.name == "keepalive" {
            comments(&shape);
        }
        if ["openai", "anthropic", "tiny", "ticks"].contains(&shape.name) {
            for chunking in [Chunking::Whole, Chunking::Block, Chunking::Size(1400)] {
                strings(&shape, chunking);
                stream(&shape, chunking);
            }
        }
        if shape.name == "ticks" || shape.name == "cjk" {
            text("text", &shape);
            text("broken text", &broken(shape));
        }
    }
    let line = "x".repeat(250);
    let lines = "x".repeat(79) + "\n";
    encode("tiny", Event::new("x"));
    encode("a line of 250 B", Event::new(&line));
    encode("80 lines of 80 B", Event::new(&lines.repeat(80)[..80 * 80 - 1]));
    let all = Event::new("{}")
        .with_type(EventType::from_static("tick"))
        .with_id(EventId::from_static("1000000"))
        .with_retry(Duration::from_secs(3));
    encode("all fields", all);
}

fn decode(shape: &Shape, chunking: Chunking) {
    let chunks = shape.chunks(chunking);
    let (mut events, mut data) = (0, 0);
    counted(&mut || {
        let mut decoder = Decoder::new();
        for mut chunk in black_box(&chunks).iter().copied() {
            while let Ok(Some(event)) = decoder.next_event(&mut chunk) {
                events += 1;
                data += event.data().len();
            }
        }
    });
    assert_eq!((events, data), (shape.events, shape.data), "{}, {}", shape.name, chunking.name());
    println!("decode {}, {}", shape.name, chunking.name());
}

/// Decodes as the documentation shows, with data as `str`.
fn strings(shape: &Shape, chunking: Chunking) {
    let chunks = shape.chunks(chunking);
    let (mut events, mut data) = (0, 0);
    counted(&mut || {
        let mut decoder = Decoder::new();
        for mut chunk in black_box(&chunks).iter().copied() {
            while let Ok(Some(event)) = decoder.next_event(&mut chunk) {
                events += 1;
                data += event.data().to_str().map_or(0, str::len);
            }
        }
    });
    assert_eq!((events, data), (shape.events, shape.data), "{}, {}", shape.name, chunking.name());
    println!("data of {} as `str`, {}", shape.name, chunking.name());
}

/// A stream of chunks that are always ready.
struct Chunks<'a>(std::slice::Iter<'a, Bytes>);

impl Stream for Chunks<'_> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.next().map(|chunk| Ok(chunk.clone())))
    }
}

/// Decodes with `Events`, with data as `str`.
fn stream(shape: &Shape, chunking: Chunking) {
    // The allocator of musl returns memory to the system as soon as nothing of its size is in use,
    // which would take most of the instructions.
    let _in_use: Vec<_> = (1..=1024).step_by(16).map(|len| vec![0_u8; len]).collect();
    let whole = Bytes::copy_from_slice(&shape.stream);
    let chunks: Vec<Bytes> =
        shape.ranges(chunking).into_iter().map(|range| whole.slice(range)).collect();
    let (mut events, mut data) = (0, 0);
    counted(&mut || {
        let mut stream = pin!(Events::new(Chunks(black_box(&chunks).iter())));
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(Ok(event))) = stream.as_mut().poll_next(&mut context) {
            events += 1;
            data += event.data().to_str().map_or(0, str::len);
        }
    });
    assert_eq!((events, data), (shape.events, shape.data), "{}, {}", shape.name, chunking.name());
    println!("`Events` of {}, {}", shape.name, chunking.name());
}

/// Decodes with all values as `str`.
fn text(name: &str, shape: &Shape) {
    let chunks = shape.chunks(Chunking::Size(1400));
    counted(&mut || {
        let mut decoder = Decoder::new();
        for mut chunk in black_box(&chunks).iter().copied() {
            while let Ok(Some(event)) = decoder.next_event(&mut chunk) {
                for value in [event.data(), event.last_event_id(), event.event_type()] {
                    let _ = black_box(value.to_str());
                }
            }
        }
    });
    println!("{name} of {}", shape.name);
}

/// Returns the shape with invalid UTF-8 in the data of every event.
fn broken(mut shape: Shape) -> Shape {
    let starts = shape.stream.windows(6).enumerate().filter(|(_, bytes)| bytes == b"data: ");
    let values: Vec<usize> = starts.map(|(start, _)| start + 6).collect();
    for at in values {
        shape.stream[at] = 0xFF;
    }
    shape
}

fn comments(shape: &Shape) {
    let chunks = shape.chunks(Chunking::Size(1400));
    let (mut events, mut comments) = (0, 0);
    counted(&mut || {
        let mut decoder = Decoder::new();
        for mut chunk in black_box(&chunks).iter().copied() {
            while let Ok(Some(_)) =
                decoder.next_event_with_comments(&mut chunk, |_, end| comments += usize::from(end))
            {
                events += 1;
            }
        }
    });
    assert_eq!((events, comments), (shape.events, shape.blocks.len() - shape.events));
    println!("comments of {}", shape.name);
}

fn encode(name: &str, event: Event<'_>) {
    let len = event.encoded_len();
    let mut wire = Vec::with_capacity(len);
    counted(&mut || {
        for _ in 0..EVENTS {
            wire.clear();
            black_box(event).encode_to_vec(&mut wire);
        }
    });
    assert_eq!(wire.len(), len);
    println!("encode {name}");
}
