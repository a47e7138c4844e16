//! Tests `EventSource` over scripted connections, with a clock that jumps to each deadline.
#![cfg(all(feature = "std", feature = "futures-core"))]

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::future::{block_on, poll_once};
use futures_lite::stream::{self, Boxed};
use futures_lite::{Stream, StreamExt as _};
use sse_proto::{
    ClientConfig, ConnectRequest, Connection, Decoder, EventSource, EventSourceError, Limits,
    OwnedEvent, ReadyState, Rejected, RequestReplay,
};

type Chunks = Boxed<Result<&'static str, &'static str>>;
type Item = Result<OwnedEvent, EventSourceError<&'static str>>;

/// The last event ID of each request, and the waits between requests.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Log>>);

#[derive(Default)]
struct Log {
    ids: Vec<Option<String>>,
    waits: Vec<Duration>,
}

impl Seen {
    fn ids(&self) -> Vec<Option<String>> {
        self.0.lock().unwrap().ids.clone()
    }

    fn waits(&self) -> Vec<Duration> {
        self.0.lock().unwrap().waits.clone()
    }
}

/// Returns a source whose requests are answered by these connections in order, and then by errors.
fn source(
    config: ClientConfig,
    connections: impl IntoIterator<Item = Connection<Chunks>>,
) -> (impl Stream<Item = Item> + Unpin, Seen) {
    let mut connections: VecDeque<_> = connections.into_iter().collect();
    let seen = Seen::default();
    let (requests, waits) = (seen.clone(), seen.clone());
    let connect = move |request: ConnectRequest<'_>| -> Ready<_> {
        let id = request.headers().find(|(name, _)| *name == "Last-Event-ID");
        let id = id.map(|(_, value)| String::from_utf8(value.to_vec()).unwrap());
        requests.0.lock().unwrap().ids.push(id);
        ready(connections.pop_front().ok_or("refused"))
    };
    let sleep = move |wait| {
        waits.0.lock().unwrap().waits.push(wait);
        ready(())
    };
    (EventSource::new(config, connect, sleep), seen)
}

fn body(pieces: &[&'static str]) -> Connection<Chunks> {
    let pieces: Vec<_> = pieces.iter().map(|piece| Ok(*piece)).collect();
    Connection::new(200, "text/event-stream; charset=utf-8", stream::iter(pieces).boxed())
}

fn status(status: u16) -> Connection<Chunks> {
    Connection::new(status, "text/html", stream::empty().boxed())
}

fn next(source: &mut (impl Stream<Item = Item> + Unpin)) -> Option<Item> {
    block_on(source.next())
}

fn data(source: &mut (impl Stream<Item = Item> + Unpin)) -> String {
    next(source).unwrap().unwrap().data().to_string()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The time that passes between a deadline's computation and the wait for it.
fn is_about(wait: Duration, expected: Duration) -> bool {
    wait <= expected && wait > expected.saturating_sub(seconds(1)) / 2
}

#[test]
fn a_connection_that_ends_is_followed_by_one_that_resumes() {
    let (mut source, seen) = source(
        ClientConfig::default(),
        [body(&["id: 1\nda", "ta: a\n\ndata: cut", " off"]), body(&["retry: 7000\ndata: b\n\n"])],
    );
    assert_eq!(data(&mut source), "a");
    let event = next(&mut source).unwrap().unwrap();
    assert_eq!(
        (event.data().to_string(), event.last_event_id().to_string()),
        ("b".into(), "1".into())
    );
    assert_eq!(next(&mut source), Some(Err(EventSourceError::Connect("refused"))));
    assert_eq!(next(&mut source), Some(Err(EventSourceError::Connect("refused"))));
    assert_eq!(
        seen.ids(),
        [None, Some("1".to_owned()), Some("1".to_owned()), Some("1".to_owned())]
    );
    let waits = seen.waits();
    assert!(is_about(waits[0], seconds(3)) && is_about(waits[1], seconds(7)), "{waits:?}");
}

/// The server has set a reconnection time of 0 and is gone then.
#[test]
fn there_is_a_pause_before_each_request_to_a_dead_server() {
    let (mut source, seen) = source(ClientConfig::default(), [body(&["retry: 0\ndata: a\n\n"])]);
    assert_eq!(data(&mut source), "a");
    for _ in 0..5 {
        assert_eq!(next(&mut source), Some(Err(EventSourceError::Connect("refused"))));
    }
    let waits = seen.waits();
    assert_eq!(waits.len(), 5);
    for wait in waits {
        assert!(
            wait > Duration::from_millis(250) && wait <= Duration::from_millis(500),
            "{wait:?}"
        );
    }
}

#[test]
fn attempts_back_off_and_end() {
    let config =
        ClientConfig::default().with_backoff_cap(Some(seconds(10))).with_max_attempts(Some(4));
    let (mut source, seen) = source(config, []);
    for _ in 0..4 {
        assert_eq!(next(&mut source), Some(Err(EventSourceError::Connect("refused"))));
    }
    assert_eq!(next(&mut source), None);
    assert_eq!(next(&mut source), None, "a stream that has ended stays so");
    let waits = seen.waits();
    assert_eq!(waits.len(), 3);
    for (wait, expected) in waits.into_iter().zip([3, 6, 10]) {
        assert!(is_about(wait, seconds(expected)), "{wait:?}");
    }
}

#[test]
fn responses_that_are_no_event_streams_end_the_stream_with_the_reason() {
    for (connection, rejected) in [
        (status(404), Rejected::Status(404)),
        (status(503), Rejected::Status(503)),
        (status(200), Rejected::ContentType),
        (
            Connection::with_content_types(200, [""; 0], stream::empty().boxed()),
            Rejected::ContentType,
        ),
    ] {
        let (mut source, seen) =
            source(ClientConfig::default(), [connection, body(&["data: a\n\n"])]);
        assert_eq!(next(&mut source), Some(Err(EventSourceError::Rejected(rejected))));
        assert_eq!(next(&mut source), None);
        assert_eq!(seen.ids().len(), 1);
    }
    // The status by which a server ends a stream is no error.
    let (mut source, _) = source(ClientConfig::default(), [body(&["data: a\n\n"]), status(204)]);
    assert_eq!(data(&mut source), "a");
    assert_eq!(next(&mut source), None);
}

#[test]
fn a_missing_content_type_is_accepted_on_request_and_a_wrong_one_is_not() {
    let config = ClientConfig::default().with_allow_missing_content_type(true);
    let chunks = stream::iter([Ok("data: a\n\n")]).boxed();
    let (mut first, _) = source(config, [Connection::with_content_types(200, [""; 0], chunks)]);
    assert_eq!(data(&mut first), "a");
    let (mut second, _) = source(config, [status(200)]);
    let rejected = EventSourceError::Rejected(Rejected::ContentType);
    assert_eq!(next(&mut second), Some(Err(rejected)));
}

#[test]
fn retry_after_is_honoured_on_request() {
    let config = ClientConfig::default().with_honour_retry_after(true);
    let busy = status(503).with_retry_after(Some(seconds(20)));
    let (mut source, seen) = source(config, [busy, body(&["data: a\n\n"])]);
    let rejected = EventSourceError::Rejected(Rejected::Status(503));
    assert_eq!(next(&mut source), Some(Err(rejected)));
    assert_eq!(data(&mut source), "a");
    assert!(is_about(seen.waits()[0], seconds(20)), "{:?}", seen.waits());
}

#[test]
fn a_silent_connection_is_dropped_and_a_failed_one_reported() {
    let config = ClientConfig::default().with_read_timeout(Some(seconds(60)));
    let silent =
        stream::iter([Ok("id: 5\ndata: a\n\ndata: lost")]).chain(stream::pending()).boxed();
    let failing = stream::iter([Ok("data: b\n\ndata: lost"), Err("reset")]).boxed();
    let (mut source, seen) = source(
        config,
        [
            Connection::new(200, "text/event-stream", silent),
            Connection::new(200, "text/event-stream", failing),
            body(&["data: c\n\n"]),
        ],
    );
    assert_eq!(data(&mut source), "a");
    assert_eq!(next(&mut source), Some(Err(EventSourceError::Silent)));
    assert_eq!(data(&mut source), "b");
    assert_eq!(next(&mut source), Some(Err(EventSourceError::Chunks("reset"))));
    assert_eq!(data(&mut source), "c");
    assert_eq!(seen.ids()[1..], [Some("5".to_owned()), Some("5".to_owned())]);
}

#[test]
fn a_request_that_must_not_be_repeated_is_made_once() {
    let config = ClientConfig::default().with_repeat(RequestReplay::Never);
    let (mut source, seen) = source(config, [body(&["data: a\n\n"]), body(&["data: b\n\n"])]);
    assert_eq!(data(&mut source), "a");
    assert_eq!(next(&mut source), None);
    assert_eq!(seen.ids().len(), 1);
}

#[test]
fn an_event_that_is_too_large_is_reported_and_the_connection_continues() {
    let decoder = Decoder::with_limits(Limits::DEFAULT.with_data(4));
    let connect = |_: ConnectRequest<'_>| ready(Ok(body(&["data: too large\n\ndata: fits\n\n"])));
    let mut source =
        EventSource::with_decoder(ClientConfig::default(), decoder, connect, |_: Duration| {
            ready(())
        });
    assert!(matches!(next(&mut source), Some(Err(EventSourceError::TooLarge(_)))));
    assert_eq!(data(&mut source), "fits");
}

#[test]
fn a_source_reports_its_state_and_can_be_closed() {
    let waiting = |_: ConnectRequest<'_>| -> Ready<Result<Connection<Chunks>, &'static str>> {
        let chunks = stream::iter([Ok("id: 3\ndata: a\n\n")]).chain(stream::pending()).boxed();
        ready(Ok(Connection::new(200, "text/event-stream", chunks)))
    };
    let mut source = EventSource::new(ClientConfig::default(), waiting, |_: Duration| ready(()));
    assert_eq!(source.ready_state(), ReadyState::Connecting);
    assert_eq!(data(&mut source), "a");
    assert_eq!(source.ready_state(), ReadyState::Open);
    assert_eq!(source.decoder().last_event_id(), "3");
    assert!(block_on(poll_once(source.next())).is_none(), "no timer is needed without a timeout");
    source.close();
    assert_eq!(source.ready_state(), ReadyState::Closed);
    assert_eq!(next(&mut source), None);
}
