use std::io;
use std::panic::catch_unwind;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_sse::Event;
use futures_lite::future::block_on;
use futures_lite::io::BufReader;
use futures_lite::{AsyncReadExt as _, StreamExt as _};
use migrating::async_sse::{after_decode, after_encode, before_decode, before_encode};
use sse_proto::{EventId, EventType};

use crate::{STREAM, chunks, data, ended, ready};

/// A reader that returns one chunk for each read.
struct Reader(Vec<&'static [u8]>);

impl futures_lite::AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.0.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let chunk = self.0.remove(0);
        out[..chunk.len()].copy_from_slice(chunk);
        Poll::Ready(Ok(chunk.len()))
    }
}

fn theirs(chunks: impl IntoIterator<Item = &'static [u8]>) -> Vec<Event> {
    let reader = BufReader::new(Reader(chunks.into_iter().collect()));
    ready(async_sse::decode(reader)).into_iter().map(Result::unwrap).collect()
}

/// Returns what async-sse writes for an event.
fn written(name: &str, data: &str) -> String {
    let (sender, mut encoder) = async_sse::encode();
    let mut wire = String::new();
    let send = async {
        sender.send(name, data, None).await.unwrap();
        drop(sender);
    };
    block_on(futures_lite::future::zip(send, encoder.read_to_string(&mut wire))).1.unwrap();
    wire
}

#[test]
fn both_read_the_same_events() {
    for length in [1, 2, 7, 1000] {
        let reader = || BufReader::new(Reader(chunks(STREAM, length)));
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let event = |event_type: &str, data: &[u8]| (event_type.to_owned(), data.to_vec());
        block_on(before_decode(reader(), |a, b| old.push(event(a, b)))).unwrap();
        block_on(after_decode(reader(), |a, b| new.push(event(a, b)))).unwrap();
        let text = "first\nzweite Zeile – äöü";
        let expected = [("message", "a"), ("tick", text), ("message", "")];
        let expected = expected.map(|(event_type, data)| event(event_type, data.as_bytes()));
        assert_eq!(old, expected, "chunks of {length} bytes");
        assert_eq!(new, expected, "chunks of {length} bytes");
    }
}

#[test]
fn both_write_the_same_event() {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    block_on(before_encode(&mut old)).unwrap();
    block_on(after_encode(&mut new)).unwrap();
    let spaced = String::from_utf8(old).unwrap().replace(':', ": ");
    assert_eq!(spaced.as_bytes(), new, "the same except for a space after each colon");
}

#[test]
fn reconnection_times_are_milliseconds() {
    assert!(theirs([&b"retry: 3000\n\n"[..]]).is_empty());
    assert_eq!(theirs([&b"retry:3000\n\n"[..]]), [Event::Retry(Duration::from_secs(3000))]);
    assert!(catch_unwind(|| theirs([&b"retry:18446744073709551615\n\n"[..]])).is_err());
    for stream in [&b"retry: 3000\n"[..], b"retry:3000\n"] {
        let mut decoder = sse_proto::Decoder::new();
        assert_eq!(decoder.next_event(&mut &stream[..]), Ok(None));
        assert_eq!(decoder.retry(), Some(Duration::from_secs(3)));
    }
}

#[test]
fn a_byte_that_is_not_utf_8_is_data() {
    const STREAM: &[u8] = b"data: \xFF\n\ndata: b\n\n";
    let reader = || BufReader::new(Reader(vec![STREAM]));
    let events = ready(async_sse::decode(reader()).take(10));
    assert!(!events.is_empty() && events.iter().all(Result::is_err), "{events:?}");
    let mut seen = Vec::new();
    block_on(after_decode(reader(), |_, data| seen.push(data.to_vec()))).unwrap();
    assert_eq!(seen, [&b"\xFF"[..], b"b"]);
}

#[test]
fn a_chunk_may_end_between_cr_and_lf() {
    const STREAM: [&[u8]; 2] = [b"data: a\r", b"\ndata: b\r\n\r\n"];
    assert_eq!(theirs(STREAM).len(), 2);
    assert_eq!(data(ended(STREAM)), ["a\nb"]);
}

#[test]
fn no_value_is_changed_or_becomes_a_field() {
    assert_eq!(written("a\ndata:forged", "x"), "event:a\ndata:forged\ndata:x\n\n");
    assert!(EventType::new("a\ndata:forged").is_err() && EventId::new("1\n").is_err());

    let decoded = |wire: Vec<u8>| data(ended([&*wire.leak()]));
    for (text, theirs) in [("", None), (" x", Some("x")), ("x\n", Some("x")), ("x\ry", Some("x"))] {
        assert_eq!(decoded(written("a", text).into_bytes()).pop().as_deref(), theirs, "{text:?}");
        let mut wire = Vec::new();
        sse_proto::Event::new(text).encode_to_vec(&mut wire);
        assert_eq!(decoded(wire), [text.replace('\r', "\n")]);
    }
}
