//! The tests, grouped by subject.

mod connecting;
mod cores;
mod delivering;
mod holding;
mod latency;
mod storage;
mod streaming;

use crate::nats::Nats;
use crate::peers::Peer;
use crate::scale::Scale;

/// The result of one run: a number for each column, or a description of the error.
pub(crate) type Found = Result<Vec<f64>, String>;

/// Runs a test once with a server and the case with this index.
pub(crate) type Run = dyn Fn(&Peer, usize) -> Found;

/// A test, which makes one table.
pub(crate) struct Test {
    /// The name in the tables and for `--only`.
    pub(crate) name: &'static str,
    /// A description for the readers of the table.
    pub(crate) about: String,
    /// The columns. Servers are compared by the first one.
    pub(crate) columns: &'static [&'static str],
    /// The number of columns, from the first one, that are in the summary.
    pub(crate) summarized: usize,
    /// The names of the cases, each with a row for every server. A single case has an empty name.
    pub(crate) cases: Vec<String>,
    /// Returns whether a server supports the test.
    pub(crate) supports: fn(&Peer) -> bool,
    /// Runs the test once.
    pub(crate) run: Box<Run>,
}

/// Returns all tests. Without `nats`, those of storages have no rows for NATS.
pub(crate) fn tests(scale: Scale, nats: Option<Nats>) -> Vec<Test> {
    [
        latency::tests(scale),
        delivering::tests(scale),
        connecting::tests(scale),
        streaming::tests(scale),
        holding::tests(scale),
        storage::tests(scale, nats),
        cores::tests(scale),
    ]
    .into_iter()
    .flatten()
    .collect()
}
