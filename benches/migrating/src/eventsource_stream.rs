//! eventsource-stream: a stream of chunks as a stream of events.

use std::error::Error;

use futures_util::StreamExt as _;

/// Passes type, data and ID of each event to `on_event`.
///
/// # Errors
///
/// The response breaks off, or is not UTF-8.
pub async fn before(
    response: reqwest::Response,
    mut on_event: impl FnMut(&str, &str, &str),
) -> Result<(), Box<dyn Error>> {
    use eventsource_stream::Eventsource as _;

    let mut events = response.bytes_stream().eventsource();
    while let Some(event) = events.next().await {
        let event = event?;
        on_event(&event.event, &event.data, &event.id);
    }
    Ok(())
}

/// The same with [`sse_proto::Events`].
///
/// # Errors
///
/// The response breaks off, or an event is too large.
pub async fn after(
    response: reqwest::Response,
    mut on_event: impl FnMut(&str, &str, &str),
) -> Result<(), Box<dyn Error>> {
    use sse_proto::Events;

    let mut events = Events::new(response.bytes_stream());
    while let Some(event) = events.next().await {
        let event = event?;
        on_event(
            &event.event_type().to_str_lossy(),
            &event.data().to_str_lossy(),
            &event.last_event_id().to_str_lossy(),
        );
    }
    Ok(())
}
