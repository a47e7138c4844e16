//! Which events are held, and the gaps of subscribers that missed others.

use std::thread;
use std::time::Duration;

use sse_smol_server::{History, Publication, Start, Topics, TopicsConfig};

use super::support::now;
use super::support::topics::{parse, read_now};

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
