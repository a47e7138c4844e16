//! An HTTP/1 server library for server-sent events, on smol.
//!
//! A handler is a function from a [`Request`] to a future. It opens the event stream, sends events,
//! and may wait for anything in between. When it returns, the stream ends.
//!
//! ```
//! use std::time::Duration;
//!
//! use smol::Timer;
//! use sse_smol_server::sse_proto::{Event, event_type};
//! use sse_smol_server::{Config, Error, Request, Server};
//!
//! async fn countdown(request: Request) -> Result<(), Error> {
//!     let mut stream = request.open().await?; // the head is sent, the client is connected
//!     for n in (0..3).rev() {
//!         stream.send(Event::new(&n.to_string()).with_type(event_type!("left"))).await?;
//!         Timer::after(Duration::from_millis(1)).await; // the client stays watched
//!     }
//!     Ok(()) // sends the last chunk
//! }
//!
//! let server = Server::bind("127.0.0.1:0", Config::default())?;
//! let address = server.local_addr()?;
//! # let drain = server.drain();
//! # let client = std::thread::spawn(move || {
//! #     use std::io::{Read, Write};
//! #     let mut socket = std::net::TcpStream::connect(address).unwrap();
//! #     socket.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
//! #     let mut answer = String::new();
//! #     socket.read_to_string(&mut answer).unwrap();
//! #     drain.begin();
//! #     answer
//! # });
//! server.run(&smol::Executor::new(), countdown)?;
//! # let answer = client.join().unwrap();
//! # let body = answer.split_once("\r\n\r\n").unwrap().1;
//! # assert_eq!(body, "event: left\ndata: 2\n\nevent: left\ndata: 1\n\nevent: left\ndata: 0\n\n");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The crates `http` and `sse_proto`, whose types handlers use, are re-exported:
//!
//! ```
//! use sse_smol_server::http::StatusCode;
//! use sse_smol_server::sse_proto::{OwnedEvent, event_type};
//! use sse_smol_server::{Error, Request, RequestError};
//!
//! async fn ping(request: Request) -> Result<(), Error> {
//!     if request.path() != "/ping" {
//!         Err(RequestError::new(StatusCode::NOT_FOUND, "There is only /ping."))?;
//!     }
//!     let event = OwnedEvent::from_json(&["pong"])?.with_type(event_type!("answer"));
//!     request.open().await?.send(event).await
//! }
//! ```
//!
//! While the handler waits, keep-alive comments are sent. When the client disconnects, the
//! handler's future is dropped at its current await point, without waiting for a write to fail.
//!
//! Handlers can be tested without a network: see [`testing`].

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body_writer;
mod cancel_token;
mod close_reason;
mod compact_instant;
mod config;
mod connection;
#[cfg(feature = "datastar")]
pub mod datastar;
mod drain;
mod error;
mod frame;
mod framing;
mod http1;
mod metrics;
mod net;
mod notifier;
mod polled;
mod request;
mod segment;
mod server;
mod setters;
pub mod storage;
mod stream;
pub mod testing;
mod threads;
mod topics;

/// The crate whose types are in the signatures of this library, such as
/// [`StatusCode`](http::StatusCode), in the version that it uses.
pub use http;
/// The crate of the events that this library sends, in the version that it uses.
pub use sse_proto;

pub use body_writer::BodyWriter;
pub use cancel_token::CancelToken;
pub use close_reason::{CloseReason, Closed};
pub use config::Config;
pub use drain::Drain;
pub use error::Error;
pub use frame::Frame;
pub use metrics::Metrics;
pub use net::listener::Listener;
pub use polled::{Polled, PolledConfig};
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../../docs/library.md")]
struct Readme;

pub use http1::{
    Authority, MediaRange, Query, RequestError, Response, Segments, json, list_members, text,
};
pub use request::{Request, not_allowed};
pub use server::Server;
pub use storage::History;
pub use stream::{EventStream, IntoFrame};
pub use topics::{
    Feed, Publication, Published, Start, Subscription, SubscriptionError, TopicError, TopicInfo,
    TopicPage, TopicTotals, Topics, TopicsConfig,
};
