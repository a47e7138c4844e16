//! The start of a subscription: converts the ID to a position, and reports dropped events by a gap
//! event.

use std::sync::Arc;

use sse_proto::{Event, EventId, EventType};

use crate::compact_instant::CompactInstant;
use crate::storage::{Bounds, EventRef, StorageError};
use crate::topics::error::{TopicError, check_name};
use crate::topics::registry::Topic;
use crate::topics::state::State;
use crate::topics::subscription::{Cursor, Subscription};
use crate::topics::window::Entry;

/// The place where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start<'a> {
    /// With the next event that is published.
    Latest,
    /// With the oldest event that is held.
    Earliest,
    /// After the event with this ID.
    After(&'a str),
}

/// Creates a subscription: see [`Topics::subscribe`](crate::Topics::subscribe).
pub(crate) async fn subscribe(
    state: &Arc<State>,
    names: &[&str],
    start: Start<'_>,
) -> Result<Subscription, TopicError> {
    names.iter().try_for_each(|name| check_name(name))?;
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    let (topics, last_position) = enter(state, &names);
    // After `enter`, events after `last_position` may be published.
    let mut subscription = Subscription::new(Arc::clone(state), topics, last_position);
    if let Some(backing) = &state.backing {
        // Checked after `enter`: a feed that ends later closes the topics.
        backing.check()?;
    }
    match start {
        Start::Latest => subscription.queue_start(),
        Start::Earliest => {
            subscription.rewind(0).await?;
            subscription.queue_start();
        }
        Start::After(id) => match position_of(state, &subscription, id).await? {
            Some(position) => subscription.resume(id, position).await?,
            None => subscription.queue_gap("unknown", Some(id), 0).await?,
        },
    }
    Ok(subscription)
}

/// Returns the position of the event with an ID, or `None` if the ID is unknown.
async fn position_of(
    state: &State,
    subscription: &Subscription,
    id: &str,
) -> Result<Option<u64>, StorageError> {
    if let Some(position) = state.epoch().position_in(id) {
        // Another server with the same storage may have sent events that are not in memory here.
        let is_assigned = match &state.backing {
            Some(backing) => backing.is_assigned(position).await?,
            None => position <= subscription.0.position,
        };
        if is_assigned {
            return Ok(Some(position));
        }
    }
    subscription.position_of_own(id).await
}

/// Counts a subscription to each of the topics, and returns them and the last position.
fn enter(state: &State, names: &[&str]) -> (Vec<Arc<Topic>>, u64) {
    let age = state.config.history.age;
    let mut registry = state.registry();
    let now = CompactInstant::now();
    // This precedes the expiry below: a topic with a subscriber stays when its last event expires.
    let topics: Vec<Arc<Topic>> = names.iter().map(|name| registry.subscribe(name)).collect();
    registry.expire(age, now);
    for topic in &topics {
        registry.change(topic, |window, _| window.expire(age, now, usize::MAX));
    }
    (topics, registry.last_position)
}

impl Cursor {
    /// Returns the bounds of the topic's events, in the storage if there is one.
    async fn bounds(&self, state: &State) -> Result<Bounds, StorageError> {
        if let Some(backing) = &state.backing {
            return backing.bounds(&self.topic.name).await;
        }
        let window = self.topic.window();
        let event =
            |entry: &Entry| EventRef { position: entry.position, id: Some(entry.id().into()) };
        Ok(Bounds {
            dropped: window.evicted(),
            first: window.first().as_ref().map(event),
            last: window.last().map(event),
        })
    }
}

impl Subscription {
    /// Returns the position of the event with this publisher-chosen ID. If several topics have one,
    /// returns the lowest position: the subscriber may get events twice, but misses none.
    async fn position_of_own(&self, own_id: &str) -> Result<Option<u64>, StorageError> {
        let mut lowest = None;
        for cursor in self.0.topics.iter() {
            let position = match &self.0.state.backing {
                Some(backing) => backing.find(&cursor.topic.name, own_id).await?,
                None => cursor.topic.window().position_of(own_id),
            };
            lowest = lowest.into_iter().chain(position).min();
        }
        Ok(lowest)
    }

    /// Continues after the event with this ID and position. Queues a gap event if later events have
    /// been dropped.
    async fn resume(&mut self, id: &str, position: u64) -> Result<(), StorageError> {
        self.0.position = position;
        for cursor in self.0.topics.iter() {
            // The storage may have dropped what memory still holds.
            let is_behind = cursor.topic.window().evicted() > position;
            if is_behind && cursor.bounds(&self.0.state).await?.dropped > position {
                return self.queue_gap("evicted", Some(id), position).await;
            }
        }
        Ok(())
    }

    /// Queues the start marker, an ID without data. A subscriber without an ID whose connection
    /// breaks before the first event would otherwise reconnect without one, and miss events.
    fn queue_start(&mut self) {
        self.0.first = Some(self.0.state.start_marker(self.0.position));
    }

    /// Moves to a position, or to the oldest events that are left if their events begin after it.
    /// Returns the first and the last of all events.
    async fn rewind(
        &mut self,
        position: u64,
    ) -> Result<(Option<EventRef>, Option<EventRef>), StorageError> {
        // All bounds are read before anything changes, so the subscription is unchanged if the
        // storage fails.
        let mut all_bounds = Vec::with_capacity(self.0.topics.len());
        let end = self.0.state.backing.as_ref().map(|_| self.0.state.registry().last_position);
        for cursor in self.0.topics.iter() {
            all_bounds.push(cursor.bounds(&self.0.state).await?);
        }
        let (mut first, mut last) = (None::<EventRef>, None::<EventRef>);
        for (cursor, bounds) in self.0.topics.iter_mut().zip(all_bounds) {
            // A storage may know less exactly what it has dropped than where its events begin.
            let start = bounds.first.as_ref().map(|first| first.position - 1);
            cursor.gap_end = end.map_or(0, |end| start.unwrap_or(end)).max(bounds.dropped);
            first = first.into_iter().chain(bounds.first).min_by_key(|event| event.position);
            last = last.into_iter().chain(bounds.last).max_by_key(|event| event.position);
        }
        let oldest = self.0.topics.iter().map(|cursor| cursor.gap_end).min().unwrap_or(0);
        self.0.position = position.max(oldest);
        Ok((first, last))
    }

    /// Moves to the oldest events after a position that are left, and queues a gap event, whose ID
    /// leads a subscriber that resumes to the same place.
    pub(crate) async fn queue_gap(
        &mut self,
        reason: &str,
        requested: Option<&str>,
        position: u64,
    ) -> Result<(), StorageError> {
        let (earliest, latest) = self.rewind(position).await?;
        let state = &self.0.state;
        let id = |event: EventRef| state.id_at(event.position, event.id.as_deref());
        let data = serde_json::json!({
            "reason": reason,
            "requested": requested,
            "earliest": earliest.map(id),
            "latest": latest.map(id),
        });
        let (data, id) = (data.to_string(), state.id_at(self.0.position, None));
        let mut event = Event::new(&data);
        if let Ok(event_type) = EventType::new(&state.config.gap_type) {
            event = event.with_type(event_type);
        }
        if let Ok(id) = EventId::new(&id) {
            event = event.with_id(id);
        }
        let frame = event.into();
        state.counts.gaps.inc();
        self.0.first = Some(frame);
        Ok(())
    }
}
