//! Points in time in eight bytes, half the size of an [`Instant`]. Each connection holds several.

use std::num::NonZeroU64;
use std::ops::Add;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// A point in time in nanoseconds since [`START`], plus one. It can express 584 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CompactInstant(NonZeroU64);

/// The time of the first use in this process.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl CompactInstant {
    pub(crate) fn now() -> Self {
        Self(NonZeroU64::MIN) + START.elapsed()
    }

    /// Converts it for timers of other crates.
    pub(crate) fn to_instant(self) -> Instant {
        *START + Duration::from_nanos(self.0.get())
    }

    /// Returns the time since this point, or zero if it is in the future.
    pub(crate) fn elapsed(self) -> Duration {
        Duration::from_nanos(Self::now().0.get().saturating_sub(self.0.get()))
    }
}

impl Add<Duration> for CompactInstant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}
