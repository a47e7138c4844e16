//! The feed: puts the events that a storage has appended into the windows in memory, in the order
//! of their positions, and notifies the subscribers.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use smol::channel::Receiver;
use smol::future::{or, yield_now};
use smol::stream::StreamExt as _;

use crate::Frame;
use crate::compact_instant::CompactInstant;
use crate::storage::{Change, StorageError, StorageErrorKind, StorageStream, StoredEvent};
use crate::topics::config::TopicsConfig;
use crate::topics::state::State;
use crate::topics::window::Entry;

/// A future that makes the events of a storage visible: see [`Topics::open`](crate::Topics::open).
///
/// It has to be polled as long as the topics are in use, for instance on a task. It ends when all
/// handles of the topics have been dropped, subscriptions included, or with the error of
/// [`Storage::follow`](crate::storage::Storage::follow). From then on, publishing and subscribing
/// return that error, and subscriptions end with it. The same happens if the feed is dropped.
#[must_use = "nothing is published or delivered unless the feed is polled"]
pub struct Feed(Pin<Box<dyn Future<Output = Result<(), StorageError>> + Send>>);

impl Feed {
    /// Creates a feed, which ends when the senders of `dropped` are gone.
    pub(crate) fn new(
        state: &Arc<State>,
        changes: StorageStream,
        dropped: Receiver<Infallible>,
    ) -> Self {
        let run = run(CloseOnDrop(Arc::downgrade(state)), changes);
        let dropped = async move {
            // Nothing is ever sent.
            let _ = dropped.recv().await;
            Ok(())
        };
        Self(Box::pin(or(dropped, run)))
    }
}

impl Future for Feed {
    type Output = Result<(), StorageError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

/// Closes the topics of a feed that is dropped before it has ended.
struct CloseOnDrop(Weak<State>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(state) = self.0.upgrade() {
            state.close(unavailable("the feed of the topics was dropped"));
        }
    }
}

fn unavailable(why: &str) -> StorageError {
    StorageError::new(StorageErrorKind::Unavailable, why)
}

/// Returns an error unless a position follows the last one.
fn check_order(position: u64, last_position: u64) -> Result<(), StorageError> {
    if position <= last_position {
        return Err(unavailable("it returned events out of order"));
    }
    Ok(())
}

/// The number of events after which the feed yields to other tasks.
const EVENTS_AT_ONCE: usize = 64;

async fn run(state: CloseOnDrop, mut changes: StorageStream) -> Result<(), StorageError> {
    let mut left = EVENTS_AT_ONCE;
    loop {
        // A storage may have many events ready, after it has committed them together.
        if left == 0 {
            yield_now().await;
            left = EVENTS_AT_ONCE;
        }
        left -= 1;
        let next = changes.next().await;
        let Some(state) = state.0.upgrade() else {
            return Ok(());
        };
        let failure = match next {
            Some(Ok(change)) => match state.apply(change) {
                Ok(()) => continue,
                Err(failure) => failure,
            },
            Some(Err(failure)) => failure,
            None => unavailable("the stream of its events has ended"),
        };
        state.close(failure.clone());
        return Err(failure);
    }
}

impl State {
    /// Applies a change of the storage to the windows in memory.
    fn apply(&self, change: Change) -> Result<(), StorageError> {
        match change {
            Change::Appended { topic, event } => self.append_stored(&topic, event),
            Change::Deleted { topic, position } => self.delete_stored(&topic, position),
            Change::Dropped { topic, position } => self.skip_to(&topic, position),
            Change::AllDropped { position } => self.skip_all_to(position),
            Change::Skipped { position } => self.advance(position),
            Change::Reset { epoch, position } => self.reset(epoch, position),
        }
    }

    /// Drops all events after the storage has replaced its log, and begins a new epoch. Subscribers
    /// are woken, find that events are missing, and get a gap event.
    fn reset(&self, epoch: String, position: u64) -> Result<(), StorageError> {
        log::warn!("the log of the storage was replaced: subscribers get a gap event");
        // This precedes the new positions: a task that finds one also finds its epoch.
        self.epochs.begin(epoch)?;
        if let Some(backing) = &self.backing {
            backing.counts.resets.inc();
        }
        self.skip_all_to(position)
    }

    /// Moves the windows of all topics to a position, before which events are missing. Subscribers
    /// are woken, and read pages, which report the gap.
    fn skip_all_to(&self, position: u64) -> Result<(), StorageError> {
        // The first position of an epoch has no event, but follows those of the epoch before.
        let position = self.epoch().in_memory(position);
        let mut registry = self.registry();
        check_order(position, registry.last_position)?;
        let topics = registry.reset(position);
        drop(registry);
        for topic in &topics {
            topic.notify();
        }
        if let Some(backing) = &self.backing {
            backing.set_applied(position);
        }
        Ok(())
    }

    /// Drops the events of a topic that the storage has deleted.
    fn delete_stored(&self, name: &Arc<str>, position: u64) -> Result<(), StorageError> {
        let position = self.epoch().in_memory(position);
        let mut registry = self.registry();
        check_order(position, registry.last_position)?;
        registry.last_position = position;
        // Subscribers that have read all events need no notification, and others have it already.
        if let Some(topic) = registry.get(name).map(Arc::clone) {
            registry.change(&topic, |window, _| window.clear());
        }
        drop(registry);
        if let Some(backing) = &self.backing {
            backing.set_applied(position);
        }
        Ok(())
    }

    /// Moves the window of a topic to a position, before which events are missing. Subscribers are
    /// woken, and read pages, which report the gap if there is one.
    fn skip_to(&self, name: &str, position: u64) -> Result<(), StorageError> {
        let position = self.epoch().in_memory(position);
        let mut registry = self.registry();
        check_order(position, registry.last_position)?;
        registry.last_position = position;
        let topic = registry.get(name).map(Arc::clone);
        if let Some(topic) = &topic {
            registry.change(topic, |window, _| window.reset(position));
        }
        drop(registry);
        if let Some(topic) = topic {
            topic.notify();
        }
        if let Some(backing) = &self.backing {
            backing.set_applied(position);
        }
        Ok(())
    }

    /// Records that there is nothing new up to a position.
    fn advance(&self, position: u64) -> Result<(), StorageError> {
        let position = self.epoch().in_memory(position);
        let mut registry = self.registry();
        check_order(position, registry.last_position)?;
        registry.last_position = position;
        drop(registry);
        if let Some(backing) = &self.backing {
            backing.set_applied(position);
        }
        Ok(())
    }

    /// Appends an event of the storage to the window in memory, and notifies its subscribers.
    fn append_stored(&self, name: &Arc<str>, event: StoredEvent) -> Result<(), StorageError> {
        let TopicsConfig { history, max_topics, max_bytes, .. } = &self.config;
        let StoredEvent { position, fields, id } = event;
        let epoch = self.epoch();
        let position = epoch.in_memory(position);
        let frame = Frame::with_id(&fields, &epoch.id_at(position, id.as_deref()));
        let mut registry = self.registry();
        check_order(position, registry.last_position)?;
        let now = CompactInstant::now();
        registry.expire(history.age, now);
        let topic = match registry.get(name) {
            Some(topic) => Arc::clone(topic),
            None => registry.create(name),
        };
        registry.change(&topic, |window, last_position| {
            window.expire(history.age, now, usize::MAX);
            window.append(Entry { position, frame, at: now }, false, None, history);
            *last_position = position;
        });
        registry.evict_topics(*max_topics);
        registry.evict(*max_bytes);
        drop(registry);
        // Before the publisher: when its publication returns, subscribers have been woken.
        topic.notify();
        if let Some(backing) = &self.backing {
            backing.set_applied(position);
        }
        Ok(())
    }

    /// Ends all subscriptions and publications with an error. Only the first call has an effect.
    fn close(&self, failure: StorageError) {
        let Some(backing) = &self.backing else {
            return;
        };
        // This precedes the closing of the windows: a task that finds a window closed also finds
        // the reason.
        if !backing.fail(failure) {
            return;
        }
        let topics = self.registry().close();
        for topic in &topics {
            topic.notify();
        }
    }
}
