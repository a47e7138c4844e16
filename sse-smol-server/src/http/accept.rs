//! Content negotiation by `Accept`.

use http::header::{self, HeaderMap};

/// Returns whether the request's `Accept` allows an event stream. An absent or empty one does.
pub(crate) fn accepts_event_stream(headers: &HeaderMap) -> bool {
    let mut any = false;
    let mut best: Option<(u8, bool)> = None;
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media_range = parts.next().unwrap_or_default().to_ascii_lowercase();
        any |= !media_range.is_empty();
        // The most specific range decides, independent of the order.
        let rank = match media_range.as_str() {
            "text/event-stream" => 2,
            "text/*" => 1,
            "*/*" => 0,
            _ => continue,
        };
        let wanted = parts
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
            .is_none_or(|(_, weight)| weight.trim().parse::<f32>().is_ok_and(|q| q > 0.0));
        if best.is_none_or(|(other, _)| rank >= other) {
            best = Some((rank, wanted));
        }
    }
    !any || best.is_some_and(|(_, wanted)| wanted)
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
