//! `POST /topics/{name}`: publish.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use sse_proto::Text;
use sse_smol_server::{Error, Publication, Published, Request, RequestError, Topics, list_members};

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
    let envelope = match envelope(&request, body) {
        Ok(envelope) => envelope,
        Err(why) => {
            let error = RequestError::new(StatusCode::BAD_REQUEST, why);
            return request.respond(error.response()).await;
        }
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
