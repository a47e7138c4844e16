//! Programs before and after a migration do the same, except for the differences that
//! `docs/migrating.md` lists.

mod async_sse;
mod axum;
mod eventsource_client;
mod eventsource_stream;
mod reqwest_eventsource;
mod server;
mod sse_stream;

use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures_util::{Stream, StreamExt as _, stream};

/// A stream that all of the crates decode to the same events: types, IDs, comments, data of several
/// lines, and line ends of two kinds.
const STREAM: &[u8] = "retry: 10\nid: 1\ndata: a\n\n: comment\n\nevent: tick\r\nid: 2\r\n\
    data: first\r\ndata: zweite Zeile – äöü\r\n\r\nid: 3\ndata\n\ndata: cut off"
    .as_bytes();

/// Cuts a stream into chunks of this length. No cut lies between CR and LF.
fn chunks(stream: &'static [u8], length: usize) -> Vec<&'static [u8]> {
    let mut chunks = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let mut at = length.min(rest.len());
        at += usize::from(rest[at - 1] == b'\r' && rest.get(at) == Some(&b'\n'));
        chunks.push(&rest[..at]);
        rest = &rest[at..];
    }
    chunks
}

/// Returns the chunks as a stream that does not end, as on an open connection.
fn open(
    chunks: impl IntoIterator<Item = &'static [u8]>,
) -> impl Stream<Item = Result<&'static [u8], Infallible>> {
    stream::iter(chunks.into_iter().map(Ok).collect::<Vec<_>>()).chain(stream::pending())
}

/// Returns the chunks as a stream that ends.
fn ended(
    chunks: impl IntoIterator<Item = &'static [u8]>,
) -> impl Stream<Item = Result<&'static [u8], Infallible>> + Unpin {
    stream::iter(chunks.into_iter().map(Ok).collect::<Vec<_>>())
}

/// Returns the items that are ready.
fn ready<T>(items: impl Stream<Item = T>) -> Vec<T> {
    let mut items = pin!(items);
    let mut context = Context::from_waker(Waker::noop());
    let mut ready = Vec::new();
    while let Poll::Ready(Some(item)) = items.as_mut().poll_next(&mut context) {
        ready.push(item);
        assert!(ready.len() < 1000, "the stream repeats itself");
    }
    ready
}

/// Returns the data of the events that `sse-proto` decodes and that are ready.
fn data(chunks: impl Stream<Item = Result<&'static [u8], Infallible>>) -> Vec<String> {
    let events = ready(sse_proto::Events::new(chunks));
    events.into_iter().map(|event| event.unwrap().data().to_string()).collect()
}

/// Runs a future with timers and sockets.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}
