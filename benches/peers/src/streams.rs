//! Peers that wrap a stream of chunks into a stream of events.

use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;

use crate::codecs::{emit_sse_core, milliseconds, sse_core};
use crate::decode::{Decode, Item, Start, TOO_MANY_ERRORS};

/// Returns the chunks as a stream that is always ready.
pub(crate) fn chunk_stream(chunks: &[Bytes]) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::iter(chunks.iter().cloned().map(Ok))
}

/// Polls a stream until its end and emits its items, with errors as `None`.
pub(crate) fn drain<T, E>(
    events: impl Stream<Item = Result<T, E>>,
    mut emit: impl FnMut(Option<T>),
) {
    let mut events = pin!(events);
    let mut context = Context::from_waker(Waker::noop());
    let mut errors = 0;
    while let Poll::Ready(Some(event)) = events.as_mut().poll_next(&mut context) {
        errors += usize::from(event.is_err());
        emit(event.ok());
        if errors == TOO_MANY_ERRORS {
            return;
        }
    }
}

/// `sse_core::SseStream`.
#[derive(Debug)]
pub enum SseCore {}

impl Decode for SseCore {
    const NAME: &'static str = "sse-core, as `Stream`";

    fn decode(chunks: &[Bytes], start: Start<'_>, mut emit: impl FnMut(Item<'_>)) {
        let mut events = sse_core::SseStream::with_decoder(sse_core(start));
        events.attach(chunk_stream(chunks));
        drain(events, |event| match event {
            Some(event) => emit_sse_core(&event, &mut emit),
            None => emit(Item::Error),
        });
    }
}

/// `sse_stream::SseByteStream`, which returns blocks: IDs and types do not carry over between them.
#[derive(Debug)]
pub enum SseStream {}

impl Decode for SseStream {
    const NAME: &'static str = "sse-stream";

    fn decode(chunks: &[Bytes], _: Start<'_>, mut emit: impl FnMut(Item<'_>)) {
        drain(sse_stream::SseByteStream::new(chunk_stream(chunks)), |block| {
            let Some(block) = block else { return emit(Item::Error) };
            if let Some(retry) = block.retry {
                emit(Item::Retry(retry));
            }
            if let Some(data) = &block.data {
                emit(Item::Event {
                    event_type: block.event.as_deref().unwrap_or("message").as_bytes(),
                    data: data.as_bytes(),
                    id: block.id.as_deref().unwrap_or_default().as_bytes(),
                });
            }
        });
    }
}

/// `sseer::EventStream`.
#[derive(Debug)]
pub enum Sseer {}

impl Decode for Sseer {
    const NAME: &'static str = "sseer";

    fn decode(chunks: &[Bytes], start: Start<'_>, mut emit: impl FnMut(Item<'_>)) {
        let mut events = sseer::event_stream::EventStream::new(chunk_stream(chunks));
        events.set_last_event_id(start.seed.to_owned());
        drain(events, |event| {
            let Some(event) = event else { return emit(Item::Error) };
            if let Some(retry) = event.retry {
                emit(Item::Retry(milliseconds(retry)));
            }
            emit(Item::Event {
                event_type: event.event.as_bytes(),
                data: event.data.as_bytes(),
                id: event.id.as_bytes(),
            });
        });
    }
}

/// `eventsource_stream::EventStream`.
#[derive(Debug)]
pub enum EventsourceStream {}

impl Decode for EventsourceStream {
    const NAME: &'static str = "eventsource-stream";

    fn decode(chunks: &[Bytes], start: Start<'_>, mut emit: impl FnMut(Item<'_>)) {
        let mut events = eventsource_stream::EventStream::new(chunk_stream(chunks));
        events.set_last_event_id(start.seed);
        drain(events, |event| {
            let Some(event) = event else { return emit(Item::Error) };
            if let Some(retry) = event.retry {
                emit(Item::Retry(milliseconds(retry)));
            }
            emit(Item::Event {
                event_type: event.event.as_bytes(),
                data: event.data.as_bytes(),
                id: event.id.as_bytes(),
            });
        });
    }
}
