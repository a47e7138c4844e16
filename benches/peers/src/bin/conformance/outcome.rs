//! What a decoder made of a stream, in a form that can be compared.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use peers::decode::{Decoder, Item, Start};

/// An event; broken UTF-8 is U+FFFD, as the standard reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) event_type: String,
    pub(crate) data: String,
    pub(crate) id: String,
}

/// Events, and what else there was. Errors and comments are no part of equality.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) events: Vec<Event>,
    pub(crate) retry: Option<u64>,
    pub(crate) comments: usize,
    pub(crate) errors: usize,
}

impl PartialEq for Outcome {
    fn eq(&self, other: &Self) -> bool {
        (&self.events, self.retry) == (&other.events, other.retry)
    }
}

impl Outcome {
    /// Types and data alone.
    pub(crate) fn without_ids(&self) -> Vec<(&str, &str)> {
        self.events.iter().map(|event| (&*event.event_type, &*event.data)).collect()
    }
}

/// Runs a decoder; `None` if it panics.
pub(crate) fn run(decoder: &Decoder, chunks: &[Bytes], start: Start<'_>) -> Option<Outcome> {
    let mut outcome = Outcome::default();
    let mut see = |item: Item<'_>| match item {
        Item::Event { event_type, data, id } => {
            outcome.events.push(Event {
                event_type: lossy(event_type),
                data: lossy(data),
                id: lossy(id),
            });
        }
        Item::Comment => outcome.comments += 1,
        Item::Retry(retry) => outcome.retry = Some(retry),
        Item::Error => outcome.errors += 1,
    };
    catch_unwind(AssertUnwindSafe(|| (decoder.visit)(chunks, start, &mut see))).ok()?;
    Some(outcome)
}

pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
