//! Peers that are streams around a stream of chunks.

use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;

use crate::codecs::{milliseconds, see_sse_core, sse_core};
use crate::decode::{Decode, Item, Start, TOO_MANY_ERRORS};

/// The chunks as a stream that never makes anyone wait.
pub(crate) fn chunk_stream(chunks: &[Bytes]) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::iter(chunks.iter().cloned().map(Ok))
}

/// Polls until there is nothing more, and sees what comes; errors as `None`.
pub(crate) fn drain<T, E>(
    events: impl Stream<Item = Result<T, E>>,
    mut see: impl FnMut(Option<T>),
) {
    let mut events = pin!(events);
    let mut context = Context::from_waker(Waker::noop());
    let mut errors = 0;
    while let Poll::Ready(Some(event)) = events.as_mut().poll_next(&mut context) {
        errors += usize::from(event.is_err());
        see(event.ok());
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

    fn decode(chunks: &[Bytes], start: Start<'_>, mut see: impl FnMut(Item<'_>)) {
        let mut events = sse_core::SseStream::with_decoder(sse_core(start));
        events.attach(chunk_stream(chunks));
        drain(events, |event| match event {
            Some(event) => see_sse_core(&event, &mut see),
            None => see(Item::Error),
        });
    }
}

/// `sse_stream::SseByteStream`, which gives blocks: what is absent in one is absent.
#[derive(Debug)]
pub enum SseStream {}

impl Decode for SseStream {
    const NAME: &'static str = "sse-stream";

    fn decode(chunks: &[Bytes], _: Start<'_>, mut see: impl FnMut(Item<'_>)) {
        drain(sse_stream::SseByteStream::new(chunk_stream(chunks)), |block| {
            let Some(block) = block else { return see(Item::Error) };
            if let Some(retry) = block.retry {
                see(Item::Retry(retry));
            }
            if let Some(data) = &block.data {
                see(Item::Event {
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

    fn decode(chunks: &[Bytes], start: Start<'_>, mut see: impl FnMut(Item<'_>)) {
        let mut events = sseer::event_stream::EventStream::new(chunk_stream(chunks));
        events.set_last_event_id(start.seed.to_owned());
        drain(events, |event| {
            let Some(event) = event else { return see(Item::Error) };
            if let Some(retry) = event.retry {
                see(Item::Retry(milliseconds(retry)));
            }
            see(Item::Event {
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

    fn decode(chunks: &[Bytes], start: Start<'_>, mut see: impl FnMut(Item<'_>)) {
        let mut events = eventsource_stream::EventStream::new(chunk_stream(chunks));
        events.set_last_event_id(start.seed);
        drain(events, |event| {
            let Some(event) = event else { return see(Item::Error) };
            if let Some(retry) = event.retry {
                see(Item::Retry(milliseconds(retry)));
            }
            see(Item::Event {
                event_type: event.event.as_bytes(),
                data: event.data.as_bytes(),
                id: event.id.as_bytes(),
            });
        });
    }
}
