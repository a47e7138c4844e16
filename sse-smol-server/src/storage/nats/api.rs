//! Requests to JetStream.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::failure::Failure;
use super::link::{Deliveries, Link};
use super::message::{Ack, Stored};

/// The time for which the engine keeps a consumer that is not used any more.
const UNUSED: Duration = Duration::from_secs(10);

/// The code of the error for a stream with more replicas than servers, which may still be starting.
const NO_PEERS: u64 = 10_005;

/// JetStream, and the name of the stream in it.
#[derive(Clone, Debug)]
pub(super) struct Api {
    pub(super) link: Arc<Link>,
    pub(super) stream: Arc<str>,
}

/// A request for messages to a consumer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pull {
    /// The maximum number of messages.
    pub(super) messages: usize,
    /// The maximum size of all messages in bytes, if there is one. A larger message is not delivered.
    pub(super) bytes: Option<usize>,
    /// The time for which the engine waits for new messages, with a heartbeat in the middle. Without
    /// one it sends those that it has.
    pub(super) wait: Option<Duration>,
}

/// The messages that a consumer delivers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selection<'a> {
    pub(super) begin: Begin,
    /// The subject, or the pattern of subjects, if not all.
    pub(super) subject: Option<&'a str>,
    pub(super) only_headers: bool,
}

/// The messages that a consumer begins with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin {
    /// The first one from a sequence on.
    At(u64),
    /// The last one of each subject.
    LastOfEach,
}

impl Api {
    /// Sends a request with a body in JSON. Returns the reply, or the error in it.
    pub(super) async fn call(
        &self,
        operation: &str,
        body: &Value,
        until: Instant,
    ) -> Result<Value, Failure> {
        let subject = format!("$JS.API.{operation}");
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let reply = self.link.request(&subject, None, body, until).await?;
        parse(&reply.payload)
    }

    /// Returns the description of the stream. With a subject, also the number of messages of each
    /// matching subject, from the given offset on.
    pub(super) async fn info(
        &self,
        subject: Option<&str>,
        offset: usize,
        until: Instant,
    ) -> Result<Value, Failure> {
        let body = match subject {
            Some(subject) => json!({ "subjects_filter": subject, "offset": offset }),
            None => Value::Null,
        };
        self.call(&format!("STREAM.INFO.{}", self.stream), &body, until).await
    }

    /// Publishes a message.
    pub(super) async fn publish(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
        until: Instant,
    ) -> Result<Ack, Failure> {
        let reply = self.link.request(subject, Some(headers), payload, until).await?;
        Ack::read(&parse(&reply.payload)?)
    }

    /// Returns the message that a body in JSON describes, if there is one. `is_direct` is whether
    /// any replica may answer.
    pub(super) async fn message(
        &self,
        body: &Value,
        is_direct: bool,
        until: Instant,
    ) -> Result<Option<Stored>, Failure> {
        let unknown = || Failure::Lost("the answer is not a message".to_owned());
        if !is_direct {
            return match self.call(&format!("STREAM.MSG.GET.{}", self.stream), body, until).await {
                Ok(reply) => Stored::from_leader(&reply).map(Some).ok_or_else(unknown),
                Err(Failure::NotFound(_)) => Ok(None),
                Err(failure) => Err(failure),
            };
        }
        let subject = format!("$JS.API.DIRECT.GET.{}", self.stream);
        let reply = self.link.request(&subject, None, body.to_string().into(), until).await?;
        let status = reply.status.filter(|_| !Stored::is_stored(&reply));
        match status.map(|status| status.as_u16()) {
            None | Some(200) => Stored::from_direct(reply).map(Some).ok_or_else(unknown),
            Some(404) => Ok(None),
            Some(status) => {
                let why = reply.description.unwrap_or_default();
                Err(Failure::Lost(format!("status {status} for a message: {why}")))
            }
        }
    }

    /// Creates a consumer, which the engine removes when it is not used any more.
    pub(super) async fn create_consumer(
        &self,
        selection: Selection<'_>,
        until: Instant,
    ) -> Result<String, Failure> {
        let name = format!("sse-{:016x}", fastrand::u64(..));
        let mut operation = format!("CONSUMER.CREATE.{}.{name}", self.stream);
        let mut config = json!({
            "name": name,
            "ack_policy": "none",
            "replay_policy": "instant",
            "mem_storage": true,
            "num_replicas": 1,
            "inactive_threshold": u64::try_from(UNUSED.as_nanos()).unwrap_or(u64::MAX),
            "headers_only": selection.only_headers,
        });
        match selection.begin {
            Begin::At(sequence) => {
                config["deliver_policy"] = "by_start_sequence".into();
                config["opt_start_seq"] = sequence.max(1).into();
            }
            Begin::LastOfEach => config["deliver_policy"] = "last_per_subject".into(),
        }
        if let Some(subject) = selection.subject {
            config["filter_subject"] = subject.into();
            operation.push('.');
            operation.push_str(subject);
        }
        let body = json!({ "stream_name": &*self.stream, "config": config });
        self.call(&operation, &body, until).await?;
        Ok(name)
    }

    /// Removes a consumer. If that fails, the engine does it later.
    pub(super) async fn delete_consumer(&self, name: &str, until: Instant) {
        let operation = format!("CONSUMER.DELETE.{}.{name}", self.stream);
        let _ = self.call(&operation, &Value::Null, until).await;
    }

    /// Requests messages from a consumer.
    pub(super) async fn pull(
        &self,
        consumer: &str,
        pull: Pull,
        until: Instant,
    ) -> Result<Deliveries, Failure> {
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{consumer}", self.stream);
        let mut body = json!({ "batch": pull.messages });
        if let Some(bytes) = pull.bytes {
            body["max_bytes"] = bytes.into();
        }
        match pull.wait {
            Some(wait) => {
                body["expires"] = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX).into();
                let half = u64::try_from(wait.as_nanos() / 2).unwrap_or(u64::MAX);
                body["idle_heartbeat"] = half.into();
            }
            None => body["no_wait"] = true.into(),
        }
        self.link.request_messages(&subject, body.to_string().into(), until).await
    }
}

/// Reads a reply in JSON.
fn parse(payload: &[u8]) -> Result<Value, Failure> {
    let reply: Value = serde_json::from_slice(payload)
        .map_err(|error| Failure::Lost(format!("the answer is not JSON: {error}")))?;
    let error = &reply["error"];
    if error.is_null() {
        return Ok(reply);
    }
    let code = error["err_code"].as_u64().unwrap_or(0);
    let why = error["description"].as_str().unwrap_or("no description").to_owned();
    Err(match error["code"].as_u64() {
        Some(404) => Failure::NotFound(why),
        // Without a leader, for example.
        Some(503) if !Failure::is_no_room(code, &why) => Failure::Lost(why),
        _ if code == NO_PEERS => Failure::Lost(why),
        _ => Failure::Refused(code, why),
    })
}
