//! What all decoders have in common here: chunks in, items out.

use bytes::Bytes;
use shapes::{Chunking, Shape};

/// A decoder, driven as its documentation says.
pub trait Decode {
    /// Its name in the tables.
    const NAME: &'static str;

    /// Decodes the chunks, and calls `see` with what it finds.
    ///
    /// A decoder may go on for ever on broken input; this stops after [`TOO_MANY_ERRORS`].
    fn decode(chunks: &[Bytes], start: Start<'_>, see: impl FnMut(Item<'_>));
}

/// How a decoder starts. What it has no way to be told is ignored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// The last event ID of an earlier connection.
    pub seed: &'a str,
    /// Without the limits that it has by default.
    pub no_limits: bool,
}

/// So many, and a decoder is not going to get any further.
pub const TOO_MANY_ERRORS: usize = 100;

/// What a decoder found.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// An event.
    Event {
        /// Its type as the decoder names it.
        event_type: &'a [u8],
        /// Its data.
        data: &'a [u8],
        /// The last event ID, empty if there is none.
        id: &'a [u8],
    },
    /// A comment.
    Comment,
    /// A reconnection time in milliseconds.
    Retry(u64),
    /// An error.
    Error,
}

/// What speed is checked by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Events.
    pub events: usize,
    /// Bytes of data in all of them.
    pub data: usize,
}

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No decoder, but what none can be faster than, or can it.
    Floor,
    /// `sse-proto`.
    Ours,
    /// Another crate.
    Peer,
}

/// [`Decode::decode`], with a `see` of any type.
pub type Visit = fn(&[Bytes], Start<'_>, &mut dyn FnMut(Item<'_>));

/// A [`Decode`] as a value.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// Its name in the tables.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Counts what it finds.
    pub count: fn(&[Bytes]) -> Seen,
    /// Gives what it finds.
    pub visit: Visit,
}

impl Decoder {
    /// The row for a decoder.
    pub const fn new<D: Decode>(kind: Kind) -> Self {
        Self { name: D::NAME, kind, count: count::<D>, visit: visit::<D> }
    }
}

#[inline(never)]
fn count<D: Decode>(chunks: &[Bytes]) -> Seen {
    let mut seen = Seen::default();
    // The limits that some have by default are below what some shapes hold.
    let start = Start { no_limits: true, ..Start::default() };
    D::decode(chunks, start, |item| {
        if let Item::Event { data, .. } = item {
            seen.events += 1;
            seen.data += data.len();
        }
    });
    seen
}

fn visit<D: Decode>(chunks: &[Bytes], start: Start<'_>, see: &mut dyn FnMut(Item<'_>)) {
    D::decode(chunks, start, see);
}

/// A shape, cut, in the form that all decoders take: those with streams want `Bytes` to own, and
/// pay for a reference count each; the others see slices.
pub fn chunks(shape: &Shape, chunking: Chunking) -> Vec<Bytes> {
    let stream = Bytes::copy_from_slice(&shape.stream);
    shape.ranges(chunking).into_iter().map(|range| stream.slice(range)).collect()
}
