use std::time::Duration;

use futures_util::StreamExt as _;
use migrating::reqwest_eventsource::{after, before};
use reqwest_eventsource::retry::ExponentialBackoff;
use reqwest_eventsource::{Error, Event, EventSource};
use sse_proto::{ClientConfig, ConnectRequest, EventSourceError, Rejected};

use crate::run;
use crate::server::{Server, event_stream, no_content};

/// Returns the items of a source of reqwest-eventsource, until it ends.
async fn their_items(source: EventSource) -> Vec<Result<Event, Error>> {
    source.collect().await
}

/// Returns the items of a source of `sse-proto`, until it ends.
async fn our_items(
    url: &str,
    config: ClientConfig,
) -> Vec<Result<String, EventSourceError<reqwest::Error>>> {
    let http_client = reqwest::Client::new();
    let connect = |request: ConnectRequest<'_>| {
        let request = http_client.get(url).headers(request.header_map());
        async { Ok::<_, reqwest::Error>(http::Response::from(request.send().await?).into()) }
    };
    let source = sse_proto::EventSource::new(config, connect, tokio::time::sleep);
    source.map(|event| event.map(|event| event.data().to_string())).collect().await
}

#[test]
fn both_follow_the_same_stream() {
    let start = || {
        let first = event_stream("retry: 10\nid: 1\ndata: a\n\ndata: b\n\ndata: cut o");
        Server::start(vec![first, event_stream("id: 2\ndata: c\n\ndata: [DONE]\n\n")])
    };
    let http_client = reqwest::Client::new();
    run(async {
        for new in [false, true] {
            let (server, mut seen) = (start(), Vec::new());
            let on_event = |data: &str| seen.push(data.to_owned());
            if new {
                after(&http_client, &server.url, on_event).await.unwrap();
            } else {
                before(&http_client, &server.url, on_event).await.unwrap();
            }
            assert_eq!(seen, ["a", "b", "c"]);
            assert_eq!(server.last_event_ids(), [None, Some("1".to_owned())]);
        }
    });
}

/// Each connection ends without an error; the second one sets no ID.
fn ending() -> Server {
    let bodies = ["retry: 1\nid: 5\ndata: a\n\n", "data: b\n\n", "id: 9\n\n"];
    Server::start(bodies.iter().map(|body| event_stream(body)).chain([no_content()]).collect())
}

#[test]
fn the_last_event_id_outlives_a_connection_without_one() {
    let ids = |server: &Server| {
        let ids = server.last_event_ids();
        ids.into_iter().map(|id| id.unwrap_or("none".to_owned())).collect::<Vec<_>>()
    };
    run(async {
        let server = ending();
        their_items(EventSource::get(&server.url)).await;
        assert_eq!(ids(&server), ["none", "5", "", ""]);

        let server = ending();
        let config = ClientConfig::default().with_min_reconnection_time(Duration::ZERO);
        our_items(&server.url, config).await;
        assert_eq!(ids(&server), ["none", "5", "5", "9"]);
    });
}

#[test]
fn the_end_of_a_connection_and_of_the_stream_are_no_errors() {
    run(async {
        let items = their_items(EventSource::get(&ending().url)).await;
        let is = |item: &Result<Event, Error>| match item {
            Ok(Event::Open) => "open",
            Ok(Event::Message(_)) => "event",
            Err(Error::StreamEnded) => "ended",
            Err(Error::InvalidStatusCode(status, _)) if *status == 204 => "204",
            Err(_) => "other",
        };
        let items: Vec<_> = items.iter().map(is).collect();
        let expected = ["open", "event", "ended", "open", "event", "ended", "open", "ended", "204"];
        assert_eq!(items, expected);

        let config = ClientConfig::default().with_min_reconnection_time(Duration::ZERO);
        let items = our_items(&ending().url, config).await;
        assert_eq!(items.into_iter().map(Result::unwrap).collect::<Vec<_>>(), ["a", "b"]);
    });
}

#[test]
fn a_rejected_response_ends_both() {
    let page = || {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n";
        Server::start(vec![head.to_owned()])
    };
    run(async {
        let items = their_items(EventSource::get(&page().url)).await;
        assert!(matches!(&items[..], [Err(Error::InvalidContentType(..))]), "{items:?}");
        let items = our_items(&page().url, ClientConfig::default()).await;
        let rejected = Rejected::ContentType;
        assert!(matches!(&items[..], [Err(EventSourceError::Rejected(by))] if *by == rejected));
    });
}

#[test]
fn the_maximum_of_attempts_is_reached() {
    let wait = Duration::from_millis(1);
    let hanging_up = || Server::start(vec![String::new(); 20]);
    run(async {
        let mut theirs = EventSource::get(&hanging_up().url);
        theirs.set_retry_policy(Box::new(ExponentialBackoff::new(wait, 1.0, None, Some(3))));
        let items: Vec<_> = theirs.take(20).collect().await;
        assert!(items.len() == 20 && items.iter().all(Result::is_err));

        let config = ClientConfig::default()
            .with_reconnection_time(wait)
            .with_min_reconnection_time(wait)
            .with_max_attempts(Some(3));
        let server = hanging_up();
        let items = our_items(&server.url, config).await;
        assert_eq!((items.len(), server.last_event_ids().len()), (3, 3));
        assert!(items.iter().all(|item| matches!(item, Err(EventSourceError::Connect(_)))));
    });
}
