//! `POST /topics/{name}`: publish.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use sse_proto::Text;
use sse_smol_server::{
    Error, Publication, Published, Request, RequestError, Response, TopicError, Topics,
    list_members,
};

use super::reply::typed;

/// A publication in JSON. Data other than a string is published as its JSON text.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    #[serde(deserialize_with = "text_or_json")]
    data: String,
    r#type: Option<String>,
    id: Option<String>,
    retry: Option<u64>,
    key: Option<String>,
}

/// The response to a publication.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Reply {
    Published {
        duplicate: bool,
        id: String,
    },
    /// An event of a batch that was not published.
    Failed {
        error: String,
        status: u16,
    },
}

impl Reply {
    /// Returns a line of JSON.
    fn line(result: Result<Published, TopicError>) -> Vec<u8> {
        let reply = match result {
            Ok(Published { duplicate, id, .. }) => Self::Published { duplicate, id },
            Err(error) => {
                let why = error.to_string();
                let status = Error::from(error).response().status().as_u16();
                Self::Failed { error: why, status }
            }
        };
        let mut line = serde_json::to_vec(&reply).expect("a reply can be serialized");
        line.push(b'\n');
        line
    }
}

/// Deserializes a string to its text, and any other value to its JSON text, unchanged.
fn text_or_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    if raw.get().starts_with('"') {
        serde_json::from_str(raw.get()).map_err(D::Error::custom)
    } else {
        Ok(raw.get().to_owned())
    }
}

/// The form of a body, by its `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The body is the data.
    Data,
    /// The body is an [`Envelope`].
    Envelope,
    /// Each line of the body is an [`Envelope`].
    Batch,
}

/// The maximum number of events in a batch, which bounds the cost of a request.
const MOST_EVENTS: usize = 10_000;

/// Publishes the body of a request to the topic `name`.
pub(super) async fn publish(
    topics: Topics,
    name: String,
    mut request: Request,
) -> Result<(), Error> {
    if is_encoded(request.headers()) {
        let line = "A body with a Content-Encoding is not supported: send it without one.";
        let mut response = RequestError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, line).response();
        let identity = HeaderValue::from_static("identity");
        response.headers_mut().insert(header::ACCEPT_ENCODING, identity);
        return request.respond(response).await;
    }
    let body = request.body().await?;
    let envelopes = match envelopes(&request, body) {
        Ok(envelopes) => envelopes,
        Err(why) => {
            let error = RequestError::new(StatusCode::BAD_REQUEST, why);
            return request.respond(error.response()).await;
        }
    };
    let response = match envelopes {
        Envelopes::One(envelope) => match topics.publish(&name, publication(&envelope)).await {
            Ok(published) => {
                let status = status(&published);
                let mut response = typed("application/json", Reply::line(Ok(published)));
                *response.status_mut() = status;
                response
            }
            Err(error) => Error::from(error).response(),
        },
        Envelopes::Batch(envelopes) => {
            replies(topics.publish_all(&name, envelopes.iter().map(publication)).await)
        }
    };
    request.respond(response).await
}

fn publication(envelope: &Envelope) -> Publication<'_> {
    let mut new = Publication::new(&envelope.data);
    new.event_type = envelope.r#type.as_ref().map(Text::from);
    new.id = envelope.id.as_ref().map(Text::from);
    new.retry = envelope.retry.map(Duration::from_millis);
    new.key = envelope.key.as_deref();
    new
}

/// Returns the status of a publication.
fn status(published: &Published) -> StatusCode {
    if published.duplicate { StatusCode::OK } else { StatusCode::CREATED }
}

/// Returns the response to a batch: a line for each event. Its status is that of the first event
/// that was not published, or else that of a new event, if there is one.
fn replies(results: Vec<Result<Published, TopicError>>) -> Response {
    let failed = results.iter().find_map(|result| result.as_ref().err());
    let published = results.iter().flatten().map(status).max();
    let mut response = match failed {
        Some(error) => Error::from(error.clone()).response(),
        None => Response::new(Vec::new()),
    };
    if failed.is_none() {
        *response.status_mut() = published.unwrap_or(StatusCode::OK);
    }
    *response.body_mut() = results.into_iter().flat_map(Reply::line).collect();
    let content_type = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// Returns whether the body has a content coding, such as compression.
fn is_encoded(headers: &HeaderMap) -> bool {
    list_members(headers.get_all(header::CONTENT_ENCODING))
        .any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

/// The publications in a request.
enum Envelopes {
    One(Envelope),
    Batch(Vec<Envelope>),
}

/// Returns the publications in a request. Fields that are not set come from headers, or else from
/// the query; those of a batch have IDs and keys of their own.
///
/// # Errors
///
/// A description of the header, parameter, line or field that is invalid.
fn envelopes(request: &Request, body: Vec<u8>) -> Result<Envelopes, String> {
    let defaults = defaults(request)?;
    let envelope = match form(request)? {
        Form::Data => {
            let data = String::from_utf8(body).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                format!("The body is not UTF-8 text: see byte {at}. Event streams carry only text.")
            })?;
            Envelope { data, ..Envelope::default() }
        }
        Form::Envelope => from_json("The body", &body)?,
        Form::Batch => {
            if defaults.id.is_some() || defaults.key.is_some() {
                return Err("Each line of a batch has an id and a key of its own, so the request \
                            can have none."
                    .to_owned());
            }
            let lines = body.split(|byte| *byte == b'\n').enumerate();
            let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
            let envelopes = lines.map(|(number, line)| {
                let envelope = from_json(&format!("Line {}", number + 1), line)?;
                Ok(envelope.or(&defaults))
            });
            let envelopes: Vec<_> =
                envelopes.take(MOST_EVENTS + 1).collect::<Result<_, String>>()?;
            if envelopes.len() > MOST_EVENTS {
                return Err(format!("A batch has at most {MOST_EVENTS} events."));
            }
            return Ok(Envelopes::Batch(envelopes));
        }
    };
    Ok(Envelopes::One(envelope.or(&defaults)))
}

/// Returns the form of the body of a request.
fn form(request: &Request) -> Result<Form, String> {
    let mut content_types = request.headers().get_all(header::CONTENT_TYPE).iter();
    let content_type = content_types.next();
    if content_types.next().is_some() {
        return Err("The request has more than one header content-type.".to_owned());
    }
    let value = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    Ok(if essence.eq_ignore_ascii_case("application/json") {
        Form::Envelope
    } else if essence.eq_ignore_ascii_case("application/x-ndjson") {
        Form::Batch
    } else {
        Form::Data
    })
}

/// Parses an envelope. `what` names it in an error.
fn from_json(what: &str, json: &[u8]) -> Result<Envelope, String> {
    // Checked first, because serde also accepts an array, with the fields in order.
    if json.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(format!("{what} is not an object {{data, type, id, retry, key}} in JSON."));
    }
    serde_json::from_slice(json).map_err(|error| {
        format!("{what} is not a valid {{data, type, id, retry, key}} in JSON: {error}.")
    })
}

impl Envelope {
    /// Returns the envelope with the fields of another one in place of those that are not set.
    fn or(self, defaults: &Self) -> Self {
        Self {
            data: self.data,
            r#type: self.r#type.or_else(|| defaults.r#type.clone()),
            id: self.id.or_else(|| defaults.id.clone()),
            retry: self.retry.or(defaults.retry),
            // An empty key is ignored: it would make all publications duplicates of one event.
            key: self.key.or_else(|| defaults.key.clone()).filter(|key| !key.is_empty()),
        }
    }
}

/// The fields of a publication that a header or a query parameter can set.
const FIELDS: [(&str, &str); 4] = [
    ("event-type", "type"),
    ("event-id", "id"),
    ("event-retry", "retry"),
    ("idempotency-key", "key"),
];

/// Returns the fields in the headers and the query of a request.
fn defaults(request: &Request) -> Result<Envelope, String> {
    let query = request.query_pairs().map_err(|error| error.to_string())?;
    // One pass over the few headers of a request takes less time than a look-up of each name.
    let mut headers = [None; FIELDS.len()];
    for (name, value) in request.headers() {
        let Some(at) = FIELDS.iter().position(|(header, _)| name == *header) else { continue };
        if headers[at].replace(value).is_some() {
            return Err(format!("The request has more than one header {name}."));
        }
    }
    let mut found = [const { None }; FIELDS.len()];
    for (((header, parameter), value), found) in FIELDS.iter().zip(headers).zip(&mut found) {
        *found = match value.map(|value| std::str::from_utf8(value.as_bytes())) {
            Some(Ok(value)) => Some(value.to_owned()),
            Some(Err(_)) => return Err(format!("The header {header} is not UTF-8.")),
            None => {
                let value = query.only(parameter).map_err(|error| error.to_string())?;
                value.map(str::to_owned)
            }
        };
    }
    let [r#type, id, retry, key] = found;
    let retry = retry.map(|retry| {
        retry.parse().map_err(|_| {
            format!("The reconnection time {retry:?} is not a whole number of milliseconds.")
        })
    });
    Ok(Envelope { data: String::new(), r#type, id, retry: retry.transpose()?, key })
}
