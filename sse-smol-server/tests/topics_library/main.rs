//! Topics as the library offers them: bounds, ids, keys, lists.

#[path = "../support/mod.rs"]
mod support;

mod publishing;
mod retention;
mod subscribing;
