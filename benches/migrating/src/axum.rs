//! axum's `Sse`: a response that is an event stream.

use axum::response::IntoResponse;
use futures_util::{Stream, StreamExt as _};

/// Returns a response with an event for each item.
pub fn before(items: impl Stream<Item = (u64, String)> + Send + 'static) -> impl IntoResponse {
    use std::convert::Infallible;

    use axum::response::sse::{Event, KeepAlive, Sse};

    let events = items.map(|(n, item)| {
        Ok::<_, Infallible>(Event::default().event("item").id(n.to_string()).data(item))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// The same with [`sse_proto::EventBody`].
pub fn after(items: impl Stream<Item = (u64, String)> + Send + 'static) -> impl IntoResponse {
    use std::time::Duration;

    use sse_proto::{EventBody, EventId, OwnedEvent, event_type};

    let events = items.map(|(n, item)| {
        let id = n.to_string();
        let id = EventId::new(&id).expect("digits");
        OwnedEvent::new(item).with_type(event_type!("item")).with_id(id)
    });
    EventBody::new(events, || tokio::time::sleep(Duration::from_secs(15))).into_response()
}
