//! The scale of the tests: durations and counts.

use std::time::Duration;

/// The parameters of all tests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// The number of rounds in which all servers take turns.
    pub(crate) rounds: usize,
    /// The total time to wait for other processes to become idle, and the maximum number of
    /// attempts for a disturbed run. Minimal where times do not matter.
    pub(crate) idle_wait: Duration,
    pub(crate) runs: usize,
    /// The time for which messages are published.
    pub(crate) publishing: Duration,
    /// The warm-up time before that.
    pub(crate) warming: Duration,
    /// The time for which one stream is read.
    pub(crate) reading: Duration,
    /// The time for which idle connections are observed.
    pub(crate) idling: Duration,
    /// The time for servers to finish work for clients that are idle or have closed.
    pub(crate) settling: Duration,
    /// The number of subscribers in most tests.
    pub(crate) some: u32,
    /// The number of subscribers in tests with many, and of connections in tests of connecting.
    pub(crate) many: u32,
    /// The numbers of topics, each of which has `per_topic` subscribers.
    pub(crate) topics: &'static [u32],
    /// The number of subscribers of each topic.
    pub(crate) per_topic: u32,
    /// The numbers of events in the log.
    pub(crate) histories: &'static [u32],
    /// The number of events that are replayed.
    pub(crate) replayed: u32,
    /// The number of events that a storage holds when a server starts.
    pub(crate) stored: u32,
    /// The number of pipelined publications.
    pub(crate) pipelined: u32,
}

impl Scale {
    /// Returns a number of connections that no run exceeds.
    pub(crate) fn max_connections(&self) -> u32 {
        // Publishers, and connections that are opened one after another under load.
        const OTHERS: u32 = 1_000;
        let topics = self.topics.iter().max().copied().unwrap_or(0);
        self.many.max(topics * self.per_topic) + OTHERS
    }

    /// The scale of the published tables.
    pub(crate) fn full() -> Self {
        Self {
            rounds: 3,
            idle_wait: Duration::from_secs(300),
            runs: 3,
            publishing: Duration::from_secs(3),
            warming: Duration::from_millis(300),
            reading: Duration::from_secs(3),
            idling: Duration::from_secs(2),
            settling: Duration::from_millis(500),
            some: 1_000,
            many: 10_000,
            topics: &[1, 10, 1_000],
            per_topic: 10,
            histories: &[10, 1_000, 100_000, 1_000_000],
            replayed: 100_000,
            stored: 1_000_000,
            pipelined: 200_000,
        }
    }

    /// A smaller scale for quick results.
    pub(crate) fn quick() -> Self {
        Self {
            rounds: 1,
            idle_wait: Duration::from_secs(60),
            publishing: Duration::from_secs(2),
            reading: Duration::from_secs(1),
            idling: Duration::from_secs(1),
            many: 5_000,
            histories: &[10, 1_000, 100_000],
            stored: 200_000,
            ..Self::full()
        }
    }

    /// The smallest scale, to check correctness only.
    pub(crate) fn test() -> Self {
        Self {
            idle_wait: Duration::ZERO,
            runs: 1,
            publishing: Duration::from_millis(100),
            warming: Duration::from_millis(10),
            reading: Duration::from_millis(20),
            idling: Duration::from_millis(20),
            settling: Duration::from_millis(20),
            some: 20,
            many: 100,
            topics: &[1, 10],
            per_topic: 2,
            histories: &[10, 1_000],
            replayed: 1_000,
            stored: 2_000,
            pipelined: 1_000,
            ..Self::quick()
        }
    }
}
