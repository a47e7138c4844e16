//! The texts of all errors.

#![cfg(feature = "alloc")]

use std::error::Error;

use sse_proto::{Decoder, Event, EventId, EventType, Field, Limits, Rejected, Text};

fn too_large(stream: &str) -> sse_proto::EventTooLarge {
    let mut decoder = Decoder::with_limits(Limits::default().with_data(5).with_fields(3));
    decoder.next_event(&mut stream.as_bytes()).unwrap_err()
}

#[test]
fn every_error_has_its_text() {
    let event_type = |text: &'static str| EventType::new(text).unwrap_err();
    let id = |text: &'static str| EventId::new(text).unwrap_err();
    let last_event_id = |text: &str| {
        let mut decoder = Decoder::with_limits(Limits::DEFAULT.with_fields(3));
        decoder.set_last_event_id(text).unwrap_err()
    };
    let errors: Vec<(Box<dyn Error>, &str)> = vec![
        (
            Box::new(event_type("a\nb")),
            "event type holds a line feed at byte 1, which would break the stream",
        ),
        (
            Box::new(event_type("\rb")),
            "event type holds a carriage return at byte 0, which would break the stream",
        ),
        (
            Box::new(id("ab\n")),
            "event id holds a line feed at byte 2, which would break the stream",
        ),
        (
            Box::new(id("a\rb")),
            "event id holds a carriage return at byte 1, which would break the stream",
        ),
        (Box::new(id("abc\0")), "event id holds a NUL at byte 3, which would break the stream"),
        (
            Box::new(too_large("data: 123456\n")),
            "event dropped: more than 5 bytes of data; to receive such events, raise the decoder's limit",
        ),
        (
            Box::new(too_large("event: 1234\n")),
            "event dropped: its type and ids take more than 3 bytes; \
             to receive such events, raise the decoder's limit",
        ),
        (
            Box::new(too_large("id: 1234\n")),
            "event dropped: its type and ids take more than 3 bytes; \
             to receive such events, raise the decoder's limit",
        ),
        (
            Box::new(last_event_id("a\0")),
            "event id holds a NUL at byte 1, which would break the stream",
        ),
        (
            Box::new(last_event_id("1234")),
            "the last event ID exceeds the decoder's limit of 3 bytes for type and ids",
        ),
        (Box::new(Rejected::Status(404)), "the status is 404, not 200"),
        (Box::new(Rejected::ContentType), "the content type is not text/event-stream"),
        (
            Box::new(Event::new("a").encode_to_slice(&mut [0; 8]).unwrap_err()),
            "buffer too small: the encoded form needs 9 bytes",
        ),
    ];
    for (error, text) in errors {
        assert_eq!(error.to_string(), text);
        assert!(error.source().is_none(), "{text}");
    }
}

#[cfg(feature = "futures-core")]
#[test]
fn errors_of_streams_contain_the_text_of_their_cause() {
    use sse_proto::EventsError;

    let chunks = EventsError::Chunks("connection reset");
    assert_eq!(chunks.to_string(), "the event stream failed: connection reset");
    let too_large = too_large("data: 123456\n");
    assert_eq!(EventsError::<&str>::TooLarge(too_large).to_string(), too_large.to_string());
}

#[test]
fn errors_expose_their_field_limit_and_position() {
    for (stream, field, limit) in [
        ("data: 123456\n", Field::Data, 5),
        ("event: 1234\n", Field::EventType, 3),
        ("id: 1234\n", Field::Id, 3),
    ] {
        let error = too_large(stream);
        assert_eq!((error.field(), error.limit()), (field, limit));
    }
    let error = EventType::new("ab\r").unwrap_err();
    assert_eq!((error.field(), error.byte(), error.offset()), (Field::EventType, b'\r', 2));
    let error = EventId::new("a\0").unwrap_err();
    assert_eq!((error.field(), error.byte(), error.offset()), (Field::Id, 0, 1));
    assert_eq!(Event::new("a").encode_to_slice(&mut []).unwrap_err().needed(), 9);
}

#[test]
fn text_that_is_not_utf8_is_printed_lossily() {
    assert_eq!(Text::from(&b"a\xFFb"[..]).to_string(), "a\u{FFFD}b");
    assert_eq!(Text::from("\u{E9}").to_string(), "\u{E9}");
}
