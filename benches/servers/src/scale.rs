//! How much there is to do: all numbers of the tests are here.

use std::time::Duration;

/// For all tests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// How often all servers take turns.
    pub(crate) rounds: usize,
    /// How long it is waited, all told, for others to leave the machine alone, and how often a run is
    /// made that they disturb: nothing is to be had from either where times do not matter.
    pub(crate) patience: Duration,
    pub(crate) runs: usize,
    /// How long messages are published.
    pub(crate) publishing: Duration,
    /// How long before that, so that what is done once is done.
    pub(crate) warming: Duration,
    /// How long connections are opened and closed.
    pub(crate) churning: Duration,
    /// How long one stream is read.
    pub(crate) reading: Duration,
    /// How long nothing is done.
    pub(crate) idling: Duration,
    /// How long servers may take with what a client has done that is gone or silent.
    pub(crate) settling: Duration,
    /// Subscribers, where there are some.
    pub(crate) some: u32,
    /// Subscribers and connections, where there are many.
    pub(crate) many: u32,
    /// Topics, each with `per_topic` subscribers.
    pub(crate) topics: &'static [u32],
    /// See there.
    pub(crate) per_topic: u32,
    /// Events that are held.
    pub(crate) histories: &'static [u32],
    /// Events that are sent again.
    pub(crate) replayed: u32,
}

impl Scale {
    /// For the tables.
    pub(crate) fn full() -> Self {
        Self {
            rounds: 3,
            patience: Duration::from_secs(300),
            runs: 3,
            publishing: Duration::from_secs(4),
            warming: Duration::from_millis(300),
            churning: Duration::from_secs(4),
            reading: Duration::from_secs(3),
            idling: Duration::from_secs(2),
            settling: Duration::from_millis(500),
            some: 1_000,
            many: 10_000,
            topics: &[1, 10, 1_000],
            per_topic: 10,
            histories: &[10, 1_000, 100_000, 1_000_000],
            replayed: 100_000,
        }
    }

    /// For a first look.
    pub(crate) fn quick() -> Self {
        Self {
            rounds: 1,
            patience: Duration::from_secs(60),
            publishing: Duration::from_secs(2),
            churning: Duration::from_secs(1),
            reading: Duration::from_secs(1),
            idling: Duration::from_secs(1),
            many: 5_000,
            histories: &[10, 1_000, 100_000],
            ..Self::full()
        }
    }

    /// Whether it is right, and no more.
    pub(crate) fn test() -> Self {
        Self {
            patience: Duration::ZERO,
            runs: 1,
            publishing: Duration::from_millis(100),
            warming: Duration::from_millis(10),
            churning: Duration::from_millis(50),
            reading: Duration::from_millis(20),
            idling: Duration::from_millis(20),
            settling: Duration::from_millis(20),
            some: 20,
            many: 100,
            topics: &[1, 10],
            per_topic: 2,
            histories: &[10, 1_000],
            replayed: 1_000,
            ..Self::quick()
        }
    }
}
