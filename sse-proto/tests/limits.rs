//! Exact limits on every path through the decoder: for whole streams, for each cut, and with both
//! kinds of buffers.

#![cfg(feature = "alloc")]

use sse_proto::{DecodeBuffer, Decoder, EventTooLarge, Field, Limits};

/// Returns the data or the error of each event of a stream in two chunks.
fn outcome<B: DecodeBuffer>(
    mut decoder: Decoder<B>,
    chunks: [&[u8]; 2],
) -> Vec<Result<String, (Field, usize)>> {
    let mut items = Vec::new();
    for mut chunk in chunks {
        loop {
            match decoder.next_event(&mut chunk) {
                Ok(None) => break,
                Ok(Some(event)) => items.push(Ok(event.data().to_string())),
                Err(error) => items.push(Err((EventTooLarge::field(error), error.limit()))),
            }
        }
    }
    items
}

/// Asserts the result of a stream with these limits. It is followed by an event that always fits.
fn assert_outcome(limits: Limits, stream: &str, expected: Result<&str, (Field, usize)>) {
    for line_end in ["\n", "\r", "\r\n"] {
        let stream = format!("{stream}\n\ndata:\n\n").replace('\n', line_end).into_bytes();
        let expected = [expected.map(str::to_owned), Ok(String::new())];
        for cut in 0..=stream.len() {
            let chunks = stream.split_at(cut).into();
            assert_eq!(
                outcome(Decoder::with_limits(limits), chunks),
                expected,
                "{stream:?}, {cut}"
            );
            let (mut fields, mut data) = (vec![0; limits.fields], vec![0; limits.data]);
            let decoder = Decoder::with_buffers(&mut fields, &mut data);
            assert_eq!(outcome(decoder, chunks), expected, "borrowed buffers, {stream:?}, {cut}");
        }
    }
}

#[test]
fn data_up_to_its_limit_is_received_at_any_position() {
    let limits = |data| Limits::default().with_data(data).with_fields(4);
    for (stream, data) in [
        ("data: 12345", "12345"),
        ("data:12345", "12345"),
        ("id: 1\ndata: 12345", "12345"),
        ("event: a\ndata: 12345", "12345"),
        ("data: 12345\nid: 1\nevent: a", "12345"),
        ("retry: 1\ndata: 12345", "12345"),
        (": comment\ndata: 12345", "12345"),
        ("data: 12\ndata: 34", "12\n34"),
        ("data: 12\nid: 1\ndata: 34", "12\n34"),
        ("id: 1\ndata: 12\ndata: 34", "12\n34"),
        ("data\ndata\ndata: 34\ndata", "\n\n34\n"),
    ] {
        let len = data.len();
        assert_outcome(limits(len), stream, Ok(data));
        assert_outcome(limits(len - 1), stream, Err((Field::Data, len - 1)));
        assert_outcome(limits(0), stream, Err((Field::Data, 0)));
    }
    assert_outcome(limits(0), "data", Ok(""));
    assert_outcome(limits(0), "data\ndata", Err((Field::Data, 0)));
}

#[test]
fn type_and_ids_share_a_limit_at_any_position() {
    let limits = |fields| Limits::default().with_data(16).with_fields(fields);
    for (stream, len, last) in [
        ("event: 12345\ndata", 5, Field::EventType),
        ("data\nevent: 12345", 5, Field::EventType),
        ("id: 12345\ndata", 5, Field::Id),
        ("data\nid: 12345", 5, Field::Id),
        ("event: 123\nid: 45\ndata", 5, Field::Id),
        ("id: 123\nevent: 45\ndata", 5, Field::EventType),
        ("id: 123\ndata\nevent: 45", 5, Field::EventType),
        ("data\nevent: 123\nid: 45", 5, Field::Id),
        ("retry: 1\nid: 123\nretry: 1\nevent: 45\ndata", 5, Field::EventType),
        ("data: a\nid: 123\ndata: b\nevent: 45", 5, Field::EventType),
        // With the last event ID in force, set by a block without data.
        ("id: 12\n\nevent: 345\ndata", 5, Field::EventType),
        ("id: 12\n\ndata\nid: 345", 5, Field::Id),
        ("id: 12\n\nid: 34\nevent: 5\ndata", 5, Field::EventType),
        // A replaced value counts until the new value is complete.
        ("event: 12\nevent: 345\ndata", 5, Field::EventType),
        ("id: 12\nid: 345\ndata", 5, Field::Id),
        // An ignored ID counts up to its NUL.
        ("id: 12345\0more\ndata", 5, Field::Id),
    ] {
        let data = if stream.contains("data: b") { "a\nb" } else { "" };
        assert_outcome(limits(len), stream, Ok(data));
        assert_outcome(limits(len - 1), stream, Err((last, len - 1)));
    }
    assert_outcome(limits(0), "event\nid\ndata", Ok(""));
}

/// Returns whether events with types and IDs of these lengths are received, each in one chunk.
fn received(limits: Limits, events: &[(usize, usize)]) -> bool {
    let mut decoder = Decoder::with_limits(limits);
    events.iter().all(|(event_type, id)| {
        let (event_type, id) = ("t".repeat(*event_type), "i".repeat(*id));
        let event = format!("event: {event_type}\nid: {id}\ndata: a\n\n");
        decoder.next_event(&mut event.as_bytes()).is_ok_and(|event| event.is_some())
    })
}

#[test]
fn events_within_the_default_limits_are_received() {
    const LIMITS: Limits = Limits::DEFAULT;
    assert_eq!(LIMITS, Limits::default());
    assert_eq!((LIMITS.data, LIMITS.fields), (16 * 1024 * 1024, 8 * 1024));
    let fields = LIMITS.fields;
    for (event_type, id) in [(0, fields), (fields, 0), (1, fields - 1), (fields / 2, fields / 2)] {
        assert!(received(LIMITS, &[(event_type, id)]));
        assert!(!received(LIMITS, &[(event_type + 1, id)]));
        assert!(!received(LIMITS, &[(event_type, id + 1)]));
    }
    // From the second event on, the previous ID counts too.
    let (event_type, id) = (fields - 2 * 3000, 3000);
    assert!(received(LIMITS, &[(event_type, id); 3]));
    assert!(received(LIMITS, &[(event_type + 1, id); 1]));
    assert!(!received(LIMITS, &[(event_type + 1, id); 2]));
    assert!(!received(LIMITS, &[(event_type, id), (event_type, id + 1)]));

    let mut decoder = Decoder::new();
    let data = "a".repeat(LIMITS.data);
    let (fits, larger) = (format!("data: {data}\n\n"), format!("data: {data}a\n\n"));
    let event = decoder.next_event(&mut fits.as_bytes()).unwrap().unwrap();
    assert_eq!(event.data().len(), LIMITS.data);
    assert!(decoder.next_event(&mut larger.as_bytes()).is_err());
}

#[test]
fn a_last_event_id_up_to_the_limit_can_be_set() {
    for fields in [0, 1, 40, 41, 100] {
        let limits = Limits::DEFAULT.with_fields(fields);
        let mut decoder = Decoder::with_limits(limits);
        for _ in 0..2 {
            assert_eq!(
                decoder.set_last_event_id("x".repeat(fields)),
                Ok(()),
                "replaces the previous ID"
            );
            assert!(decoder.set_last_event_id("x".repeat(fields + 1)).is_err());
            assert_eq!(decoder.last_event_id().len(), fields);
        }
    }
    // Values of the current block count, those of a yielded event do not.
    let mut decoder = Decoder::with_limits(Limits::DEFAULT.with_fields(5));
    assert!(decoder.next_event(&mut &b"event: abc\nda"[..]).unwrap().is_none());
    assert!(decoder.set_last_event_id("123").is_err());
    assert_eq!(decoder.set_last_event_id("12"), Ok(()));
    let mut rest = &b"ta\n\n"[..];
    assert_eq!(decoder.next_event(&mut rest).unwrap().unwrap().event_type(), "abc");
    assert_eq!(decoder.set_last_event_id("12345"), Ok(()));
}
