//! HTTP/1: parsing of request heads, encoding of response heads. Independent of sockets and
//! connections.

mod accept;
mod authority;
mod head;
mod list;
mod query;
mod refusal;
mod request_error;
mod response;
mod target;

pub use self::accept::MediaRange;
pub(crate) use self::accept::{accepted_weight, accepts_event_stream};
pub use self::authority::Authority;
pub(crate) use self::head::{Body, Head, is_header_line, parse};
pub use self::list::list_members;
pub use self::query::{Query, Segments};
pub(crate) use self::refusal::Refusal;
pub use self::request_error::RequestError;
pub use self::response::{Response, json, text};
pub(crate) use self::response::{
    busy, failure, head_of_length, may_have_body, replace, stream_head, whole,
};
