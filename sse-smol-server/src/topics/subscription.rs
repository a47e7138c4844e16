//! Subscriptions: cursors into the logs of topics.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::mem;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::Frame;
use crate::storage::{Page, PageLimit, StorageError, StorageErrorKind, StoredEvent};
use crate::topics::backing::Backing;
use crate::topics::registry::{Topic, unsubscribe};
use crate::topics::state::State;
use crate::topics::window::{BATCH_BYTES, BATCH_EVENTS, REPLAY_BYTES};

/// A cursor into the logs of one or more topics.
///
/// [`EventStream::follow`](crate::EventStream::follow) sends its events to a client.
///
/// It is also a [`Stream`](smol::stream::Stream) of frames, to combine with others. The stream ends
/// after its first error.
///
/// ```
/// use smol::stream::StreamExt;
/// use sse_smol_server::sse_proto::Event;
/// use sse_smol_server::{Start, Topics, TopicsConfig};
///
/// # smol::block_on(async {
/// let topics = Topics::new(TopicsConfig::default())?;
/// topics.publish("news", Event::new("hello")).await?;
/// let events = topics.subscribe(&["news"], Start::Earliest).await?;
/// let mut events = events.skip(1); // an id to resume from
/// assert!(events.next().await.unwrap()?.encoded().ends_with(b"data: hello\n\n"));
/// # Ok::<(), sse_smol_server::Error>(())
/// # }).unwrap();
/// ```
// Boxed, so that a future that holds one stays small.
#[derive(Debug)]
pub struct Subscription(pub(crate) Box<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) topics: Cursors,
    /// All events up to this position have been read.
    pub(crate) position: u64,
    pub(crate) state: Arc<State>,
    /// The block to return before any event: the start marker or a gap event.
    pub(crate) first: Option<Frame>,
    /// The memory of the page that was read last, in bytes, until the next read.
    pub(crate) held: usize,
    /// What was begun by polling the subscription as a stream.
    pub(crate) streaming: Option<Box<Streaming>>,
}

/// The cursors of a subscription. Most have one, which needs no allocation.
#[derive(Debug)]
pub(crate) enum Cursors {
    One(Cursor),
    Several(Vec<Cursor>),
}

#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) topic: Arc<Topic>,
    /// Missing events up to this position do not count as a lag: they precede the start of the
    /// subscription, or a gap event has reported them.
    pub(crate) gap_end: u64,
}

/// A batch of events, or the end of the subscription.
pub(crate) type BatchResult = Result<Vec<Frame>, SubscriptionError>;

/// A read from the storage. It owns the subscription, since a stream cannot hold a future that
/// borrows from it.
pub(crate) type Reading = Pin<Box<dyn Future<Output = (Subscription, BatchResult)> + Send>>;

/// What a subscription holds between two polls as a stream.
#[derive(Default)]
pub(crate) struct Streaming {
    /// Frames that were read and not yielded.
    pub(crate) frames: VecDeque<Frame>,
    /// While there is one, the subscription that holds this has no topics. Never locked: the mutex
    /// makes the subscription `Sync`.
    pub(crate) reading: Option<Mutex<Reading>>,
    /// The number under which wakers are registered in the topics.
    pub(crate) waiting: Option<u64>,
    pub(crate) has_failed: bool,
}

impl Streaming {
    const fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    fn take_frames(&mut self) -> Vec<Frame> {
        mem::take(&mut self.frames).into()
    }
}

impl fmt::Debug for Streaming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming")
            .field("frames", &self.frames)
            .field("waiting", &self.waiting)
            .field("has_failed", &self.has_failed)
            .finish_non_exhaustive()
    }
}

/// The reason why a subscription has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscriptionError {
    /// The subscription has fallen behind: events were dropped before it read them.
    Lagged,
    /// The storage cannot be read, or its feed has ended.
    Storage(StorageError),
}

impl fmt::Display for SubscriptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lagged => f.write_str("the subscription fell behind: events were dropped"),
            Self::Storage(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SubscriptionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Lagged => None,
            Self::Storage(error) => std::error::Error::source(error),
        }
    }
}

impl From<StorageError> for SubscriptionError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// The error of a read from memory that would have to begin before the events held there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behind;

/// Events of several topics by position, and the position up to which they are complete.
struct Batch {
    events: Vec<(u64, Frame)>,
    end: u64,
}

impl Batch {
    fn new(end: u64) -> Self {
        Self { events: Vec::new(), end }
    }

    /// Returns the frames up to the end in the order of positions, and the last position.
    fn into_frames(mut self) -> (Vec<Frame>, Option<u64>) {
        self.events.sort_unstable_by_key(|(position, _)| *position);
        self.events.truncate(self.events.partition_point(|(position, _)| *position <= self.end));
        let last = self.events.last().map(|(position, _)| *position);
        (self.events.into_iter().map(|(_, frame)| frame).collect(), last)
    }
}

impl Subscription {
    /// Creates a subscription to topics that count it already.
    pub(crate) fn new(state: Arc<State>, topics: Vec<Arc<Topic>>, position: u64) -> Self {
        let mut cursors: Vec<Cursor> =
            topics.into_iter().map(|topic| Cursor { topic, gap_end: 0 }).collect();
        let topics = match cursors.pop() {
            Some(only) if cursors.is_empty() => Cursors::One(only),
            last => {
                cursors.extend(last);
                Cursors::Several(cursors)
            }
        };
        state.counts.subscriptions.fetch_add(topics.len(), Ordering::Relaxed);
        Self(Box::new(Inner { topics, position, state, first: None, held: 0, streaming: None }))
    }

    /// Waits for the next events and returns a batch of them, oldest first.
    ///
    /// No event is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// [`SubscriptionError::Lagged`] if events were dropped before they were read, unless
    /// [`gap_on_lag`](crate::TopicsConfig::gap_on_lag) is set, which makes it a gap event.
    /// [`SubscriptionError::Storage`] if the storage fails. After an error, a new subscription that
    /// starts after the last event continues.
    pub async fn next_batch(&mut self) -> Result<Vec<Frame>, SubscriptionError> {
        loop {
            let frames = match self.read() {
                Ok(frames) => frames,
                Err(Behind) => self.read_behind().await?,
            };
            if !frames.is_empty() {
                return Ok(frames);
            }
            self.news().await;
        }
    }

    /// Waits until there may be events to read.
    pub(crate) fn news(&self) -> impl Future<Output = ()> + Send {
        News { subscription: &self.0, number: wait_number() }
    }

    /// Returns the topic and the position in it, if the subscription has a single topic.
    pub(crate) fn only_topic(&self) -> Option<(&Arc<Topic>, u64)> {
        match &self.0.topics {
            Cursors::One(cursor) => Some((&cursor.topic, self.0.position.max(cursor.gap_end))),
            Cursors::Several(_) => None,
        }
    }

    /// Sets the position, after another task has delivered the events up to it.
    pub(crate) fn go_to(&mut self, position: u64) {
        self.0.position = position;
    }

    /// Returns the first batch of events that are ready, oldest first, for [`Request::open_with`].
    ///
    /// Events that are in a storage alone are not ready: [`next_batch`](Self::next_batch) returns
    /// them. If events were dropped before they were read, the result has none, and `next_batch`
    /// returns the error.
    ///
    /// ```
    /// # use sse_smol_server::{Error, Request, Subscription};
    /// async fn resume(mut subscription: Subscription, request: Request) -> Result<(), Error> {
    ///     let missed = subscription.ready();
    ///     request.open_with(missed).await?.follow(subscription).await
    /// }
    /// ```
    ///
    /// [`Request::open_with`]: crate::Request::open_with
    pub fn ready(&mut self) -> Vec<Frame> {
        let mut frames: Vec<Frame> = self.0.first.take().into_iter().collect();
        frames.extend(self.read().unwrap_or_default());
        frames
    }

    /// Returns the next batch of events in memory, which is empty if there are none.
    pub(crate) fn read(&mut self) -> Result<Vec<Frame>, Behind> {
        if let Some(frames) = self.begun()? {
            return Ok(frames);
        }
        // Several windows are read under the registry's lock. Otherwise an event could be appended
        // to a window that was read already, and a later event of another window would pass it.
        let registry = (self.0.topics.len() > 1).then(|| self.0.state.registry());
        // Where a window's batch is cut off, later events of all windows wait for the next batch.
        let mut batch = Batch::new(u64::MAX);
        for cursor in self.0.topics.iter() {
            let window = cursor.topic.window();
            let after = self.0.position.max(cursor.gap_end);
            let events = window.events_after(after).map_err(|_| Behind)?;
            let mut bytes = 0;
            let end = batch.end;
            for (count, event) in events.take_while(|(position, _)| *position <= end).enumerate() {
                let position = event.0;
                bytes += event.1.encoded().len();
                batch.events.push(event);
                if count + 1 == BATCH_EVENTS || bytes >= BATCH_BYTES {
                    batch.end = position;
                    break;
                }
            }
        }
        drop(registry);
        let (frames, last) = batch.into_frames();
        if let Some(last) = last {
            self.0.position = last;
        }
        Ok(frames)
    }

    /// Returns the next batch of events in memory, which is empty if there are none. Consecutive
    /// events of a segment are one frame, so that there is no work for each of them.
    pub(crate) fn read_runs(&mut self) -> Result<Vec<Frame>, Behind> {
        if self.only_topic().is_none() {
            return self.read();
        }
        if let Some(frames) = self.begun()? {
            return Ok(frames);
        }
        let (mut frames, mut bytes) = (Vec::new(), 0);
        let Some((topic, mut position)) = self.only_topic() else { return Ok(frames) };
        for entry in topic.window().after(position).map_err(|_| Behind)? {
            let is_run = entry.frame.events() > 1;
            bytes += entry.frame.encoded().len();
            position = entry.position;
            frames.push(entry.frame);
            let most = if is_run { REPLAY_BYTES } else { BATCH_BYTES };
            if frames.len() == BATCH_EVENTS || bytes >= most {
                break;
            }
        }
        self.0.position = position;
        Ok(frames)
    }

    /// Returns frames that were read or queued before, which precede those of the windows.
    fn begun(&mut self) -> Result<Option<Vec<Frame>>, Behind> {
        if let Some(streaming) = &mut self.0.streaming {
            if streaming.is_reading() {
                return Err(Behind);
            }
            let frames = streaming.take_frames();
            if !frames.is_empty() {
                return Ok(Some(frames));
            }
        }
        if let Some(first) = self.0.first.take() {
            return Ok(Some(vec![first]));
        }
        // All frames of the page before have been sent.
        self.hold_page(0);
        Ok(None)
    }

    /// Returns the next batch of events from the storage, or a gap event if events are missing. An
    /// empty batch means that the subscription has caught up with memory.
    pub(crate) async fn read_behind(&mut self) -> Result<Vec<Frame>, SubscriptionError> {
        if let Some(result) = poll_fn(|cx| self.poll_reading(cx)).await {
            return result;
        }
        if let Some(frames) = self.read_pages().await? {
            return Ok(frames);
        }
        if !self.0.state.config.gap_on_lag {
            return Err(SubscriptionError::Lagged);
        }
        self.queue_gap("lagged", None, self.0.position).await?;
        Ok(self.0.first.take().into_iter().collect())
    }

    /// Returns the next batch of events from the storage, or `None` if events are missing: the
    /// storage has dropped them, or there is no storage.
    async fn read_pages(&mut self) -> Result<Option<Vec<Frame>>, StorageError> {
        let Inner { topics, position, state, held, .. } = &mut *self.0;
        let Some(backing) = &state.backing else {
            return Ok(None);
        };
        backing.check()?;
        let limit = backing.pages.limit();
        // Reserved for pages that are read at the same time.
        backing.pages.hold(held, limit.bytes * topics.len());
        // Events up to here are in the storage. Later ones are in memory, or will be.
        let mut batch = Batch::new(state.registry().last_position);
        for cursor in topics.iter() {
            let after = (*position).max(cursor.gap_end);
            let page = read_page(backing, &cursor.topic.name, after, limit).await?;
            if page.dropped > after {
                return Ok(None);
            }
            if let Some(last) = page.events.last().filter(|_| !page.is_last) {
                batch.end = batch.end.min(last.position);
            }
            batch.events.extend(page.events.iter().map(|event| {
                let id = state.id_at(event.position, event.id.as_deref());
                (event.position, Frame::with_id(&event.fields, &id))
            }));
        }
        *position = (*position).max(batch.end);
        let frames = batch.into_frames().0;
        backing.pages.hold(held, frames.iter().map(Frame::memory).sum());
        Ok(Some(frames))
    }

    /// Records the memory of the page that this holds.
    fn hold_page(&mut self, bytes: usize) {
        let Inner { state, held, .. } = &mut *self.0;
        if *held != bytes
            && let Some(backing) = &state.backing
        {
            backing.pages.hold(held, bytes);
        }
    }
}

/// Reads a page of a topic's events.
async fn read_page(
    backing: &Backing,
    topic: &str,
    after: u64,
    limit: PageLimit,
) -> Result<Page, StorageError> {
    let page = backing.read(topic, after, limit).await?;
    // Either would be read again for ever.
    let why = if page.events.is_empty() && !page.is_last {
        "it returned a page without events that is not the last"
    } else if !is_after(&page.events, after) {
        "it returned a page whose positions do not increase"
    } else {
        return Ok(page);
    };
    Err(StorageError::new(StorageErrorKind::Unavailable, why))
}

/// Returns whether the positions of events increase, and the first is after `after`.
fn is_after(events: &[StoredEvent], mut after: u64) -> bool {
    events.iter().all(|event| mem::replace(&mut after, event.position) < event.position)
}

/// A wait for events of any of the topics.
#[derive(Debug)]
struct News<'s> {
    subscription: &'s Inner,
    /// The key of the waker in the topics' maps.
    number: u64,
}

impl Future for News<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.subscription.wait(self.number, cx.waker()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for News<'_> {
    fn drop(&mut self) {
        self.subscription.stop_waiting(self.number);
    }
}

/// Returns a new number for a wait.
pub(crate) fn wait_number() -> u64 {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

impl Inner {
    /// Registers a waker in all topics, and returns whether there may be events already.
    pub(crate) fn wait(&self, number: u64, waker: &Waker) -> bool {
        for cursor in self.topics.iter() {
            let waker = waker.clone();
            let replaced = cursor.topic.followers().waiting.insert(number, waker);
            // Dropping a waker may drop a task, so the lock is released first.
            drop(replaced);
        }
        // Checked after the wakers are registered, so that no event in between goes unnoticed.
        self.topics.iter().any(|cursor| cursor.topic.has_more(self.position.max(cursor.gap_end)))
    }

    /// Removes the wakers of a wait.
    pub(crate) fn stop_waiting(&self, number: u64) {
        for cursor in self.topics.iter() {
            let waker = cursor.topic.followers().waiting.remove(&number);
            drop(waker);
        }
    }
}

impl Deref for Cursors {
    type Target = [Cursor];

    fn deref(&self) -> &[Cursor] {
        match self {
            Self::One(cursor) => slice::from_ref(cursor),
            Self::Several(cursors) => cursors,
        }
    }
}

impl DerefMut for Cursors {
    fn deref_mut(&mut self) -> &mut [Cursor] {
        match self {
            Self::One(cursor) => slice::from_mut(cursor),
            Self::Several(cursors) => cursors,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.stop_streaming();
        self.hold_page(0);
        for cursor in self.0.topics.iter() {
            unsubscribe(&cursor.topic, || self.0.state.registry());
        }
        self.0.state.counts.subscriptions.fetch_sub(self.0.topics.len(), Ordering::Relaxed);
    }
}
