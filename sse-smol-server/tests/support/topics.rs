//! Reading subscriptions of the library.

use smol::future::{self, block_on};
use sse_proto::Decoder;
use sse_smol_server::{Frame, Subscription, SubscriptionError};

/// Decodes a frame. Returns type, data and ID.
pub(crate) fn parse(frame: &Frame) -> (String, String, String) {
    let mut decoder = Decoder::new();
    let event = decoder.next_event(&mut frame.encoded()).unwrap().expect("an event");
    let text = |text: sse_proto::Text<'_>| text.to_string();
    (text(event.event_type()), text(event.data()), text(event.last_event_id()))
}

/// Returns the frames that are available without waiting, or `None`. Skips the ID of the starting
/// position.
pub(crate) fn read_now(
    subscription: &mut Subscription,
) -> Option<Result<Vec<Frame>, SubscriptionError>> {
    let read = block_on(future::poll_once(subscription.next_batch()));
    match &read {
        Some(Ok(frames)) if is_start(&frames[0]) => read_now(subscription),
        _ => read,
    }
}

/// Whether a frame is the ID of a starting position: an ID without data.
pub(crate) fn is_start(frame: &Frame) -> bool {
    let start = frame.encoded().starts_with(b"id: ") && frame.id().is_some();
    start && Decoder::new().next_event(&mut frame.encoded()).unwrap().is_none()
}
