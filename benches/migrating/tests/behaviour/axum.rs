use std::panic::catch_unwind;

use axum::response::sse::Event;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http_body_util::BodyExt as _;
use migrating::axum::{after, before};
use sse_proto::{EventId, EventType};

use crate::{data, ended, run};

/// Returns the body of a response, in chunks.
fn frames(respond: impl FnOnce() -> Response) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    run(async {
        let mut body = respond().into_body();
        while let Some(frame) = body.frame().await {
            frames.push(frame.unwrap().into_data().unwrap().to_vec());
        }
    });
    frames
}

fn items(items: &[&str]) -> impl futures_util::Stream<Item = (u64, String)> + Send + 'static {
    let items: Vec<_> = items.iter().map(|item| (*item).to_owned()).collect();
    stream::iter((1..).zip(items))
}

#[test]
fn both_send_the_same_events() {
    let items = || items(&["a", "b\nc", "  d\n"]);
    let old = frames(|| before(items()).into_response());
    let new = frames(|| after(items()).into_response());
    assert_eq!((old.len(), new.len()), (3, 1), "events that are ready share a chunk");
    assert_eq!(old.concat(), new.concat());
    assert_eq!(data(ended([&*new.concat().leak()])), ["a", "b\nc", "  d\n"]);
}

#[test]
fn proxies_do_not_hold_up_the_response() {
    let old = run(async { before(items(&[])).into_response() });
    let new = after(items(&[])).into_response();
    assert_eq!(old.headers()["content-type"], new.headers()["content-type"]);
    assert_eq!(old.headers()["cache-control"], "no-cache");
    assert_eq!(new.headers()["cache-control"], "no-cache, no-transform");
    assert!(!old.headers().contains_key("x-accel-buffering"));
    assert_eq!(new.headers()["x-accel-buffering"], "no");
}

#[test]
fn empty_data_and_crlf_arrive() {
    let items = || items(&["", "x\r\ny"]);
    let old = frames(|| before(items()).into_response()).concat();
    let new = frames(|| after(items()).into_response()).concat();
    assert_eq!(data(ended([&*old.leak()])), ["x\n\ny"]);
    assert_eq!(data(ended([&*new.leak()])), ["", "x\ny"]);
}

#[test]
fn a_line_break_in_a_name_is_an_error() {
    let name = "a\nb";
    assert!(catch_unwind(|| Event::default().event(name)).is_err());
    assert!(catch_unwind(|| Event::default().event("a").event("b")).is_err());
    assert!(EventType::new(name).is_err() && EventId::new(name).is_err());
}
