//! The conversions, order and hashes of event types, ids and events.

#![cfg(all(feature = "bytes", feature = "serde_json"))]

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use sse_proto::{Event, EventId, EventType, OwnedEvent, Text, event_id, event_type};

#[test]
fn types_and_ids_convert_from_text_and_back() {
    let owned = String::from("tick");
    for tick in [
        EventType::try_from("tick"),
        EventType::try_from(&owned),
        EventType::try_from(&b"tick"[..]),
        EventType::try_from(Text::from("tick")),
        Ok(event_type!("tick")),
    ] {
        let tick = tick.unwrap();
        assert_eq!((tick.to_string().as_str(), tick.to_str()), ("tick", Ok("tick")));
        assert_eq!(
            (tick.as_text(), AsRef::<[u8]>::as_ref(&tick)),
            (Text::from("tick"), &b"tick"[..])
        );
    }
    let error = EventId::try_from("a\0").unwrap_err();
    assert_eq!((error.byte(), error.offset()), (0, 1));

    let broken = EventId::try_from(&b"caf\xC3"[..]).unwrap();
    assert!(broken.to_str().is_err());
    assert_eq!(broken.to_string(), "caf\u{FFFD}");
}

#[test]
fn values_are_ordered_by_bytes_and_hash_alike_if_equal() {
    let ids = ["b", "a", "ab", "B", "b"].map(|id| EventId::new(id).unwrap());
    let ordered: Vec<_> = BTreeSet::from(ids).into_iter().map(|id| id.to_string()).collect();
    assert_eq!(ordered, ["B", "a", "ab", "b"]);
    assert_eq!(HashSet::from(ids).len(), 4);

    let message = Event::new("x").with_type(event_type!("message"));
    let events = HashSet::from([message, Event::new("x"), Event::new("y")]);
    assert_eq!(events.len(), 2, "`message` is the same as no type");
    let owned: HashSet<_> = events.into_iter().map(OwnedEvent::from).collect();
    assert!(owned.contains(&message.into_owned()));
}

#[test]
fn an_owned_event_is_built_like_a_borrowed_one() {
    let time = Duration::from_micros(1500);
    let (event_type, id) = (event_type!("tick"), event_id!("7"));
    let borrowed = Event::new("data").with_type(event_type).with_id(id).with_retry(time);
    let owned = OwnedEvent::new(String::from("data")).with_type(event_type).with_id(id);
    let owned = owned.with_retry(time);
    assert_eq!(owned, borrowed.into_owned());
    assert_eq!(Event::from(&owned), borrowed);
    assert_eq!((owned.id(), owned.retry()), (Some(id), Some(Duration::from_millis(2))));
    assert!(owned.has_data());

    let reset = owned.with_type(event_type!("message")).with_id(event_id!(""));
    assert_eq!((reset.event_type(), reset.id()), (Text::from("message"), Some(event_id!(""))));
    let block = OwnedEvent::without_data().with_id(id);
    assert_eq!(block, Event::without_data().with_id(id).into_owned());
    assert!(!block.has_data() && block.retry().is_none());
}

#[test]
fn data_of_an_owned_event_is_not_copied() {
    let data = String::from("data that is longer than a pointer");
    let address = data.as_ptr();
    let event = OwnedEvent::new(data);
    assert_eq!(event.data().as_ptr(), address);
}

#[test]
fn an_event_is_built_from_what_serializes() {
    let event = OwnedEvent::from_json(&["a\nb", "c"][..]).unwrap();
    assert_eq!(event.data(), r#"["a\nb","c"]"#);
    assert_eq!(event.json::<Vec<String>>().unwrap(), ["a\nb", "c"]);
    let keys = std::collections::BTreeMap::from([((1, 2), 3)]);
    assert!(OwnedEvent::from_json(&keys).is_err(), "keys of objects are strings");
}

#[test]
fn an_owned_event_is_small() {
    assert!(size_of::<OwnedEvent>() <= 3 * size_of::<usize>());
}
