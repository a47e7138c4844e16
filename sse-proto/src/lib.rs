//! Server-sent events (`text/event-stream`) as a protocol, without I/O.
//!
//! The decoder turns bytes into events, and the encoder turns events into bytes. The crate uses no
//! socket, no clock and no async runtime. It is `no_std`, contains no `unsafe` code, and allocates
//! only with the feature `alloc`. It implements section 9.2 of the [HTML Standard] exactly; where
//! the standard leaves behaviour open, this documentation specifies it.
//!
//! # Decode
//!
//! [`Decoder`] accepts chunks cut at any byte, and returns each event as soon as it is complete.
//!
//! ```
//! use sse_proto::Decoder;
//!
//! let mut decoder = Decoder::new();
//! let mut chunk: &[u8] = b"event: tick\nid: 7\ndata: {\"n\":1}\n\ndata: not comp";
//! while let Some(event) = decoder.next_event(&mut chunk)? {
//!     assert_eq!(event.event_type(), "tick");
//!     assert_eq!(event.data(), r#"{"n":1}"#);
//! }
//! assert_eq!(decoder.last_event_id(), "7"); // for the `Last-Event-ID` header of the next request
//! # Ok::<(), sse_proto::EventTooLarge>(())
//! ```
//!
//! # Encode
//!
//! An [`Event`] cannot hold a value that would break the stream, so every event can be encoded.
//!
//! ```
//! use sse_proto::{Event, event_type};
//!
//! let id = 7.to_string();
//! let event = Event::new("two\nlines").with_type(event_type!("tick")).with_id(id[..].try_into()?);
//! let mut wire = Vec::new();
//! event.encode_to_vec(&mut wire);
//! assert_eq!(wire, b"event: tick\nid: 7\ndata: two\ndata: lines\n\n");
//! # Ok::<(), sse_proto::InvalidValue>(())
//! ```
//!
//! # Relay
//!
//! A decoded event can be encoded again as it is. IDs and reconnection times are relayed too; those
//! of a block without data are sent with the next event.
//!
//! ```
//! use sse_proto::Decoder;
//!
//! let (mut decoder, mut out) = (Decoder::new(), Vec::new());
//! for mut chunk in [&b"retry:10\r\nid:1\r\n\r\ndata:a\r"[..], b"\ndata:b\r\n\r", b"\n: c\r\n"] {
//!     while let Some(event) = decoder.next_event(&mut chunk)? {
//!         event.encode_to_vec(&mut out);
//!     }
//! }
//! assert_eq!(out, b"id: 1\nretry: 10\ndata: a\ndata: b\n\n");
//! # Ok::<(), sse_proto::EventTooLarge>(())
//! ```
//!
//! # Other items
//!
//! - [`EventSource`]: a `Stream` of events that reconnects, over any HTTP client and any runtime.
//! - [`Client`]: the state machine of that, without I/O.
//! - [`OwnedEvent`]: an event that outlives its chunk, by sharing the chunk's memory or by copying.
//! - [`Events`], [`EventBody`], [`EventCodec`]: adapters for streams, HTTP bodies and codecs.
//! - [`KeepAlive`]: the deadline of the next keep-alive comment, for any clock.
//! - [`Lexer`]: the layer below the decoder, for comments and for values before they are complete.
//! - [`Decoder::with_buffers`]: decoding without an allocator.
//!
//! # Features
//!
//! | feature | adds | `no_std` |
//! |---|---|---|
//! | `std` (default) | run-time selection of vector instructions; implies `alloc` | |
//! | `alloc` | [`Decoder::new`], [`Client::new`], `encode_to_vec`, [`Text::to_str_lossy`] | yes |
//! | `bytes` | [`OwnedEvent`], [`AsEvent`]; `encode_to_buf`, for any `bytes::BufMut` | yes |
//! | `serde_json` | [`Event::json`]; with `bytes`, `OwnedEvent::from_json` | yes |
//! | `simdutf8` (default) | UTF-8 validation by vector instructions: several times as fast | yes |
//! | `futures-core` | [`Events`] from a `Stream` of chunks, [`EventBody`] from a `Stream` of events | yes |
//! | `std` and `futures-core` | [`EventSource`] | |
//! | `http-body` | [`Events::from_body`], [`EventBody`] as an HTTP body: axum, hyper, reqwest, tower | |
//! | `tokio-util` | [`EventCodec`], for `FramedRead` and `FramedWrite` | |
//!
//! Without features, the crate provides the decoder over borrowed buffers, the encoder into slices,
//! and everything that the table does not list. Features are additive.
//!
//! [HTML Standard]: https://html.spec.whatwg.org/multipage/server-sent-events.html

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", feature = "tokio-util"))]
extern crate std;

#[cfg(any(feature = "futures-core", feature = "tokio-util"))]
mod adapters;
mod buffer;
mod client;
mod comments;
mod decode;
mod encode;
mod event;
mod field;
mod keep_alive;
mod lex;
mod limits;
mod line_end;
mod mime;
#[cfg(feature = "bytes")]
mod owned;
mod setters;
mod text;
mod utf8;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(feature = "http-body")]
pub use adapters::BodyChunks;
#[cfg(feature = "tokio-util")]
pub use adapters::EventCodec;
#[cfg(all(feature = "std", feature = "futures-core"))]
pub use adapters::{Connection, EventSource, EventSourceError};
#[cfg(feature = "futures-core")]
pub use adapters::{EventBody, Events, EventsError, StartTimer};
pub use buffer::{BorrowedBuffer, DecodeBuffer, GrowableBuffer};
pub use client::{
    Client, ClientConfig, ConnectRequest, ReadyState, Rejected, RequestReplay, ResponseHead,
};
pub use decode::Decoder;
pub use encode::{BufferTooSmall, KEEP_ALIVE, Slices};
pub use event::{Comment, Event, EventId, EventType, InvalidValue};
pub use field::Field;
pub use keep_alive::KeepAlive;
pub use lex::{Lexer, LineToken};
pub use limits::{EventTooLarge, InvalidLastEventId, Limits};
pub use mime::is_event_stream;
#[cfg(feature = "bytes")]
pub use owned::{AsEvent, OwnedEvent};
pub use text::Text;
