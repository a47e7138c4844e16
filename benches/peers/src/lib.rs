//! This crate beside others.
//!
//! Each decoder is a type with [`Decode`], which tells what it found in chunks. Speed, allocations
//! and conformance all go through that one adapter, so a decoder that is added to [`DECODERS`] is
//! in every table.

pub mod codecs;
pub mod decode;
pub mod floors;
pub mod measure;
pub mod ours;
pub mod streams;

use decode::{Decoder, Kind};

/// All decoders, in the order of the tables.
pub const DECODERS: &[Decoder] = &[
    Decoder::new::<floors::Memcpy>(Kind::Floor),
    Decoder::new::<floors::Memchr2>(Kind::Floor),
    Decoder::new::<floors::Bitmask>(Kind::Floor),
    Decoder::new::<ours::Bytes>(Kind::Ours),
    Decoder::new::<ours::Str>(Kind::Ours),
    Decoder::new::<codecs::SseCore>(Kind::Peer),
    Decoder::new::<streams::SseCore>(Kind::Peer),
    Decoder::new::<streams::SseStream>(Kind::Peer),
    Decoder::new::<streams::Sseer>(Kind::Peer),
    Decoder::new::<streams::EventsourceStream>(Kind::Peer),
    Decoder::new::<codecs::SseCodec>(Kind::Peer),
    Decoder::new::<codecs::Russe>(Kind::Peer),
];
