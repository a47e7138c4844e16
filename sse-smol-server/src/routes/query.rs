//! What requests say beside their path.

use http::HeaderValue;
use sse_smol_server::Request;

/// The parameters of a request.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(request: &Request) -> Self {
        let query = request.query().unwrap_or_default();
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    pub(super) fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn first<'q>(&'q self, name: &'q str) -> Option<&'q str> {
        self.all(name).next()
    }
}

/// The id of the last event that the client has seen; empty if there is none. A reconnecting
/// client's header is newer than what its URL says.
pub(super) fn last_event_id(request: &Request) -> String {
    let header = request.headers().get("last-event-id").map(HeaderValue::as_bytes);
    match String::from_utf8_lossy(header.unwrap_or_default()) {
        header if header.is_empty() => {
            Query::of(request).first("lastEventId").unwrap_or_default().to_owned()
        }
        header => header.into_owned(),
    }
}
