//! Header fields whose values are comma-separated lists.

use http::HeaderValue;

/// Returns the members of the lists in header values that are comma-separated lists (RFC 9110,
/// section 5.6.1), without the white space around them and without empty members.
///
/// A comma in a quoted string also ends a member.
///
/// ```
/// use sse_smol_server::http::header::{CACHE_CONTROL, HeaderMap, HeaderValue};
/// use sse_smol_server::list_members;
///
/// let mut headers = HeaderMap::new();
/// headers.append(CACHE_CONTROL, HeaderValue::from_static("no-cache , max-age=0,"));
/// headers.append(CACHE_CONTROL, HeaderValue::from_static("no-store"));
/// let members: Vec<&[u8]> = list_members(headers.get_all(CACHE_CONTROL)).collect();
/// assert_eq!(members, [&b"no-cache"[..], b"max-age=0", b"no-store"]);
/// ```
pub fn list_members<'h>(
    values: impl IntoIterator<Item = &'h HeaderValue>,
) -> impl Iterator<Item = &'h [u8]> {
    let members = values.into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}
