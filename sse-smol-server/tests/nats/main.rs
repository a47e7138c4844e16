//! Topics on NATS: the storage itself, several servers on one stream, and failures of the engine.

mod access;
mod catching_up;
mod deleted;
#[path = "../support/dir.rs"]
mod dir;
mod engine;
mod equal;
mod failures;
mod large;
mod load;
mod metrics;
mod model;
mod nodes;
mod odd;
mod replaced;
mod replies;
mod retention;
#[path = "../support/mod.rs"]
mod support;
mod tls;
#[path = "../support/topics_model.rs"]
mod topics_model;
