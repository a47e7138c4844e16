//! Sockets, output and time: what connections are made of.

pub(crate) mod admission;
pub(crate) mod compact_instant;
pub(crate) mod descriptors;
pub(crate) mod queue;
pub(crate) mod socket;
pub(crate) mod timers;
