//! The state that all handles of a set of topics share.

use std::sync::{Arc, Mutex, MutexGuard};

use sse_proto::{Event, EventId, EventType};

use crate::Frame;
use crate::topics::backing::Backing;
use crate::topics::config::TopicsConfig;
use crate::topics::counts::Counts;
use crate::topics::epoch::{Epoch, Epochs};
use crate::topics::registry::Registry;

/// Topics, their configuration, and the identity of their IDs.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: TopicsConfig,
    pub(crate) epochs: Arc<Epochs>,
    registry: Mutex<Registry>,
    pub(crate) counts: Counts,
    /// The storage behind the windows, if there is one.
    pub(crate) backing: Option<Backing>,
    /// The most recent start marker and its position. Cached, since many subscriptions start at the
    /// same position.
    start: Mutex<Option<(u64, Frame)>>,
}

impl State {
    /// Creates a state without topics.
    pub(crate) fn new(
        config: TopicsConfig,
        epochs: Arc<Epochs>,
        registry: Registry,
        backing: Option<Backing>,
    ) -> Self {
        Self {
            config,
            epochs,
            registry: Mutex::new(registry),
            counts: Counts::default(),
            backing,
            start: Mutex::default(),
        }
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().expect("no panic while this lock is held")
    }

    pub(crate) fn epoch(&self) -> Arc<Epoch> {
        self.epochs.current()
    }

    /// Returns the ID of the event at a position: its own, or else the one that is assigned.
    pub(crate) fn id_at(&self, position: u64, own_id: Option<&str>) -> String {
        self.epoch().id_at(position, own_id)
    }

    /// Returns a start marker: an ID, from which a subscriber resumes at a position. It has data if
    /// [`TopicsConfig::hello_type`] is set.
    pub(crate) fn start_marker(&self, position: u64) -> Frame {
        let mut start = self.start.lock().expect("no panic while this lock is held");
        match &*start {
            Some((known, frame)) if *known == position => frame.clone(),
            _ => {
                let id = self.id_at(position, None);
                let data = serde_json::json!({ "id": id }).to_string();
                let hello = self.config.hello_type.as_deref();
                let event = match hello.and_then(|hello| EventType::new(hello).ok()) {
                    Some(hello) => Event::new(&data).with_type(hello),
                    None => Event::without_data(),
                };
                let id = EventId::new(&id).expect("assigned ids have no line end or NUL");
                let frame = Frame::from(event.with_id(id));
                *start = Some((position, frame.clone()));
                frame
            }
        }
    }
}
