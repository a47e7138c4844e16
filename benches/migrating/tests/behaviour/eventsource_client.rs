use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use eventsource_client::{Client as _, ClientBuilder, Error, ReconnectOptions, SSE};
use futures_util::{StreamExt as _, stream};
use launchdarkly_sdk_transport as transport;
use migrating::eventsource_client::{after, before};

use crate::server::{Server, event_stream, unavailable};
use crate::{data, open, run};

/// A transport whose responses are given. It records the last event IDs of the requests.
#[derive(Clone, Default)]
struct Canned {
    responses: Arc<Mutex<Vec<http::Response<&'static [u8]>>>>,
    ids: Arc<Mutex<Vec<Option<String>>>>,
}

impl Canned {
    fn new(responses: impl IntoIterator<Item = http::Response<&'static [u8]>>) -> Self {
        let mut responses: Vec<_> = responses.into_iter().collect();
        responses.reverse();
        Self { responses: Arc::new(Mutex::new(responses)), ..Self::default() }
    }
}

impl transport::HttpTransport for Canned {
    fn request(&self, request: transport::Request<Option<Bytes>>) -> transport::ResponseFuture {
        let id = request.headers().get("last-event-id").map(|id| id.to_str().unwrap().to_owned());
        self.ids.lock().unwrap().push(id);
        let Some(response) = self.responses.lock().unwrap().pop() else {
            return Box::pin(std::future::pending());
        };
        let response = response.map(|body| -> transport::ByteStream {
            Box::pin(stream::iter([Ok(Bytes::from_static(body))]))
        });
        Box::pin(std::future::ready(Ok(response)))
    }
}

fn response(status: u16, body: &'static str) -> http::Response<&'static [u8]> {
    http::Response::builder()
        .status(status)
        .header("content-type", "text/html")
        .body(body.as_bytes())
        .unwrap()
}

/// Returns this number of items, with the shortest waits.
fn items(transport: &Canned, number: usize) -> Vec<Result<SSE, Error>> {
    let wait = Duration::from_millis(1);
    let client = ClientBuilder::for_url("http://localhost/")
        .unwrap()
        .reconnect(ReconnectOptions::reconnect(true).delay(wait).delay_max(wait).build())
        .build_with_transport(transport.clone());
    run(client.stream().take(number).collect())
}

#[test]
fn both_follow_the_same_stream() {
    const FIRST: &str = "retry: 10\nid: 1\ndata: a\n\n: comment\n\ndata: b\n\n";
    const SECOND: &str = "id: 2\ndata: c\n\ndata: [DONE]\n\n";
    let responses = [(200, FIRST), (503, ""), (200, SECOND)];
    let transport = Canned::new(responses.map(|(status, body)| response(status, body)));
    let server = Server::start(vec![event_stream(FIRST), unavailable(), event_stream(SECOND)]);
    let (mut old, mut new) = (Vec::new(), Vec::new());
    run(async {
        let on_event = |data: &str| old.push(data.to_owned());
        before(transport.clone(), "http://localhost/", on_event).await.unwrap();
        let on_event = |data: &str| new.push(data.to_owned());
        after(&reqwest::Client::new(), &server.url, on_event).await.unwrap();
    });
    assert_eq!((&old, &new), (&["a", "b", "c"].map(str::to_owned).into(), &old));
    let ids = ["41", "1", "1"].map(|id| Some(id.to_owned()));
    assert_eq!(*transport.ids.lock().unwrap(), ids);
    assert_eq!(server.last_event_ids(), ids);
}

/// `sse-proto` ends at 204 and rejects other types: the tests beside this one.
#[test]
fn it_reconnects_after_204_and_accepts_any_type() {
    let transport = Canned::new([response(204, ""), response(200, "data: page\n\n")]);
    let items = items(&transport, 4);
    assert!(
        matches!(
            &items[..],
            [Ok(SSE::Connected(_)), Err(Error::Eof), Ok(SSE::Connected(_)), Ok(SSE::Event(_))]
        ),
        "{items:?}"
    );
}

/// `sse-proto` keeps the ID: `the_last_event_id_outlives_a_connection_without_one`.
#[test]
fn it_forgets_the_last_event_id() {
    let bodies = ["id: 5\ndata: a\n\n", "data: b\n\n", "data: c\n\n"];
    let transport = Canned::new(bodies.map(|body| response(200, body)));
    assert_eq!(items(&transport, 9).len(), 9);
    let ids = transport.ids.lock().unwrap();
    assert_eq!(*ids, [None, Some("5".to_owned()), None]);
}

#[test]
fn no_line_breaks_the_connection() {
    for stream in ["retry: x\n\ndata: b\n\n", "event\n\ndata: b\n\n"] {
        let items = items(&Canned::new([response(200, stream)]), 2);
        assert!(matches!(items[1], Err(Error::InvalidEvent)), "{stream:?}: {items:?}");
        assert_eq!(data(open([stream.as_bytes()])), ["b"]);
    }
    let transport = Canned::new([http::Response::new(&b"data: \xFF\n\ndata: b\n\n"[..])]);
    assert!(matches!(items(&transport, 2)[1], Err(Error::InvalidLine(_))));
    assert_eq!(data(open([&b"data: \xFF\n\ndata: b\n\n"[..]])), ["\u{FFFD}", "b"]);
}

#[test]
fn a_first_connection_that_fails_is_repeated() {
    let client = ClientBuilder::for_url("http://localhost/").unwrap();
    let client = client.build_with_transport(Canned::new([response(503, "")]));
    let items: Vec<_> = run(client.stream().collect());
    assert!(matches!(&items[..], [Err(Error::UnexpectedResponse(..))]), "and it ends: {items:?}");
}
