//! The tests, each in a file with those that it resembles.

mod connecting;
mod cores;
mod delivering;
mod holding;
mod streaming;

use crate::peers::Peer;
use crate::scale::Scale;

/// What one run finds: a number for each column. What is wrong does not count, and is told.
pub(crate) type Found = Result<Vec<f64>, String>;

/// One run with a server, of the case with this number.
pub(crate) type Run = dyn Fn(&Peer, usize) -> Found;

/// One table.
pub(crate) struct Test {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What is done, for whoever reads the table.
    pub(crate) about: String,
    /// What is found. The first is what servers are held against each other by.
    pub(crate) columns: &'static [&'static str],
    /// The ways of doing it, each with a row for every server; one without a name if there is but one.
    pub(crate) cases: Vec<String>,
    /// Which servers can do it.
    pub(crate) takes: fn(&Peer) -> bool,
    /// Does it.
    pub(crate) run: Box<Run>,
}

/// All of them.
pub(crate) fn tests(scale: Scale) -> Vec<Test> {
    [
        delivering::tests(scale),
        connecting::tests(scale),
        streaming::tests(scale),
        holding::tests(scale),
        cores::tests(scale),
    ]
    .into_iter()
    .flatten()
    .collect()
}
