//! The code of `docs/migrating.md`: programs that use other crates, and the same programs with
//! `sse-proto`.
//!
//! Each module has pairs of functions, `before…` and `after…`, which the document shows as they
//! are; a test compares them. Other tests run both with the same input, and check the differences
//! that the document lists.

pub mod async_sse;
pub mod axum;
pub mod eventsource_client;
pub mod eventsource_stream;
pub mod reqwest_eventsource;
pub mod sse_stream;
