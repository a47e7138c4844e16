//! The client's waits before requests, in virtual time.

use std::time::Duration;

use sse_proto::{Client, ClientConfig, ReadyState, RequestReplay};

use super::{At, OK, connect, head, ms, open};

/// Returns a configuration without a minimum wait, to test the other rules alone.
fn no_minimum() -> ClientConfig {
    ClientConfig::default().with_min_reconnection_time(Duration::ZERO)
}

/// Passes a chunk of the body without events.
fn feed(client: &mut Client<At>, chunk: &[u8], now: At) {
    assert!(super::feed(client, chunk, now).is_empty());
}

#[test]
fn retry_sets_the_wait_without_an_event_and_across_connections() {
    let mut client = open(no_minimum());
    feed(&mut client, b"retry: 20\n", ms(0));
    for n in 0..3 {
        client.handle_end(ms(n * 20), 0);
        assert_eq!(client.poll_timeout(), Some(ms(n * 20 + 20)));
        assert!(client.poll_request(ms(n * 20 + 20)).is_some());
    }
    let mut client = open(ClientConfig::default());
    feed(&mut client, b"retry: 0\n", ms(0));
    client.handle_end(ms(500), 0);
    assert!(client.poll_request(ms(500)).is_some(), "due at once");
    let mut client = open(ClientConfig::default());
    feed(&mut client, b"retry: 18446744073709551615\n", ms(0));
    client.handle_end(ms(5), 0);
    assert!(client.poll_timeout().is_some(), "the deadline is in the range of clocks");
}

#[test]
fn retry_after_is_honoured_if_configured() {
    let config = ClientConfig::default().with_honour_retry_after(true);
    let answer = |status, retry_after, config| {
        let mut client = Client::new(config);
        client.poll_request(ms(0));
        assert!(
            client.handle_response(head(status).with_retry_after(retry_after), ms(10), 0).is_err()
        );
        client.poll_timeout()
    };
    assert_eq!(answer(503, Some(ms(700)), config), Some(ms(710)));
    assert_eq!(answer(429, Some(ms(700)), config), Some(ms(710)));
    assert_eq!(answer(503, None, config), None);
    assert_eq!(answer(404, Some(ms(700)), config), None);
    assert_eq!(answer(500, Some(ms(700)), config), None);
    assert_eq!(answer(204, Some(ms(700)), config), None);
    assert_eq!(answer(503, Some(ms(700)), config.with_repeat(RequestReplay::Never)), None);

    // A rejected attempt counts as failed.
    let mut client: Client<At> = Client::new(config.with_max_attempts(Some(3)));
    for n in 1..=3 {
        assert!(client.poll_request(ms(n * 1000)).is_some());
        let response = head(503).with_retry_after(Some(ms(10)));
        assert!(client.handle_response(response, ms(n * 1000), 0).is_err());
        assert_eq!(client.ready_state() == ReadyState::Closed, n == 3);
    }
}

#[test]
fn failed_attempts_are_counted_and_backed_off() {
    let config = no_minimum()
        .with_reconnection_time(ms(100))
        .with_backoff_cap(Some(ms(1000)))
        .with_max_attempts(Some(8));
    let mut client = open(config);
    let mut now = ms(0);
    for wait in [100, 200, 400, 800, 1000, 1000, 1000] {
        client.handle_end(now, 0);
        now += ms(wait);
        assert_eq!(client.poll_timeout(), Some(now));
        client.poll_request(now);
    }
    client.handle_end(now, 0);
    assert_eq!(client.ready_state(), ReadyState::Closed, "after the eighth failure");

    // A connection that opens and ends without a body has failed; one with a comment has not.
    let (mut client, mut now) = (open(config), ms(0));
    for (body, wait) in [("", 100), ("", 200), (":", 100), ("", 100), ("", 200), ("", 400)] {
        feed(&mut client, body.as_bytes(), now);
        client.handle_end(now, 0);
        now += ms(wait);
        assert_eq!(client.poll_timeout(), Some(now), "{body:?}");
        connect(&mut client, now);
    }
}

#[test]
fn backoff_starts_from_the_reconnection_time_of_the_server() {
    let config = no_minimum().with_backoff_cap(Some(ms(1000)));
    let waits = |retry: &[u8]| {
        let mut client = open(config);
        feed(&mut client, retry, ms(0));
        [(); 4].map(|()| {
            client.handle_end(ms(0), 0);
            let wait = client.poll_timeout().unwrap();
            client.poll_request(ms(9000));
            wait
        })
    };
    assert_eq!(waits(b"retry: 0\n"), [0, 0, 2, 4].map(ms), "zero grows after two failures");
    assert_eq!(waits(b"retry: 400\n"), [400, 400, 800, 1000].map(ms));
    assert_eq!(waits(b"retry: 4000\n"), [4000; 4].map(ms), "the cap does not shorten it");
}

#[test]
fn a_restart_does_not_reset_the_failure_count() {
    let config = ClientConfig::default().with_max_attempts(Some(2));
    let mut client = open(config);
    client.handle_end(ms(0), 0);
    client.restart();
    client.poll_request(ms(0));
    client.handle_end(ms(0), 0);
    assert_eq!(client.ready_state(), ReadyState::Closed, "after the second failure");
}

#[test]
fn no_wait_is_beyond_the_range_of_clocks() {
    let config = ClientConfig::default()
        .with_read_timeout(Some(Duration::MAX))
        .with_honour_retry_after(true)
        .with_jitter(true);
    let now = std::time::Instant::now();
    let mut client = Client::new(config);
    client.poll_request(now);
    let silence = client.poll_timeout().unwrap();
    let response = head(503).with_retry_after(Some(Duration::MAX));
    client.handle_response(response, now, u32::MAX).unwrap_err();
    let year = Duration::from_secs(365 * 24 * 3600);
    assert!(silence >= now + year && client.poll_timeout().unwrap() >= now + year);
}

#[test]
fn jitter_is_up_to_half_of_the_wait() {
    let config = no_minimum().with_jitter(true).with_reconnection_time(ms(1000));
    let wait = |random| {
        let mut client = open(config);
        client.handle_end(ms(0), random);
        client.poll_timeout().unwrap()
    };
    assert_eq!((wait(0), wait(u32::MAX)), (ms(1000), ms(500)));
    assert!(wait(u32::MAX / 2) > ms(740) && wait(u32::MAX / 2) < ms(760));

    let retry_after = |wait, random| {
        let config = ClientConfig::default().with_honour_retry_after(true).with_jitter(true);
        let mut client = Client::new(config);
        client.poll_request(ms(0));
        let response = head(429).with_retry_after(Some(wait));
        client.handle_response(response, ms(0), random).unwrap_err();
        client.poll_timeout().unwrap()
    };
    assert_eq!(retry_after(ms(800), 0), ms(800));
    assert_eq!(retry_after(ms(800), u32::MAX), ms(1200), "never earlier");
    assert_eq!(retry_after(ms(0), 0), ms(500));
    assert_eq!(retry_after(ms(0), u32::MAX), ms(750), "never earlier than the minimum");
}

#[test]
fn max_attempts_counts_failed_attempts_only() {
    let config = |most| ClientConfig::default().with_max_attempts(Some(most));
    for most in 1..=3 {
        let mut client = open(config(most));
        feed(&mut client, b":", ms(0));
        client.handle_end(ms(0), 0);
        for n in 1..=most {
            assert_eq!(client.ready_state(), ReadyState::Connecting, "failure {n} of {most}");
            assert!(client.poll_request(ms(10_000) * n).is_some());
            client.handle_end(ms(10_000) * n, 0);
        }
        assert_eq!(client.ready_state(), ReadyState::Closed);
    }
    let mut client = open(config(0));
    feed(&mut client, b":", ms(0));
    client.handle_end(ms(0), 0);
    assert_eq!(client.ready_state(), ReadyState::Closed, "zero: no reconnection");
}

/// How a server treats each request.
#[derive(Clone, Copy, Debug)]
enum Server {
    Dead,
    NoBody,
    OneByte,
    RetryZero,
    Busy(u16),
}

/// Returns the times of requests in the first ten seconds, when each connection ends at once.
fn requests(server: Server, config: ClientConfig, random: u32) -> Vec<At> {
    let mut client = open(config);
    feed(&mut client, b"retry: 0\n", ms(0));
    client.handle_end(ms(0), random);
    let (mut now, mut made) = (ms(0), vec![ms(0)]);
    // Enough steps to detect a client that spins.
    for _ in 0..2000 {
        if now > ms(10_000) || made.len() == 1000 {
            break;
        }
        now = now.max(client.poll_timeout().unwrap());
        if client.handle_timeout(now, random) {
            continue;
        }
        assert!(client.poll_request(now).is_some());
        made.push(now);
        let head = match server {
            Server::Dead => None,
            Server::Busy(status) => Some(head(status).with_retry_after(Some(ms(0)))),
            _ => Some(OK),
        };
        if let Some(head) = head {
            let _ = client.handle_response(head, now, random);
        }
        match server {
            Server::OneByte => feed(&mut client, b":", now),
            Server::RetryZero => feed(&mut client, b"retry: 0\n\n", now),
            _ => {}
        }
        if client.handle_timeout(now, random) {
            continue;
        }
        client.handle_end(now, random);
    }
    made
}

#[test]
fn no_server_makes_a_client_spin() {
    let servers = [
        Server::Dead,
        Server::NoBody,
        Server::OneByte,
        Server::RetryZero,
        Server::Busy(429),
        Server::Busy(503),
    ];
    for server in servers {
        for backoff_cap in [None, Some(ms(0)), Some(ms(100)), Some(ms(2000))] {
            for (jitter, random) in [(false, 0), (true, 0), (true, u32::MAX / 3), (true, u32::MAX)]
            {
                for read_timeout in [None, Some(ms(0))] {
                    let config = ClientConfig::default()
                        .with_reconnection_time(ms(0))
                        .with_backoff_cap(backoff_cap)
                        .with_jitter(jitter)
                        .with_read_timeout(read_timeout)
                        .with_honour_retry_after(true);
                    let made = requests(server, config, random);
                    let gaps = made.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
                    let least = gaps.min().unwrap();
                    assert!(least >= ms(500), "{least:?} to {server:?} with {config:?}");
                }
            }
        }
    }
}

#[test]
fn the_minimum_is_configurable_and_overrides_other_waits() {
    let config = ClientConfig::default().with_min_reconnection_time(ms(2000));
    assert_eq!(
        requests(Server::Dead, config, 0),
        (0..=6).map(|n| ms(n * 2000)).collect::<Vec<_>>()
    );
    let made = requests(Server::Dead, no_minimum(), 0);
    assert_eq!(made.len(), 1000, "a minimum of zero permits a client that spins");
    // A minimum beyond the range of clocks is limited like every other wait.
    let now = std::time::Instant::now();
    let config = config.with_min_reconnection_time(Duration::MAX).with_jitter(true);
    let mut client = Client::new(config);
    client.poll_request(now);
    client.handle_end(now, u32::MAX);
    assert!(client.poll_timeout().is_some());
}

#[test]
fn a_reconnection_time_of_zero_in_the_configuration_is_raised_to_the_minimum() {
    let config = ClientConfig::default().with_reconnection_time(ms(0));
    let mut client: Client<At> = Client::new(config);
    for n in 0..5 {
        assert!(client.poll_request(ms(n * 600)).is_some());
        client.handle_end(ms(n * 600 + 100), 0);
        assert_eq!(
            client.poll_timeout(),
            Some(ms(n * 600 + 600)),
            "measured from the end of the attempt"
        );
    }
}

#[test]
fn backing_off_from_zero_starts_at_the_minimum() {
    let config = ClientConfig::default().with_backoff_cap(Some(ms(5000)));
    let times: Vec<_> = requests(Server::Dead, config, 0).iter().map(At::as_millis).collect();
    assert_eq!(times, [0, 500, 1000, 2000, 4000, 8000, 13_000]);
}

#[test]
fn a_stream_that_was_open_for_the_minimum_is_resumed_after_its_retry_time() {
    let config = ClientConfig::default().with_jitter(true);
    let next_request = |end: u64, random| {
        let mut client = open(config);
        feed(&mut client, b"retry: 25\n", ms(0));
        feed(&mut client, b": more\n", ms(end));
        client.handle_end(ms(end), random);
        client.poll_timeout().unwrap()
    };
    assert_eq!(next_request(0, 0), ms(500), "measured from the request");
    assert_eq!(next_request(470, 0), ms(500));
    assert_eq!(next_request(480, 0), ms(505));
    assert_eq!(next_request(10_000, 0), ms(10_025));
    assert_eq!(next_request(0, u32::MAX), ms(750));
    assert_eq!(next_request(10_000, u32::MAX), ms(10_012) + Duration::from_micros(500));

    // If the server is not reachable by then, the minimum applies between failed attempts.
    let mut client = open(ClientConfig::default());
    feed(&mut client, b"retry: 25\n", ms(0));
    client.handle_end(ms(10_000), 0);
    assert!(client.poll_request(ms(10_025)).is_some());
    client.handle_end(ms(10_026), 0);
    assert_eq!(client.poll_timeout(), Some(ms(10_526)));
    connect(&mut client, ms(10_526));
    feed(&mut client, b":", ms(10_526));
    client.handle_end(ms(20_000), 0);
    assert_eq!(client.poll_timeout(), Some(ms(20_025)), "measured from the request again");
}

#[test]
fn a_restart_does_not_wait() {
    let mut client = open(ClientConfig::default());
    feed(&mut client, b"retry: 0\n", ms(0));
    client.restart();
    assert!(client.poll_request(ms(0)).is_some());
    client.handle_end(ms(0), 0);
    client.restart();
    assert!(client.poll_request(ms(0)).is_some());
}
