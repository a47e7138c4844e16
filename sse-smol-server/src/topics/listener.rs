//! The recipients of notifications about new events, and the interface to those outside of topics.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::sync::{Arc, MutexGuard};
use std::task::Waker;

/// A recipient of notifications about the new events of one topic, which it reads from the window.
pub(crate) trait Listener: fmt::Debug + Send + Sync + 'static {
    /// Called after events were published, without a lock held. The publisher waits for this, so
    /// the work is left to another task.
    fn published(self: Arc<Self>);

    /// Returns whether the listener still needs notifications.
    fn is_live(&self) -> bool;

    /// Converts the listener, so that [`Followers::find_or_add`] can return it with its own type.
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// The recipients of notifications about new events of a topic.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    /// Copied on write, so that a publisher can call them without the lock and without a copy.
    listeners: Arc<[Arc<dyn Listener>]>,
    /// The wakers of subscriptions that wait for events, by the number of the wait.
    pub(crate) waiting: BTreeMap<u64, Waker>,
}

impl Followers {
    /// Returns the listener of type `L` for which `is_it` returns true. If there is none, adds the
    /// one that `create` returns, and removes those that are not live.
    pub(crate) fn find_or_add<L: Listener>(
        mut followers: MutexGuard<'_, Self>,
        is_it: impl Fn(&L) -> bool,
        create: impl FnOnce() -> L,
    ) -> Arc<L> {
        let listeners = &followers.listeners;
        let own = |listener: &Arc<dyn Listener>| Arc::clone(listener).as_any().downcast::<L>().ok();
        if let Some(found) = listeners.iter().filter_map(own).find(|listener| is_it(listener)) {
            return found;
        }
        let new = Arc::new(create());
        let live = listeners.iter().filter(|listener| listener.is_live()).map(Arc::clone);
        let listeners = live.chain([Arc::clone(&new) as Arc<dyn Listener>]).collect();
        let replaced = mem::replace(&mut followers.listeners, listeners);
        // Dropped outside the lock: a listener may drop streams, and with them values of their
        // handlers.
        drop(followers);
        drop(replaced);
        new
    }

    /// Wakes the waiting subscriptions and calls the listeners after an event was published.
    pub(crate) fn notify(mut followers: MutexGuard<'_, Self>) {
        let listeners = Arc::clone(&followers.listeners);
        let waiting = mem::take(&mut followers.waiting);
        drop(followers);
        waiting.into_values().for_each(Waker::wake);
        listeners.iter().for_each(|listener| Arc::clone(listener).published());
    }
}
