//! The end of a stream as a signal to other tasks.

use std::fmt;

use crate::notifier::Flag;

/// A token that signals the end of a stream: see [`EventStream::token`](crate::EventStream::token).
#[derive(Clone)]
pub struct CancelToken(Flag);

impl CancelToken {
    /// Creates a token of a stream that is open.
    pub(crate) fn new() -> Self {
        Self(Flag::default())
    }

    /// Records the end of the stream.
    pub(crate) fn cancel(&self) {
        self.0.set();
    }

    /// Waits until the stream has ended.
    pub async fn cancelled(&self) {
        self.0.wait().await;
    }

    /// Returns whether the stream has ended.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_set()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("is_cancelled", &self.is_cancelled()).finish()
    }
}
