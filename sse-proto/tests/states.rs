//! States of the decoder that random streams rarely reach: the start of a stream, a reset in any
//! state, an ID set by the caller.

#![cfg(feature = "alloc")]

mod oracle;

use oracle::{check, decode, feed, interpret};
use sse_proto::{Decoder, Limits};

/// Checks a stream whole and with each single cut.
fn check_in_two(stream: &[u8]) {
    for cut in 0..=stream.len() {
        check(&<[&[u8]; 2]>::from(stream.split_at(cut)), b"", Limits::DEFAULT);
    }
}

fn data(stream: &[u8]) -> Vec<String> {
    let (mut decoder, mut input, mut data) = (Decoder::new(), stream, Vec::new());
    while let Some(event) = decoder.next_event(&mut input).unwrap() {
        data.push(event.data().to_string());
    }
    data
}

#[test]
fn only_a_whole_byte_order_mark_at_the_start_is_dropped() {
    let stream = |start: &[u8]| [start, &b"data: a\n\ndata: b\n\n"[..]].concat();
    for (start, wanted) in [
        (&b""[..], &["a", "b"][..]),
        (b"\xEF\xBB\xBF", &["a", "b"]),
        // Anything similar is the start of an unknown field name.
        (b"\xEF", &["b"]),
        (b"\xEF\xBB", &["b"]),
        (b"\xEF\xBF", &["b"]),
        (b"\xBB\xBF", &["b"]),
        (b"\xBF", &["b"]),
        (b"\xEE\xBB\xBF", &["b"]),
        (b"\xF0\xBB\xBF", &["b"]),
        (b"\xEF\xBA\xBF", &["b"]),
        (b"\xEF\xBC\xBF", &["b"]),
        (b"\xEF\xBB\xBE", &["b"]),
        (b"\xEF\xBB\xC0", &["b"]),
        (b"\xEF\xEF\xBB\xBF", &["b"]),
        (b"\xEF\xBB\xEF\xBB\xBF", &["b"]),
        (b"\xEF\xBB\xBF\xEF\xBB\xBF", &["b"]),
        (b"\xFF\xFE", &["b"]),
    ] {
        assert_eq!(data(&stream(start)), wanted, "{start:?}");
        check_in_two(&stream(start));
    }
    // A mark counts only at the start of the stream, not at the start of other lines.
    for before in [
        &b"\n"[..],
        b"\r",
        b":\n",
        b"data: x\n",
        b"data: x\n\n",
        b"id: 1\n",
        b"unknown\n",
        b"\xEF\xBB\xBF\n",
        b"\xEF\n",
        b"\xEF\xBB\n",
    ] {
        let stream = [before, &b"\xEF\xBB\xBFdata: a\n\ndata: b\n\n"[..]].concat();
        let all = data(&stream);
        assert!(!all.iter().any(|data| data.ends_with('a')), "{before:?}: {all:?}");
        check_in_two(&stream);
    }
}

#[test]
fn a_line_feed_after_a_carriage_return_ends_no_second_line() {
    for stream in [
        &b"data: a\r\n\r\ndata: b\r\n\r\n"[..],
        b"data: a\r\ndata: b\r\n\r\n",
        b"data: a\r\r\ndata: b\r\n\r",
        b"data: a\n\r\ndata: b\r\r\n\n",
        b"\r\ndata: a\r\n\ndata: b\n\r\n",
        b"id: 1\r\nid: 2\r\ndata\r\n\r\nevent: x\r\n\r\ndata\r\r",
        b": c\r\n\r\n: d\r\r\n:\r\ndata: a\r\n: e\r\n\r\n",
        b"unknown\r\ndata: a\r\nunknown: x\r\n\r\n",
        b"retry: 1\r\nretry\r\n\r\ndata\r\n\r\n",
        b"\xEF\xBB\xBF\r\ndata: a\r\n\r\n",
    ] {
        check_in_two(stream);
        check(&stream.chunks(1).collect::<Vec<_>>(), b"", Limits::DEFAULT);
        check(&stream.chunks(2).collect::<Vec<_>>(), b"", Limits::DEFAULT);
    }
}

/// Values that were borrowed from the chunk are kept when it ends within one of several lines of data.
#[test]
fn values_before_lines_of_data_that_a_chunk_cuts_are_kept() {
    for end in ["\n", "\r", "\r\n"] {
        let lines = [
            "id: 1", "event: t", "data: a", "data:b", "data: ", "data:", "data", "data: c", "", "",
        ];
        let stream = lines.join(end);
        check_in_two(stream.as_bytes());
        // At each limit, the event is dropped in the same place.
        for data in 0..10 {
            for cut in 0..=stream.len() {
                let (left, right) = stream.as_bytes().split_at(cut);
                check(&[left, right], b"", Limits::DEFAULT.with_data(data));
            }
        }
    }
}

/// Chunks of nothing but comments are recognized by a path of their own.
#[test]
fn short_chunks_of_comments_end_in_the_same_state_as_long_ones() {
    for comments in ["", ":", ": ping", ": a longer comment\n:\n\n: and one more, of thirty bytes"]
    {
        for end in ["\n", "\r", "\r\n"] {
            let comments = comments.replace('\n', end) + end;
            for after in ["data: a", " data: not at the start of a line", "\ndata: a"] {
                let wire = format!("{comments}{comments}{after}{end}{end}data: b{end}{end}");
                check_in_two(wire.as_bytes());
            }
        }
    }
}

#[test]
fn comments_are_reported_in_order_and_in_parts() {
    let stream = b": one\n:two\n\n:\ndata: a\n: three\r\n\r\n: four\r: five\n\ndata: b\n\n: six";
    for cut in 0..=stream.len() {
        let (mut decoder, mut comments) = (Decoder::new(), Vec::new());
        for mut chunk in <[&[u8]; 2]>::from(stream.split_at(cut)) {
            let mut on_comment = |part: &[u8], end: bool| {
                assert!(end || !part.is_empty(), "an empty part that is not the last, {cut}");
                comments.extend_from_slice(part);
                comments.extend(end.then_some(b'|'));
            };
            while decoder.next_event_with_comments(&mut chunk, &mut on_comment).unwrap().is_some() {
            }
        }
        assert_eq!(
            String::from_utf8(comments).unwrap(),
            " one|two|| three| four| five| six",
            "{cut}"
        );
    }
}

#[test]
fn after_a_reset_in_any_state_the_decoder_is_as_new() {
    let limits = Limits::default().with_data(16).with_fields(16);
    let next: [&[u8]; 7] = [
        b"data: x\ndata: y\n\n",
        b"id: 2\ndata: z\nid: 3\n\n",
        b"event: t\ndata: x\nevent: u\n\n",
        b"\ndata: q\n\n",
        b"\xEF\xBB\xBFdata: r\n\n",
        b": comment\n\ndata\n\n",
        b"retry: 7\ndata: s\ndata\n\n",
    ];
    let before: [&[u8]; 16] = [
        b"",
        b"\xEF\xBB",
        b"da",
        b"data:",
        b"data: a",
        b"data: a\r",
        b"data: a\ndata: b",
        b"event: t\ndata: a\n",
        b"event: some",
        b"id: 1",
        b"id: 1\0",
        b"id: 1\nevent: t\ndata: a\nda",
        b"data: more than the limit",
        b"retry: 5",
        b": com",
        b"unknown",
    ];
    for before in before {
        for next in next {
            for cut in 0..=next.len() {
                let chunks = <[&[u8]; 2]>::from(next.split_at(cut));
                let mut decoder = Decoder::with_limits(limits);
                decode(&mut decoder, [before]);
                decoder.reset();
                let expected = interpret(next, b"", limits);
                assert_eq!(decode(&mut decoder, chunks), expected, "{before:?}, {next:?}, {cut}");
            }
        }
    }
}

/// At that time, the decoder still holds the event that was yielded last.
#[test]
fn a_reset_after_an_event_drops_no_event_of_the_next_connection() {
    for first in [&b"data: a\n\n"[..], b"data: a\ndata: b\n\n", b"event: t\ndata: a\ndata\n\n"] {
        let next = b"event: u\ndata: c\ndata: d\n\ndata: e\n\n";
        for first_cut in 0..first.len() {
            for cut in 0..=next.len() {
                let mut decoder = Decoder::new();
                let (head, mut tail) = first.split_at(first_cut);
                feed(&mut decoder, &mut &head[..], &mut Vec::new());
                assert!(decoder.next_event(&mut tail).unwrap().is_some());
                decoder.reset();
                let chunks = <[&[u8]; 2]>::from(next.split_at(cut));
                let expected = interpret(next, b"", Limits::DEFAULT);
                assert_eq!(decode(&mut decoder, chunks), expected, "{first:?}, {first_cut}, {cut}");
            }
        }
    }
}

#[test]
fn setting_the_last_event_id_reports_it_only_if_it_changes() {
    let next_id = |decoder: &mut Decoder| {
        let event = decoder.next_event(&mut &b"data\n\n"[..]).unwrap().unwrap();
        event.id().map(|id| String::from_utf8(id.as_ref().to_vec()).unwrap())
    };
    let mut decoder = Decoder::new();
    assert_eq!(next_id(&mut decoder), None);
    assert!(decoder.next_event(&mut &b"id: 1\n\n"[..]).unwrap().is_none());
    decoder.set_last_event_id("1").unwrap();
    assert_eq!(next_id(&mut decoder).as_deref(), Some("1"), "set by the block without data");
    decoder.set_last_event_id("1").unwrap();
    assert_eq!(next_id(&mut decoder), None);
    decoder.set_last_event_id("2").unwrap();
    assert_eq!(next_id(&mut decoder).as_deref(), Some("2"));
}
