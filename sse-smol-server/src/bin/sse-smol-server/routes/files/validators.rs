//! The validators of a file, `ETag` and `Last-Modified`, and the conditions of requests on them.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{
    ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    LAST_MODIFIED,
};
use sse_smol_server::list_members;

/// The age of a change from which a later change has another timestamp. File systems take the time
/// from a clock of the kernel that advances in steps of up to 10 milliseconds.
const SETTLED: Duration = Duration::from_millis(100);

/// The validators of a file. A file that has just changed has none, since a further change might
/// leave them the same.
#[derive(Debug)]
pub(super) struct Validators {
    /// A strong entity tag. It contains the time of the last status change, which is also new when
    /// a file with old timestamps is moved or copied into its place.
    etag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
}

impl Validators {
    /// Returns the validators of a file whose metadata are read at the time `now`, before its
    /// content is read.
    pub(super) fn of(metadata: &Metadata, now: SystemTime) -> Self {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let settled = now.saturating_sub(SETTLED).as_nanos();
        let changed = i128::from(metadata.ctime()) * 1_000_000_000;
        let changed = changed + i128::from(metadata.ctime_nsec());
        let is_settled = u128::try_from(changed).is_ok_and(|changed| changed < settled);
        let etag = is_settled.then(|| {
            let (inode, length) = (metadata.ino(), metadata.len());
            HeaderValue::try_from(format!("\"{inode:x}-{length:x}-{changed:x}\"")).ok()
        });
        // A time in whole seconds identifies the content once its second is over.
        let modified = metadata.modified().ok().filter(|time| {
            // A time before the epoch cannot be formatted.
            let modified = time.duration_since(UNIX_EPOCH);
            is_settled && modified.is_ok_and(|modified| modified.as_secs() < now.as_secs())
        });
        let modified =
            modified.map(|time| HeaderValue::try_from(httpdate::fmt_http_date(time)).ok());
        Self { etag: etag.flatten(), modified: modified.flatten() }
    }

    /// Adds the validators to the headers of a response.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        for (name, value) in [(ETAG, &self.etag), (LAST_MODIFIED, &self.modified)] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
    }

    /// Returns whether the client already has the content: whether `If-None-Match` or, without that
    /// header, `If-Modified-Since` matches.
    ///
    /// The date must be equal. A later date would match by RFC 9110, but a file can be replaced by
    /// an older one.
    pub(super) fn are_held(&self, headers: &HeaderMap) -> bool {
        if headers.contains_key(IF_NONE_MATCH) {
            return list_members(headers.get_all(IF_NONE_MATCH)).any(|tag| {
                let strong = tag.strip_prefix(b"W/").unwrap_or(tag);
                tag == b"*" || self.etag.as_ref().is_some_and(|etag| etag.as_bytes() == strong)
            });
        }
        let since = only(headers, &IF_MODIFIED_SINCE);
        since.is_some() && since == self.modified.as_ref()
    }

    /// Returns whether a part of the content fits to the parts that the client has: whether
    /// `If-Range` matches, or is absent.
    pub(super) fn allow_range(&self, headers: &HeaderMap) -> bool {
        if !headers.contains_key(IF_RANGE) {
            return true;
        }
        let range = only(headers, &IF_RANGE);
        range.is_some() && (range == self.etag.as_ref() || range == self.modified.as_ref())
    }
}

/// Returns the value of a header that is present once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}
