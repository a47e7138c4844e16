//! Peers that depend on a web server, an HTTP client or similar (feature `heavy`).

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use launchdarkly_sdk_transport as transport;

use crate::codecs::milliseconds;
use crate::decode::{Decode, Item, Start};
use crate::encoders::{Encode, Sample};
use crate::streams::drain;

/// `async_sse::decode`, which takes an `AsyncBufRead`.
#[derive(Debug)]
pub enum AsyncSse {}

/// A reader that returns one chunk for each read.
struct Chunks<'a> {
    rest: &'a [Bytes],
    at: usize,
}

impl futures_lite::AsyncRead for Chunks<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        use futures_lite::AsyncBufRead;
        let len = match self.as_mut().poll_fill_buf(context) {
            Poll::Ready(Ok(chunk)) => {
                let len = chunk.len().min(out.len());
                out[..len].copy_from_slice(&chunk[..len]);
                len
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        self.consume(len);
        Poll::Ready(Ok(len))
    }
}

impl futures_lite::AsyncBufRead for Chunks<'_> {
    fn poll_fill_buf(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        Poll::Ready(Ok(this.rest.first().map_or(&[], |chunk| &chunk[this.at..])))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        self.at += amount;
        if self.rest.first().is_some_and(|chunk| chunk.len() == self.at) {
            self.rest = &self.rest[1..];
            self.at = 0;
        }
    }
}

impl Decode for AsyncSse {
    const NAME: &'static str = "async-sse";

    fn decode(chunks: &[Bytes], _: Start<'_>, mut emit: impl FnMut(Item<'_>)) {
        drain(async_sse::decode(Chunks { rest: chunks, at: 0 }), |event| match event {
            Some(async_sse::Event::Message(message)) => emit(Item::Event {
                event_type: message.name().as_bytes(),
                data: message.data(),
                id: message.id().as_deref().unwrap_or_default().as_bytes(),
            }),
            Some(async_sse::Event::Retry(retry)) => emit(Item::Retry(milliseconds(retry))),
            None => emit(Item::Error),
        });
    }
}

/// `eventsource_client`, whose parser is private. It is driven through its transport trait, by a
/// transport that responds with the chunks, so the time includes the handling of a request.
#[derive(Debug)]
pub enum EventsourceClient {}

#[derive(Clone)]
struct Canned(Vec<Bytes>);

impl transport::HttpTransport for Canned {
    fn request(&self, _: transport::Request<Option<Bytes>>) -> transport::ResponseFuture {
        let body: transport::ByteStream =
            Box::pin(stream::iter(self.0.clone().into_iter().map(Ok)));
        Box::pin(std::future::ready(Ok(transport::Response::new(body))))
    }
}

impl Decode for EventsourceClient {
    const NAME: &'static str = "eventsource-client";

    fn decode(chunks: &[Bytes], start: Start<'_>, mut emit: impl FnMut(Item<'_>)) {
        use eventsource_client::{Client, ClientBuilder, ReconnectOptions, SSE};
        let client = ClientBuilder::for_url("http://localhost/")
            .expect("the URL is valid")
            .reconnect(ReconnectOptions::reconnect(false).build())
            .last_event_id(start.seed.into())
            .build_with_transport(Canned(chunks.to_vec()));
        drain(client.stream(), |event| match event {
            Some(SSE::Event(event)) => {
                if let Some(retry) = event.retry {
                    emit(Item::Retry(retry));
                }
                emit(Item::Event {
                    event_type: event.event_type.as_bytes(),
                    data: event.data.as_bytes(),
                    id: event.id.unwrap_or_default().as_bytes(),
                });
            }
            Some(SSE::Comment(_)) => emit(Item::Comment),
            Some(SSE::Connected(_)) => {}
            // Includes the end of the stream, which it reports as an error.
            None => emit(Item::Error),
        });
    }
}

/// `axum::response::Sse`: the response body.
#[derive(Debug)]
pub enum Axum {}

impl Encode for Axum {
    const NAME: &'static str = "axum, a body";

    fn encode(sample: &Sample, times: usize, mut sink: impl FnMut(&[u8])) {
        use axum::response::{IntoResponse, Sse, sse};
        let data = sample.data.clone();
        let event = move |_| Ok::<_, Infallible>(sse::Event::default().data(&data));
        let body = Sse::new(stream::iter((0..times).map(event))).into_response().into_body();
        drain(body.into_data_stream().map_err(drop), |wire| sink(&wire.expect("no error")));
    }
}

/// `actix_web_lab::sse`: the response body, encoded by russe.
#[derive(Debug)]
pub enum ActixWebLab {}

impl Encode for ActixWebLab {
    const NAME: &'static str = "actix-web-lab, a body";

    fn encode(sample: &Sample, times: usize, mut sink: impl FnMut(&[u8])) {
        use actix_web::body::MessageBody;
        use actix_web_lab::sse;
        let data = sse::Data::new(&*sample.data);
        let event = move |_| sse::Event::Data(data.clone());
        let mut body = pin!(sse::Sse::from_infallible_stream(stream::iter((0..times).map(event))));
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(wire)) = body.as_mut().poll_next(&mut context) {
            sink(&wire.expect("nothing is wrong with it"));
        }
    }
}
