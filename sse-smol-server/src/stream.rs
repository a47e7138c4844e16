//! The event stream that a handler holds.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use smol::future::poll_once;
use smol::stream::{Stream, StreamExt as _};

use crate::connection::Connection;
use crate::connection::delivery::Parked;
use crate::notifier::Flag;
use crate::topics::history::{BATCH_BYTES, BATCH_EVENTS};
use crate::{End, Frame, Lagged, Subscription};

/// An open event stream. The peer has the head.
///
/// When the handler returns `Ok`, the stream ends as
/// a whole (HTTP/1.1: with the last chunk).
#[derive(Debug)]
pub struct EventStream {
    connection: Arc<Connection>,
}

impl EventStream {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        connection.shared.metrics.streams.inc();
        connection.shared.admission.opened_stream(connection.peer);
        Self { connection }
    }

    /// Sends an [`Event`](sse_proto::Event), a [`Comment`](sse_proto::Comment) or a [`Frame`], and
    /// returns when the kernel has taken all of it: that is the backpressure.
    ///
    /// Dropping the future tears nothing: an event that has begun to go out goes out whole, before
    /// whatever is sent next. One whose turn has not come is not sent; so no more than one waits.
    ///
    /// # Errors
    ///
    /// An [`End`] if the peer is gone.
    pub async fn send(&mut self, frame: impl Into<Frame>) -> Result<(), End> {
        let frame = frame.into();
        // What an earlier send that was dropped has left over.
        self.connection.flush().await?;
        if !self.connection.push([frame]) {
            return Err(End::Finished);
        }
        self.connection.flush().await
    }

    /// Sends several at once, in few writes.
    ///
    /// # Errors
    ///
    /// An [`End`] if the peer is gone.
    pub async fn send_all(&mut self, frames: impl IntoIterator<Item = Frame>) -> Result<(), End> {
        // What an earlier send that was dropped has left over.
        self.connection.flush().await?;
        // The iterator is the caller's: it does not run under the lock of the connection.
        let frames: Vec<Frame> = frames.into_iter().collect();
        if !self.connection.push(frames) {
            return Err(End::Finished);
        }
        self.connection.flush().await
    }

    /// Sends whatever a stream yields, until it ends; what is ready at a time goes out together,
    /// within limits.
    ///
    /// It is not polled while the client takes nothing, but for some events ahead, up to 512 of them or
    /// 64 KiB; and dropped as soon as the client is gone: a bounded channel sees backpressure first, and
    /// then that it is closed. What was taken from it by then and not sent is lost with it.
    ///
    /// ```
    /// # use sse_smol_server::{End, Request};
    /// use std::time::Duration;
    ///
    /// use smol::stream::StreamExt;
    /// use sse_proto::Event;
    /// use sse_smol_server::Frame;
    ///
    /// async fn from_channel(request: Request) -> Result<(), End> {
    ///     let (sender, receiver) = smol::channel::bounded::<Frame>(1);
    ///     # let feed = async move { sender.send(Event::new("x").into()).await };
    ///     request.open().await?.forward(receiver).await
    /// }
    ///
    /// async fn periodic(request: Request) -> Result<(), End> {
    ///     let ticks = smol::Timer::interval(Duration::from_secs(1));
    ///     request.open().await?.forward(ticks.map(|_| Event::new("tick"))).await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// An [`End`] if the peer is gone.
    pub async fn forward<S>(&mut self, frames: S) -> Result<(), End>
    where
        S: Stream,
        S::Item: Into<Frame>,
    {
        let mut frames = std::pin::pin!(frames);
        while let Some(first) = frames.next().await {
            let first: Frame = first.into();
            let mut bytes = first.encoded().len();
            let mut ready = vec![first];
            let mut ended = false;
            while ready.len() < BATCH_EVENTS && bytes < BATCH_BYTES && !ended {
                match poll_once(frames.next()).await {
                    Some(Some(frame)) => {
                        let frame = frame.into();
                        bytes += frame.encoded().len();
                        ready.push(frame);
                    }
                    Some(None) => ended = true,
                    None => break,
                }
            }
            self.send_all(ready).await?;
            if ended {
                break;
            }
        }
        Ok(())
    }

    /// Sends what is published to topics, from where the subscription begins.
    ///
    /// # Errors
    ///
    /// An [`End`] if the peer is gone, or if it lags ([`End::Lagged`]).
    #[expect(clippy::manual_async_fn, reason = "an async fn holds its arguments twice")]
    pub fn follow(
        &mut self,
        mut subscription: Subscription,
    ) -> impl Future<Output = Result<(), End>> + Send {
        async move {
            loop {
                self.connection.flush().await?;
                if self.queue_news(&mut subscription)? {
                    continue;
                }
                let Some((topic, position)) = subscription.only_topic() else {
                    // Logs of several topics are read at one moment, which is this stream's own.
                    Box::pin(subscription.news()).await;
                    continue;
                };
                if let Some(mut rest) = Parked::begin(&self.connection, topic, position) {
                    let position = (&mut rest).await?;
                    subscription.go_to(position);
                }
            }
        }
    }

    /// Queues what there is to read. False if there is nothing.
    fn queue_news(&self, subscription: &mut Subscription) -> Result<bool, End> {
        let frames = subscription.read().map_err(|Lagged| End::Lagged)?;
        let any = !frames.is_empty();
        if any && !self.connection.push(frames) {
            return Err(End::Finished);
        }
        Ok(any)
    }

    /// Has `hook` called once when the stream is over, whatever ends it, with the reason and the
    /// last id that was sent. It runs when the handler is gone, or now if the stream is over
    /// already; what it does should not take long.
    ///
    /// ```
    /// # use sse_smol_server::{End, Request};
    /// async fn handler(request: Request) -> Result<(), End> {
    ///     let mut stream = request.open().await?;
    ///     stream.on_close(|closed| println!("{} after {:?}", closed.reason, closed.last_event_id));
    ///     stream.send(sse_proto::Event::new("hello")).await
    /// }
    /// ```
    pub fn on_close(&mut self, hook: impl FnOnce(&Closed) + Send + 'static) {
        self.connection.on_close(Box::new(hook));
    }

    /// A token that tells other tasks when the stream is over, say to cancel work upstream.
    ///
    /// ```
    /// # use sse_smol_server::{End, Request};
    /// # async fn generate() {}
    /// async fn handler(request: Request) -> Result<(), End> {
    ///     let mut stream = request.open().await?;
    ///     let gone = stream.token();
    ///     smol::spawn(async move { smol::future::or(generate(), gone.cancelled()).await }).detach();
    ///     stream.send(sse_proto::Event::new("hello")).await
    /// }
    /// ```
    pub fn token(&self) -> CancelToken {
        self.connection.token()
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        let Connection { shared, peer, .. } = &*self.connection;
        shared.metrics.streams.dec();
        shared.admission.closed_stream(*peer);
    }
}

/// How a stream ended: see [`EventStream::on_close`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Closed {
    /// Why.
    pub reason: End,
    /// The id of the last event with one that the kernel has taken whole.
    pub last_event_id: Option<Box<[u8]>>,
    /// How many events it has taken.
    pub events: u64,
}

/// Tells that a stream is over: see [`EventStream::token`].
#[derive(Clone)]
pub struct CancelToken(Flag);

impl CancelToken {
    /// Creates a token of a stream that is open.
    pub(crate) fn new() -> Self {
        Self(Flag::default())
    }

    /// Notes that the stream is over.
    pub(crate) fn cancel(&self) {
        self.0.set();
    }

    /// Waits until the stream is over.
    pub async fn cancelled(&self) {
        self.0.wait().await;
    }

    /// Whether the stream is over.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_set()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("is_cancelled", &self.is_cancelled()).finish()
    }
}
