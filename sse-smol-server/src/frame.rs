//! Frames: the unit of output, encoded once and shared by all clients.

use std::fmt;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::sync::Arc;

use sse_proto::{Comment, Event, KEEP_ALIVE, OwnedEvent};

/// An event, encoded once and framed for HTTP, to be sent to any number of clients.
///
/// ```
/// use sse_smol_server::Frame;
/// use sse_smol_server::sse_proto::Event;
///
/// let frame = Frame::from(Event::new("hello"));
/// assert_eq!(frame.encoded(), b"data: hello\n\n");
/// let shared = frame.clone(); // the same bytes
/// assert_eq!(shared.encoded().as_ptr(), frame.encoded().as_ptr());
/// ```
///
/// An event of a value that is serialized as JSON:
///
/// ```
/// use sse_smol_server::Frame;
/// use sse_smol_server::sse_proto::OwnedEvent;
///
/// let frame = Frame::from(OwnedEvent::from_json(&[1, 2])?);
/// assert_eq!(frame.encoded(), b"data: [1,2]\n\n");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone)]
pub struct Frame(Arc<Inner>);

struct Inner {
    /// An HTTP/1.1 chunk (size line, `encoded`, line end), or bytes outside of any framing.
    bytes: Box<[u8]>,
    /// The number of bytes at the start that do not belong to a body, such as a response head.
    head: usize,
    /// The number of bytes of framing before and after `encoded`.
    before: usize,
    after: usize,
    is_event: bool,
    id: Option<IdRange>,
}

/// The place of an ID in the bytes of a frame.
#[derive(Clone, Copy)]
struct IdRange {
    /// Never 0, since the field name precedes it.
    start: NonZeroUsize,
    len: usize,
}

/// The framing of a stream's body, which marks its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// HTTP/1.1: chunks, the last of which is empty.
    Chunked,
    /// HTTP/1.0: the body ends with the connection.
    Close,
}

/// Returns the size of an allocation of `len` bytes, as common allocators round it.
pub(crate) const fn allocated(len: usize) -> usize {
    let rounded = (len + 8).next_multiple_of(16);
    if rounded < 32 { 32 } else { rounded }
}

impl From<Event<'_>> for Frame {
    fn from(event: Event<'_>) -> Self {
        let id_len = event.id().map(|id| id.as_ref().len());
        Self::framing(event.encoded_len(), event.has_data(), id_len, |out| event.encode_to_vec(out))
    }
}

impl From<&OwnedEvent> for Frame {
    fn from(event: &OwnedEvent) -> Self {
        event.as_event().into()
    }
}

impl From<OwnedEvent> for Frame {
    fn from(event: OwnedEvent) -> Self {
        event.as_event().into()
    }
}

/// Shares the frame.
impl From<&Self> for Frame {
    fn from(frame: &Self) -> Self {
        frame.clone()
    }
}

/// Returns the offset of the `id` line in an encoded event, or of the line before which it belongs:
/// it follows the type.
fn id_line_offset(encoded: &[u8]) -> usize {
    if !encoded.starts_with(b"event: ") {
        return 0;
    }
    encoded.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

const ID: &[u8] = b"id: ";

impl From<Comment<'_>> for Frame {
    fn from(comment: Comment<'_>) -> Self {
        Self::framing(comment.encoded_len(), false, None, |out| comment.encode_to_vec(out))
    }
}

impl Frame {
    fn framing(
        len: usize,
        is_event: bool,
        id_len: Option<usize>,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Self {
        let digits = len.checked_ilog2().map_or(1, |bits| 1 + bits as usize / 4);
        // The exact capacity, so that the conversion to a box copies nothing.
        let mut bytes = Vec::with_capacity(digits + 2 + len + 2);
        write!(bytes, "{len:X}\r\n").expect("writing to a Vec does not fail");
        let before = bytes.len();
        encode(&mut bytes);
        let id = id_len.and_then(|len| {
            let start = before + id_line_offset(&bytes[before..]) + ID.len();
            Some(IdRange { start: NonZeroUsize::new(start)?, len })
        });
        bytes.extend_from_slice(b"\r\n");
        Self(Arc::new(Inner { bytes: bytes.into(), head: 0, before, after: 2, is_event, id }))
    }

    /// Creates a frame of an event without data, and of its data lines. `encode` appends the lines
    /// with their field names, `len` bytes without the line end of the last one.
    #[cfg(feature = "datastar")]
    pub(crate) fn with_data_lines(
        fields: Event<'_>,
        len: usize,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Self {
        let id_len = fields.id().map(|id| id.as_ref().len());
        let end: &[u8] = if len == 0 { b"\n" } else { b"\n\n" };
        let all = fields.encoded_len() - 1 + len + end.len();
        Self::framing(all, len > 0, id_len, |out| {
            fields.encode_to_vec(out);
            // The blank line belongs behind the data.
            out.pop();
            encode(out);
            out.extend_from_slice(end);
        })
    }

    /// Creates a frame of an encoded event with data and without an ID, and of its ID, which has no
    /// line end.
    pub(crate) fn with_id(fields: &[u8], id: &str) -> Self {
        let (before, after) = fields.split_at(id_line_offset(fields));
        let len = fields.len() + ID.len() + id.len() + 1;
        Self::framing(len, true, Some(id.len()), |out| {
            for piece in [before, ID, id.as_bytes(), b"\n", after] {
                out.extend_from_slice(piece);
            }
        })
    }

    /// Replaces the ID by another one of the same length. Returns false, and does not change the
    /// frame, if the length differs or the frame is shared.
    pub(crate) fn replace_id(&mut self, new: &str) -> bool {
        let Some(Inner { bytes, id: Some(id), .. }) = Arc::get_mut(&mut self.0) else {
            return false;
        };
        let fits = id.len == new.len();
        if fits {
            bytes[id.start.get()..][..id.len].copy_from_slice(new.as_bytes());
        }
        fits
    }

    /// Creates a frame of bytes outside of any framing. The first `head` bytes do not belong to a
    /// body, the others do.
    pub(crate) fn raw(bytes: Vec<u8>, head: usize) -> Self {
        let bytes = bytes.into();
        Self(Arc::new(Inner { bytes, head, before: 0, after: 0, is_event: false, id: None }))
    }

    /// Creates a frame of bytes outside of any framing that do not belong to a body.
    pub(crate) fn head(bytes: Vec<u8>) -> Self {
        let head = bytes.len();
        Self::raw(bytes, head)
    }

    pub(crate) fn keep_alive() -> Self {
        Self::framing(KEEP_ALIVE.len(), false, None, |out| out.extend_from_slice(KEEP_ALIVE))
    }

    /// Returns the bytes of the event without the framing of HTTP.
    pub fn encoded(&self) -> &[u8] {
        &self.0.bytes[self.0.before..self.0.bytes.len() - self.0.after]
    }

    /// Returns the ID that the event sets, if any.
    pub fn id(&self) -> Option<&[u8]> {
        self.0.id.map(|id| &self.0.bytes[id.start.get()..][..id.len])
    }

    /// Returns the number of bytes of memory that the frame takes.
    pub(crate) fn memory(&self) -> usize {
        allocated(self.0.bytes.len()) + allocated(size_of::<Inner>() + 16)
    }

    pub(crate) fn is_event(&self) -> bool {
        self.0.is_event
    }

    /// Returns the event framed as a chunk.
    pub(crate) fn chunk(&self) -> &[u8] {
        &self.0.bytes
    }

    pub(crate) fn framed(&self, framing: Framing) -> &[u8] {
        match framing {
            Framing::Chunked => &self.0.bytes,
            Framing::Close => self.encoded(),
        }
    }

    /// Returns the number of body bytes among the first `len` bytes of the framed form.
    pub(crate) fn body_len(&self, len: usize, framing: Framing) -> usize {
        let Inner { bytes, head, before, after, .. } = &*self.0;
        let start = match framing {
            Framing::Chunked => head + before,
            Framing::Close => *head,
        };
        len.saturating_sub(start).min(bytes.len() - head - before - after)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({:?})", self.encoded().escape_ascii().to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sse_proto::{EventId, EventType};

    use super::*;

    #[test]
    fn an_id_is_added_and_replaced_as_if_it_had_been_encoded() {
        let type_like_an_id = EventType::from_static("id: x");
        let plain = Event::new("two\nlines").with_retry(Duration::from_millis(5));
        for event in
            [plain, plain.with_type(type_like_an_id), plain.with_type(EventType::from_static(""))]
        {
            let mut fields = Vec::new();
            event.encode_to_vec(&mut fields);
            for text in ["", "1", "run-000000000001"] {
                let id = EventId::new(text).unwrap();
                let encoded = Frame::from(event.with_id(id));
                assert_eq!(encoded.id(), Some(text.as_bytes()));
                let mut added = Frame::with_id(&fields, text);
                assert_eq!((added.chunk(), added.id()), (encoded.chunk(), encoded.id()));

                let other = "z".repeat(text.len());
                assert!(added.replace_id(&other));
                assert_eq!(added.chunk(), Frame::with_id(&fields, &other).chunk());
                assert!(!added.replace_id(&format!("{other}z")), "of another length");
                let _shared = added.clone();
                assert!(!added.replace_id(text), "of a shared frame");
            }
        }
    }
}
