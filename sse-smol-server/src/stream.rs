//! Event streams, as handlers use them.

use std::future::Future;
use std::sync::Arc;

use smol::future::poll_once;
use smol::stream::{Stream, StreamExt as _};

use crate::connection::Connection;
use crate::connection::delivery::{DeliveryWorkers, Parked};
use crate::topics::subscription::Behind;
use crate::topics::window::{BATCH_BYTES, BATCH_EVENTS};
use crate::{CancelToken, Closed, Error, Frame, Subscription};

/// An item that a stream sends: what converts to a [`Frame`], or a result of that whose error
/// converts to an [`Error`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent as an event",
    note = "map it to `Event`, `OwnedEvent`, `Comment` or `Frame`, or to a result of one whose \
            error converts to `sse_smol_server::Error`"
)]
pub trait IntoFrame {
    /// Returns the frame to send, or the error to end with.
    ///
    /// # Errors
    ///
    /// The error of a result.
    fn into_frame(self) -> Result<Frame, Error>;
}

impl<T: Into<Frame>> IntoFrame for T {
    fn into_frame(self) -> Result<Frame, Error> {
        Ok(self.into())
    }
}

impl<T: Into<Frame>, E: Into<Error>> IntoFrame for Result<T, E> {
    fn into_frame(self) -> Result<Frame, Error> {
        self.map(Into::into).map_err(Into::into)
    }
}

/// Frames to be sent together.
#[derive(Default)]
struct Batch {
    frames: Vec<Frame>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, item: impl IntoFrame) -> Result<(), Error> {
        let frame = item.into_frame()?;
        self.bytes += frame.encoded().len();
        self.frames.push(frame);
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.frames.len() < BATCH_EVENTS && self.bytes < BATCH_BYTES
    }
}

/// An open event stream, whose response head has been sent.
///
/// When the handler returns `Ok`, the stream is completed (in HTTP/1.1 with the last chunk).
#[derive(Debug)]
pub struct EventStream {
    connection: Arc<Connection>,
    workers: Arc<DeliveryWorkers>,
}

impl EventStream {
    pub(crate) fn new(connection: Arc<Connection>, workers: Arc<DeliveryWorkers>) -> Self {
        connection.shared.metrics.streams.inc();
        connection.shared.admission.opened_stream(connection.peer());
        Self { connection, workers }
    }

    /// Sends an [`Event`](sse_proto::Event), an [`OwnedEvent`](sse_proto::OwnedEvent), a
    /// [`Comment`](sse_proto::Comment) or a [`Frame`], and returns when the kernel has accepted all of it, which is the backpressure.
    ///
    /// If the future is dropped, the frame is either not sent, or queued and sent whole before the
    /// next one. So dropped sends leave at most one frame in the queue.
    ///
    /// # Errors
    ///
    /// Returns an [`Error`] if the peer is gone or the stream has ended.
    pub async fn send(&mut self, frame: impl Into<Frame>) -> Result<(), Error> {
        let frame = frame.into();
        // An earlier send that was dropped may have left a frame in the queue.
        self.connection.flush().await?;
        if !self.connection.push([frame]) {
            return Err(Error::Ended);
        }
        self.connection.flush().await
    }

    /// Sends several events in few writes, and returns when the kernel has accepted all of them.
    /// Items are what [`send`](Self::send) takes, or results of that. An error among them ends the
    /// sending: the items before it are sent, and the error is returned.
    ///
    /// ```
    /// use sse_smol_server::sse_proto::OwnedEvent;
    /// # use sse_smol_server::{Error, Request};
    ///
    /// async fn numbers(request: Request) -> Result<(), Error> {
    ///     request.open().await?.send_all((0..10).map(|n| OwnedEvent::from_json(&n))).await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an [`Error`] if the peer is gone or the stream has ended, or that of an item.
    pub async fn send_all<I>(&mut self, frames: I) -> Result<(), Error>
    where
        I: IntoIterator,
        I::Item: IntoFrame,
    {
        // An earlier send that was dropped may have left a frame in the queue.
        self.connection.flush().await?;
        // The caller's iterator must not run under the lock of the connection.
        let mut batch = Batch::default();
        let result = frames.into_iter().try_for_each(|frame| batch.add(frame));
        self.queue(batch.frames)?;
        self.connection.flush().await?;
        result
    }

    /// Sends the items of `frames` until it ends. Items that are ready together are sent together.
    /// They are what [`send`](Self::send) takes, or results of that, of which the first error ends
    /// the sending and is returned.
    ///
    /// At most 512 events or about 64 KiB are taken from `frames` before they are sent, so a client
    /// that accepts no data puts backpressure on it. When the client disconnects, `frames` is
    /// dropped, which closes a channel, and events that were taken and not sent are lost.
    ///
    /// ```
    /// # use sse_smol_server::{Error, Request};
    /// use std::time::Duration;
    ///
    /// use smol::stream::{Stream, StreamExt};
    /// use sse_smol_server::Frame;
    /// use sse_smol_server::sse_proto::{Event, OwnedEvent};
    ///
    /// async fn from_channel(request: Request) -> Result<(), Error> {
    ///     let (sender, receiver) = smol::channel::bounded::<Frame>(1);
    ///     # let feed = async move { sender.send(Event::new("x").into()).await };
    ///     request.open().await?.forward(receiver).await
    /// }
    ///
    /// async fn relay<S>(request: Request, lines: S) -> Result<(), Error>
    /// where
    ///     S: Stream<Item = std::io::Result<String>>,
    /// {
    ///     let events = lines.map(|line| line.map(OwnedEvent::new)); // the first error is returned
    ///     request.open().await?.forward(events).await
    /// }
    ///
    /// async fn periodic(request: Request) -> Result<(), Error> {
    ///     let ticks = smol::Timer::interval(Duration::from_secs(1));
    ///     request.open().await?.forward(ticks.map(|_| Event::new("tick"))).await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an [`Error`] if the peer is gone or the stream has ended, or that of an item.
    pub async fn forward<S>(&mut self, frames: S) -> Result<(), Error>
    where
        S: Stream,
        S::Item: IntoFrame,
    {
        let mut frames = std::pin::pin!(frames);
        while let Some(first) = frames.next().await {
            let mut batch = Batch::default();
            let mut end = batch.add(first).err().map(Err);
            while end.is_none() && batch.has_room() {
                match poll_once(frames.next()).await {
                    Some(Some(next)) => end = batch.add(next).err().map(Err),
                    Some(None) => end = Some(Ok(())),
                    None => break,
                }
            }
            self.send_all(batch.frames).await?;
            if let Some(result) = end {
                return result;
            }
        }
        Ok(())
    }

    /// Sends the events of a subscription's topics, from its position on. Never returns `Ok`.
    ///
    /// # Errors
    ///
    /// Returns an [`Error`] if the peer is gone, [`Error::Lagged`] if the subscription has fallen
    /// behind, or [`Error::Storage`] if its storage failed.
    #[expect(clippy::manual_async_fn, reason = "an async fn holds its arguments twice")]
    pub fn follow(
        &mut self,
        mut subscription: Subscription,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        async move {
            loop {
                self.connection.flush().await?;
                match subscription.read_runs() {
                    Ok(frames) if frames.is_empty() => {}
                    Ok(frames) => {
                        self.queue(frames)?;
                        continue;
                    }
                    Err(Behind) => {
                        let frames = Box::pin(subscription.read_behind()).await?;
                        self.queue(frames)?;
                        continue;
                    }
                }
                let Some((topic, position)) = subscription.only_topic() else {
                    // Not parked: the windows of several topics have to be read under one lock.
                    Box::pin(subscription.news()).await;
                    continue;
                };
                let Self { connection, workers } = self;
                match Parked::begin(connection, workers, topic, position) {
                    Ok(mut parked) => {
                        let position = (&mut parked).await?;
                        subscription.go_to(position);
                    }
                    Err(position) => subscription.go_to(position),
                }
            }
        }
    }

    /// Queues frames, if the stream has not ended.
    fn queue(&self, frames: Vec<Frame>) -> Result<(), Error> {
        if self.connection.push(frames) { Ok(()) } else { Err(Error::Ended) }
    }

    /// Registers a hook that is called once when the stream has ended for any reason. It gets the
    /// reason and the last event ID that was sent. It runs when the handler has been dropped, or at
    /// once if the stream has already ended, and should return quickly.
    ///
    /// ```
    /// # use sse_smol_server::sse_proto;
    /// # use sse_smol_server::{Error, Request};
    /// async fn handler(request: Request) -> Result<(), Error> {
    ///     let mut stream = request.open().await?;
    ///     stream.on_close(|closed| println!("{} after {:?}", closed.reason, closed.last_event_id));
    ///     stream.send(sse_proto::Event::new("hello")).await
    /// }
    /// ```
    pub fn on_close(&mut self, hook: impl FnOnce(&Closed) + Send + 'static) {
        self.connection.on_close(Box::new(hook));
    }

    /// Returns a token that signals the end of the stream to other tasks, so that they stop working
    /// for it.
    ///
    /// ```
    /// # use sse_smol_server::sse_proto;
    /// # use sse_smol_server::{Error, Request};
    /// # async fn generate() {}
    /// async fn handler(request: Request) -> Result<(), Error> {
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
        let Self { connection, .. } = self;
        connection.shared.metrics.streams.dec();
        connection.shared.admission.closed_stream(connection.peer());
    }
}
