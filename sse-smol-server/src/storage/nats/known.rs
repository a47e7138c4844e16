//! The topics that this server has published to a moment ago.
//!
//! They hold events, so a publication to them needs no request for the number of topics.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The time for which a topic counts as existing.
const EXISTS: Duration = Duration::from_secs(10);

/// The maximum number of topics.
const MAX: usize = 10_000;

/// Topics with the time of the last publication.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<Arc<str>, Instant>);

impl Known {
    pub(super) fn insert(&mut self, topic: &Arc<str>) {
        if self.0.len() >= MAX {
            self.0.clear();
        }
        self.0.insert(Arc::clone(topic), Instant::now());
    }

    pub(super) fn remove(&mut self, topic: &str) {
        self.0.remove(topic);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn contains(&self, topic: &str) -> bool {
        self.0.get(topic).is_some_and(|at| at.elapsed() < EXISTS)
    }
}
