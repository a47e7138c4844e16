//! Keep-alive deadlines in virtual time.

#![cfg(feature = "alloc")]

use std::time::{Duration, Instant};

use sse_proto::{Decoder, KEEP_ALIVE, KeepAlive};

#[test]
fn a_keep_alive_is_due_once_per_interval() {
    // Ticks of some device.
    let mut keep_alive = KeepAlive::new(15_u64, 100_u64);
    let mut sent = Vec::new();
    for now in 100..=160 {
        if keep_alive.handle_timeout(now) {
            sent.push(now);
        }
    }
    assert_eq!(sent, [115, 130, 145, 160]);
}

#[test]
fn sending_postpones_the_deadline() {
    let start = Instant::now();
    let mut keep_alive = KeepAlive::new(Duration::from_secs(15), start);
    for second in 1..60 {
        let now = start + Duration::from_secs(second);
        assert!(!keep_alive.handle_timeout(now));
        keep_alive.sent(now);
        assert_eq!(keep_alive.poll_timeout(), now + Duration::from_secs(15));
    }
}

#[test]
fn a_late_call_does_not_cause_a_burst() {
    let mut keep_alive = KeepAlive::new(10_u32, 0_u32);
    assert!(keep_alive.handle_timeout(95));
    assert!(!keep_alive.handle_timeout(104));
    assert!(keep_alive.handle_timeout(105));
}

#[test]
fn receivers_ignore_keep_alives() {
    let mut decoder = Decoder::new();
    let stream = [KEEP_ALIVE, b"data: a\n\n", KEEP_ALIVE, KEEP_ALIVE, b"data: b\n\n"].concat();
    let mut input = &stream[..];
    let mut seen = Vec::new();
    while let Some(event) = decoder.next_event(&mut input).unwrap() {
        seen.push(event.data().to_string());
    }
    assert_eq!(seen, ["a", "b"]);
}
