//! Patches of signals.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;
use sse_proto::{EventId, EventType, OwnedEvent};

use super::encode::{Fields, Lines, PATCH_SIGNALS, Patch, Sink, event, frame, owned};
use crate::Frame;

/// An event that patches signals, as a JSON merge patch (RFC 7386): values are added or replaced,
/// objects are merged, and `null` removes.
///
/// ```
/// use sse_smol_server::Frame;
/// use sse_smol_server::datastar::PatchSignals;
///
/// let patch = PatchSignals::new(r#"{"count":1,"user":{"name":null}}"#);
/// assert_eq!(
///     Frame::from(patch).encoded(),
///     b"event: datastar-patch-signals\n\
///       data: signals {\"count\":1,\"user\":{\"name\":null}}\n\n",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchSignals<'a> {
    signals: Cow<'a, str>,
    only_if_missing: bool,
    fields: Fields<'a>,
}

impl<'a> PatchSignals<'a> {
    /// Creates an event from the JSON of an object. The text is sent as it is.
    pub fn new(signals: impl Into<Cow<'a, str>>) -> Self {
        Self { signals: signals.into(), only_if_missing: false, fields: Fields::default() }
    }

    /// Creates an event from a value that serializes as an object.
    ///
    /// ```
    /// use sse_smol_server::datastar::PatchSignals;
    ///
    /// #[derive(serde::Serialize)]
    /// struct Signals {
    ///     count: u32,
    /// }
    ///
    /// let patch = PatchSignals::from_value(&Signals { count: 1 })?;
    /// assert_eq!(patch, PatchSignals::new(r#"{"count":1}"#));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] if the value cannot be serialized.
    pub fn from_value(signals: &impl Serialize) -> serde_json::Result<Self> {
        serde_json::to_string(signals).map(Self::new)
    }

    /// Returns the event with this choice whether it leaves signals alone that exist. Default:
    /// false.
    #[must_use]
    pub const fn with_only_if_missing(mut self, only_if_missing: bool) -> Self {
        self.only_if_missing = only_if_missing;
        self
    }
}

impl Patch for PatchSignals<'_> {
    const EVENT_TYPE: EventType<'static> = PATCH_SIGNALS;

    fn fields(&self) -> Fields<'_> {
        self.fields
    }

    fn write<S: Sink>(&self, lines: &mut Lines<'_, S>) {
        if self.only_if_missing {
            lines.pair("onlyIfMissing", "true");
        }
        lines.pair("signals", &self.signals);
    }
}

event!(PatchSignals);
