//! The outcome of decoding a stream, in a comparable form.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use peers::decode::{Decoder, Item, Start};

/// An event. Invalid UTF-8 is replaced by U+FFFD, as the standard requires.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) event_type: String,
    pub(crate) data: String,
    pub(crate) id: String,
}

/// The decoded events and other items. Equality ignores errors and comments.
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
    /// Returns the types and data of all events.
    pub(crate) fn without_ids(&self) -> Vec<(&str, &str)> {
        self.events.iter().map(|event| (&*event.event_type, &*event.data)).collect()
    }
}

/// Runs a decoder. Returns `None` if it panics.
pub(crate) fn run(decoder: &Decoder, chunks: &[Bytes], start: Start<'_>) -> Option<Outcome> {
    let mut outcome = Outcome::default();
    let mut emit = |item: Item<'_>| match item {
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
    catch_unwind(AssertUnwindSafe(|| (decoder.visit)(chunks, start, &mut emit))).ok()?;
    Some(outcome)
}

pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
