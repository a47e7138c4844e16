//! Decoding what language models send: lines of about 280 bytes, one event each.
//!
//! Beside it the floor: finding the line ends and doing nothing with them.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use sse_proto::{Decoder, Event};

const EVENTS: usize = 4_000;

/// Chunk sizes: everything at once, a read buffer, a packet, a trickle.
const CHUNKS: [usize; 4] = [usize::MAX, 16 << 10, 1400, 64];

fn main() {
    divan::main();
}

/// A stream of completion chunks; one in twenty holds text beyond ASCII.
fn completions() -> Vec<u8> {
    let mut stream = Vec::new();
    for n in 0..EVENTS {
        let word = if n % 20 == 0 { "naïveté" } else { " decoding" };
        let data = format!(
            r#"{{"id":"chatcmpl-8f3aB1cD2eF3gH4iJ5kL6mN7oP8qR","object":"chat.completion.chunk","created":1767225600,"model":"a-model-2026-01-01","service_tier":"default","system_fingerprint":"fp_0123456789","choices":[{{"index":{n},"delta":{{"content":"{word}"}},"logprobs":null,"finish_reason":null}}]}}"#
        );
        Event::new(&data).encode_to_vec(&mut stream);
    }
    stream
}

#[divan::bench(args = CHUNKS)]
fn decode(bencher: Bencher, size: usize) {
    let stream = completions();
    bencher.counter(BytesCount::of_slice(&stream)).bench_local(|| {
        let mut decoder = Decoder::new();
        let (mut events, mut bytes) = (0, 0);
        for mut chunk in black_box(&stream).chunks(size) {
            while let Some(event) = decoder.next_event(&mut chunk).unwrap() {
                events += 1;
                bytes += event.data().len();
            }
        }
        // A decoder that is fast because it loses something does not count.
        assert_eq!((events, bytes), (EVENTS, stream.len() - EVENTS * "data: \n\n".len()));
    });
}

/// The same with the data as `str`, which checks that it is UTF-8.
#[divan::bench(args = CHUNKS)]
fn decode_str(bencher: Bencher, size: usize) {
    let stream = completions();
    bencher.counter(BytesCount::of_slice(&stream)).bench_local(|| {
        let mut decoder = Decoder::new();
        let mut bytes = 0;
        for mut chunk in black_box(&stream).chunks(size) {
            while let Some(event) = decoder.next_event(&mut chunk).unwrap() {
                bytes += event.data().to_str().unwrap().len();
            }
        }
        assert_eq!(bytes, stream.len() - EVENTS * "data: \n\n".len());
    });
}

#[divan::bench(args = CHUNKS)]
fn floor_line_ends(bencher: Bencher, size: usize) {
    let stream = completions();
    bencher.counter(BytesCount::of_slice(&stream)).bench_local(|| {
        let chunks = black_box(&stream).chunks(size);
        let ends: usize =
            chunks.map(|chunk| memchr::memchr2_iter(b'\r', b'\n', chunk).count()).sum();
        assert_eq!(ends, 2 * EVENTS);
    });
}

#[divan::bench]
fn encode(bencher: Bencher) {
    let stream = completions();
    let mut decoder = Decoder::new();
    let mut data = Vec::new();
    let mut input = &stream[..];
    while let Some(event) = decoder.next_event(&mut input).unwrap() {
        data.push(event.data().to_vec());
    }
    let mut wire = Vec::with_capacity(stream.len());
    bencher.counter(BytesCount::of_slice(&stream)).bench_local(|| {
        wire.clear();
        for data in &data {
            Event::new(black_box(data)).encode_to_vec(&mut wire);
        }
        assert_eq!(wire.len(), stream.len());
    });
}
