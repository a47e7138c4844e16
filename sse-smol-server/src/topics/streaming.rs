//! Subscriptions as streams of single frames.

use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use smol::stream::Stream;

use crate::Frame;
use crate::topics::subscription::{
    BatchResult, Behind, Cursors, Inner, Streaming, Subscription, SubscriptionError, wait_number,
};

impl Subscription {
    fn streaming(&mut self) -> &mut Streaming {
        self.0.streaming.get_or_insert_default()
    }

    /// Begins a read from the storage, which takes the topics and the position along.
    fn begin_reading(&mut self) {
        let streaming = self.0.streaming.take();
        let empty = Inner {
            topics: Cursors::Several(Vec::new()),
            position: self.0.position,
            state: Arc::clone(&self.0.state),
            first: None,
            held: 0,
            streaming,
        };
        let mut subscription = mem::replace(self, Self(Box::new(empty)));
        self.streaming().reading = Some(Mutex::new(Box::pin(async move {
            let batch = subscription.read_behind().await;
            (subscription, batch)
        })));
    }

    /// Continues the read that was begun, if there is one, and returns its batch.
    pub(crate) fn poll_reading(&mut self, cx: &mut Context<'_>) -> Poll<Option<BatchResult>> {
        let Some(streaming) = &mut self.0.streaming else {
            return Poll::Ready(None);
        };
        let Some(reading) = &mut streaming.reading else {
            return Poll::Ready(None);
        };
        let reading = reading.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (mut subscription, batch) = ready!(reading.as_mut().poll(cx));
        streaming.reading = None;
        subscription.0.streaming = self.0.streaming.take();
        *self = subscription;
        Poll::Ready(Some(batch))
    }

    /// Removes the wakers that were registered by the last poll.
    pub(crate) fn stop_streaming(&mut self) {
        let waiting = self.0.streaming.as_mut().and_then(|streaming| streaming.waiting.take());
        if let Some(number) = waiting {
            self.0.stop_waiting(number);
        }
    }
}

impl Stream for Subscription {
    type Item = Result<Frame, SubscriptionError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.stop_streaming();
        loop {
            let streaming = this.streaming();
            if streaming.has_failed {
                return Poll::Ready(None);
            }
            if let Some(frame) = streaming.frames.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            let batch = match ready!(this.poll_reading(cx)) {
                Some(batch) => batch,
                None => match this.read() {
                    Ok(frames) if frames.is_empty() => {
                        let number = wait_number();
                        this.streaming().waiting = Some(number);
                        if this.0.wait(number, cx.waker()) {
                            this.stop_streaming();
                            continue;
                        }
                        return Poll::Pending;
                    }
                    Ok(frames) => Ok(frames),
                    Err(Behind) => {
                        this.begin_reading();
                        continue;
                    }
                },
            };
            match batch {
                Ok(frames) => this.streaming().frames = frames.into(),
                Err(error) => {
                    this.streaming().has_failed = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}
