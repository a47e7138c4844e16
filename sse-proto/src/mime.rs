//! Recognition of event streams by their `Content-Type` (Fetch, "extract a MIME type").

/// Returns whether a response is an event stream, given the values of its `Content-Type` headers in
/// order. [`Client`](crate::Client) calls this itself.
///
/// The values are split at commas. The last part that parses as a MIME type and is not `*/*`
/// counts; its parameters are ignored, even a charset.
///
/// ```
/// use sse_proto::is_event_stream;
///
/// assert!(is_event_stream([&b"Text/Event-Stream;charset=utf-8"[..]]));
/// assert!(!is_event_stream([&b"text/event-stream"[..], b"text/html"]));
/// assert!(!is_event_stream([]));
/// ```
pub fn is_event_stream<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> bool {
    let mut last = false;
    for value in values {
        let mut rest = Some(value);
        while let Some(all) = rest {
            let (one, more) = split_at_comma(all);
            rest = more;
            if let Some((kind, subtype)) = essence(one) {
                if (kind, subtype) != (b"*", b"*") {
                    last = kind.eq_ignore_ascii_case(b"text")
                        && subtype.eq_ignore_ascii_case(b"event-stream");
                }
            }
        }
    }
    last
}

/// Splits a value at the first comma outside of quoted strings.
fn split_at_comma(value: &[u8]) -> (&[u8], Option<&[u8]>) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in value.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return (&value[..at], Some(&value[at + 1..])),
            _ => {}
        }
    }
    (value, None)
}

/// Returns type and subtype if the value has the form of a MIME type (MIME Sniffing, "parse a MIME
/// type").
fn essence(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_space = |byte: &u8| b" \t\r\n".contains(byte);
    let start = value.iter().position(|byte| !is_space(byte))?;
    let value = &value[start..];
    let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
    let value = &value[..end];
    let end = value.iter().rposition(|byte| !is_space(byte))? + 1;
    let slash = value.iter().position(|byte| *byte == b'/')?;
    let (kind, subtype) = (&value[..slash], value.get(slash + 1..end)?);
    let is_token = |text: &[u8]| {
        let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        !text.is_empty() && text.iter().all(legal)
    };
    (is_token(kind) && is_token(subtype)).then_some((kind, subtype))
}
