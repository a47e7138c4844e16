//! Properties of all streams, all cuts and all values.

#![cfg(feature = "alloc")]

mod oracle;

use std::time::Duration;

use oracle::{Item, check, cut, decode, interpret};
use proptest::collection::vec;
use proptest::prelude::*;
use sse_proto::{
    Comment, Decoder, Event, EventId, EventType, Field, Lexer, Limits, LineToken, Text,
};

/// Generates pieces of a stream: parts of fields, and bytes that break them.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let fixed = |bytes: &'static [u8]| Just(bytes.to_vec());
    prop_oneof![
        4 => prop_oneof![fixed(b"\n"), fixed(b"\r"), fixed(b"\r\n"), fixed(b"\n\n"), fixed(b"\r\r\n")],
        4 => prop_oneof![fixed(b"data"), fixed(b"event"), fixed(b"id"), fixed(b"retry")],
        4 => prop_oneof![fixed(b"data: "), fixed(b"event:"), fixed(b"id: "), fixed(b"retry: ")],
        2 => prop_oneof![fixed(b":"), fixed(b" "), fixed(b": "), fixed(b"\t"), fixed(b"\0")],
        2 => "[0-9]{1,3}".prop_map(String::into_bytes),
        1 => prop_oneof![fixed(b"18446744073709551615"), fixed(b"18446744073709551616")],
        2 => "[a-z]{0,6}".prop_map(String::into_bytes),
        // Names that are almost valid.
        1 => prop_oneof![fixed(b"dat"), fixed(b"datax"), fixed(b"Data"), fixed(b"i"), fixed(b"retr")],
        // A byte order mark, whole and in part; broken, truncated and overlong UTF-8.
        2 => prop_oneof![fixed(b"\xEF\xBB\xBF"), fixed(b"\xEF"), fixed(b"\xBB"), fixed(b"\xEF\xBB")],
        1 => prop_oneof![fixed(b"\xC3"), fixed(b"\xE2\x82"), fixed(b"\xC0\x80"), fixed(b"\xED\xA0\x80")],
        1 => prop_oneof![fixed("é".as_bytes()), fixed("\u{2028}".as_bytes()), fixed("\u{85}".as_bytes())],
        1 => vec(any::<u8>(), 0..4),
    ]
}

/// Generates lines, most of which have a meaning.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        3 => Just(&b"data: "[..]),
        3 => Just(&b"event: "[..]),
        3 => Just(&b"id: "[..]),
        1 => Just(&b"retry: "[..]),
        1 => Just(&b":"[..]),
        4 => Just(&b""[..]),
    ];
    let end = prop_oneof![4 => Just(&b"\n"[..]), 1 => Just(&b"\r"[..]), 1 => Just(&b"\r\n"[..])];
    (name, "[0-9a-c]{0,3}\0?", end).prop_map(|(name, value, end)| {
        let value = if name.is_empty() { b"" } else { value.as_bytes() };
        [name, value, end].concat()
    })
}

/// Generates lines, mostly of data, up to longer than two blocks of 64 bytes.
fn long_line() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        8 => Just(&b"data: "[..]),
        1 => Just(&b"data:"[..]),
        1 => Just(&b": "[..]),
        1 => Just(&b"unknown: "[..]),
        1 => Just(&b"id: "[..]),
        2 => Just(&b""[..]),
    ];
    let end = prop_oneof![8 => Just(&b"\n"[..]), 1 => Just(&b"\r"[..]), 4 => Just(&b"\r\n"[..])];
    (name, 0..140_usize, prop::sample::select(&b"x\t\x0B\x8A\xFF"[..]), end).prop_map(
        |(name, len, byte, end)| {
            let value = if name.is_empty() { vec![] } else { vec![byte; len] };
            [name, &value, end].concat()
        },
    )
}

/// Generates the lines of silent streams: mostly comments.
fn comments() -> impl Strategy<Value = Vec<u8>> {
    let fixed = |bytes: &'static [u8]| Just(bytes.to_vec());
    prop_oneof![
        8 => prop_oneof![fixed(b":\n\n"), fixed(b": ping\n\n"), fixed(b": keep-alive\n\n")],
        2 => prop_oneof![fixed(b":\n"), fixed(b"\n"), fixed(b": a\r\n\r\n"), fixed(b":\r\r")],
        1 => prop_oneof![fixed(b"data: x\n\n"), fixed(b"id: 1\n"), fixed(b"unknown\n")],
    ]
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(comments(), 0..40).prop_map(|comments| comments.concat()),
        vec(long_line(), 0..12).prop_map(|lines| lines.concat()),
        vec(piece(), 0..40).prop_map(|pieces| pieces.concat()),
        vec(line(), 0..20).prop_map(|lines| lines.concat()),
    ]
}

/// Cuts the stream at some of its line ends.
fn cut_at_lines(stream: &[u8], choice: u64) -> Vec<&[u8]> {
    let mut index = 0;
    let chosen = |byte: &u8| {
        index += 1;
        matches!(byte, b'\r' | b'\n') && choice.rotate_right(index) & 1 == 1
    };
    stream.split_inclusive(chosen).collect()
}

fn limits() -> impl Strategy<Value = Limits> {
    prop_oneof![
        Just(Limits::default()),
        (0..24_usize, 0..24_usize)
            .prop_map(|(data, fields)| Limits::default().with_data(data).with_fields(fields)),
        (0..400_usize, 0..400_usize)
            .prop_map(|(data, fields)| Limits::default().with_data(data).with_fields(fields)),
    ]
}

/// Generates data, types and IDs that try to break out of their field.
fn value() -> impl Strategy<Value = Vec<u8>> {
    vec(piece(), 0..8).prop_map(|pieces| pieces.concat())
}

/// Returns the data as a receiver gets it.
fn normalised(data: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let crlf = data[at..].starts_with(b"\r\n");
        lines.push(if data[at] == b'\r' { b'\n' } else { data[at] });
        at += if crlf { 2 } else { 1 };
    }
    lines
}

fn encoded<'a>(slices: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    slices.collect::<Vec<_>>().concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_stream_in_any_cut_agrees_with_the_standard(
        stream in stream(),
        cuts in vec(any::<usize>(), 0..12),
        choice in any::<u64>(),
        limits in limits(),
        seed in "[a-z]{0,4}",
    ) {
        let seed = if seed.len() <= limits.fields.min(stream.len()) { seed.as_bytes() } else { b"" };
        check(&cut(&stream, &cuts), seed, limits);
        check(&cut_at_lines(&stream, choice), seed, limits);
        check(&stream.chunks(1).collect::<Vec<_>>(), seed, limits);
        check(&[&stream], seed, limits);
    }

    /// After a reset at any position, only the last event ID and the reconnection time remain.
    #[test]
    fn reset_keeps_only_what_outlives_connections(
        before in stream(),
        after in stream(),
        cuts in vec(any::<usize>(), 0..6),
        limits in limits(),
    ) {
        let mut decoder = Decoder::with_limits(limits);
        let first = decode(&mut decoder, cut(&before, &cuts));
        decoder.reset();
        prop_assert_eq!(decoder.last_event_id(), &first.last_event_id);
        prop_assert_eq!(decoder.retry(), first.retry);
        let second = decode(&mut decoder, cut(&after, &cuts));
        let mut expected = interpret(&after, &first.last_event_id, limits);
        prop_assert_eq!(&second.last_event_id, &expected.last_event_id);
        prop_assert_eq!(second.retry, expected.retry.or(first.retry));
        // The first event also reports what was set after the last event of the previous
        // connection.
        let mut items = second.items;
        for items in [&mut items, &mut expected.items] {
            let is_event = |item: &&mut Item| matches!(item, Item::Event { .. });
            if let Some(Item::Event { id, retry, .. }) = items.iter_mut().find(is_event) {
                (*id, *retry) = (None, None);
            }
        }
        prop_assert_eq!(items, expected.items);
    }

    /// The decoder accepts only IDs that a stream could set and that fit.
    #[test]
    fn only_ids_that_a_stream_could_set_are_accepted(
        before in stream(),
        id in value(),
        cuts in vec(any::<usize>(), 0..6),
        fields in 0..24_usize,
    ) {
        let limits = Limits::default().with_fields(fields);
        let set_after = |chunks: Vec<&[u8]>| {
            let mut decoder = Decoder::with_limits(limits);
            let old = decode(&mut decoder, chunks).last_event_id;
            let result = decoder.set_last_event_id(&id);
            let expected = if result.is_ok() { &id } else { &old };
            assert_eq!(decoder.last_event_id(), expected);
            result
        };
        let result = set_after(cut(&before, &cuts));
        prop_assert_eq!(result, set_after(vec![&before]), "the cuts make no difference");
        if EventId::new(&id).is_err() || id.len() > fields {
            prop_assert!(result.is_err());
        } else if before.is_empty() {
            prop_assert_eq!(result, Ok(()));
        }
    }

    /// The standard decodes the whole stream before it splits lines; here text is decoded value by
    /// value. The result must be the same.
    #[test]
    fn text_decoded_by_value_equals_text_decoded_at_once(stream in stream()) {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let early = interpret(lossy(&stream).as_bytes(), b"", Limits::default());
        let late = decode(&mut Decoder::new(), [&stream[..]]);
        prop_assert_eq!(early.items.len(), late.items.len());
        for (early, late) in early.items.iter().zip(&late.items) {
            let (
                Item::Event { event_type, data, last_event_id, .. },
                Item::Event { event_type: late_type, data: late_data, last_event_id: late_id, .. },
            ) = (early, late) else {
                panic!("no event is too large here");
            };
            prop_assert_eq!(lossy(event_type), lossy(late_type));
            prop_assert_eq!(lossy(data), lossy(late_data));
            prop_assert_eq!(lossy(last_event_id), lossy(late_id));
        }
    }

    /// Text and errors are those of the standard library, with and without `simdutf8`.
    #[test]
    fn text_validation_agrees_with_the_standard_library(
        text in "[a-zé\u{2028}事😀]{0,200}",
        broken in vec(any::<u8>(), 0..3),
        at in any::<usize>(),
    ) {
        let mut bytes = text.into_bytes();
        let at = at % (bytes.len() + 1);
        bytes.splice(at..at, broken);
        let text = Text::from(&bytes);
        prop_assert_eq!(text.to_str(), std::str::from_utf8(&bytes));
        prop_assert_eq!(text.to_str_lossy(), String::from_utf8_lossy(&bytes));
        prop_assert_eq!(text.to_string(), String::from_utf8_lossy(&bytes));
    }

    /// The text of a value does not depend on what lies around it in its chunk: other values, broken
    /// ones, or the end of the chunk.
    #[test]
    fn text_of_events_agrees_with_the_standard_library(
        values in vec((0..3_usize, prop_oneof![4 => 0..300_usize, 1 => 0..1600_usize]), 0..16),
        cuts in vec(any::<usize>(), 0..4),
    ) {
        // Characters of one to four bytes in turn, with a broken one in some of the values.
        let mut stream = Vec::new();
        for (kind, len) in values {
            let text: String = "aé事😀".chars().cycle().take(len).collect();
            stream.extend_from_slice([b"id: ", &b"data: "[..], b"event: "][kind]);
            stream.extend_from_slice(text.as_bytes());
            stream.extend_from_slice(if len % 7 == 0 { b"\xE4\xBA" } else { b"" });
            stream.extend_from_slice(if len % 2 == 0 { b"\n\n" } else { b"\ndata: \xC3\xA9\n\n" });
        }
        let mut decoder = Decoder::new();
        for mut chunk in cut(&stream, &cuts) {
            while let Some(event) = decoder.next_event(&mut chunk).unwrap() {
                for text in [event.event_type(), event.data(), event.last_event_id()] {
                    let expected = std::str::from_utf8(text.as_bytes());
                    prop_assert_eq!(text.to_str(), expected);
                    prop_assert_eq!(text.to_string(), String::from_utf8_lossy(text.as_bytes()));
                    if let Ok(expected) = expected {
                        prop_assert_eq!(text.to_str().unwrap().as_ptr(), expected.as_ptr());
                    }
                }
            }
        }
    }

    /// Decoding an encoded event returns exactly that event. Values that cannot be encoded are
    /// rejected.
    #[test]
    fn encoded_events_decode_to_themselves(
        data in proptest::option::of(value()),
        event_type in proptest::option::of(value()),
        id in proptest::option::of(value()),
        retry in proptest::option::of(any::<u64>().prop_map(Duration::from_millis)),
        cuts in vec(any::<usize>(), 0..6),
    ) {
        let breaks = |bytes: &[u8]| bytes.contains(&b'\n') || bytes.contains(&b'\r');
        let event_type = event_type.and_then(|text| {
            let checked = EventType::new(&text).is_ok();
            assert_eq!(checked, !breaks(&text));
            checked.then_some(text)
        });
        let id = id.and_then(|text| {
            let checked = EventId::new(&text).is_ok();
            assert_eq!(checked, !breaks(&text) && !text.contains(&0));
            checked.then_some(text)
        });
        let mut event = data.as_ref().map_or(Event::without_data(), Event::new);
        if let Some(text) = &event_type {
            event = event.with_type(EventType::new(text).unwrap());
        }
        if let Some(text) = &id {
            event = event.with_id(EventId::new(text).unwrap());
        }
        if let Some(retry) = retry {
            event = event.with_retry(retry);
        }

        let wire = encoded(event.slices());
        let mut decoder = Decoder::new();
        let outcome = decode(&mut decoder, cut(&wire, &cuts));
        let expected: Vec<Item> = data
            .iter()
            .map(|data| Item::Event {
                event_type: event.event_type().to_vec(),
                data: normalised(data),
                last_event_id: id.clone().unwrap_or_default(),
                id: id.clone(),
                retry,
            })
            .collect();
        prop_assert_eq!(outcome.items, expected);
        prop_assert_eq!(outcome.last_event_id, id.unwrap_or_default());
        prop_assert_eq!(outcome.retry, retry);
    }

    /// The decoder passes on the comments that the lexer finds, for any cuts.
    #[test]
    fn comments_before_events_are_passed_to_the_callback(stream in stream(), cuts in vec(any::<usize>(), 0..6)) {
        let mut expected = vec![vec![]];
        let see = |comments: &mut Vec<Vec<u8>>, part: &[u8], end: bool| {
            comments.last_mut().unwrap().extend(part);
            if end {
                comments.push(vec![]);
            }
        };
        let (mut lexer, mut input) = (Lexer::new(), &stream[..]);
        while let Some(token) = lexer.next_token(&mut input) {
            if let LineToken::Value { field: Field::Comment, bytes, end } = token {
                see(&mut expected, bytes, end);
            }
        }
        let (mut decoder, mut comments) = (Decoder::new(), vec![vec![]]);
        for mut chunk in cut(&stream, &cuts) {
            let mut on_comment = |part: &[u8], end: bool| see(&mut comments, part, end);
            while decoder.next_event_with_comments(&mut chunk, &mut on_comment).unwrap().is_some() {}
        }
        prop_assert_eq!(comments, expected);
    }

    /// A comment is not an event and does not change the next one.
    #[test]
    fn encoded_comments_do_not_affect_the_next_event(text in value(), cuts in vec(any::<usize>(), 0..6)) {
        let comment = Comment::new(&text);
        let mut wire = Vec::new();
        comment.encode_to_vec(&mut wire);
        prop_assert_eq!(&wire, &encoded(comment.slices()));
        Event::new("after").encode_to_vec(&mut wire);
        let mut items = decode(&mut Decoder::new(), cut(&wire, &cuts)).items;
        let Some(Item::Event { event_type, data, id, .. }) = items.pop() else {
            panic!("the event is missing");
        };
        prop_assert_eq!((&event_type[..], &data[..], id), (&b"message"[..], &b"after"[..], None));
        prop_assert!(items.is_empty());
    }

    /// A relay preserves all events, and a second relay returns the same bytes.
    #[test]
    fn relaying_is_stable(stream in stream(), cuts in vec(any::<usize>(), 0..6)) {
        let relay = |chunks: Vec<&[u8]>| {
            let (mut decoder, mut out) = (Decoder::new(), Vec::new());
            for mut chunk in chunks {
                while let Some(event) = decoder.next_event(&mut chunk).unwrap() {
                    event.encode_to_vec(&mut out);
                }
            }
            out
        };
        let once = relay(cut(&stream, &cuts));
        prop_assert_eq!(
            decode(&mut Decoder::new(), [&once[..]]).items,
            decode(&mut Decoder::new(), [&stream[..]]).items
        );
        prop_assert_eq!(relay(cut(&once, &cuts)), once);
    }

    /// All ways to encode return the same bytes.
    #[test]
    fn encodings_agree(data in value(), id in "[^\r\n\0]{0,8}", retry in proptest::option::of(any::<u64>())) {
        let mut event = Event::new(&data).with_id(EventId::new(&id).unwrap());
        if let Some(retry) = retry {
            event = event.with_retry(Duration::from_millis(retry));
        }
        let wire = encoded(event.slices());
        prop_assert!(event.slices().all(|slice| !slice.is_empty()));
        prop_assert_eq!(event.encoded_len(), wire.len());

        // `for_each` yields the rest after any number of calls to `next`.
        for taken in 0..=event.slices().count() {
            let mut slices = event.slices();
            let mut bytes = encoded(slices.by_ref().take(taken));
            slices.for_each(|slice| bytes.extend(slice));
            prop_assert_eq!(&bytes, &wire);
        }

        let mut vec = b"before".to_vec();
        event.encode_to_vec(&mut vec);
        prop_assert_eq!(&vec[6..], &wire[..]);

        let mut exact = vec![0; wire.len()];
        prop_assert_eq!(event.encode_to_slice(&mut exact), Ok(wire.len()));
        prop_assert_eq!(&exact, &wire);
        let error = event.encode_to_slice(&mut exact[1..]).unwrap_err();
        prop_assert_eq!(error.needed(), wire.len());

        #[cfg(feature = "bytes")]
        {
            let mut buf = bytes::BytesMut::new();
            event.encode_to_buf(&mut buf).unwrap();
            prop_assert_eq!(&buf[..], &wire[..]);
            let mut short = &mut exact[1..];
            prop_assert_eq!(event.encode_to_buf(&mut short).unwrap_err().needed(), wire.len());
        }
    }
}

/// Each case was once broken by a change that no other test noticed.
#[test]
fn cases_that_random_streams_miss() {
    let limits = Limits::default();
    check(&[b"id: 1\n", b"id: 2\ndata: a\n\ndata: b\n\n"], b"", limits);
    check(&[b"event: 1\n", b"event: 2\ndata: a\n\ndata: b\n\n"], b"", limits);
    check(&[b"id: 1\nid: 2", b"3\nid: 4\ndata\n", b"id\n", b"\n"], b"0", limits);
    let long = "x".repeat(50);
    let streams = [&*format!("event: {long}"), "\ndata: a\n\nevent: t", "\ndata: he", "llo\n\n"];
    check(&streams.map(str::as_bytes), b"", limits);
}

#[test]
fn encoded_forms_of_special_events() {
    let wire = |event: Event<'_>| {
        let mut wire = Vec::new();
        event.encode_to_vec(&mut wire);
        String::from_utf8(wire).unwrap()
    };
    let typed = |text| Event::new("a").with_type(EventType::new(text).unwrap());
    assert_eq!(wire(typed("message")), "data: a\n\n", "the default type is omitted");
    assert_eq!(wire(typed("")), "data: a\n\n");
    assert_eq!(wire(typed("Message")), "event: Message\ndata: a\n\n");
    assert_eq!(wire(Event::new("")), "data: \n\n");
    assert_eq!(wire(Event::new(" a\n")), "data:  a\ndata: \n\n");
    assert_eq!(wire(Event::new("a\r\n\rb")), "data: a\ndata: \ndata: b\n\n");
    assert_eq!(wire(Event::new("a").with_id(EventId::new("").unwrap())), "id: \ndata: a\n\n");
    for retry in [0, 9, 10, 999, 1000, u64::MAX] {
        let time = Duration::from_millis(retry);
        assert_eq!(wire(Event::without_data().with_retry(time)), format!("retry: {retry}\n\n"));
    }
    let nanosecond = Duration::from_nanos(1);
    for (time, written) in [
        (nanosecond, 1),
        (Duration::from_millis(7) + nanosecond, 8),
        (Duration::from_nanos(999_999_999), 1000),
        (Duration::MAX, u64::MAX),
    ] {
        let event = Event::without_data().with_retry(time);
        assert_eq!(event.retry(), Some(Duration::from_millis(written)));
        assert_eq!(wire(event), format!("retry: {written}\n\n"));
    }
    assert_eq!(wire(Event::without_data()), "\n");
    // The first event of a stream of the Model Context Protocol.
    let priming =
        Event::new("").with_id(EventId::new("1").unwrap()).with_retry(Duration::from_millis(500));
    assert_eq!(wire(priming), "id: 1\nretry: 500\ndata: \n\n");
}
