//! The configuration of topics.

use std::time::Duration;

use sse_proto::EventType;

use crate::setters::setters;
use crate::storage::History;
use crate::topics::error::{MAX_TYPE, TopicError};

/// The configuration of topics.
///
/// ```
/// use sse_smol_server::{History, TopicsConfig};
///
/// let config = TopicsConfig::default()
///     .with_history(History::default().with_events(10))
///     .with_gap_type("missed");
/// assert_eq!((config.history.events, config.history.bytes), (10, 1 << 20));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TopicsConfig {
    /// The bounds of each topic's log.
    pub history: History,
    /// The maximum number of topics that hold events, at least 1. Topics that have subscribers but
    /// no events do not count. Default: 1000.
    pub max_topics: usize,
    /// The maximum memory that all topics take together, in bytes. Beyond it, the oldest events are
    /// dropped, except for the newest one. Default: 256 MiB.
    pub max_bytes: usize,
    /// The type of the event that reports a gap to a subscriber: 1 to 4096 bytes without line ends.
    /// Default: `gap`.
    pub gap_type: String,
    /// The type of an event with data with which a subscription begins that does not resume after an
    /// event: 1 to 4096 bytes without line ends. Its ID is where a client resumes that loses its
    /// connection before another event, and its data are `{"id":"..."}` with the same ID.
    ///
    /// By default (`None`) such a subscription begins with an ID without data. That is invisible to
    /// pages, and by the HTML Standard a client keeps the ID. Some clients do not, and miss the
    /// events that are published before they have reconnected.
    pub hello_type: Option<String>,
    /// The maximum time that a publication or a deletion waits for the storage and for the feed,
    /// more than 0; without a storage, they wait for nothing. Beyond it, they fail with an error of
    /// the kind [`Unavailable`](crate::storage::StorageErrorKind::Unavailable), and may have had
    /// their effect. Default: 5 seconds.
    pub publish_timeout: Duration,
    /// Whether a subscriber that falls behind the log while it is connected gets a gap event and
    /// continues. By default, its stream ends, so that it reconnects and resumes.
    pub gap_on_lag: bool,
}

setters!(TopicsConfig {
    with_history => history: History,
    with_max_topics => max_topics: usize,
    with_max_bytes => max_bytes: usize,
    with_hello_type => hello_type: Option<String>,
    with_publish_timeout => publish_timeout: Duration,
    with_gap_on_lag => gap_on_lag: bool,
});

impl TopicsConfig {
    /// Returns the configuration with this [`gap_type`](Self::gap_type).
    #[must_use]
    pub fn with_gap_type(mut self, gap_type: impl Into<String>) -> Self {
        self.gap_type = gap_type.into();
        self
    }
}

impl Default for TopicsConfig {
    fn default() -> Self {
        Self {
            history: History::default(),
            max_topics: 1000,
            max_bytes: 256 << 20,
            gap_type: "gap".to_owned(),
            hello_type: None,
            publish_timeout: Duration::from_secs(5),
            gap_on_lag: false,
        }
    }
}

pub(crate) fn check_config(config: &TopicsConfig) -> Result<(), TopicError> {
    let error = |field, problem: String| Err(TopicError::Config { field, problem });
    let types = [("gap_type", Some(&config.gap_type)), ("hello_type", config.hello_type.as_ref())];
    for (field, event_type) in types {
        let Some(event_type) = event_type else { continue };
        if let Err(problem) = EventType::new(event_type) {
            return error(field, problem.to_string());
        }
        if !(1..=MAX_TYPE).contains(&event_type.len()) {
            let len = event_type.len();
            return error(field, format!("must have 1 to {MAX_TYPE} bytes, not {len}"));
        }
    }
    if config.max_topics == 0 {
        return error(
            "max_topics",
            "must be at least 1: with 0, every publication would be rejected".into(),
        );
    }
    if config.publish_timeout.is_zero() {
        return error(
            "publish_timeout",
            "must be more than 0, or no publication could succeed".into(),
        );
    }
    if config.history.age.is_zero() {
        let problem = "must be more than 0, or events would be dropped before they are sent";
        return error("history.age", problem.into());
    }
    Ok(())
}
