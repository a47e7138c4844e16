use std::panic::catch_unwind;
use std::pin::Pin;
use std::time::Duration;

use eventsource_stream::{EventStream, Eventsource as _};
use migrating::eventsource_stream::{after, before};
use sse_proto::{Decoder, Events};

use crate::{STREAM, chunks, data, ended, open, ready, run};

/// Returns the data of the events that eventsource-stream decodes, and `None` for errors.
fn their_data(chunks: impl IntoIterator<Item = &'static [u8]>) -> Vec<Option<String>> {
    let events = ready(open(chunks).eventsource());
    events.into_iter().map(|event| event.ok().map(|event| event.data)).collect()
}

#[test]
fn both_read_the_same_events() {
    for length in [1, 2, 7, 1000] {
        let response = || {
            let body = reqwest::Body::wrap_stream(ended(chunks(STREAM, length)));
            reqwest::Response::from(http::Response::new(body))
        };
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let (old_events, new_events) = (&mut old, &mut new);
        let event =
            |event_type: &str, data: &str, id: &str| [event_type, data, id].map(str::to_owned);
        run(async {
            before(response(), |a, b, c| old_events.push(event(a, b, c))).await.unwrap();
            after(response(), |a, b, c| new_events.push(event(a, b, c))).await.unwrap();
        });
        let expected = [
            ["message", "a", "1"],
            ["tick", "first\nzweite Zeile – äöü", "2"],
            ["message", "", "3"],
        ];
        assert_eq!(old, expected, "chunks of {length} bytes");
        assert_eq!(new, expected, "chunks of {length} bytes");
    }
}

#[test]
fn a_byte_order_mark_is_skipped() {
    const STREAM: &[u8] = b"\xEF\xBB\xBFdata: a\n\n";
    assert!(catch_unwind(|| their_data([STREAM])).is_err());
    assert_eq!(data(open([STREAM])), ["a"]);
}

#[test]
fn a_byte_that_is_not_utf_8_holds_up_nothing() {
    const STREAM: [&[u8]; 2] = [b"data: a\xFF\n\n", b"data: b\n\n"];
    assert!(their_data(STREAM).is_empty());
    let until_end: Vec<_> = ready(ended(STREAM).eventsource());
    assert!(matches!(&until_end[..], [Err(_)]));
    assert_eq!(data(open(STREAM)), ["a\u{FFFD}", "b"]);
}

#[test]
fn an_event_is_complete_with_its_cr() {
    assert!(their_data([&b"data: a\r\n\r"[..]]).is_empty());
    assert_eq!(data(open([&b"data: a\r\n\r"[..]])), ["a"]);
    assert!(ready(ended([&b"data: a\r\r"[..]]).eventsource()).is_empty(), "not even at the end");
    assert_eq!(data(ended([&b"data: a\r\r"[..]])), ["a"]);
}

#[test]
fn a_block_without_data_counts_at_once() {
    const STREAM: &[u8] = b"id: 1\ndata: a\n\nid: 7\nretry: 3000\n\n";
    let mut theirs = open([STREAM]).eventsource();
    let events = ready(Pin::new(&mut theirs));
    assert!(matches!(&events[..], [Ok(event)] if event.retry.is_none()));
    assert_eq!(theirs.last_event_id(), "1", "until the next event");

    let mut ours = Events::new(open([STREAM]));
    assert_eq!(ready(Pin::new(&mut ours)).len(), 1);
    assert_eq!(ours.decoder().last_event_id(), "7");
    assert_eq!(ours.decoder().retry(), Some(Duration::from_secs(3)));
}

#[test]
fn a_block_without_data_is_part_of_the_next_event() {
    const STREAM: &[u8] = b"id: 7\nretry: 3000\n\ndata: b\n\n";
    let theirs = ready(open([STREAM]).eventsource()).pop().unwrap().unwrap();
    assert_eq!((&*theirs.id, theirs.retry), ("7", None));
    let ours = ready(Events::new(open([STREAM]))).pop().unwrap().unwrap();
    assert!(ours.last_event_id() == "7" && ours.id().is_some());
    assert_eq!(ours.retry(), Some(Duration::from_secs(3)));
}

#[test]
fn an_initial_last_event_id_is_inherited() {
    const STREAM: &[u8] = b"data: a\n\n";
    let mut theirs = EventStream::new(open([STREAM]));
    theirs.set_last_event_id("42");
    assert_eq!(ready(theirs)[0].as_ref().unwrap().id, "");

    let mut decoder = Decoder::new();
    decoder.set_last_event_id("42").unwrap();
    let ours = ready(Events::with_decoder(open([STREAM]), decoder));
    assert_eq!(ours[0].as_ref().unwrap().last_event_id(), "42");
}
