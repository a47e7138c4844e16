//! Subscriptions: where they start, and what wakes them.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use smol::future::{block_on, poll_once};
use smol::stream::StreamExt;
use sse_proto::Event;
use sse_smol_server::{
    History, Publication, Start, Subscription, SubscriptionError, TopicError, Topics, TopicsConfig,
};

use super::support::now;
use super::support::topics::{is_start, parse, read_now};

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

#[test]
fn assigned_ids_sort_as_text() {
    let topics = Topics::new(TopicsConfig::default()).unwrap();
    let new = Publication::new("x");
    let ids: Vec<String> = (0..1100).map(|_| now(topics.publish("a", new)).unwrap().id).collect();
    assert!(ids.is_sorted());
}
