//! Generated event streams that resemble real ones: the common input of all benchmarks.
//!
//! They are made without the encoder of `sse-proto` and without dependencies, so that they do not
//! depend on the code under test. They are the same on every run and every machine.

mod make;
mod numbers;

use std::ops::Range;

pub use numbers::Numbers;

/// A stream and its expected content.
#[derive(Debug)]
pub struct Shape {
    /// The name in the tables.
    pub name: &'static str,
    /// A short description for the tables.
    pub about: &'static str,
    /// The stream.
    pub stream: Vec<u8>,
    /// The end of each block, including its blank line, as a byte offset.
    pub blocks: Vec<usize>,
    /// The number of dispatched events.
    pub events: usize,
    /// The number of bytes of data in all events.
    pub data: usize,
}

/// How a stream is cut into chunks for the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunking {
    /// One chunk: the best case for a decoder.
    Whole,
    /// One chunk for each block: a server that flushes, and a network that keeps up.
    Block,
    /// Chunks of this number of bytes, such as a read buffer or a packet.
    Size(usize),
}

/// The chunkings that are measured.
pub const CHUNKINGS: [Chunking; 5] = [
    Chunking::Whole,
    Chunking::Block,
    Chunking::Size(16 << 10),
    Chunking::Size(1400),
    Chunking::Size(64),
];

impl Chunking {
    /// Returns the name in the tables.
    pub fn name(self) -> String {
        match self {
            Self::Whole => "whole".into(),
            Self::Block => "event".into(),
            Self::Size(size) if size % 1024 == 0 => format!("{} KiB", size / 1024),
            Self::Size(size) => format!("{size} B"),
        }
    }
}

impl Shape {
    /// Returns all shapes, with streams of about `size` bytes each. The shape `megabyte` has the size
    /// of its name only if `size` is a mebibyte.
    pub fn all(size: usize) -> Vec<Self> {
        make::all(size)
    }

    /// Returns the byte ranges of the chunks.
    pub fn ranges(&self, chunking: Chunking) -> Vec<Range<usize>> {
        let len = self.stream.len();
        let ends: Vec<usize> = match chunking {
            Chunking::Whole => vec![len],
            Chunking::Block => self.blocks.clone(),
            Chunking::Size(size) => (size..len).step_by(size).chain(std::iter::once(len)).collect(),
        };
        let mut start = 0;
        ends.into_iter().map(|end| std::mem::replace(&mut start, end)..end).collect()
    }

    /// Returns the chunks.
    pub fn chunks(&self, chunking: Chunking) -> Vec<&[u8]> {
        self.ranges(chunking).into_iter().map(|range| &self.stream[range]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the events and bytes of data of a simple stream without a decoder.
    fn count(stream: &[u8]) -> (usize, usize) {
        let text = std::str::from_utf8(stream).unwrap().replace("\r\n", "\n");
        let (mut events, mut data) = (0, 0);
        for block in text.split_terminator("\n\n") {
            let lines: Vec<_> =
                block.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
            events += usize::from(!lines.is_empty());
            data += lines.join("\n").len();
        }
        (events, data)
    }

    #[test]
    fn shapes_have_the_declared_events_data_and_blocks() {
        for shape in Shape::all(256 << 10) {
            let Shape { name, stream, blocks, .. } = &shape;
            assert_eq!(count(stream), (shape.events, shape.data), "{name}");
            assert_eq!(blocks.last(), Some(&stream.len()), "{name}");
            let blank: &[u8] = if *name == "crlf" { b"\r\n\r\n" } else { b"\n\n" };
            assert!(blocks.iter().all(|end| stream[..*end].ends_with(blank)), "{name}");
        }
    }

    #[test]
    fn shapes_have_the_properties_of_their_names() {
        for shape in Shape::all(1 << 20) {
            let Shape { name, stream, blocks, events, .. } = &shape;
            let per_event = stream.len() / events;
            let per_block = stream.len() / blocks.len();
            let beyond_ascii = stream.iter().filter(|byte| !byte.is_ascii()).count();
            match *name {
                "openai" | "crlf" => {
                    assert!((270..=295).contains(&per_event), "{name}: {per_event} B");
                    assert!(beyond_ascii > 0, "{name}");
                }
                "anthropic" => assert!((140..=160).contains(&per_event), "{name}: {per_event} B"),
                "tiny" => assert_eq!(per_event, 9),
                "patches" => {
                    let mut start = 0;
                    for end in blocks {
                        let len = end - std::mem::replace(&mut start, *end);
                        assert!(((16 << 10)..=(64 << 10)).contains(&len), "{name}: {len} B");
                    }
                }
                "megabyte" => assert_eq!((*events, per_block), (1, (1 << 20) + 8)),
                "keepalive" => assert_eq!(blocks.len(), 64 * events),
                "cjk" => assert!(2 * beyond_ascii > stream.len(), "{name}: mostly beyond ASCII"),
                "ticks" => assert!(per_event < 100, "{name}: {per_event} B"),
                other => panic!("the shape {other} has no test"),
            }
        }
    }

    #[test]
    fn chunks_concatenate_to_the_stream() {
        for shape in Shape::all(64 << 10) {
            for chunking in CHUNKINGS.into_iter().chain([Chunking::Size(1)]) {
                let chunks = shape.chunks(chunking);
                assert_eq!(chunks.concat(), shape.stream, "{}", shape.name);
                assert!(chunks.iter().all(|chunk| !chunk.is_empty()), "{}", shape.name);
            }
        }
    }
}
