//! The description of the stream: its state, its settings and its identity.

use std::time::Duration;

use serde_json::{Value, json};

use super::config::NatsConfig;
use crate::storage::{StorageError, StorageErrorKind};

/// The time for which the engine recognizes repeated publications, unless events are held for less.
/// It keeps the identity of each of them in memory.
const DUPLICATES: Duration = Duration::from_secs(120);

/// The state of the stream.
#[derive(Clone, Debug)]
pub(super) struct Info {
    /// The identity of the stream: the time of its creation, in nanoseconds.
    pub(super) epoch: String,
    /// The sequence of the first message, or one more than the last if there is none.
    pub(super) first: u64,
    /// The last sequence that was assigned.
    pub(super) last: u64,
    /// The number of subjects.
    pub(super) subjects: u64,
    /// Whether the stream may have subjects that are not those of topics.
    pub(super) has_other_subjects: bool,
    /// The number of messages of the selected subjects, by subject.
    pub(super) counts: Vec<(String, u64)>,
    /// The maximum number of messages of a subject, if there is one.
    pub(super) per_subject: Option<u64>,
    /// Whether the stream is on a cluster of servers.
    pub(super) is_clustered: bool,
    /// Whether the stream has several replicas, of which one may lag behind.
    pub(super) is_replicated: bool,
    /// Whether each replica may answer requests for messages.
    pub(super) is_direct: bool,
    config: Value,
}

impl Info {
    pub(super) fn read(reply: &Value) -> Option<Self> {
        let (state, config) = (&reply["state"], &reply["config"]);
        let counts = state["subjects"].as_object().map(|subjects| {
            let count =
                |(subject, count): (&String, &Value)| Some((subject.clone(), count.as_u64()?));
            subjects.iter().filter_map(count).collect()
        });
        let replicas = config["num_replicas"].as_u64().unwrap_or(1);
        Some(Self {
            epoch: epoch(reply["created"].as_str()?)?,
            first: state["first_seq"].as_u64()?,
            last: state["last_seq"].as_u64()?,
            subjects: state["num_subjects"].as_u64().unwrap_or(0),
            has_other_subjects: !has_only_topics(config),
            counts: counts.unwrap_or_default(),
            per_subject: config["max_msgs_per_subject"].as_u64().filter(|most| *most > 0),
            // A single server of a current version describes itself as a leader without a cluster.
            is_clustered: reply["cluster"]["name"].is_string(),
            is_replicated: replicas > 1,
            is_direct: config["allow_direct"] == true && replicas == 1,
            config: config.clone(),
        })
    }

    /// Returns the number of messages of a subject that was selected.
    pub(super) fn count(&self, subject: &str) -> u64 {
        self.counts.iter().find(|(name, _)| name == subject).map_or(0, |(_, count)| *count)
    }

    /// Returns whether a message is certainly gone, given that neither it nor a later one was found.
    /// The only replica does not lag behind, and one whose messages begin after the sequence has
    /// seen it.
    pub(super) const fn has_dropped(&self, sequence: u64) -> bool {
        !self.is_replicated || self.first > sequence
    }

    /// Returns an error if the stream cannot hold events of topics.
    pub(super) fn check(&self, name: &str) -> Result<(), StorageError> {
        let subjects = self.config["subjects"].as_array();
        let wanted = [format!("{name}.*"), format!("{name}.>")];
        let takes = subjects
            .is_some_and(|all| all.iter().any(|one| wanted.iter().any(|wanted| *one == **wanted)));
        let why = if !takes {
            format!("its subjects do not include {}", wanted[0])
        } else if self.config["retention"].as_str().is_some_and(|kind| kind != "limits") {
            "its retention is not by limits".to_owned()
        } else if self.config["no_ack"] == true {
            "it does not acknowledge publications".to_owned()
        } else {
            return Ok(());
        };
        let why = format!("NATS: the stream {name} exists and cannot be used: {why}");
        Err(StorageError::new(StorageErrorKind::Unavailable, why))
    }

    /// Logs the limits of a stream that differ from the configured ones.
    pub(super) fn log_differences(&self, name: &str, config: &NatsConfig) {
        let wanted = settings(config);
        for limit in ["max_msgs_per_subject", "max_age", "max_bytes", "num_replicas"] {
            let (has, wanted) = (&self.config[limit], &wanted[limit]);
            if has != wanted {
                log::warn!(
                    "NATS: the stream {name} exists with {limit} {has}; this is used instead of \
                     {wanted}"
                );
            }
        }
    }
}

/// Returns whether a stream with this configuration has only the subjects with which it is created
/// here.
fn has_only_topics(config: &Value) -> bool {
    let own = config["name"].as_str().map(|name| format!("{name}.*"));
    let subjects = config["subjects"].as_array();
    own.zip(subjects).is_some_and(|(own, subjects)| subjects.iter().all(|one| *one == *own))
}

/// Returns an epoch from the time of a stream's creation, such as `2026-11-28T11:06:22.000123Z`. It
/// is the same on all servers, and later streams have greater ones.
fn epoch(created: &str) -> Option<String> {
    let (time, fraction) = created.split_once('.').unwrap_or((created, ""));
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let time = digits(time.get(..19)?);
    // The fraction ends where the time zone begins.
    let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
    let number: u128 = format!("{time}{:0<9}", fraction.get(..end.min(9))?).parse().ok()?;
    Some(format!("{number:x}"))
}

/// Returns the settings of a stream that is created.
pub(super) fn settings(config: &NatsConfig) -> Value {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 1);
    let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    json!({
        "name": config.stream,
        "subjects": [format!("{}.*", config.stream)],
        "retention": "limits",
        "discard": "old",
        "storage": "file",
        "num_replicas": config.replicas,
        "max_consumers": -1,
        "max_msgs": -1,
        "max_msg_size": -1,
        "max_msgs_per_subject": number(config.history.events.max(1)),
        "max_bytes": number(config.max_bytes),
        "max_age": nanoseconds(config.history.age),
        "duplicate_window": nanoseconds(config.history.age.min(DUPLICATES)),
        "allow_direct": true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_legal_and_in_the_order_of_creation() {
        let times = [
            "2026-11-28T11:06:22Z",
            "2026-11-28T11:06:22.000000001Z",
            "2026-11-28T11:06:22.1Z",
            "2026-11-28T11:06:22.123456789+00:00",
            "2026-11-28T11:06:23.0Z",
        ];
        let epochs: Vec<String> = times.iter().map(|time| epoch(time).unwrap()).collect();
        assert!(epochs.windows(2).all(|pair| pair[0] < pair[1]), "{epochs:?}");
        assert!(epochs.iter().all(|epoch| epoch.len() == epochs[0].len()));
        assert_eq!(epoch("yesterday"), None);
    }
}
