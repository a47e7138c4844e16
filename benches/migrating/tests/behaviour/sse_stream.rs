use http_body_util::BodyExt as _;
use migrating::sse_stream::{after_body, after_decode, before_body, before_decode};
use sse_proto::Events;
use sse_stream::SseByteStream;

use crate::{STREAM, chunks, data, ended, open, ready, run};

#[test]
fn both_read_the_same_events() {
    for length in [1, 2, 7, 1000] {
        let body = || {
            let frames = ended(chunks(STREAM, length));
            let frames = futures_util::StreamExt::map(frames, |chunk| {
                chunk.map(|chunk| http_body::Frame::data(chunk.into()))
            });
            http_body_util::StreamBody::new(frames)
        };
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let (old_events, new_events) = (&mut old, &mut new);
        let event = |event_type: &str, data: &str| [event_type, data].map(str::to_owned);
        run(async {
            before_decode(body(), |a, b| old_events.push(event(a, b))).await.unwrap();
            after_decode(body(), |a, b| new_events.push(event(a, b))).await.unwrap();
        });
        let expected = [["message", "a"], ["tick", "first\nzweite Zeile – äöü"], ["message", ""]];
        assert_eq!(old, expected, "chunks of {length} bytes");
        assert_eq!(new, expected, "chunks of {length} bytes");
    }
}

#[test]
fn both_bodies_have_the_same_bytes() {
    let items = || futures_util::stream::iter(["a", "b\nc", "d\r\ne\r"].map(str::to_owned));
    let (old, new) = run(async {
        let old = before_body(items()).collect().await.unwrap().to_bytes();
        (old, after_body(items()).collect().await.unwrap().to_bytes())
    });
    assert_eq!(old, new);
    assert!(new.ends_with(b"event: end\ndata: \n\n"), "{new:?}");
}

#[test]
fn events_inherit_what_blocks_do_not() {
    const STREAM: &[u8] = b"id: 1\ndata: a\n\nevent\ndata: b\n\nretry: 5\nid: 2\n\ndata: c\n\n";
    let blocks: Vec<_> =
        ready(SseByteStream::new(open([STREAM]))).into_iter().map(Result::unwrap).collect();
    let fields: Vec<_> = blocks
        .iter()
        .map(|block| (block.event.as_deref(), block.id.as_deref(), block.data.as_deref()))
        .collect();
    assert_eq!(
        fields,
        [
            (None, Some("1"), Some("a")),
            (Some(""), None, Some("b")),
            (None, Some("2"), None),
            (None, None, Some("c")),
        ]
    );

    let events: Vec<_> =
        ready(Events::new(open([STREAM]))).into_iter().map(Result::unwrap).collect();
    assert_eq!(events.len(), 3);
    let [a, b, c] = [0, 1, 2].map(|n| &events[n]);
    assert!(a.id().is_some() && b.id().is_none() && b.last_event_id() == "1");
    assert_eq!(b.event_type(), "message");
    assert!(c.id().is_some_and(|id| id.as_ref() == b"2") && c.retry().is_some());
}

#[test]
fn a_byte_that_is_not_utf_8_does_not_end_the_stream() {
    const STREAM: &[u8] = b"data: \xFF\n\ndata: b\n\n";
    let blocks = ready(SseByteStream::new(open([STREAM])));
    assert!(matches!(&blocks[..], [Err(_)]), "{blocks:?}");
    assert_eq!(data(open([STREAM])), ["\u{FFFD}", "b"]);
}
