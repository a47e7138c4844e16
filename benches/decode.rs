//! Benchmarks of decoding and encoding: `cargo bench --manifest-path benches/Cargo.toml`.
//!
//! The floor only finds the line ends. Comparisons with other crates are in `peers`.

use std::sync::LazyLock;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use shapes::{CHUNKINGS, Chunking, Shape};
use sse_proto::{Decoder, Event};

static SHAPES: LazyLock<Vec<Shape>> = LazyLock::new(|| Shape::all(1 << 20));

fn main() {
    divan::main();
}

fn names() -> impl Iterator<Item = &'static str> {
    SHAPES.iter().map(|shape| shape.name)
}

/// Returns each shape in each chunking, as arguments for divan.
fn cases() -> impl Iterator<Item = Case> {
    names().flat_map(|name| CHUNKINGS.map(|chunking| Case { name, chunking }))
}

struct Case {
    name: &'static str,
    chunking: Chunking,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}", self.name, self.chunking.name())
    }
}

impl Case {
    fn shape(&self) -> &'static Shape {
        SHAPES.iter().find(|shape| shape.name == self.name).expect("a name from the list")
    }
}

/// Benchmarks `decode` on the chunks. It must return the number of events and of bytes of data.
fn bench(bencher: Bencher<'_, '_>, case: &Case, decode: impl Fn(&[&[u8]]) -> (usize, usize)) {
    let shape = case.shape();
    let chunks = shape.chunks(case.chunking);
    bencher.counter(BytesCount::of_slice(&shape.stream)).bench_local(|| {
        // Guards against a decoder that is fast because it loses events.
        assert_eq!(decode(black_box(&chunks)), (shape.events, shape.data));
    });
}

#[divan::bench(args = cases())]
fn decode(bencher: Bencher<'_, '_>, case: &Case) {
    bench(bencher, case, |chunks| {
        let mut decoder = Decoder::new();
        let (mut events, mut bytes) = (0, 0);
        for mut chunk in chunks.iter().copied() {
            while let Some(event) = decoder.next_event(&mut chunk).unwrap() {
                events += 1;
                bytes += event.data().len();
            }
        }
        (events, bytes)
    });
}

/// Decodes with the data as `str`, which includes the UTF-8 check.
#[divan::bench(args = cases())]
fn decode_str(bencher: Bencher<'_, '_>, case: &Case) {
    bench(bencher, case, |chunks| {
        let mut decoder = Decoder::new();
        let (mut events, mut bytes) = (0, 0);
        for mut chunk in chunks.iter().copied() {
            while let Some(event) = decoder.next_event(&mut chunk).unwrap() {
                events += 1;
                bytes += event.data().to_str().unwrap().len();
            }
        }
        (events, bytes)
    });
}

#[divan::bench(args = cases())]
fn floor_line_ends(bencher: Bencher<'_, '_>, case: &Case) {
    let shape = case.shape();
    let chunks = shape.chunks(case.chunking);
    bencher.counter(BytesCount::of_slice(&shape.stream)).bench_local(|| {
        let ends = |chunk| memchr::memchr2_iter(b'\r', b'\n', chunk).fold(0, |sum, at| sum ^ at);
        black_box(&chunks).iter().map(|chunk| ends(chunk)).fold(0, |sum, at| sum ^ at)
    });
}

/// Encodes the data of the events of each shape.
#[divan::bench(args = names())]
fn encode(bencher: Bencher<'_, '_>, name: &'static str) {
    let shape = Case { name, chunking: Chunking::Whole }.shape();
    let mut decoder = Decoder::new();
    let mut data = Vec::new();
    let mut input = &shape.stream[..];
    while let Some(event) = decoder.next_event(&mut input).unwrap() {
        data.push(event.data().to_vec());
    }
    let mut wire = Vec::with_capacity(shape.stream.len());
    bencher.counter(BytesCount::new(shape.data)).bench_local(|| {
        wire.clear();
        for data in &data {
            Event::new(black_box(data)).encode_to_vec(&mut wire);
        }
        assert!(wire.len() > shape.data);
    });
}
