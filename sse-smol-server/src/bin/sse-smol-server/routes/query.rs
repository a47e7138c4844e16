//! The query of a request, and the event ID to resume from.

use http::HeaderValue;
use percent_encoding::percent_decode_str;
use sse_smol_server::Request;

/// The parameters of a request, in order.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes the form-encoded query of a request. A `%` that does not begin an escape stands for
    /// itself, as in the URL Standard.
    ///
    /// # Errors
    ///
    /// A description of a name or value that is not UTF-8. A lossy decoding would make different
    /// values equal.
    pub(super) fn of(request: &Request) -> Result<Self, String> {
        let pairs = request.query().unwrap_or_default().split('&');
        let decoded = pairs.filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or("The name of a query parameter is not UTF-8.")?;
            let value = decode(value)
                .ok_or_else(|| format!("The query parameter {name:?} is not UTF-8."))?;
            Ok((name, value))
        });
        decoded.collect::<Result<_, String>>().map(Self)
    }

    /// Returns all values of a parameter.
    pub(super) fn all<'q>(&'q self, name: &'q str) -> impl DoubleEndedIterator<Item = &'q str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the value of a parameter that must not be repeated.
    ///
    /// # Errors
    ///
    /// A description of the problem if the parameter is repeated.
    pub(super) fn only<'q>(&'q self, name: &'q str) -> Result<Option<&'q str>, String> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(format!("The query has more than one parameter {name:?}.")),
            (value, None) => Ok(value),
        }
    }
}

fn decode(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().ok().map(Into::into)
}

/// Returns the ID of the last event that the client has seen, or an empty string. The header takes
/// precedence, since on reconnection it is newer than the URL. The last of several parameters
/// counts, since clients append one each time they reconnect.
///
/// # Errors
///
/// A description of a header or parameter that is not UTF-8.
pub(super) fn last_event_id(request: &Request) -> Result<String, String> {
    let query = Query::of(request)?;
    let header = request.headers().get("last-event-id").map_or(&b""[..], HeaderValue::as_bytes);
    match std::str::from_utf8(header) {
        Ok("") => Ok(query.all("lastEventId").next_back().unwrap_or_default().to_owned()),
        Ok(id) => Ok(id.to_owned()),
        Err(_) => Err("The header Last-Event-ID is not UTF-8.".to_owned()),
    }
}
