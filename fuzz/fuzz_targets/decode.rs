//! Invariant: for any bytes, chunk boundaries and limits, the decoder has the same results as a
//! literal transcription of the algorithm of the standard, with growable and with borrowed memory.

#![no_main]

#[path = "../../sse-proto/tests/oracle/mod.rs"]
mod oracle;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use sse_proto::Limits;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    cuts: [u8; 4],
    limits: Option<(u8, u8)>,
    stream: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let limits = input.limits.map_or(Limits::default(), |(data, fields)| {
        Limits::default().with_data(data.into()).with_fields(fields.into())
    });
    oracle::check(&oracle::cut(input.stream, &input.cuts.map(usize::from)), b"", limits);
    oracle::check(&input.stream.chunks(1).collect::<Vec<_>>(), b"", limits);
});
