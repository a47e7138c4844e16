//! Adapters to the types of other crates. They only convert types, and add no protocol logic and no
//! runtime.

#[cfg(feature = "futures-core")]
mod body;
#[cfg(feature = "tokio-util")]
mod codec;
mod decoding;
#[cfg(all(feature = "std", feature = "futures-core"))]
mod event_source;
#[cfg(feature = "futures-core")]
mod events;
#[cfg(feature = "http-body")]
mod http;

#[cfg(feature = "futures-core")]
pub use body::{EventBody, StartTimer};
#[cfg(feature = "tokio-util")]
pub use codec::EventCodec;
#[cfg(all(feature = "std", feature = "futures-core"))]
pub use event_source::{Connection, EventSource, EventSourceError};
#[cfg(feature = "futures-core")]
pub use events::{Events, EventsError};
#[cfg(feature = "http-body")]
pub use http::BodyChunks;
