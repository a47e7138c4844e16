//! Server-sent events (`text/event-stream`) as a protocol, without I/O.
//!
//! Bytes in, events out; events in, bytes out. No socket, no clock, no runtime; `no_std`, no
//! allocation unless you want it, no `unsafe`. The [HTML Standard], section 9.2, is followed to
//! the letter, and where it is silent this documentation says what happens.
//!
//! # Decode
//!
//! [`Decoder`] takes chunks, cut anywhere, and gives each event as soon as it is complete.
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
//! [`Event`] cannot be made to hold what would break the stream, so encoding cannot fail.
//!
//! ```
//! use sse_proto::{Event, EventId, EventType};
//!
//! const TICK: EventType<'static> = EventType::from_static("tick");
//! let mut wire = Vec::new();
//! Event::new("two\nlines").with_type(TICK).with_id(EventId::new("7")?).encode_to_vec(&mut wire);
//! assert_eq!(wire, b"event: tick\nid: 7\ndata: two\ndata: lines\n\n");
//! # Ok::<(), sse_proto::InvalidValue>(())
//! ```
//!
//! # Relay
//!
//! What was decoded can be encoded as it is: ids and reconnection times come through, too, also
//! those from blocks without data, with the next event.
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
//! # What else there is
//!
//! - [`Client`]: `EventSource` without the fetch, for clients that reconnect.
//! - [`OwnedEvent`]: events that outlive their chunk, without a copy if need be.
//! - [`Events`], [`EventBody`], [`EventCodec`]: the same as streams, HTTP bodies, and a codec.
//! - [`KeepAlive`]: when a silent stream needs a comment, with any clock.
//! - [`Utf8Checker`]: values as `str`, checked many at a time.
//! - [`Lexer`]: the level below the decoder, for comments and for values before they are whole.
//! - [`Decoder::with_buffers`]: decoding without an allocator.
//!
//! # Features
//!
//! | feature | brings | `no_std` |
//! |---|---|---|
//! | `std` (default) | vector instructions chosen at run time; implies `alloc` | |
//! | `alloc` | [`Decoder::new`], [`Client::new`], `encode_to_vec`, [`Text::to_str_lossy`] | yes |
//! | `bytes` | [`OwnedEvent`], [`AsEvent`]; `encode_to_buf`, for any `bytes::BufMut` | yes |
//! | `serde_json` | [`Event::json`] | yes |
//! | `simdutf8` | text checked by vector instructions: several times as fast where it is not ASCII | yes |
//! | `futures-core` | [`Events`] of a `Stream` of chunks, [`EventBody`] of a `Stream` of events | yes |
//! | `http-body` | [`Events::from_body`], [`EventBody`] as a body: axum, hyper, reqwest, tower | |
//! | `tokio-util` | [`EventCodec`], for `FramedRead` and `FramedWrite` | |
//!
//! Without features there remain the decoder over lent memory, the encoder over slices, and all
//! else. Features only add.
//!
//! [HTML Standard]: https://html.spec.whatwg.org/multipage/server-sent-events.html

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(feature = "tokio-util")]
extern crate std;

#[cfg(any(feature = "futures-core", feature = "tokio-util"))]
mod adapters;
mod buffer;
mod client;
mod decode;
mod encode;
mod event;
mod fields;
mod keep_alive;
mod lex;
mod limits;
mod line_end;
mod mime;
#[cfg(feature = "bytes")]
mod owned;
mod text;
mod utf8;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(feature = "http-body")]
pub use adapters::BodyChunks;
#[cfg(feature = "tokio-util")]
pub use adapters::EventCodec;
#[cfg(feature = "futures-core")]
pub use adapters::{EventBody, Events, EventsError};
pub use buffer::{BorrowedBuffer, DecodeBuffer, GrowableBuffer};
pub use client::{
    Client, ClientConfig, ConnectRequest, ReadyState, Rejected, RequestReplay, ResponseHead,
};
pub use decode::Decoder;
pub use encode::{BufferTooSmall, KEEP_ALIVE, Slices};
pub use event::{Comment, Event, EventId, EventType, InvalidValue};
pub use keep_alive::KeepAlive;
pub use lex::{Field, Lexer, LineToken};
pub use limits::{EventTooLarge, InvalidLastEventId, Limits};
pub use mime::is_event_stream;
#[cfg(feature = "bytes")]
pub use owned::{AsEvent, OwnedEvent};
pub use text::Text;
pub use utf8::Utf8Checker;
