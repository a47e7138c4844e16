//! Adapters for sse-proto and its peers.
//!
//! Each decoder implements [`Decode`](decode::Decode), which emits the items in a list of chunks.
//! Speed, allocations and conformance are measured through this adapter, so a decoder in
//! [`DECODERS`] is in every table. The same holds for encoders with [`Encode`](encoders::Encode)
//! and [`ENCODERS`].

pub mod codecs;
pub mod decode;
pub mod encoders;
pub mod floors;
#[cfg(feature = "heavy")]
pub mod heavy;
#[cfg(feature = "heavy")]
pub mod loopback;
pub mod measure;
pub mod ours;
pub mod streams;

use decode::{Decoder, Kind};
use encoders::Encoder;

/// All decoders, in the order of the tables.
pub const DECODERS: &[Decoder] = &[
    Decoder::new::<floors::Memcpy>(Kind::Floor),
    Decoder::new::<floors::Memchr2>(Kind::Floor),
    Decoder::new::<floors::Bitmask>(Kind::Floor),
    Decoder::new::<floors::Simdutf8>(Kind::Floor),
    Decoder::new::<ours::Loop>(Kind::Ours),
    Decoder::new::<ours::Bytes>(Kind::Ours),
    Decoder::new::<ours::Stream>(Kind::Ours),
    Decoder::new::<ours::Codec>(Kind::Ours),
    Decoder::new::<ours::OpenClient>(Kind::Ours),
    Decoder::new::<codecs::SseCore>(Kind::Peer),
    Decoder::new::<streams::SseCore>(Kind::StreamPeer),
    Decoder::new::<streams::SseStream>(Kind::StreamPeer),
    Decoder::new::<streams::Sseer>(Kind::StreamPeer),
    Decoder::new::<streams::EventsourceStream>(Kind::StreamPeer),
    Decoder::new::<codecs::SseCodec>(Kind::Peer),
    Decoder::new::<codecs::Russe>(Kind::Peer),
    #[cfg(feature = "heavy")]
    Decoder::new::<heavy::AsyncSse>(Kind::StreamPeer),
    #[cfg(feature = "heavy")]
    Decoder::new::<heavy::EventsourceClient>(Kind::StreamPeer),
];

/// All encoders, in the order of the tables.
pub const ENCODERS: &[Encoder] = &[
    Encoder::new::<encoders::Memcpy>(),
    Encoder::new::<encoders::Split>(),
    Encoder::new::<encoders::Ours>(),
    Encoder::new::<encoders::OursBuf>(),
    Encoder::new::<encoders::OursBody>(),
    Encoder::new::<encoders::Russe>(),
    Encoder::new::<encoders::SseCodec>(),
    Encoder::new::<encoders::RusseString>(),
    Encoder::new::<encoders::SseStream>(),
    #[cfg(feature = "heavy")]
    Encoder::new::<heavy::Axum>(),
    #[cfg(feature = "heavy")]
    Encoder::new::<heavy::ActixWebLab>(),
];

#[cfg(test)]
mod tests {
    use shapes::{CHUNKINGS, Shape};

    use super::*;
    use crate::decode::Seen;
    use crate::encoders::Sample;

    #[test]
    fn decoders_find_all_events_and_data_of_the_shapes() {
        for shape in Shape::all(16 << 10) {
            for chunking in CHUNKINGS {
                let chunks = decode::chunks(&shape, chunking);
                for decoder in DECODERS.iter().filter(|decoder| decoder.kind != Kind::Floor) {
                    let seen = (decoder.count)(&chunks);
                    let expected = Seen { events: shape.events, data: shape.data };
                    let how = chunking.name();
                    assert_eq!(seen, expected, "{}, {}, {how}", decoder.name, shape.name);
                }
            }
        }
    }

    #[test]
    fn encoders_write_the_expected_bytes() {
        for sample in Sample::all() {
            for encoder in ENCODERS {
                let wire = (encoder.collect)(&sample, 3);
                assert_eq!(wire, sample.wire.repeat(3), "{}, {}", encoder.name, sample.name);
            }
        }
    }
}
