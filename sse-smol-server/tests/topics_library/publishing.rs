//! Publications: what is accepted, and what subscribers get of it.

use std::time::Duration;

use sse_proto::{Decoder, Event, OwnedEvent, Text, event_id, event_type};
use sse_smol_server::{Frame, History, Publication, Start, TopicError, Topics, TopicsConfig};

use super::support::now;
use super::support::topics::{parse, read_now};

#[test]
fn topic_names_ids_and_the_number_of_topics_are_checked() {
    let topics = Topics::new(TopicsConfig::default().with_max_topics(2)).unwrap();
    let new = Publication::new("x");
    for bad in ["", "a/b", "a b", "ä", "a%20", &"x".repeat(129)] {
        assert!(matches!(now(topics.publish(bad, new)), Err(TopicError::Name(_))), "{bad:?}");
        assert!(matches!(now(topics.subscribe(&[bad], Start::Latest)), Err(TopicError::Name(_))));
    }
    now(topics.publish("a", new)).unwrap();
    // Topics without events do not count towards `max_topics`.
    let _subscription = now(topics.subscribe(&["b", "c", "d"], Start::Latest)).unwrap();
    now(topics.publish("c", new)).unwrap();
    assert_eq!(now(topics.publish("b", new)), Err(TopicError::TooManyTopics(2)));
    assert_eq!(now(topics.publish("d", new)), Err(TopicError::TooManyTopics(2)));
    for id in ["earliest", "latest", "", " a", "a ", "a\tb", &"x".repeat(257)] {
        let result = now(topics.publish("a", new.with_id(id)));
        assert!(matches!(result, Err(TopicError::ReservedId(_))), "{id:?}");
    }
    let assigned = now(topics.publish("a", new)).unwrap().id;
    let forged = assigned.split('-').next().unwrap().to_owned() + "-99";
    let result = now(topics.publish("a", new.with_id(&forged)));
    assert!(matches!(result, Err(TopicError::ReservedId(_))));
}

#[test]
fn an_event_is_published_as_it_is() {
    let topics = Topics::new(TopicsConfig::default()).unwrap();
    let mut subscription = now(topics.subscribe(&["a"], Start::Latest)).unwrap();
    let event = Event::new(b"two\nlines \xFF")
        .with_type(event_type!("note"))
        .with_id(event_id!("own"))
        .with_retry(Duration::from_millis(5));
    now(topics.publish("a", event)).unwrap();
    now(topics.publish("a", &OwnedEvent::from_json(&[1]).unwrap())).unwrap();
    // The last event ID of a decoded event without one is not its own.
    let mut decoder = Decoder::new();
    let mut chunk: &[u8] = b"id: own\ndata: 1\n\ndata: 2\n\n";
    decoder.next_event(&mut chunk).unwrap();
    let inherits = decoder.next_event(&mut chunk).unwrap().unwrap();
    let id = now(topics.publish("a", inherits)).unwrap().id;
    let mut sent = Vec::new();
    while let Some(frames) = read_now(&mut subscription) {
        sent.extend(frames.unwrap());
    }
    assert_eq!(sent[0].encoded(), Frame::from(event).encoded());
    assert_eq!(parse(&sent[1]).1, "[1]");
    assert_eq!(parse(&sent[2]), ("message".to_owned(), "2".to_owned(), id));

    let without_data = Event::without_data().with_id(event_id!("x"));
    assert_eq!(now(topics.publish("a", without_data)), Err(TopicError::WithoutData));
    let broken = Publication::new("x").with_id(b"\xFF");
    let refused = Err(TopicError::ReservedId("\u{FFFD}".to_owned()));
    assert_eq!(now(topics.publish("a", broken)), refused);
}

#[test]
fn an_idempotency_key_identifies_one_event() {
    let topics = Topics::new(TopicsConfig::default()).unwrap();
    let five = Duration::from_millis(5);
    let first = Publication::new("x").with_type("t").with_retry(five).with_key("k");
    let assigned = now(topics.publish("a", first)).unwrap().id;
    let own = first.with_id("own").with_key("k2");
    now(topics.publish("a", own)).unwrap();
    for (same, id) in [(first, &*assigned), (own, "own")] {
        let again = now(topics.publish("a", same)).unwrap();
        assert_eq!((again.id.as_str(), again.duplicate), (id, true));
        let change = |change: fn(&mut Publication<'_>)| {
            let mut changed = same;
            change(&mut changed);
            changed
        };
        for other in [
            change(|new| new.event_type = None),
            same.with_type("u"),
            change(|new| new.data = Some("y".into())),
            change(|new| new.data = Some("".into())),
            change(|new| new.retry = None),
            same.with_retry(Duration::from_millis(6)),
            same.with_id("other"),
            change(|new| new.id = if new.id.is_some() { None } else { Some("own".into()) }),
        ] {
            let refused = Err(TopicError::KeyInUse { id: id.to_owned() });
            assert_eq!(now(topics.publish("a", other)), refused, "{other:?}");
        }
        let other = change(|new| new.data = Some("y".into()));
        assert!(!now(topics.publish("b", other)).unwrap().duplicate);
    }
    assert_eq!(topics.totals().events, 4);
}

/// Events at the limits for publishing are within the default limits of a decoder.
#[test]
fn events_at_the_limits_pass_a_decoder() {
    let history = History::default().with_bytes(usize::MAX);
    let topics = Topics::new(TopicsConfig::default().with_history(history)).unwrap();
    let mut subscription = now(topics.subscribe(&["a"], Start::Latest)).unwrap();
    let data = "x".repeat(sse_proto::Limits::default().data);
    let event_type = "t".repeat(4096);
    let ids: Vec<String> = ["a", "b", "c"].iter().map(|id| id.repeat(256)).collect();
    let mut expected = Vec::new();
    for id in [Some(&*ids[0]), Some(&ids[1]), None, Some(&ids[2])] {
        let mut new = Publication::new(&data).with_type(&event_type);
        new.id = id.map(Text::from);
        expected.push(now(topics.publish("a", new)).unwrap().id);
    }
    let mut stream = Vec::new();
    while let Some(frames) = read_now(&mut subscription) {
        frames.unwrap().iter().for_each(|frame| stream.extend_from_slice(frame.encoded()));
    }
    for piece in [usize::MAX, 1000] {
        let (mut decoder, mut seen) = (Decoder::new(), Vec::new());
        for mut chunk in stream.chunks(piece.min(stream.len())) {
            while let Some(event) =
                decoder.next_event(&mut chunk).expect("the event is within the limits")
            {
                assert_eq!(event.event_type().to_string(), event_type);
                assert_eq!(event.data().as_bytes().len(), data.len());
                seen.push(event.last_event_id().to_string());
            }
        }
        assert_eq!(seen, expected);
    }
    let refused = |new| now(topics.publish("a", new)).unwrap_err();
    let long = event_type + "t";
    let new = Publication::new("").with_type(&long);
    assert_eq!(refused(new), TopicError::TypeTooLong(4097));
    let large = data + "x";
    let new = Publication::new(&large);
    assert_eq!(refused(new), TopicError::DataTooLarge(large.len()));
}

#[test]
fn invalid_configurations_are_rejected() {
    let long = "t".repeat(4097);
    for gap_type in ["", "a\nb", "a\rb", "\n", &long] {
        let config = TopicsConfig::default().with_gap_type(gap_type.to_owned());
        let error = Topics::new(config).expect_err(gap_type);
        assert!(matches!(error, TopicError::Config { field: "gap_type", .. }), "{error:?}");
        assert!(error.to_string().starts_with("gap_type: "), "{error}");
    }
    for hello_type in ["", "a\nb", &long] {
        let hello_type = Some(hello_type.to_owned());
        let error = Topics::new(TopicsConfig::default().with_hello_type(hello_type));
        assert!(error.unwrap_err().to_string().starts_with("hello_type: "));
    }
    let gap_type = "t".repeat(4096);
    Topics::new(TopicsConfig::default().with_gap_type(gap_type)).unwrap();
    let config = TopicsConfig::default().with_max_topics(0);
    assert!(Topics::new(config).unwrap_err().to_string().starts_with("max_topics: "));
    let history = History::default().with_age(Duration::ZERO);
    let config = TopicsConfig::default().with_history(history);
    assert!(Topics::new(config).unwrap_err().to_string().starts_with("history.age: "));
}
