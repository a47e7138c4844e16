//! `/topics` and `/topics/{name}`: publish and subscribe.

use std::future::Future as _;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use sse_proto::Text;
use sse_smol_server::{
    Error, Publication, Published, Query, Request, RequestError, Response, Start, Topics,
    list_members, not_allowed,
};

use super::reply::{Answer, show, typed};
use crate::guard::Guard;

/// The maximum number of topics in one subscription, which bounds the cost of a request.
const MOST_TOPICS: usize = 32;

/// The prefix of a topic's path, which its name follows.
pub(super) const BELOW: &str = "/topics/";

/// Serves `/topics`. `GET /topics?topic=a&topic=b` subscribes to several topics; without `topic`,
/// the response is a page of the list of topics.
pub(super) fn serve_all(topics: &Topics, request: Request) -> Answer {
    let query = match request.query_pairs() {
        Ok(query) => query,
        Err(error) => return refuse(request, &error),
    };
    let names: Vec<String> = query.all("topic").map(str::to_owned).collect();
    let topics = topics.clone();
    if names.is_empty() {
        return Box::pin(list(topics, request));
    }
    match request.allow(&[Method::GET]) {
        Err(answered) => Box::pin(async { Err(answered) }),
        Ok(()) => subscribe(topics, names, request),
    }
}

async fn list(topics: Topics, request: Request) -> Result<(), Error> {
    let query = request.query_pairs();
    let (after, limit) = match query.as_ref().map_err(RequestError::clone).and_then(page_of) {
        Ok(page) => page,
        Err(error) => return refuse(request, &error).await,
    };
    let page = match topics.list(after, limit).await {
        Ok(page) => page,
        Err(error) => return request.respond(Error::from(error).response()).await,
    };
    let rows = page.topics.into_iter().map(|topic| {
        json!({
            "name": topic.name,
            "subscribers": topic.subscribers,
            "events": topic.events,
            "published": topic.published,
            "bytes": topic.bytes,
            "last_id": topic.last_id,
        })
    });
    let list = json!({ "topics": rows.collect::<Vec<_>>(), "next": page.next });
    show(request, "application/json", format!("{list}\n").into_bytes()).await
}

/// Returns the page of the list that a query selects: the name after which it starts, and its
/// maximum length.
fn page_of(query: &Query) -> Result<(Option<&str>, usize), RequestError> {
    let limit = match query.only("limit")?.map(str::parse) {
        None => Topics::MAX_PAGE,
        Some(Ok(limit)) if (1..=Topics::MAX_PAGE).contains(&limit) => limit,
        Some(_) => {
            return Err(RequestError::new(
                StatusCode::BAD_REQUEST,
                format!(
                    "The query parameter limit must be a number from 1 to {}.",
                    Topics::MAX_PAGE
                ),
            ));
        }
    };
    Ok((query.only("after")?, limit))
}

/// Serves `/topics/{name}`: `GET` subscribes, `POST` publishes, `DELETE` deletes the events.
pub(super) fn serve(topics: &Topics, guard: &Guard, request: Request) -> Answer {
    match *request.method() {
        Method::POST => match guard.check_publisher(&request) {
            Some(answer) => Box::pin(request.respond(answer)),
            None => Box::pin(publish(topics.clone(), request)),
        },
        Method::DELETE => match guard.check_publisher(&request) {
            Some(answer) => Box::pin(request.respond(answer)),
            None => Box::pin(delete(topics.clone(), request)),
        },
        Method::GET | Method::HEAD => match name(&request) {
            Ok(name) => subscribe(topics.clone(), vec![name], request),
            Err(why) => bad(request, why),
        },
        _ => Box::pin(request.respond(not_allowed("GET, HEAD, POST, DELETE"))),
    }
}

/// Returns the topic name in the path. It is decoded, since some clients encode more than they have
/// to, and checked only when it is used.
fn name(request: &Request) -> Result<String, &'static str> {
    let name = request.path().strip_prefix(BELOW).unwrap_or_default();
    percent_decode_str(name).decode_utf8().map(Into::into).map_err(|_| {
        "The topic in the path is not UTF-8: names are 1 to 128 characters from A-Z a-z 0-9 . _ ~ -."
    })
}

/// Answers with the response to an error, and with the headers that the request has for it.
fn refuse(request: Request, error: &RequestError) -> Answer {
    Box::pin(request.respond(error.response()))
}

fn bad(request: Request, why: &str) -> Answer {
    Box::pin(request.respond(RequestError::new(StatusCode::BAD_REQUEST, why).response()))
}

fn subscribe(topics: Topics, names: Vec<String>, request: Request) -> Answer {
    // A future of its own, which is dropped when the stream is open: a stream may be open for days.
    let mut subscribed = Box::pin(begin(topics, names, request));
    // Without a storage, it is ready now, and needs no future around both.
    match subscribed.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => Box::pin(async move { subscribed.await.await }),
    }
}

/// Subscribes, and returns the rest of the answer.
async fn begin(topics: Topics, names: Vec<String>, request: Request) -> Answer {
    if names.len() > MOST_TOPICS {
        let line = format!("A subscription can have at most {MOST_TOPICS} topics.");
        return bad(request, &line);
    }
    let id = match request.last_event_id() {
        Ok(id) => id,
        Err(error) => return refuse(request, &error),
    };
    let start = match id.as_str() {
        "" | "latest" => Start::Latest,
        "earliest" => Start::Earliest,
        id => Start::After(id),
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match topics.subscribe(&names, start).await {
        Ok(mut subscription) => Box::pin(async move {
            let missed = subscription.ready();
            let mut stream = request.open_with(missed).await?;
            stream.follow(subscription).await
        }),
        Err(error) => Box::pin(request.respond(Error::from(error).response())),
    }
}

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
struct Reply {
    duplicate: bool,
    id: String,
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

async fn publish(topics: Topics, mut request: Request) -> Result<(), Error> {
    if is_encoded(request.headers()) {
        let line = "A body with a Content-Encoding is not supported: send it without one.";
        let mut response = RequestError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, line).response();
        let identity = HeaderValue::from_static("identity");
        response.headers_mut().insert(header::ACCEPT_ENCODING, identity);
        return request.respond(response).await;
    }
    let name = match name(&request) {
        Ok(name) => name,
        Err(why) => return bad(request, why).await,
    };
    let body = request.body().await?;
    let envelope = match envelope(&request, body) {
        Ok(envelope) => envelope,
        Err(why) => return bad(request, &why).await,
    };
    let mut new = Publication::new(&envelope.data);
    new.event_type = envelope.r#type.as_ref().map(Text::from);
    new.id = envelope.id.as_ref().map(Text::from);
    new.retry = envelope.retry.map(Duration::from_millis);
    new.key = envelope.key.as_deref();
    match topics.publish(&name, new).await {
        Ok(published) => {
            let Published { duplicate, id, .. } = published;
            let mut body =
                serde_json::to_vec(&Reply { duplicate, id }).expect("a reply can be serialized");
            body.push(b'\n');
            let mut response = typed("application/json", body);
            if !duplicate {
                *response.status_mut() = StatusCode::CREATED;
            }
            request.respond(response).await
        }
        Err(error) => request.respond(Error::from(error).response()).await,
    }
}

async fn delete(topics: Topics, request: Request) -> Result<(), Error> {
    let name = match name(&request) {
        Ok(name) => name,
        Err(why) => return bad(request, why).await,
    };
    match topics.delete(&name).await {
        Ok(true) => {
            let mut response = Response::new(Vec::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            request.respond(response).await
        }
        Ok(false) => {
            let line = format!("The topic {name} holds no events.");
            request.respond(RequestError::new(StatusCode::NOT_FOUND, line).response()).await
        }
        Err(error) => request.respond(Error::from(error).response()).await,
    }
}

/// Returns whether the body has a content coding, such as compression.
fn is_encoded(headers: &HeaderMap) -> bool {
    list_members(headers.get_all(header::CONTENT_ENCODING))
        .any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

/// Returns the publication in a request. With `Content-Type: application/json` the body is an
/// envelope, and otherwise it is the data. Fields that are not set come from headers, or else from
/// the query.
///
/// # Errors
///
/// A description of the header, parameter or field that is invalid.
fn envelope(request: &Request, body: Vec<u8>) -> Result<Envelope, String> {
    let mut content_types = request.headers().get_all(header::CONTENT_TYPE).iter();
    let content_type = content_types.next();
    if content_types.next().is_some() {
        return Err("The request has more than one header content-type.".to_owned());
    }
    let is_json = content_type.and_then(|value| value.to_str().ok()).is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    });
    let mut envelope = if is_json {
        // Checked first, because serde also accepts an array, with the fields in order.
        if body.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
            return Err(
                "The body is not an object {data, type, id, retry, key} in JSON.".to_owned()
            );
        }
        serde_json::from_slice(&body).map_err(|error| {
            format!("The body is not a valid {{data, type, id, retry, key}} in JSON: {error}.")
        })?
    } else {
        let data = String::from_utf8(body).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            format!("The body is not UTF-8 text: see byte {at}. Event streams carry only text.")
        })?;
        Envelope { data, ..Envelope::default() }
    };
    let query = request.query_pairs().map_err(|error| error.to_string())?;
    let field = |name: &'static str, parameter: &'static str| {
        let mut values = request.headers().get_all(HeaderName::from_static(name)).iter();
        let value = values.next();
        if values.next().is_some() {
            return Err(format!("The request has more than one header {name}."));
        }
        match value.map(|value| std::str::from_utf8(value.as_bytes())) {
            Some(Ok(value)) => Ok(Some(value.to_owned())),
            Some(Err(_)) => Err(format!("The header {name} is not UTF-8.")),
            None => match query.only(parameter) {
                Ok(value) => Ok(value.map(str::to_owned)),
                Err(error) => Err(error.to_string()),
            },
        }
    };
    envelope.r#type = envelope.r#type.or(field("event-type", "type")?);
    envelope.id = envelope.id.or(field("event-id", "id")?);
    // An empty key is ignored: it would make all publications duplicates of one event.
    envelope.key = envelope.key.or(field("idempotency-key", "key")?).filter(|key| !key.is_empty());
    if envelope.retry.is_none()
        && let Some(retry) = field("event-retry", "retry")?
    {
        let number = retry.parse().map_err(|_| {
            format!("The reconnection time {retry:?} is not a whole number of milliseconds.")
        });
        envelope.retry = Some(number?);
    }
    Ok(envelope)
}
