//! Content negotiation by `Accept`.

use http::header::{self, HeaderMap};

use super::list::list_members;

/// A media range of an `Accept` header (RFC 9110, section 12.5.1).
///
/// ```
/// use sse_smol_server::MediaRange;
/// use sse_smol_server::http::header::{ACCEPT, HeaderMap, HeaderValue};
///
/// let mut headers = HeaderMap::new();
/// headers.append(ACCEPT, HeaderValue::from_static("text/html;level=1, */*;q=0.5"));
/// headers.append(ACCEPT, HeaderValue::from_static("Image/PNG; q=0"));
/// let ranges: Vec<_> = MediaRange::accepted(&headers).collect();
/// assert_eq!(ranges.len(), 3);
/// assert!(ranges[0].is("text/html") && ranges[0].weight() == 1.0);
/// assert!(ranges[1].is("*/*") && ranges[1].weight() == 0.5);
/// assert!(ranges[2].is("image/png") && ranges[2].weight() == 0.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MediaRange<'a> {
    media_type: &'a str,
    weight: f32,
}

impl<'a> MediaRange<'a> {
    /// Returns the media ranges of all `Accept` headers, in the order in which they were sent.
    /// Skips headers with characters other than visible ASCII, and ranges without a type.
    pub fn accepted(headers: &'a HeaderMap) -> impl Iterator<Item = Self> {
        let values = headers.get_all(header::ACCEPT).iter();
        let values = values.filter(|value| value.to_str().is_ok());
        list_members(values).filter_map(|member| Self::parse(std::str::from_utf8(member).ok()?))
    }

    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().filter(|name| !name.is_empty())?;
        let mut parameters = parts.filter_map(|parameter| parameter.split_once('='));
        let weight = match parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("q")) {
            None => 1.0,
            Some((_, value)) => match value.trim().parse::<f32>() {
                Ok(weight) if !weight.is_nan() => weight.clamp(0.0, 1.0),
                _ => 0.0,
            },
        };
        Some(Self { media_type, weight })
    }

    /// Returns the media type, which may be `*/*` or have the subtype `*`, as it was sent.
    pub const fn media_type(&self) -> &'a str {
        self.media_type
    }

    /// Returns whether the media type is this one, compared without regard to case. Wildcards match
    /// only themselves.
    pub fn is(&self, media_type: &str) -> bool {
        self.media_type.eq_ignore_ascii_case(media_type)
    }

    /// Returns the weight, from 0 to 1. It is 1 if there is none, and 0, which means "not
    /// acceptable", if it is not a number.
    pub const fn weight(&self) -> f32 {
        self.weight
    }
}

/// Returns the weight that the request's `Accept` gives to a media type, or 0 if it excludes it. It
/// is 1 if the header is absent or empty.
pub(crate) fn accepted_weight(headers: &HeaderMap, media_type: &str) -> f32 {
    let main = media_type.split('/').next().unwrap_or_default();
    let mut any = false;
    let mut best = None;
    for range in MediaRange::accepted(headers) {
        any = true;
        // The most specific range decides, independent of the order.
        let rank = if range.is(media_type) {
            2
        } else if range.media_type.strip_suffix("/*").is_some_and(|m| m.eq_ignore_ascii_case(main))
        {
            1
        } else if range.is("*/*") {
            0
        } else {
            continue;
        };
        if best.is_none_or(|(other, _)| rank >= other) {
            best = Some((rank, range.weight()));
        }
    }
    match best {
        Some((_, weight)) => weight,
        None if any => 0.0,
        None => 1.0,
    }
}

/// Returns whether the request's `Accept` allows an event stream.
pub(crate) fn accepts_event_stream(headers: &HeaderMap) -> bool {
    accepted_weight(headers, "text/event-stream") > 0.0
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accepts(values: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        accepts_event_stream(&headers)
    }

    #[test]
    fn weights_are_between_0_and_1() {
        for (parameters, weight) in [
            ("", 1.0),
            (";q=0.25", 0.25),
            ("; level=1 ; Q = 0.5 ; q=1", 0.5),
            (";q", 1.0),
            (";q=", 0.0),
            (";q=x", 0.0),
            (";q=nan", 0.0),
            (";q=-1", 0.0),
            (";q=2", 1.0),
            (";q=inf", 1.0),
        ] {
            let text = format!("a/b{parameters}");
            let range = MediaRange::parse(&text).unwrap();
            assert_eq!((range.media_type(), range.weight()), ("a/b", weight), "{text}");
        }
        assert_eq!(MediaRange::parse(";q=1"), None);
    }

    #[test]
    fn accept_is_refused_only_if_it_excludes_event_streams() {
        for yes in [
            &[][..],
            &[""],
            &["*/*"],
            &["text/*"],
            &["text/event-stream"],
            &["TEXT/Event-Stream; q=0.1"],
            &["text/html, application/xhtml+xml, */*;q=0.8"],
            &["application/json", "text/event-stream"],
            &["text/*;q=0, text/event-stream"],
            &["text/event-stream, */*;q=0"],
        ] {
            assert!(accepts(yes), "{yes:?}");
        }
        for no in [
            &["application/json"][..],
            &["text/html"],
            &["text/event-stream;q=0"],
            &["*/*, text/event-stream; q=0.000"],
            &["text/*;q=0, */*"],
            &["text/event-streams"],
        ] {
            assert!(!accepts(no), "{no:?}");
        }
    }
}
