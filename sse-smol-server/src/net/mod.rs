//! The parts of connections that are independent of HTTP: sockets, output queues, deadlines,
//! limits.

pub(crate) mod admission;
pub(crate) mod descriptors;
pub(crate) mod listener;
pub(crate) mod queue;
pub(crate) mod reactor;
pub(crate) mod socket;
pub(crate) mod source;
pub(crate) mod timers;
pub(crate) mod transport;
