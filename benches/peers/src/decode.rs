//! The common interface of all decoders: chunks in, items out.

use bytes::Bytes;
use shapes::{Chunking, Shape};

/// A decoder, used as its documentation recommends.
pub trait Decode {
    /// Its name in the tables.
    const NAME: &'static str;

    /// Decodes the chunks and calls `emit` for each item.
    ///
    /// Stops after [`TOO_MANY_ERRORS`], because some decoders never finish on invalid input.
    fn decode(chunks: &[Bytes], start: Start<'_>, emit: impl FnMut(Item<'_>));
}

/// Initial settings of a decoder. Settings that it does not support are ignored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// The last event ID of an earlier connection.
    pub seed: &'a str,
    /// Whether default limits are lifted.
    pub no_limits: bool,
}

/// The number of errors after which a decoder is assumed to make no more progress.
pub const TOO_MANY_ERRORS: usize = 100;

/// An item that a decoder has found.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// An event.
    Event {
        /// The type, as the decoder returns it.
        event_type: &'a [u8],
        /// The data.
        data: &'a [u8],
        /// The last event ID, or empty.
        id: &'a [u8],
    },
    /// A comment.
    Comment,
    /// A reconnection time in milliseconds.
    Retry(u64),
    /// An error.
    Error,
}

/// Totals by which the result of a measured run is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The number of events.
    pub events: usize,
    /// The number of bytes of data in all events.
    pub data: usize,
}

/// The kind of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A reference operation, which does not decode.
    Floor,
    /// `sse-proto`.
    Ours,
    /// Another crate.
    Peer,
    /// Another crate, whose decoder is a `Stream` of events.
    StreamPeer,
}

/// [`Decode::decode`] with a dynamic `emit`.
pub type Visit = fn(&[Bytes], Start<'_>, &mut dyn FnMut(Item<'_>));

/// A [`Decode`] as a value.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// Its name in the tables.
    pub name: &'static str,
    /// The kind of its row.
    pub kind: Kind,
    /// Decodes and counts the items.
    pub count: fn(&[Bytes]) -> Seen,
    /// Decodes and passes on each item.
    pub visit: Visit,
}

impl Decoder {
    /// Returns the row for a decoder.
    pub const fn new<D: Decode>(kind: Kind) -> Self {
        Self { name: D::NAME, kind, count: count::<D>, visit: visit::<D> }
    }
}

#[inline(never)]
fn count<D: Decode>(chunks: &[Bytes]) -> Seen {
    let mut seen = Seen::default();
    // Some shapes exceed the default limits of some decoders.
    let start = Start { no_limits: true, ..Start::default() };
    D::decode(chunks, start, |item| {
        if let Item::Event { data, .. } = item {
            seen.events += 1;
            seen.data += data.len();
        }
    });
    seen
}

fn visit<D: Decode>(chunks: &[Bytes], start: Start<'_>, emit: &mut dyn FnMut(Item<'_>)) {
    D::decode(chunks, start, emit);
}

/// Cuts a shape into chunks for all decoders. Those with streams take ownership of `Bytes`, at the
/// cost of a reference count each; the others read slices.
pub fn chunks(shape: &Shape, chunking: Chunking) -> Vec<Bytes> {
    let stream = Bytes::copy_from_slice(&shape.stream);
    shape.ranges(chunking).into_iter().map(|range| stream.slice(range)).collect()
}
