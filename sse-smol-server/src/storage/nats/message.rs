//! Messages of the stream: events and deletions, with their headers.

use std::borrow::Cow;
use std::sync::Arc;

use async_nats::{HeaderMap, HeaderName, HeaderValue, Message, StatusCode, Subject};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde_json::Value;
use sse_proto::{Event, EventId};

use super::failure::Failure;
use super::position::{self, Place};
use super::subject;
use crate::storage::{EventRef, StoredEvent};

/// The random number of the publication, in hexadecimal digits. A message without it was published by
/// another program, and its payload is the data of an event.
const SALT: &str = "Sse-Salt";
/// The ID that the publisher chose, percent-encoded.
const ID: &str = "Sse-Id";
/// The message is the deletion of the topic's events up to this position.
const DELETED: &str = "Sse-Deleted";
/// The identity of a publication: the engine stores only one of several messages with it.
const MESSAGE_ID: &str = "Nats-Msg-Id";
/// The publication fails unless this is the sequence of the subject's last message.
const EXPECTED_LAST: &str = "Nats-Expected-Last-Subject-Sequence";
/// The publication fails if another stream takes the subject.
const EXPECTED_STREAM: &str = "Nats-Expected-Stream";

/// What is encoded in the values of headers: all that is not visible ASCII, the escape itself, and
/// the separator of the identities of messages.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'/');

/// Returns text as a part of a header's value.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// A message of the stream.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) sequence: u64,
    pub(super) subject: Subject,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
    /// Whether the client can receive the message. See [`read_headers`].
    pub(super) is_readable: bool,
}

/// A message that a consumer has delivered.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    /// The number of the message among the deliveries of the consumer.
    pub(super) number: u64,
    /// The number of messages that the consumer had not delivered yet.
    pub(super) pending: u64,
    pub(super) message: Stored,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Event,
    /// A deletion, with the position of the last event that was deleted.
    Deletion(u64),
    /// A message whose headers cannot be read.
    Foreign,
}

impl Stored {
    /// Returns whether a reply is a message of the stream, and not a status of the engine. The
    /// message may itself begin with a status.
    pub(super) fn is_stored(reply: &Message) -> bool {
        let is_delivered = reply.reply.as_ref().is_some_and(|ack| ack.starts_with("$JS.ACK."));
        let headers = reply.headers.as_ref();
        is_delivered || headers.is_some_and(|headers| headers.get("Nats-Sequence").is_some())
    }

    /// Reads the reply to a direct request for a message.
    pub(super) fn from_direct(message: Message) -> Option<Self> {
        let headers = message.headers?;
        // The engine appends these. A message that another stream has republished has others before.
        let sequence = headers.get_last("Nats-Sequence")?.as_str().parse().ok()?;
        let subject = headers.get_last("Nats-Subject")?.as_str().into();
        Some(Self { sequence, subject, headers, payload: message.payload, is_readable: true })
    }

    /// Reads the reply of the stream's leader to a request for a message.
    pub(super) fn from_leader(reply: &Value) -> Option<Self> {
        let message = &reply["message"];
        let decode = |name: &str| match message.get(name) {
            Some(text) => STANDARD.decode(text.as_str()?).ok(),
            None => Some(Vec::new()),
        };
        let (headers, is_readable) = read_headers(&decode("hdrs")?);
        Some(Self {
            sequence: message["seq"].as_u64()?,
            subject: message["subject"].as_str()?.into(),
            headers,
            payload: decode("data")?.into(),
            is_readable,
        })
    }

    /// Reads a message that a consumer has delivered.
    pub(super) fn from_consumer(message: Message) -> Option<Delivery> {
        let reply = message.reply?;
        // $JS.ACK, in newer formats domain and account, then: stream, consumer, number of this
        // delivery, sequence in the stream, sequence in the consumer, time, pending messages.
        let (mut tokens, mut count) = ([""; 11], 0);
        for token in reply.split('.') {
            if let Some(place) = tokens.get_mut(count) {
                *place = token;
            }
            count += 1;
        }
        let first = match count {
            9 => 2,
            11.. => 4,
            _ => return None,
        };
        let sequence = tokens[first + 3].parse().ok()?;
        let number = tokens[first + 4].parse().ok()?;
        let pending = tokens[first + 6].parse().ok()?;
        let headers = message.headers.unwrap_or_default();
        let (subject, payload) = (message.subject, message.payload);
        let message = Self { sequence, subject, headers, payload, is_readable: true };
        Some(Delivery { number, pending, message })
    }

    fn header(&self, name: &str) -> Option<&str> {
        // There are few headers, so comparing the names takes less time than computing a hash.
        let has_name = |(known, _): &(&HeaderName, _)| AsRef::<str>::as_ref(*known) == name;
        let (_, values) = self.headers.iter().find(has_name)?;
        values.first().map(HeaderValue::as_str)
    }

    pub(super) fn salt(&self) -> u32 {
        let Some(salt) = self.header(SALT) else {
            // The same on all servers: FNV-1a of the payload.
            let hash = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
            return 1 + self.payload.iter().fold(0x811c_9dc5, hash) % (position::SALTS - 1);
        };
        let salt = u32::from_str_radix(salt, 16).ok();
        salt.filter(|salt| *salt < position::SALTS).unwrap_or(0)
    }

    pub(super) fn position(&self) -> u64 {
        position::at(self.sequence, self.salt())
    }

    /// Returns the position directly before the message.
    pub(super) fn before(&self) -> u64 {
        position::before(self.sequence, self.salt())
    }

    /// Returns the ID that the publisher chose.
    pub(super) fn id(&self) -> Option<Box<str>> {
        let id = percent_decode_str(self.header(ID)?).decode_utf8().ok()?;
        // Another program may have sent any text. With a line end it would be more than an ID.
        let is_id = !id.is_empty() && EventId::new(&*id).is_ok();
        is_id.then(|| id.into_owned().into())
    }

    pub(super) fn message_id(&self) -> Option<&str> {
        self.header(MESSAGE_ID)
    }

    pub(super) fn topic(&self, stream: &str) -> Option<Arc<str>> {
        subject::to_topic(stream, &self.subject)
    }

    pub(super) fn kind(&self) -> Kind {
        if self.salt() == 0 {
            return Kind::Foreign;
        }
        match self.header(DELETED).map(str::parse) {
            None => Kind::Event,
            Some(Ok(last)) if Place::of(last).sequence < self.sequence => Kind::Deletion(last),
            Some(_) => Kind::Foreign,
        }
    }

    pub(super) fn event_ref(&self) -> EventRef {
        EventRef { position: self.position(), id: self.id() }
    }

    pub(super) fn event(self) -> StoredEvent {
        let (position, id) = (self.position(), self.id());
        let fields = if self.header(SALT).is_some() {
            self.payload
        } else {
            let mut fields = Vec::new();
            Event::new(&*self.payload).encode_to_vec(&mut fields);
            fields.into()
        };
        StoredEvent { position, fields, id }
    }
}

/// Reads headers, and returns whether all of them are valid. The engine accepts any bytes of other
/// programs, but the client closes the connection when it receives others than valid ones.
fn read_headers(bytes: &[u8]) -> (HeaderMap, bool) {
    let mut headers = HeaderMap::new();
    if bytes.is_empty() {
        return (headers, true);
    }
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let status = lines.next().and_then(|version| version.strip_prefix("NATS/1.0"));
    let status = status.map(|status| status.trim().split(' ').next().unwrap_or_default());
    let is_status = |status: &str| status.is_empty() || status.parse::<StatusCode>().is_ok();
    let mut is_valid = matches!(text, Cow::Borrowed(_)) && status.is_some_and(is_status);
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or_default();
        match (name.parse::<HeaderName>(), value.trim().parse::<HeaderValue>()) {
            (Ok(name), Ok(value)) => headers.append(name, value),
            _ => is_valid = false,
        }
    }
    (headers, is_valid)
}

/// Returns the headers of a message that is published to the stream.
pub(super) fn headers(stream: &str, salt: u32, message_id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(SALT, format!("{salt:x}").as_str());
    headers.insert(MESSAGE_ID, message_id);
    headers.insert(EXPECTED_STREAM, stream);
    headers
}

pub(super) fn set_id(headers: &mut HeaderMap, id: &str) {
    headers.insert(ID, encode(id).as_str());
}

pub(super) fn set_deleted(headers: &mut HeaderMap, last: u64) {
    headers.insert(DELETED, last.to_string().as_str());
}

pub(super) fn expect_last(headers: &mut HeaderMap, sequence: u64) {
    headers.insert(EXPECTED_LAST, sequence.to_string().as_str());
}

/// Returns the size in bytes that headers take in a message.
pub(super) fn headers_size(headers: &HeaderMap) -> usize {
    let line = |name: &HeaderName, value: &HeaderValue| {
        AsRef::<[u8]>::as_ref(name).len() + value.as_str().len() + 4
    };
    let lines = headers.iter().flat_map(|(name, values)| values.iter().map(move |v| line(name, v)));
    "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>()
}

/// The answer to a publication.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack {
    pub(super) sequence: u64,
    /// Whether the stream has a message with the same identity, at this sequence.
    pub(super) is_duplicate: bool,
}

impl Ack {
    pub(super) fn read(reply: &Value) -> Result<Self, Failure> {
        let no_sequence = || Failure::Lost("the answer to a publication is not JSON".to_owned());
        let sequence = reply["seq"].as_u64().ok_or_else(no_sequence)?;
        Ok(Self { sequence, is_duplicate: reply["duplicate"] == true })
    }
}
