//! sse-stream: a body as a stream of blocks, and a stream of blocks as a body.

use std::convert::Infallible;
use std::error::Error;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http_body::Body;

/// Passes type and data of each event to `on_event`.
///
/// # Errors
///
/// The body fails, or is not UTF-8.
pub async fn before_decode(
    body: impl Body<Data = Bytes, Error = Infallible> + Unpin,
    mut on_event: impl FnMut(&str, &str),
) -> Result<(), Box<dyn Error>> {
    use sse_stream::SseStream;

    let mut blocks = SseStream::new(body);
    while let Some(block) = blocks.next().await {
        let block = block?;
        if let Some(data) = &block.data {
            on_event(block.event.as_deref().unwrap_or("message"), data);
        }
    }
    Ok(())
}

/// The same with [`sse_proto::Events`].
///
/// # Errors
///
/// The body fails, or an event is too large.
pub async fn after_decode(
    body: impl Body<Data = Bytes, Error = Infallible> + Unpin,
    mut on_event: impl FnMut(&str, &str),
) -> Result<(), Box<dyn Error>> {
    use sse_proto::Events;

    let mut events = Events::from_body(body);
    while let Some(event) = events.next().await {
        let event = event?;
        on_event(&event.event_type().to_str_lossy(), &event.data().to_str_lossy());
    }
    Ok(())
}

/// Returns a body with an event for each item.
pub fn before_body(
    items: impl Stream<Item = String>,
) -> impl Body<Data = Bytes, Error = sse_stream::BodyError> {
    use sse_stream::{Sse, SseBody};

    let blocks = items.map(|item| Ok::<_, Infallible>(Sse::default().event("item").data(item)));
    let end = stream::iter([Ok(Sse::default().event("end").data(""))]);
    SseBody::new(blocks.chain(end))
}

/// The same with [`sse_proto::EventBody`].
pub fn after_body(
    items: impl Stream<Item = String>,
) -> impl Body<Data = Bytes, Error = Infallible> {
    use sse_proto::{EventBody, OwnedEvent, event_type};

    let events = items.map(|item| OwnedEvent::new(item).with_type(event_type!("item")));
    let end = stream::iter([OwnedEvent::new("").with_type(event_type!("end"))]);
    EventBody::new(events.chain(end), std::future::pending::<()>) // no keep-alive comments
}
