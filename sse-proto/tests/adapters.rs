//! The adapters return the same results as the decoder and the encoder.

#![cfg(all(feature = "http-body", feature = "tokio-util", feature = "serde_json"))]

mod oracle;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{pending, poll_fn, ready};
use std::io::Cursor;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_lite::future::block_on;
use futures_lite::{Stream, StreamExt as _, stream};
use http_body::{Body, Frame};
use oracle::cut;
use proptest::collection::vec;
use proptest::prelude::*;
use sse_proto::{
    Comment, Decoder, Event, EventBody, EventCodec, EventId, EventTooLarge, EventType, Events,
    EventsError, Limits, OwnedEvent,
};
use tokio_util::codec::{Decoder as _, Encoder as _, FramedRead};

type Item = Result<OwnedEvent, EventTooLarge>;

/// Returns the results of the decoder itself.
fn decoded(chunks: &[&[u8]], limits: Limits) -> Vec<Item> {
    let mut decoder = Decoder::with_limits(limits);
    let mut items = Vec::new();
    for chunk in chunks {
        let mut input = *chunk;
        while let Some(item) = decoder.next_event(&mut input).transpose() {
            items.push(item.map(Event::into_owned));
        }
    }
    items
}

/// A body of these chunks. An empty chunk stands for trailers.
struct Chunks(VecDeque<Bytes>);

impl Chunks {
    fn new(chunks: &[&[u8]]) -> Self {
        Self(chunks.iter().map(|chunk| Bytes::copy_from_slice(chunk)).collect())
    }
}

impl Body for Chunks {
    /// Two parts, to check that neither is lost.
    type Data = bytes::buf::Chain<Cursor<Vec<u8>>, Bytes>;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|mut chunk| {
            if chunk.is_empty() {
                return Ok(Frame::trailers(http::HeaderMap::new()));
            }
            let first = Cursor::new(chunk.split_to(chunk.len() / 2).to_vec());
            Ok(Frame::data(first.chain(chunk)))
        }))
    }
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let fixed = |bytes: &'static [u8]| Just(bytes.to_vec());
    prop_oneof![
        4 => prop_oneof![fixed(b"\n"), fixed(b"\r\n"), fixed(b"\n\n"), fixed(b"\r")],
        4 => prop_oneof![fixed(b"data: "), fixed(b"event: "), fixed(b"id: "), fixed(b"retry: 1")],
        3 => "[a-z\u{e9}]{0,8}".prop_map(String::into_bytes),
        2 => prop_oneof![fixed(b": ping\n\n: ping\n\n"), fixed(b":")],
        1 => fixed(b"\0"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..Default::default() })]

    #[test]
    fn all_adapters_return_what_the_decoder_returns(
        wire in vec(piece(), 0..40).prop_map(|pieces| pieces.concat()),
        cuts in vec(any::<usize>(), 0..6),
        data in prop_oneof![Just(1 << 20), 0..12_usize],
    ) {
        let limits = Limits::default().with_data(data);
        let chunks = cut(&wire, &cuts);
        let expected = decoded(&chunks, limits);

        let source = stream::iter(chunks.iter().map(|chunk| Ok::<_, Infallible>(chunk.to_vec())));
        let events = Events::with_decoder(source, Decoder::with_limits(limits));
        let items: Vec<_> = block_on(events.collect());
        let wanted: Vec<_> =
            expected.iter().cloned().map(|item| item.map_err(EventsError::TooLarge)).collect();
        prop_assert_eq!(&items, &wanted);

        let body = Chunks::new(&chunks);
        let events = Events::from_body_with_decoder(body, Decoder::with_limits(limits));
        let items: Vec<_> = block_on(events.collect());
        prop_assert_eq!(&items, &wanted);

        let mut codec = EventCodec::with_decoder(Decoder::with_limits(limits));
        let (mut items, mut buffer) = (Vec::new(), BytesMut::new());
        for chunk in &chunks {
            buffer.extend_from_slice(chunk);
            while let Some(item) = codec.decode(&mut buffer).unwrap() {
                items.push(item);
            }
        }
        prop_assert!(codec.decode_eof(&mut buffer).unwrap().is_none() && buffer.is_empty());
        prop_assert_eq!(items, expected);
    }

    #[test]
    fn owned_events_equal_the_events_they_come_from(
        wire in vec(piece(), 0..40).prop_map(|pieces| pieces.concat()),
        cuts in vec(any::<usize>(), 0..3),
    ) {
        let mut decoder = Decoder::new();
        for chunk in cut(&wire, &cuts) {
            let chunk = Bytes::copy_from_slice(chunk);
            let mut input = &chunk[..];
            while let Some(event) = decoder.next_event(&mut input).unwrap() {
                let shared = event.slice_ref(&chunk);
                for owned in [event.into_owned(), shared.detach(), shared] {
                    prop_assert_eq!(owned.as_event(), event);
                    prop_assert_eq!(owned.event_type(), event.event_type());
                    prop_assert_eq!(owned.data(), event.data());
                    prop_assert_eq!(owned.last_event_id(), event.last_event_id());
                }
            }
        }
    }
}

#[test]
fn an_owned_block_without_data_has_no_data() {
    let block = Event::without_data()
        .with_id(EventId::from_static("7"))
        .with_retry(Duration::from_millis(1));
    let owned = block.into_owned();
    assert_eq!(owned.as_event(), block);
    assert!(!owned.as_event().has_data() && owned.into_data().is_empty());
}

#[test]
fn long_values_in_a_chunk_of_bytes_are_not_copied() {
    let long = "a".repeat(2000);
    let chunk = Bytes::from(format!("id: 1\nevent: x\ndata: [\"{long}\"]\n\n"));
    let inside = chunk.as_ptr_range();
    let events = block_on(Events::new(stream::once(Ok::<_, ()>(chunk))).collect::<Vec<_>>());
    let event = events[0].as_ref().unwrap();
    for text in [event.event_type(), event.data(), event.last_event_id()] {
        assert!(inside.contains(&text.as_ptr()));
    }
    let borrowed: Vec<&str> = event.json().unwrap();
    assert!(inside.contains(&borrowed[0].as_ptr()));
    let detached = event.detach();
    assert!(!inside.contains(&detached.data().as_ptr()));
    assert!(inside.contains(&event.clone().into_data().as_ptr()));
}

#[test]
fn invalid_json_is_an_error() {
    assert!(Event::new("{").json::<u8>().is_err());
    assert!(Event::new("").into_owned().json::<u8>().is_err());
    assert!(Event::new(b"\"\xFF\"").json::<String>().is_err());
    assert_eq!(Event::new("7").json::<u8>().unwrap(), 7);
}

#[test]
fn the_decoder_can_be_used_for_the_next_connection() {
    let chunk = Ok::<_, Infallible>("id: 7\ndata: a\n\nid: 8\ndata: cut off");
    let mut events = Events::new(stream::once(chunk));
    assert_eq!(block_on(events.next()).unwrap().unwrap().last_event_id(), "7");
    assert!(block_on(events.next()).is_none());
    let decoder = events.into_decoder();
    assert_eq!(decoder.last_event_id(), "7");
    let chunk = Ok::<_, Infallible>("data: b\n\n");
    let mut events = Events::with_decoder(stream::once(chunk), decoder);
    let event = block_on(events.next()).unwrap().unwrap();
    assert_eq!((event.data(), event.last_event_id()), ("b".into(), "7".into()));
}

#[test]
fn a_short_event_does_not_keep_its_chunk() {
    let chunk = Bytes::from(b"id: 1\nevent: x\ndata: a\n\ndata: b\n\n".to_vec());
    let events = Events::new(stream::once(Ok::<_, ()>(chunk.clone())));
    let events = block_on(events.collect::<Vec<_>>());
    assert_eq!(events.len(), 2);
    assert!(chunk.is_unique());
}

/// Events of all lengths around that from which they share their chunk, with values in any order,
/// are those of the decoder.
#[test]
fn owned_events_are_those_of_the_decoder_at_any_length() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for fields in 1..8 {
            for len in [0, 1, 2, 62, 63, 64, 65, 500, 990, 1000, 1010, 1020, 1023, 1024, 3000] {
                for end in ["\n", "\r\n"] {
                    let mut block = String::new();
                    for field in order.into_iter().filter(|field| fields & 1 << field != 0) {
                        block += ["data: ", "event:", "id: "][field];
                        block += &["é".repeat(len / 2), "t".repeat(len % 70), "i".into()][field];
                        block += end;
                    }
                    // A block without data, an inherited ID, and other data around the event.
                    check_owned(&format!("{block}{end}data: x{end}{end}{block}{end}{block}{end}"));
                }
            }
        }
    }
}

fn check_owned(stream: &str) {
    let chunk = Bytes::from(stream.as_bytes().to_vec());
    let mut events = Events::new(stream::once(Ok::<_, ()>(chunk.clone())));
    let mut decoder = Decoder::new();
    let mut input = &chunk[..];
    while let Some(event) = decoder.next_event(&mut input).unwrap() {
        let owned = block_on(events.next()).unwrap().unwrap();
        for owned in [owned, event.slice_ref(&chunk), event.into_owned()] {
            assert_eq!(owned.as_event(), event, "{stream:?}");
            assert_eq!(owned.clone().detach(), owned);
            assert_eq!(owned.data().to_str(), event.data().to_str());
            assert_eq!(owned.has_data(), event.has_data());
            assert_eq!(owned.clone().into_data(), *event.data());
            let (event_type, id) = (EventType::from_static("other"), EventId::from_static("8"));
            let changed = owned.with_type(event_type).with_id(id);
            assert_eq!(changed.as_event(), event.with_type(event_type).with_id(id));
        }
    }
    assert!(block_on(events.next()).is_none());
}

#[test]
fn a_dropped_event_does_not_keep_its_chunk() {
    let chunk = Bytes::from([b"data: ".to_vec(), vec![b'x'; 1 << 20], b"\n\n".to_vec()].concat());
    let chunks = stream::once(Ok::<_, ()>(chunk.clone())).chain(stream::pending());
    let mut events = pin!(Events::new(chunks));
    let event = block_on(events.next()).unwrap().unwrap();
    assert!(!chunk.is_unique());
    drop(event);
    assert!(chunk.is_unique(), "the consumed chunk is released");

    let mut codec = EventCodec::new();
    let mut buffer = BytesMut::from(&chunk[..]);
    let memory = buffer.as_ptr();
    drop(codec.decode(&mut buffer).unwrap().unwrap());
    buffer.reserve(1 << 20);
    assert_eq!(buffer.as_ptr(), memory, "the buffer is reused");
}

#[test]
fn an_inherited_id_of_long_events_is_copied_once() {
    let data = "x".repeat(2000);
    let chunks = ["id: 7\n", "", "", "id: 8\n"];
    let chunks = chunks.map(|id| Ok::<_, ()>(format!("{id}data: {data}\n\n").into_bytes()));
    let events: Vec<_> = block_on(Events::new(stream::iter(chunks)).collect());
    let ids: Vec<_> = events.iter().map(|event| event.as_ref().unwrap().last_event_id()).collect();
    assert_eq!(ids, ["7", "7", "7", "8"]);
    assert_eq!(ids[1].as_ptr(), ids[2].as_ptr());
    assert_ne!(ids[0].as_ptr(), ids[1].as_ptr(), "the copy does not keep the chunk");
}

#[test]
fn an_error_of_the_chunks_ends_the_stream() {
    let failing = stream::repeat(Err::<&str, _>("broken"));
    let mut events = Events::new(stream::once(Ok("data: a\n\ndata")).chain(failing));
    assert_eq!(block_on(events.next()).unwrap().unwrap().data(), "a");
    let error = block_on(events.next()).unwrap().unwrap_err();
    assert_eq!(error, EventsError::Chunks("broken"));
    assert_eq!(error.to_string(), "the event stream failed: broken");
    assert_eq!(block_on(events.next()), None);
}

#[test]
fn boxed_errors_can_be_propagated() {
    fn read() -> Result<(), Box<dyn std::error::Error>> {
        let chunks = stream::once(Err::<&str, Box<dyn std::error::Error>>("broken".into()));
        block_on(Events::new(chunks).next()).unwrap()?;
        Ok(())
    }
    assert_eq!(read().unwrap_err().to_string(), "the event stream failed: broken");
}

/// Events that are ready once they are pushed, and a timer that fires on request.
#[derive(Clone, Default)]
struct Script {
    events: Rc<RefCell<VecDeque<Option<OwnedEvent>>>>,
    fires: Rc<Cell<bool>>,
    timers: Rc<Cell<usize>>,
    timers_dropped: Rc<Cell<usize>>,
}

struct Dropped(Rc<Cell<usize>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

impl Script {
    fn body(&self) -> impl Stream<Item = Chunk> + Body<Data = Bytes, Error = Infallible> + use<> {
        let (events, script) = (Rc::clone(&self.events), self.clone());
        let events = stream::poll_fn(move |_| match events.borrow_mut().pop_front() {
            Some(event) => Poll::Ready(event),
            None => Poll::Pending,
        });
        EventBody::new(events, move || {
            script.timers.set(script.timers.get() + 1);
            let (dropped, fires) =
                (Dropped(Rc::clone(&script.timers_dropped)), Rc::clone(&script.fires));
            poll_fn(move |_| {
                let _ = &dropped;
                if fires.take() { Poll::Ready(()) } else { Poll::Pending }
            })
        })
    }

    fn push(&self, event: Event<'_>) {
        self.events.borrow_mut().push_back(Some(event.into_owned()));
    }
}

type Chunk = Result<Bytes, Infallible>;

fn poll(body: Pin<&mut impl Stream<Item = Chunk>>) -> Poll<Option<Chunk>> {
    body.poll_next(&mut Context::from_waker(Waker::noop()))
}

fn chunk(text: &'static str) -> Poll<Option<Chunk>> {
    Poll::Ready(Some(Ok(Bytes::from(text))))
}

#[test]
fn comments_are_sent_only_during_silence() {
    let script = Script::default();
    let mut body = pin!(script.body());
    assert_eq!(poll(body.as_mut()), Poll::Pending);
    assert_eq!(poll(body.as_mut()), Poll::Pending);
    assert_eq!(
        (script.timers.get(), script.timers_dropped.get()),
        (1, 0),
        "one timer while silent"
    );

    script.fires.set(true);
    assert_eq!(poll(body.as_mut()), chunk(":\n\n"));
    assert_eq!(poll(body.as_mut()), Poll::Pending);
    assert_eq!(
        (script.timers.get(), script.timers_dropped.get()),
        (2, 1),
        "a new timer after the comment"
    );

    script.push(Event::new("a"));
    script.push(Event::new("b").with_type(EventType::from_static("t")));
    script.fires.set(true);
    assert_eq!(poll(body.as_mut()), chunk("data: a\n\nevent: t\ndata: b\n\n"));
    assert_eq!(
        (script.timers.get(), script.timers_dropped.get()),
        (2, 2),
        "an event drops the timer"
    );
    script.fires.set(false);
    assert_eq!(poll(body.as_mut()), Poll::Pending);
    assert_eq!((script.timers.get(), script.timers_dropped.get()), (3, 2));

    script.push(Event::new("last"));
    script.events.borrow_mut().push_back(None);
    assert_eq!(poll(body.as_mut()), chunk("data: last\n\n"));
    assert!(body.is_end_stream());
    assert_eq!(poll(body.as_mut()), Poll::Ready(None));
    assert_eq!(poll(body.as_mut()), Poll::Ready(None), "the stream stays ended");
}

#[test]
fn events_that_are_always_ready_are_sent_in_bounded_chunks() {
    let data = "x".repeat(1000);
    let events = stream::repeat(Event::new(&data));
    let mut body = pin!(EventBody::new(events, pending::<()>));
    for _ in 0..10 {
        let Poll::Ready(Some(Ok(chunk))) = poll(body.as_mut()) else { panic!("no chunk") };
        assert!((8 << 10..10 << 10).contains(&chunk.len()));
    }
}

#[test]
fn a_large_event_leaves_no_memory_behind() {
    let data = "x".repeat(1 << 20);
    let small = stream::iter([Event::new("a")]);
    let mut body =
        pin!(EventBody::new(stream::iter([Event::new(&data)]).chain(small), pending::<()>));
    let mut len = 0;
    let held = allocation_counter::measure(|| {
        let Poll::Ready(Some(Ok(chunk))) = poll(body.as_mut()) else { panic!("no chunk") };
        len = chunk.len();
    });
    assert!(len > 1 << 20);
    assert_eq!(held.bytes_current, 0);
    assert!(held.bytes_max < (1 << 20) + 4096, "{} bytes for one event", held.bytes_max);
}

#[test]
fn the_timer_alone_wakes_a_silent_body() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let sleep = || tokio::time::sleep(Duration::from_millis(5));
    runtime.block_on(async {
        let mut body = pin!(EventBody::new(stream::pending::<Event<'_>>(), sleep));
        for _ in 0..3 {
            assert_eq!(body.next().await.unwrap().unwrap(), ":\n\n");
        }
    });
}

#[test]
fn many_bodies_can_send_the_same_event() {
    let event = std::sync::Arc::new(Event::new("a").into_owned());
    for _ in 0..2 {
        let events = stream::once(std::sync::Arc::clone(&event));
        let mut body = pin!(EventBody::new(events, pending::<()>));
        assert_eq!(poll(body.as_mut()), chunk("data: a\n\n"));
    }
}

#[test]
fn events_sent_by_a_body_are_received_from_a_body() {
    let events = [
        Event::new("a\nb").with_id(EventId::from_static("1")),
        Event::new("").with_type(EventType::from_static("t")).with_retry(Duration::from_millis(5)),
    ];
    let response = EventBody::new(stream::iter(events), || ready(())).into_response();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-cache, no-transform");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let received: Vec<_> = block_on(Events::from_body(response.into_body()).collect());
    let wire: Vec<_> =
        decoded(&[b"id: 1\ndata: a\ndata: b\n\nevent: t\nretry: 5\ndata\n\n"], Limits::default());
    assert_eq!(received, wire.into_iter().map(|item| Ok(item.unwrap())).collect::<Vec<_>>());
}

#[test]
fn framed_reading_continues_after_an_event_that_is_too_large() {
    let decoder = Decoder::with_limits(Limits::default().with_data(3));
    let wire = &b"data: a\n\ndata: much\n\ndata: b\n\ndata: inc"[..];
    let framed = FramedRead::with_capacity(wire, EventCodec::with_decoder(decoder), 4);
    let items: Vec<Item> = block_on(framed.map(Result::unwrap).collect());
    let data: Vec<_> = items.iter().map(|item| item.as_ref().map(OwnedEvent::data)).collect();
    assert!(matches!(data[..], [Ok(a), Err(_), Ok(b)] if a == "a" && b == "b"), "{data:?}");
}

#[test]
fn framed_writing_accepts_events_and_comments() {
    let (mut codec, mut wire) = (EventCodec::new(), BytesMut::new());
    codec.encode(Event::new("a"), &mut wire).unwrap();
    codec.encode(Event::new("b").into_owned(), &mut wire).unwrap();
    codec.encode(Comment::new(""), &mut wire).unwrap();
    assert_eq!(wire, "data: a\n\ndata: b\n\n:\n\n");
}
