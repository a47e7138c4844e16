//! Encoders of events that consist only of data.

use std::future::pending;

use bytes::BytesMut;
use futures_util::stream;
use sse_proto::{Event, EventBody};

use crate::streams::drain;

/// A sample to encode.
#[derive(Debug)]
pub struct Sample {
    /// The name in the tables.
    pub name: &'static str,
    /// The data of the event.
    pub data: String,
    /// The expected encoding.
    pub wire: Vec<u8>,
}

impl Sample {
    /// Returns all samples.
    pub fn all() -> Vec<Self> {
        let sample = |name, data: String| {
            let lines = data.split('\n').map(|line| format!("data: {line}\n"));
            let wire = (lines.collect::<String>() + "\n").into_bytes();
            Self { name, data, wire }
        };
        let line = "x".repeat(79);
        vec![
            sample("tiny", "x".into()),
            sample("a line of 250 B", "x".repeat(250)),
            sample("80 lines of 79 B", [&*line; 80].join("\n")),
        ]
    }
}

/// An encoder, used as its documentation recommends, with the cheapest argument types that it
/// accepts.
pub trait Encode {
    /// Its name in the tables.
    const NAME: &'static str;

    /// Encodes the sample `times` times and passes each encoded event to `sink`.
    fn encode(sample: &Sample, times: usize, sink: impl FnMut(&[u8]));
}

/// An [`Encode`] as a value.
#[derive(Clone, Copy, Debug)]
pub struct Encoder {
    /// Its name in the tables.
    pub name: &'static str,
    /// Encodes and discards the result.
    pub run: fn(&Sample, usize),
    /// Encodes and returns all encoded events.
    pub collect: fn(&Sample, usize) -> Vec<u8>,
}

impl Encoder {
    /// Returns the row for an encoder.
    pub const fn new<E: Encode>() -> Self {
        Self { name: E::NAME, run: run::<E>, collect: collect::<E> }
    }
}

#[inline(never)]
fn run<E: Encode>(sample: &Sample, times: usize) {
    E::encode(sample, times, |wire| {
        std::hint::black_box(wire);
    });
}

fn collect<E: Encode>(sample: &Sample, times: usize) -> Vec<u8> {
    let mut all = Vec::new();
    E::encode(sample, times, |wire| all.extend_from_slice(wire));
    all
}

/// Encodes into a `Vec` that is reused for each event.
#[inline]
fn reused(times: usize, mut sink: impl FnMut(&[u8]), mut encode: impl FnMut(&mut Vec<u8>)) {
    let mut wire = Vec::new();
    for _ in 0..times {
        wire.clear();
        encode(&mut wire);
        sink(&wire);
    }
}

/// Not an encoder: copies the encoded event.
#[derive(Debug)]
pub enum Memcpy {}

impl Encode for Memcpy {
    const NAME: &'static str = "floor: memcpy into a reused `Vec`";

    fn encode(sample: &Sample, times: usize, sink: impl FnMut(&[u8])) {
        reused(times, sink, |wire| {
            wire.extend_from_slice(std::hint::black_box(&sample.wire));
        });
    }
}

/// A minimal encoder: only data, and no CR. Every encoder has to do at least this.
#[derive(Debug)]
pub enum Split {}

impl Encode for Split {
    const NAME: &'static str = "floor: memchr2 and memcpy, line by line";

    fn encode(sample: &Sample, times: usize, sink: impl FnMut(&[u8])) {
        reused(times, sink, |wire| {
            let mut rest = std::hint::black_box(&sample.data).as_bytes();
            while let Some(end) = memchr::memchr2(b'\r', b'\n', rest) {
                wire.extend_from_slice(b"data: ");
                wire.extend_from_slice(&rest[..=end]);
                rest = &rest[end + 1..];
            }
            wire.extend_from_slice(b"data: ");
            wire.extend_from_slice(rest);
            wire.extend_from_slice(b"\n\n");
        });
    }
}

/// `sse_proto::Event::encode_to_vec`.
#[derive(Debug)]
pub enum Ours {}

impl Encode for Ours {
    const NAME: &'static str = "sse-proto, into a reused `Vec`";

    fn encode(sample: &Sample, times: usize, sink: impl FnMut(&[u8])) {
        reused(times, sink, |wire| {
            Event::new(std::hint::black_box(&sample.data)).encode_to_vec(wire);
        });
    }
}

/// `sse_proto::Event::encode_to_buf`.
#[derive(Debug)]
pub enum OursBuf {}

impl Encode for OursBuf {
    const NAME: &'static str = "sse-proto, into a reused `BytesMut`";

    fn encode(sample: &Sample, times: usize, mut sink: impl FnMut(&[u8])) {
        let mut wire = BytesMut::new();
        for _ in 0..times {
            wire.clear();
            let event = Event::new(std::hint::black_box(&sample.data));
            event.encode_to_buf(&mut wire).expect("a `BytesMut` grows");
            sink(&wire);
        }
    }
}

/// `sse_proto::EventBody`.
#[derive(Debug)]
pub enum OursBody {}

impl Encode for OursBody {
    const NAME: &'static str = "sse-proto, `EventBody`";

    fn encode(sample: &Sample, times: usize, mut sink: impl FnMut(&[u8])) {
        let events = (0..times).map(|_| Event::new(std::hint::black_box(&sample.data)));
        let body = EventBody::new(stream::iter(events), pending::<()>);
        drain(body, |wire| sink(&wire.expect("no error")));
    }
}

/// `russe::Encoder`.
#[derive(Debug)]
pub enum Russe {}

impl Encode for Russe {
    const NAME: &'static str = "russe, into a reused `BytesMut`";

    fn encode(sample: &Sample, times: usize, mut sink: impl FnMut(&[u8])) {
        use tokio_util::codec::Encoder;
        let message =
            russe::Message { data: (&*sample.data).into(), event: None, retry: None, id: None };
        let mut encoder = russe::Encoder::default();
        let mut wire = BytesMut::new();
        for _ in 0..times {
            wire.clear();
            let event = russe::Event::Message(message.clone());
            encoder.encode(event, &mut wire).expect("the event is valid");
            sink(&wire);
        }
    }
}

/// `russe::Event::into_bytestring`.
#[derive(Debug)]
pub enum RusseString {}

impl Encode for RusseString {
    const NAME: &'static str = "russe, a `ByteString` each";

    fn encode(sample: &Sample, times: usize, mut sink: impl FnMut(&[u8])) {
        let message =
            russe::Message { data: (&*sample.data).into(), event: None, retry: None, id: None };
        for _ in 0..times {
            let event = russe::Event::Message(message.clone());
            sink(event.into_bytestring().expect("the event is valid").as_bytes());
        }
    }
}

/// `sse_stream::Sse::encode`.
#[derive(Debug)]
pub enum SseStream {}

impl Encode for SseStream {
    const NAME: &'static str = "sse-stream, `Bytes` each";

    fn encode(sample: &Sample, times: usize, mut sink: impl FnMut(&[u8])) {
        for _ in 0..times {
            let event = sse_stream::Sse::default().data(&*sample.data);
            sink(&event.encode().expect("the event is valid"));
        }
    }
}

/// `sse_codec::SSECodec`.
#[derive(Debug)]
pub enum SseCodec {}

impl Encode for SseCodec {
    const NAME: &'static str = "sse-codec, into a reused `BytesMut`";

    fn encode(sample: &Sample, times: usize, mut sink: impl FnMut(&[u8])) {
        use futures_codec::Encoder;
        let mut codec = sse_codec::SSECodec::default();
        let mut wire = BytesMut::new();
        for _ in 0..times {
            wire.clear();
            let event = sse_codec::Event::message("message", &sample.data, None);
            codec.encode(event, &mut wire).expect("memory");
            sink(&wire);
        }
    }
}
