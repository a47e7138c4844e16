//! Allocation counts of decoding and encoding.

#![cfg(feature = "alloc")]

use std::fmt::Write as _;
use std::time::Duration;

use allocation_counter::measure;
use sse_proto::{Decoder, Event, EventId, EventType, Limits};

const EVENTS: usize = 10_000;

/// Encodes `EVENTS` events with a type, an ID and one line of data.
fn stream() -> Vec<u8> {
    let mut stream = Vec::new();
    let mut id = String::new();
    for n in 0..EVENTS {
        id.clear();
        write!(id, "{n}").unwrap();
        Event::new(r#"{"choices":[{"delta":{"content":" word"}}]}"#)
            .with_type(EventType::from_static("delta"))
            .with_id(EventId::new(&id).unwrap())
            .encode_to_vec(&mut stream);
    }
    stream
}

fn count(decoder: &mut Decoder, mut chunk: &[u8]) -> usize {
    let mut events = 0;
    while let Some(event) = decoder.next_event(&mut chunk).unwrap() {
        assert!(!event.data().is_empty());
        events += 1;
    }
    events
}

#[test]
fn ten_thousand_events_in_whole_chunks_allocate_nothing() {
    let stream = stream();
    let mut events = 0;
    let info = measure(|| events = count(&mut Decoder::new(), &stream));
    assert_eq!((events, info.count_total), (EVENTS, 0));
}

#[test]
fn events_that_span_chunks_reuse_memory() {
    let stream = stream();
    for size in [1, 7, 64, 1400] {
        let mut decoder = Decoder::new();
        let mut events = 0;
        let info = measure(|| {
            events = stream.chunks(size).map(|chunk| count(&mut decoder, chunk)).sum();
        });
        assert_eq!(events, EVENTS);
        assert!(info.count_total <= 12, "{} allocations at {size}", info.count_total);
    }
}

#[test]
fn an_event_in_one_chunk_borrows_from_it() {
    let chunk = b"event: t\nid: 1\ndata: one line\n\n".to_vec();
    let mut decoder = Decoder::new();
    let mut input = &chunk[..];
    let event = decoder.next_event(&mut input).unwrap().unwrap();
    let range = chunk.as_ptr_range();
    assert!(range.contains(&event.data().as_ptr()));
    assert!(range.contains(&event.event_type().as_ptr()));
    assert!(range.contains(&event.last_event_id().as_ptr()));
}

#[test]
fn borrowed_buffers_allocate_nothing_for_events_that_span_chunks() {
    let stream = stream();
    let (mut fields, mut data) = ([0; 64], [0; 256]);
    let info = measure(|| {
        let mut decoder = Decoder::with_buffers(&mut fields, &mut data);
        let mut events = 0;
        for mut chunk in stream.chunks(5) {
            while decoder.next_event(&mut chunk).unwrap().is_some() {
                events += 1;
            }
        }
        assert_eq!(events, EVENTS);
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn ids_up_to_the_length_of_a_uuid_never_allocate_and_longer_ones_once() {
    for (len, allocations) in [(36, 0), (64, 1)] {
        let id = "x".repeat(len);
        let stream = format!("id: {id}\ndata: a\n\n").repeat(100);
        let info = measure(|| {
            assert_eq!(count(&mut Decoder::new(), stream.as_bytes()), 100);
        });
        assert_eq!(info.count_total, allocations, "ids of {len} bytes");
    }
}

#[test]
fn memory_stays_within_the_limit_and_is_reused_for_large_events() {
    const LIMIT: usize = 10_000_000;
    let event = format!("data: {}\n\n", "x".repeat(LIMIT)).into_bytes();
    let mut decoder = Decoder::with_limits(Limits::default().with_data(LIMIT));
    let mut feed = |times: usize| {
        measure(|| {
            for _ in 0..times {
                let events: usize =
                    event.chunks(16 << 10).map(|chunk| count(&mut decoder, chunk)).sum();
                assert_eq!(events, 1);
            }
        })
    };
    let first = feed(1);
    let held = usize::try_from(first.bytes_current).unwrap();
    assert!(held <= LIMIT + 64, "{held} bytes are held");
    assert_eq!(feed(5).count_total, 0, "later events reuse the memory");
}

#[test]
fn encoding_into_a_reused_vec_allocates_nothing() {
    let mut wire = Vec::with_capacity(256);
    let info = measure(|| {
        for n in 0..1000 {
            wire.clear();
            Event::new("a\nb").with_retry(Duration::from_millis(n)).encode_to_vec(&mut wire);
        }
    });
    assert_eq!(info.count_total, 0);
}

/// A giant event leaves no giant buffer behind, and high limits by themselves allocate nothing.
#[test]
fn memory_shrinks_after_a_giant_event() {
    const GIANT: usize = 8 << 20;
    let mut stream = b"data: ".to_vec();
    stream.resize(GIANT, b'x');
    stream.extend(b"\n\ndata: small\n\n");
    let mut decoder = None;
    let info = measure(|| {
        let mut new = Decoder::with_limits(Limits::default().with_data(usize::MAX));
        let events: usize = stream.chunks(16 << 10).map(|chunk| count(&mut new, chunk)).sum();
        assert_eq!(events, 2);
        decoder = Some(new);
    });
    assert!(info.bytes_max >= GIANT as u64, "the giant event was buffered");
    assert_eq!(count(decoder.as_mut().unwrap(), b"data: one more\n\n"), 1);
    assert!(info.bytes_current <= 128 << 10, "{} bytes are still held", info.bytes_current);
}

/// The event takes the memory in which the decoder has joined the data.
#[cfg(feature = "futures-core")]
#[test]
fn joined_data_of_a_long_event_are_held_once() {
    use bytes::Bytes;
    use futures_lite::{StreamExt as _, future::block_on, stream};
    use sse_proto::Events;

    const LEN: usize = 1_000_000;
    let wire = Bytes::from(format!("data: {}\n\ndata: b\n\n", "a".repeat(LEN)));
    let cuts = (0..wire.len()).step_by(16 << 10);
    let chunks: Vec<_> = cuts.map(|at| wire.slice(at..wire.len().min(at + (16 << 10)))).collect();
    let mut events = Events::new(stream::iter(chunks.into_iter().map(Ok::<_, ()>)));
    // The executor allocates once.
    block_on(async {});
    let mut event = None;
    let info = measure(|| event = block_on(events.next()));
    let event = event.unwrap().unwrap();
    let held = usize::try_from(info.bytes_current).unwrap();
    assert!(held <= LEN + (65 << 10), "{held} bytes are held");
    assert_eq!(event.data(), "a".repeat(LEN));
    assert_eq!(block_on(events.next()).unwrap().unwrap().data(), "b");
    assert!(block_on(events.next()).is_none());
}

/// The chunk is the only allocation, for any fields of the event.
#[cfg(feature = "futures-core")]
#[test]
fn a_body_allocates_one_chunk_for_an_event() {
    use std::future::pending;

    use futures_lite::{StreamExt as _, future::block_on, stream};
    use sse_proto::{EventBody, event_id, event_type};

    let data = "x".repeat(300);
    let full = Event::new(&data).with_type(event_type!("tick")).with_id(event_id!("7"));
    let full = full.with_retry(Duration::from_millis(1500));
    let block = Event::without_data().with_retry(Duration::ZERO);
    // The executor allocates once.
    block_on(async {});
    for event in [Event::new(&data), Event::new(""), full, block] {
        let mut body = EventBody::new(stream::iter([event]), pending::<()>);
        let mut chunk = None;
        let info = measure(|| chunk = block_on(body.next()));
        assert_eq!(chunk.unwrap().unwrap().len(), event.encoded_len());
        assert_eq!(info.count_total, 1, "{event:?}");
    }
}
