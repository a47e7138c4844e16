//! Datastar: the bytes of its events, the signals of its requests, and the example in a browser.

#[path = "../../examples/datastar/app.rs"]
mod app;
#[path = "../support/browser.rs"]
mod browser;
#[path = "../../examples/datastar/conformance.rs"]
mod conformance;
mod endpoint;
mod events;
mod page;
mod signals;
#[path = "../support/mod.rs"]
mod support;
