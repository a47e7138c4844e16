//! The client in virtual time: every transition, content types, and random sequences of calls
//! against a simple model.

#![cfg(feature = "alloc")]

mod waits;

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use sse_proto::{Client, ClientConfig, Decoder, ReadyState, Rejected, RequestReplay, ResponseHead};

type At = Duration;

const EVENT_STREAM: &[&[u8]] = &[b"text/event-stream"];

const OK: ResponseHead<'static> = head(200);

const fn head(status: u16) -> ResponseHead<'static> {
    ResponseHead::new(status, EVENT_STREAM)
}

const fn ms(milliseconds: u64) -> At {
    Duration::from_millis(milliseconds)
}

/// Returns a client that is open, after a request at time 0.
fn open(config: ClientConfig) -> Client<At> {
    let mut client = Client::new(config);
    connect(&mut client, ms(0));
    client
}

fn connect(client: &mut Client<At>, now: At) {
    assert!(client.poll_request(now).is_some(), "no request is due at {now:?}");
    client.handle_response(OK, now, 0).unwrap();
}

/// Passes a chunk of the body. Returns the data of its events.
fn feed(client: &mut Client<At>, mut chunk: &[u8], now: At) -> Vec<String> {
    let mut data = Vec::new();
    while let Some(event) = client.next_event(&mut chunk, now).unwrap() {
        data.push(event.data().to_string());
    }
    data
}

/// Makes the request that is due, and returns its `Last-Event-ID`.
fn last_event_id(client: &mut Client<At>, now: At) -> Option<String> {
    let request = client.poll_request(now).expect("a request is due");
    let mut headers = request.headers();
    assert_eq!(headers.next(), Some(("Accept", &b"text/event-stream"[..])));
    assert_eq!(headers.next(), Some(("Cache-Control", &b"no-cache"[..])));
    assert_eq!(headers.next(), Some(("Pragma", &b"no-cache"[..])));
    headers.next().map(|(name, id)| {
        assert_eq!(name, "Last-Event-ID");
        String::from_utf8_lossy(id).into_owned()
    })
}

#[test]
fn the_first_request_is_due_at_once_and_only_once() {
    let mut client = Client::new(ClientConfig::default());
    assert_eq!((client.ready_state(), client.poll_timeout()), (ReadyState::Connecting, None));
    assert_eq!(last_event_id(&mut client, ms(0)), None);
    assert!(client.poll_request(ms(0)).is_none());
    assert_eq!(client.ready_state(), ReadyState::Connecting);
}

#[test]
fn the_response_head_opens_the_client_before_any_byte_of_the_body() {
    assert_eq!(open(ClientConfig::default()).ready_state(), ReadyState::Open);
}

#[test]
fn after_an_end_a_request_is_due_after_the_reconnection_time() {
    let mut client = open(ClientConfig::default());
    client.handle_end(ms(100), 0);
    assert_eq!(client.ready_state(), ReadyState::Connecting);
    assert_eq!(client.poll_timeout(), Some(ms(3100)));
    assert!(client.poll_request(ms(3099)).is_none());
    assert!(!client.handle_timeout(ms(3100), 0));
    assert_eq!(last_event_id(&mut client, ms(3100)), None);
}

#[test]
fn requests_without_a_response_are_repeated() {
    let mut client = Client::new(ClientConfig::default());
    for n in 0..100 {
        let now = ms(3000 * n);
        assert!(client.poll_request(now).is_some());
        client.handle_end(now, 0);
    }
}

#[test]
fn the_last_event_id_is_sent_but_not_that_of_an_incomplete_block() {
    let mut client = open(ClientConfig::default());
    assert_eq!(
        feed(&mut client, b"id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n", ms(0)),
        ["a", "b"]
    );
    client.handle_end(ms(0), 0);
    assert_eq!(last_event_id(&mut client, ms(3000)).as_deref(), Some("1"));
    client.handle_response(OK, ms(3000), 0).unwrap();
    assert_eq!(
        feed(&mut client, b"\n\ndata: d\n\n", ms(3000)),
        ["d"],
        "the incomplete block was dropped"
    );
    assert_eq!(client.decoder().last_event_id(), "1");
    assert!(feed(&mut client, b"id\n\n", ms(3000)).is_empty());
    client.handle_end(ms(3000), 0);
    assert_eq!(last_event_id(&mut client, ms(6000)), None, "an empty ID is not sent");
}

#[test]
fn an_initial_id_can_be_given() {
    let mut decoder = Decoder::new();
    decoder.set_last_event_id("41").unwrap();
    let mut client = Client::with_decoder(ClientConfig::default(), decoder);
    assert_eq!(last_event_id(&mut client, ms(0)).as_deref(), Some("41"));
}

#[test]
fn an_id_is_sent_unless_it_has_a_control_character() {
    for byte in (1..=0xFF_u8).filter(|byte| !b"\r\n".contains(byte)) {
        let mut client = open(ClientConfig::default());
        let id = [b'a', byte, b'b'];
        let block = [&b"id: "[..], &id, b"\ndata\n\n"].concat();
        feed(&mut client, &block, ms(0));
        client.handle_end(ms(0), 0);
        let request = client.poll_request(ms(3000)).unwrap();
        let sent = request.headers().find(|(name, _)| *name == "Last-Event-ID");
        let sendable = byte == b'\t' || !byte.is_ascii_control();
        assert_eq!(sent, sendable.then_some(("Last-Event-ID", &id[..])), "{byte:#x}");
        assert_eq!(request.unsendable_id().is_none(), sendable, "{byte:#x}");
    }
}

#[test]
fn an_id_that_cannot_be_sent_is_left_out_and_reported() {
    let mut client = open(ClientConfig::default());
    feed(&mut client, b"id: a\x07b\ndata\n\n", ms(0));
    client.handle_end(ms(0), 0);
    let request = client.poll_request(ms(3000)).unwrap();
    assert!(request.headers().all(|(name, _)| name != "Last-Event-ID"));
    assert_eq!(request.unsendable_id().unwrap(), b"a\x07b");
    let mut client = open(ClientConfig::default());
    feed(&mut client, b"id: \x7F\ndata\n\n", ms(0));
    client.handle_end(ms(0), 0);
    assert!(client.poll_request(ms(3000)).unwrap().unsendable_id().is_some());
    let mut client = open(ClientConfig::default());
    feed(&mut client, "id: é\t1\ndata\n\n".as_bytes(), ms(0));
    client.handle_end(ms(0), 0);
    assert_eq!(last_event_id(&mut client, ms(3000)).as_deref(), Some("é\t1"));
}

#[test]
fn any_status_but_200_closes_for_good() {
    for status in (100..200).chain(201..=599) {
        let mut client = Client::new(ClientConfig::default());
        client.poll_request(ms(0));
        let response = head(status).with_retry_after(Some(ms(1)));
        assert_eq!(client.handle_response(response, ms(0), 0), Err(Rejected::Status(status)));
        assert_eq!((client.ready_state(), client.poll_timeout()), (ReadyState::Closed, None));
        client.handle_end(ms(1), 0);
        assert!(client.poll_request(ms(100_000)).is_none());
    }
}

#[test]
fn content_types_are_checked_as_in_fetch() {
    let check = |values: &[&[u8]]| {
        let mut client = Client::new(ClientConfig::default());
        client.poll_request(ms(0));
        client.handle_response(ResponseHead::new(200, values), ms(0), 0)
    };
    for good in [
        &[&b"text/event-stream"[..]][..],
        &[b"TEXT/Event-Stream"],
        &[b" text/event-stream ;"],
        &[b"text/event-stream;charset=utf-8"],
        &[b"text/event-stream; charset=latin-1"],
        &[b"text/event-stream;x=\"a,b\";"],
        &[b"text/html, text/event-stream"],
        &[b"text/html", b"text/event-stream"],
        &[b"text/event-stream, bogus"],
        &[b"text/event-stream", b"*/*"],
        &[b"text/event-stream,,"],
        &[br#"text/html;x="\",text/plain", text/event-stream"#],
        &[br"text/html;x=\,text/event-stream"],
        // Values that are not MIME types do not count.
        &[b"text/event-stream, text/"],
        &[b"text/event-stream, /html"],
        &[b"text/event-stream, te xt/html"],
        &[b"text/event-stream, text/ht(ml"],
        &[b"text/event-stream, t\xE9xt/html"],
    ] {
        assert_eq!(check(good), Ok(()), "{good:?}");
    }
    for bad in [
        &[][..],
        &[&b""[..]],
        &[b"text/event-stream, text/html"],
        &[b"text/event-stream", b"text/html"],
        &[b"text/event-stream bla"],
        &[b"text/event-streambla"],
        &[b"text / event-stream"],
        &[b"text/event-stream/x"],
        &[b"x bogus"],
        &[b"*/*"],
        &[b"text/"],
        &[b"/event-stream"],
        &[br#"text/html;x=", text/event-stream"#],
    ] {
        assert_eq!(check(bad), Err(Rejected::ContentType), "{bad:?}");
    }
}

#[test]
fn requests_that_must_not_be_repeated_are_not() {
    let config = |repeat| ClientConfig::default().with_repeat(repeat);
    let mut never = open(config(RequestReplay::Never));
    feed(&mut never, b"id: 1\ndata: a\n\n", ms(0));
    never.handle_end(ms(0), 0);
    assert_eq!(never.ready_state(), ReadyState::Closed);

    let mut without = open(config(RequestReplay::WithId));
    feed(&mut without, b"data: a\n\n", ms(0));
    without.handle_end(ms(0), 0);
    assert_eq!(without.ready_state(), ReadyState::Closed);

    let mut with = open(config(RequestReplay::WithId));
    feed(&mut with, b"id: 1\ndata: a\n\n", ms(0));
    with.handle_end(ms(0), 0);
    assert_eq!(last_event_id(&mut with, ms(3000)).as_deref(), Some("1"));
}

#[test]
fn a_silent_connection_times_out_and_any_byte_resets_the_timeout() {
    let config = ClientConfig::default().with_read_timeout(Some(ms(1000)));
    let mut client = Client::new(config);
    client.poll_request(ms(0));
    assert_eq!(client.poll_timeout(), Some(ms(1000)), "the wait for the response head counts");
    client.handle_response(OK, ms(500), 0).unwrap();
    assert!(!client.handle_timeout(ms(1000), 0));
    assert_eq!(client.poll_timeout(), Some(ms(1500)));
    feed(&mut client, b":", ms(1400));
    feed(&mut client, b"", ms(2000));
    assert!(!client.handle_timeout(ms(2399), 0));
    assert!(client.handle_timeout(ms(2400), 0));
    assert_eq!(client.ready_state(), ReadyState::Connecting);
    assert_eq!(client.poll_timeout(), Some(ms(5400)));
}

#[test]
fn close_is_final_in_every_state() {
    let mut client = Client::new(ClientConfig::default());
    client.close();
    assert!(client.poll_request(ms(0)).is_none(), "before the first request");

    let mut client = Client::new(ClientConfig::default());
    client.poll_request(ms(0));
    client.close();
    assert_eq!(client.handle_response(OK, ms(0), 0), Ok(()));
    assert_eq!(client.ready_state(), ReadyState::Closed, "before the response");

    let mut client = open(ClientConfig::default());
    client.close();
    client.close();
    assert!(feed(&mut client, b"data: a\n\n", ms(0)).is_empty(), "while open, and closed twice");

    let mut client = open(ClientConfig::default());
    let mut chunk: &[u8] = b"data: a\n\ndata: b\n\n";
    assert_eq!(client.next_event(&mut chunk, ms(0)).unwrap().unwrap().data(), "a");
    client.close();
    assert!(client.next_event(&mut chunk, ms(0)).unwrap().is_none(), "between events");
    assert!(chunk.is_empty());
    client.handle_end(ms(0), 0);
    assert_eq!((client.ready_state(), client.poll_timeout()), (ReadyState::Closed, None));

    let mut client = open(ClientConfig::default());
    client.handle_end(ms(0), 0);
    client.close();
    assert!(client.poll_request(ms(9000)).is_none(), "while waiting");
    client.restart();
    assert_eq!(client.ready_state(), ReadyState::Closed);
}

#[test]
fn restart_connects_at_once() {
    let mut client = open(ClientConfig::default());
    feed(&mut client, b"id: 1\ndata: a\n\n", ms(0));
    client.restart();
    assert_eq!(last_event_id(&mut client, ms(0)).as_deref(), Some("1"));
}

#[test]
fn comments_are_passed_to_the_callback_in_parts() {
    let mut client = open(ClientConfig::default());
    let mut comment = Vec::new();
    for mut chunk in [&b"data: a\n: on"[..], b"e\n\n:two\n"] {
        let mut each = |part: &[u8], end: bool| {
            comment.extend(part);
            comment.extend(end.then_some(b'|'));
        };
        while client.next_event_with_comments(&mut chunk, ms(0), &mut each).unwrap().is_some() {}
    }
    assert_eq!(comment, b" one|two|");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Request,
    Head(u16),
    Chunk(&'static [u8]),
    End,
    Timeout,
    Close,
    Restart,
    Wait(u64),
}

const CHUNKS: [&[u8]; 6] =
    [b"data: a\n\n", b"id: 7\ndata: a\n\n", b"id: 8\n", b"retry: 10\n", b":\n", b"id\n\n"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Request),
        4 => Just(Step::Head(200)),
        1 => prop_oneof![Just(204_u16), Just(503), Just(500)].prop_map(Step::Head),
        4 => prop::sample::select(&CHUNKS[..]).prop_map(Step::Chunk),
        3 => Just(Step::End),
        2 => Just(Step::Timeout),
        1 => Just(Step::Close),
        1 => Just(Step::Restart),
        4 => (0..4000_u64).prop_map(Step::Wait),
    ]
}

/// A simple model of the standard's algorithm and of the minimum wait.
#[derive(Debug)]
struct Model {
    ready: ReadyState,
    /// The time at which a request is due, if one is.
    due: Option<u64>,
    requested: bool,
    last_byte: u64,
    requested_at: u64,
    has_body: bool,
    retry: u64,
    id: &'static str,
    id_of_block: Option<&'static str>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_steps_agree_with_the_model(
        steps in vec(step(), 0..60), timeout in any::<bool>(), minimum in prop::sample::select(&[0_u64, 500, 5000][..])
    ) {
        let read_timeout = timeout.then_some(ms(2000));
        let config = ClientConfig::default().with_read_timeout(read_timeout).with_min_reconnection_time(ms(minimum));
        let mut client: Client<At> = Client::new(config);
        let mut model = Model {
            ready: ReadyState::Connecting, due: Some(0), requested: false, last_byte: 0,
            requested_at: 0, has_body: false, retry: 3000, id: "", id_of_block: None,
        };
        let mut now = 0;
        for step in steps {
            let connected = model.requested || model.ready == ReadyState::Open;
            let mut ended = false;
            match step {
                Step::Request => {
                    let got = client.poll_request(ms(now)).map(|request| {
                        request.headers().nth(3).map(|(_, id)| String::from_utf8(id.to_vec()).unwrap())
                    });
                    let due = model.due.is_some_and(|due| due <= now);
                    let header = (!model.id.is_empty()).then(|| model.id.to_owned());
                    prop_assert_eq!(got, due.then_some(header));
                    if due {
                        (model.due, model.requested) = (None, true);
                        (model.last_byte, model.id_of_block) = (now, None);
                        (model.requested_at, model.has_body) = (now, false);
                    }
                }
                Step::Head(status) => {
                    let result = client.handle_response(head(status), ms(now), 0);
                    prop_assert_eq!(result.is_err(), model.requested && status != 200);
                    if model.requested {
                        model.requested = false;
                        model.last_byte = now;
                        model.ready = if status == 200 { ReadyState::Open } else { ReadyState::Closed };
                    }
                }
                Step::Chunk(chunk) => {
                    let events = feed(&mut client, chunk, ms(now)).len();
                    let open = model.ready == ReadyState::Open;
                    let has_event = chunk.starts_with(b"data") || chunk.ends_with(b"data: a\n\n");
                    prop_assert_eq!(events, usize::from(open && has_event));
                    if open {
                        (model.last_byte, model.has_body) = (now, true);
                        match chunk {
                            b"id: 7\ndata: a\n\n" => model.id_of_block = Some("7"),
                            b"id: 8\n" => model.id_of_block = Some("8"),
                            b"id\n\n" => model.id_of_block = Some(""),
                            b"retry: 10\n" => model.retry = 10,
                            _ => {}
                        }
                        if chunk.ends_with(b"\n\n") {
                            model.id = model.id_of_block.take().unwrap_or(model.id);
                        }
                    }
                }
                Step::End => {
                    client.handle_end(ms(now), 0);
                    ended = connected;
                }
                Step::Timeout => {
                    let silent = connected && timeout && now >= model.last_byte + 2000;
                    prop_assert_eq!(client.handle_timeout(ms(now), 0), silent);
                    ended = silent;
                }
                Step::Close => {
                    client.close();
                    (model.ready, model.due, model.requested) = (ReadyState::Closed, None, false);
                }
                Step::Restart => {
                    client.restart();
                    if model.ready != ReadyState::Closed {
                        (model.ready, model.due) = (ReadyState::Connecting, Some(now));
                        model.requested = false;
                    }
                }
                Step::Wait(time) => now += time,
            }
            if ended {
                (model.ready, model.requested) = (ReadyState::Connecting, false);
                let minimum_from = if model.has_body { model.requested_at } else { now };
                model.due = Some((now + model.retry).max(minimum_from + minimum));
                prop_assert_eq!(client.poll_timeout(), model.due.map(ms));
            }
            prop_assert_eq!(client.ready_state(), model.ready, "after {:?}: {:?}", step, model);
            prop_assert_eq!(client.decoder().last_event_id(), model.id);
        }
    }
}
