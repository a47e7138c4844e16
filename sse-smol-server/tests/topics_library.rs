//! Topics as the library offers them: bounds, ids, keys, lists.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use smol::future::{block_on, poll_once};
use smol::stream::StreamExt;
use sse_proto::{Decoder, Event, OwnedEvent, Text, event_id, event_type};
use sse_smol_server::{
    Frame, History, Publication, Start, Subscription, SubscriptionError, TopicError, Topics,
    TopicsConfig,
};

mod support;

use support::now;
use support::topics::{is_start, parse, read_now};

/// An event of any of its topics wakes a waiting subscriber.
#[test]
fn waiting_subscribers_are_woken() {
    let topics = Topics::new(TopicsConfig::default()).unwrap();
    let mut subscription = now(topics.subscribe(&["a", "b"], Start::Latest)).unwrap();
    assert!(is_start(&block_on(subscription.next_batch()).unwrap()[0]));
    for name in ["a", "b", "a"] {
        thread::scope(|scope| {
            let reader = scope.spawn(|| block_on(subscription.next_batch()).unwrap());
            thread::sleep(Duration::from_millis(20));
            let new = Publication::new(name);
            now(topics.publish(name, new)).unwrap();
            let frames = reader.join().unwrap();
            assert_eq!(parse(&frames[0]).1, name);
        });
    }
}

#[test]
fn logs_are_limited_in_bytes_and_age_and_over_all_topics() {
    let publish = |topics: &Topics, name: &str, len: usize| {
        let data = "x".repeat(len);
        now(topics.publish(name, Publication::new(&data))).unwrap()
    };
    let bytes =
        Topics::new(TopicsConfig::default().with_history(History::default().with_bytes(10_000)))
            .unwrap();
    for _ in 0..50 {
        publish(&bytes, "a", 1000);
        assert!(now(bytes.list(None, 1000)).unwrap().topics[0].bytes <= 10_000);
    }
    assert!(now(bytes.list(None, 1000)).unwrap().topics[0].events >= 5);
    publish(&bytes, "a", 100_000);
    let row = now(bytes.list(None, 1000)).unwrap().topics.remove(0);
    assert_eq!(row.events, 1, "the newest event stays, even above the limit");
    assert_eq!(row.published, 51, "events that were dropped count, too");

    let age = Topics::new(
        TopicsConfig::default()
            .with_history(History::default().with_age(Duration::from_millis(50))),
    )
    .unwrap();
    let old = publish(&age, "a", 1).id;
    thread::sleep(Duration::from_millis(100));
    let mut subscription = now(age.subscribe(&["a"], Start::Earliest)).unwrap();
    assert!(read_now(&mut subscription).is_none(), "the event has expired");
    assert_eq!(now(age.list(None, 1000)).unwrap().topics[0].events, 0);
    let mut subscription = now(age.subscribe(&["a"], Start::After(&old))).unwrap();
    assert!(read_now(&mut subscription).is_none(), "nothing is missing after the last event");

    let all = Topics::new(TopicsConfig::default().with_max_bytes(50_000)).unwrap();
    for n in 0..500 {
        publish(&all, &format!("topic-{}", n % 100), 1000);
        let sum: usize =
            now(all.list(None, 1000)).unwrap().topics.iter().map(|topic| topic.bytes).sum();
        assert!(sum <= 50_000, "{sum}");
    }
    let held: usize =
        now(all.list(None, 1000)).unwrap().topics.iter().map(|topic| topic.events).sum();
    assert!(held >= 30, "{held} events are held");
}

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

/// An ID of an earlier run is unknown, which causes a gap.
#[test]
fn assigned_ids_are_unique_across_restarts() {
    let new = Publication::new("x");
    let ids: HashSet<String> = (0..100)
        .flat_map(|_| {
            let topics = Topics::new(TopicsConfig::default()).unwrap();
            (0..3).map(|_| now(topics.publish("a", new)).unwrap().id).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(ids.len(), 300);
    let (before, after) = (
        Topics::new(TopicsConfig::default()).unwrap(),
        Topics::new(TopicsConfig::default()).unwrap(),
    );
    let old = now(before.publish("a", new)).unwrap().id;
    for _ in 0..3 {
        now(after.publish("a", new)).unwrap();
    }
    let mut subscription = now(after.subscribe(&["a"], Start::After(&old))).unwrap();
    let gap = parse(&read_now(&mut subscription).unwrap().unwrap()[0]);
    assert_eq!(gap.0, "gap");
    let data: serde_json::Value = serde_json::from_str(&gap.1).unwrap();
    assert_eq!(
        (data["reason"].as_str(), data["requested"].as_str()),
        (Some("unknown"), Some(&*old))
    );
    assert_eq!(
        read_now(&mut subscription).unwrap().unwrap().len(),
        3,
        "then all events in the log"
    );
    // Resuming with the ID of the gap event continues after the gap, without another one.
    let mut again = now(after.subscribe(&["a"], Start::After(&gap.2))).unwrap();
    assert_eq!(parse(&read_now(&mut again).unwrap().unwrap()[0]).0, "message");
}

/// The first frame is the ID of the starting position, so that a subscriber can resume there.
#[test]
fn subscriptions_start_with_an_id_to_resume_from() {
    for (start, expected) in
        [(Start::Latest, &["after"][..]), (Start::Earliest, &["before", "after"])]
    {
        let topics = Topics::new(TopicsConfig::default()).unwrap();
        let publish = |data| {
            now(topics.publish("a", Publication::new(data))).unwrap();
        };
        publish("before");
        let mut first = now(topics.subscribe(&["a"], start)).unwrap();
        let frames = block_on(first.next_batch()).unwrap();
        assert!(frames.len() == 1 && is_start(&frames[0]));
        drop(first);
        publish("after");
        let id = String::from_utf8(frames[0].id().unwrap().to_vec()).unwrap();
        let mut again = now(topics.subscribe(&["a"], Start::After(&id))).unwrap();
        let frames = block_on(again.next_batch()).unwrap();
        let data: Vec<String> = frames.iter().map(|frame| parse(frame).1).collect();
        assert_eq!(data, expected);
    }
}

/// Subscribers do not count towards `max_topics`, and get the events of topics created later.
#[test]
fn subscribing_works_at_the_limit_of_topics() {
    let history = History::default().with_age(Duration::from_millis(300));
    let config = TopicsConfig::default().with_history(history).with_max_topics(2);
    let topics = Topics::new(config).unwrap();
    let publish = |name| now(topics.publish(name, Publication::new(name)));
    let names: Vec<String> = (0..100).map(|n| format!("topic-{n}")).collect();
    let mut subscriptions: Vec<Subscription> = names
        .iter()
        .map(|name| now(topics.subscribe(&[name, name, "own"], Start::Latest)).unwrap())
        .collect();
    assert_eq!(topics.totals().topics, 101);
    assert_eq!(topics.totals().subscriptions, 200);
    for name in ["own", "topic-7"] {
        publish(name).unwrap();
        let frames = read_now(&mut subscriptions[7]).expect("the event is delivered").unwrap();
        assert_eq!(parse(&frames[0]).1, name);
    }
    assert_eq!(parse(&read_now(&mut subscriptions[8]).unwrap().unwrap()[0]).1, "own");
    for name in ["topic-8", "unknown"] {
        assert_eq!(publish(name), Err(TopicError::TooManyTopics(2)));
    }
    // Expired events free the places of their topics.
    thread::sleep(Duration::from_millis(400));
    for name in ["topic-8", "own"] {
        publish(name).unwrap();
        let frames = read_now(&mut subscriptions[8]).expect("the event is delivered").unwrap();
        assert_eq!(parse(&frames[0]).1, name);
    }
    assert_eq!(publish("topic-7"), Err(TopicError::TooManyTopics(2)));
    drop(subscriptions);
    let left: Vec<String> =
        now(topics.list(None, 1000)).unwrap().topics.into_iter().map(|topic| topic.name).collect();
    assert_eq!(
        left,
        ["own", "topic-8"],
        "topics without events are removed with their last subscription"
    );
    thread::sleep(Duration::from_millis(400));
    let totals = topics.totals();
    assert_eq!((totals.topics, totals.events, totals.bytes, totals.subscriptions), (0, 0, 0, 0));
}

/// A cursor from before a topic was removed gets a gap event.
#[test]
fn a_cursor_into_a_removed_topic_gets_a_gap() {
    let topics = Topics::new(
        TopicsConfig::default()
            .with_history(History::default().with_age(Duration::from_millis(20)))
            .with_max_topics(1),
    )
    .unwrap();
    let new = Publication::new("x");
    let first = now(topics.publish("a", new)).unwrap().id;
    now(topics.publish("a", new)).unwrap();
    thread::sleep(Duration::from_millis(50));
    now(topics.publish("b", new)).unwrap();
    thread::sleep(Duration::from_millis(50));
    let mut subscription = now(topics.subscribe(&["a"], Start::After(&first))).unwrap();
    assert_eq!(parse(&read_now(&mut subscription).unwrap().unwrap()[0]).0, "gap");
}

/// Whether resuming after `id` yields a gap event first.
fn has_gap(topics: &Topics, name: &str, id: &str) -> bool {
    let mut subscription = now(topics.subscribe(&[name], Start::After(id))).unwrap();
    read_now(&mut subscription).is_some_and(|frames| parse(&frames.unwrap()[0]).0 == "gap")
}

#[test]
fn a_topic_that_was_removed_has_a_gap_only_for_its_own_events() {
    const MORE_THAN_REMEMBERED: usize = 5000;
    let topics = Topics::new(
        TopicsConfig::default()
            .with_history(History::default().with_age(Duration::from_millis(20)))
            .with_max_topics(MORE_THAN_REMEMBERED),
    )
    .unwrap();
    let start = |name: &str| {
        let frames = now(topics.subscribe(&[name], Start::Latest)).unwrap().ready();
        String::from_utf8(frames[0].id().unwrap().to_vec()).unwrap()
    };
    let new = Publication::new("x");
    let quiet = start("quiet");
    let before = start("busy");
    let first = now(topics.publish("busy", new)).unwrap().id;
    let last = now(topics.publish("busy", new)).unwrap().id;
    thread::sleep(Duration::from_millis(50));
    assert_eq!(topics.totals().topics, 0, "topics whose events have expired are removed");
    assert!(!has_gap(&topics, "quiet", &quiet), "nothing was published to this topic");
    assert!(has_gap(&topics, "busy", &before), "both events are missing");
    assert!(has_gap(&topics, "busy", &first), "the last event is missing");
    assert!(!has_gap(&topics, "busy", &last));

    // With more removed topics than are remembered, a gap is reported rather than events lost.
    for n in 0..MORE_THAN_REMEMBERED {
        now(topics.publish(&format!("t{n}"), new)).unwrap();
    }
    thread::sleep(Duration::from_millis(50));
    while topics.totals().topics > 0 {}
    assert!(has_gap(&topics, "busy", &first));
    assert!(has_gap(&topics, "t0", &first), "its only event is missing");
    assert!(has_gap(&topics, &format!("t{}", MORE_THAN_REMEMBERED - 1), &first));
}

#[test]
fn expired_topics_give_up_their_places_however_many_events_they_held() {
    let topics = Topics::new(
        TopicsConfig::default()
            .with_history(History::default().with_age(Duration::from_millis(20)).with_events(5000))
            .with_max_topics(1),
    )
    .unwrap();
    let new = Publication::new("x");
    for _ in 0..3500 {
        now(topics.publish("a", new)).unwrap();
    }
    thread::sleep(Duration::from_millis(50));
    now(topics.publish("b", new)).expect("the events of the other topic have expired");
}

#[test]
fn assigned_ids_sort_as_text() {
    let topics = Topics::new(TopicsConfig::default()).unwrap();
    let new = Publication::new("x");
    let ids: Vec<String> = (0..1100).map(|_| now(topics.publish("a", new)).unwrap().id).collect();
    assert!(ids.is_sorted());
}

#[test]
fn topics_are_listed_in_pages() {
    let topics = Topics::new(TopicsConfig::default().with_max_topics(5000)).unwrap();
    let names: Vec<String> = (0..2500).map(|n| format!("{n:04}")).collect();
    for name in &names {
        now(topics.publish(name, Publication::new("x"))).unwrap();
    }
    for (limit, sizes) in [
        (1000, &[1000, 1000, 500][..]),
        (usize::MAX, &[1000, 1000, 500]),
        (2499 / 4, &[624, 624, 624, 624, 4]),
        (500, &[500; 5]),
    ] {
        let (mut after, mut seen, mut pages) = (None, Vec::new(), Vec::new());
        loop {
            let page = now(topics.list(after.as_deref(), limit)).unwrap();
            pages.push(page.topics.len());
            seen.extend(page.topics.into_iter().map(|topic| topic.name));
            after = page.next;
            if after.is_none() {
                break;
            }
            assert_eq!(after.as_ref(), seen.last());
        }
        assert_eq!(pages, sizes, "{limit}");
        assert_eq!(seen, names);
    }
    // The name to continue after need not exist.
    assert_eq!(now(topics.list(Some("0001x"), 1)).unwrap().topics[0].name, "0002");
    let empty = now(topics.list(Some("x"), 1)).unwrap();
    assert_eq!((empty.topics, empty.next), (Vec::new(), None));
    assert_eq!(now(topics.list(None, 0)).unwrap().topics.len(), 1);
}

/// Each operation on any topic removes a limited number of expired events.
#[test]
fn events_of_idle_topics_expire() {
    const TOPICS: usize = 30;
    const EACH: usize = 100;
    let history = History::default().with_age(Duration::from_millis(500));
    let topics = Topics::new(TopicsConfig::default().with_history(history)).unwrap();
    let new = Publication::new("x");
    let start = std::time::Instant::now();
    for n in 0..TOPICS * EACH {
        now(topics.publish(&format!("topic-{}", n % TOPICS), new)).unwrap();
    }
    assert!(start.elapsed() < history.age, "this machine is too slow for this test");
    assert_eq!(topics.totals().events, TOPICS * EACH);
    thread::sleep(history.age);
    let mut left = vec![TOPICS * EACH];
    for _ in 0..5 {
        now(topics.publish("other", new)).unwrap();
        left.push(
            now(topics.list(None, 1000)).unwrap().topics.iter().map(|topic| topic.events).sum(),
        );
    }
    assert!(left.windows(2).all(|pair| pair[0] - pair[1].min(pair[0]) <= 2100), "{left:?}");
    assert!(left[1] > 0 && left[5] == 5, "{left:?}");
    let totals = topics.totals();
    assert_eq!((totals.topics, totals.events), (1, 5));
}

#[test]
fn a_subscription_is_a_stream_of_frames_until_its_first_error() {
    let history = History::default().with_events(2);
    let topics = Topics::new(TopicsConfig::default().with_history(history)).unwrap();
    let mut stream = now(topics.subscribe(&["a", "b"], Start::Latest)).unwrap();
    let publish = |name: &str, data: &str| now(topics.publish(name, Event::new(data))).unwrap();
    let next = |stream: &mut Subscription| {
        let item = block_on(poll_once(StreamExt::next(stream)));
        item.map(|item| item.map(|frame| frame.map(|frame| parse(&frame).1)))
    };
    let first = block_on(poll_once(StreamExt::next(&mut stream))).unwrap().unwrap().unwrap();
    assert!(is_start(&first));
    assert_eq!(next(&mut stream), None, "waits");
    publish("a", "1");
    publish("b", "2");
    publish("a", "3");
    for data in ["1", "2"] {
        assert_eq!(next(&mut stream), Some(Some(Ok(data.to_owned()))));
    }
    // What was read and not yielded is part of the next batch.
    let rest = now(stream.next_batch()).unwrap();
    assert_eq!(rest.iter().map(|frame| parse(frame).1).collect::<Vec<_>>(), ["3"]);

    thread::scope(|scope| {
        let waits = scope.spawn(|| block_on(StreamExt::next(&mut stream)).unwrap().unwrap());
        publish("b", "4");
        assert_eq!(parse(&waits.join().unwrap()).1, "4");
    });
    for n in 0..3 {
        publish("b", &n.to_string());
    }
    assert_eq!(next(&mut stream), Some(Some(Err(SubscriptionError::Lagged))));
    assert_eq!(next(&mut stream), Some(None));
    drop(stream);
    assert_eq!(topics.totals().subscriptions, 0);
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

#[test]
fn a_named_first_event_has_the_id_to_resume_from_as_data() {
    let hello_type = Some("hello".to_owned());
    let topics = Topics::new(TopicsConfig::default().with_hello_type(hello_type)).unwrap();
    let first = |start| {
        let mut subscription = now(topics.subscribe(&["a"], start)).unwrap();
        let frames = read_now(&mut subscription).unwrap().unwrap();
        String::from_utf8(frames[0].encoded().to_vec()).unwrap()
    };
    let publish = |data: &str| now(topics.publish("a", Publication::new(data))).unwrap().id;
    publish("before");
    let latest = first(Start::Latest);
    let id = latest.strip_prefix("event: hello\nid: ").unwrap().split('\n').next().unwrap();
    assert_eq!(latest, format!("event: hello\nid: {id}\ndata: {{\"id\":\"{id}\"}}\n\n"));
    assert!(first(Start::Earliest).starts_with("event: hello\nid: "));
    // A subscription that resumes begins with what was missed.
    let missed = publish("missed");
    assert_eq!(first(Start::After(id)), format!("id: {missed}\ndata: missed\n\n"));
}
