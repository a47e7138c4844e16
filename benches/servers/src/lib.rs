//! sse-smol-server beside other servers, and beside a floor that does what cannot be left out.
//!
//! What the programs here share: the messages that are sent about, and sockets.

pub mod message;
pub mod net;
