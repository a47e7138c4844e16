//! Keep-alive in virtual time.

#![cfg(feature = "alloc")]

use std::time::{Duration, Instant};

use sse_proto::{Decoder, KEEP_ALIVE, KeepAlive};

#[test]
fn silence_is_broken_once_an_interval() {
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
fn traffic_puts_it_off() {
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
fn a_late_call_does_not_bunch_them_up() {
    let mut keep_alive = KeepAlive::new(10_u32, 0_u32);
    assert!(keep_alive.handle_timeout(95));
    assert!(!keep_alive.handle_timeout(104));
    assert!(keep_alive.handle_timeout(105));
}

#[test]
fn what_is_sent_is_nothing_to_the_receiver() {
    let mut decoder = Decoder::new();
    let stream = [KEEP_ALIVE, b"data: a\n\n", KEEP_ALIVE, KEEP_ALIVE, b"data: b\n\n"].concat();
    let mut input = &stream[..];
    let mut seen = Vec::new();
    while let Some(event) = decoder.next_event(&mut input).unwrap() {
        seen.push(event.data().to_string());
    }
    assert_eq!(seen, ["a", "b"]);
}
