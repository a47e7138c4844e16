//! Measures the time per byte for events and chunks of different sizes. It must not grow with
//! either, or a server could exhaust the CPU of a client with little data.

use std::hint::black_box;

use peers::measure::{Effort, Table, medians};
use sse_proto::{Decoder, Limits};

/// Event sizes in bytes.
const SIZES: [usize; 5] = [100, 10 << 10, 1 << 20, 16 << 20, 64 << 20];

/// Chunk sizes in bytes.
const CHUNKS: [usize; 5] = [usize::MAX, 16 << 10, 1400, 64, 1];

fn main() {
    let effort = Effort::from_args();
    let sizes = if effort == Effort::Test { &SIZES[..2] } else { &SIZES };
    for (title, line) in [("one line", usize::MAX), ("lines of 80 B", 80), ("lines of 1 B", 1)] {
        println!("### ns per byte, {title}\n");
        let heads = ["event", "whole", "16 KiB", "1400 B", "64 B", "1 B"];
        let mut table = Table::new(heads);
        for size in sizes {
            let cells =
                CHUNKS.map(|chunk| format!("{:.3}", nanoseconds(*size, line, chunk, effort)));
            table.line([bytes(*size)].into_iter().chain(cells));
        }
        table.print();
    }
}

/// Returns the time per byte for events of `size` bytes of data, in lines of `line` bytes.
fn nanoseconds(size: usize, line: usize, chunk: usize, effort: Effort) -> f64 {
    let mut event = Vec::new();
    let mut left = size;
    while left > 0 {
        let len = left.min(line);
        event.extend(b"data: ");
        event.resize(event.len() + len, b'x');
        event.push(b'\n');
        left -= len;
    }
    event.push(b'\n');
    // Small events are repeated, so that the run is long enough to measure.
    let events = (1 << 20) / event.len() + 1;
    let stream = event.repeat(events);
    let run = || {
        let mut decoder = Decoder::with_limits(Limits::default().with_data(usize::MAX));
        let mut seen = 0;
        for mut chunk in black_box(&stream).chunks(chunk.min(stream.len())) {
            while let Ok(Some(_)) = decoder.next_event(&mut chunk) {
                seen += 1;
            }
        }
        assert_eq!(seen, events);
    };
    let time = medians(effort, &mut [Box::new(run)])[0];
    time.as_secs_f64() * 1e9 / stream.len() as f64
}

fn bytes(size: usize) -> String {
    match size {
        0..1024 => format!("{size} B"),
        1024..0x10_0000 => format!("{} KiB", size >> 10),
        _ => format!("{} MiB", size >> 20),
    }
}
