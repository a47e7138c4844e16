//! Frames: the unit of output, encoded once and shared by all clients.

use std::fmt;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::sync::Arc;

use sse_proto::{Comment, Event, KEEP_ALIVE, OwnedEvent};

use crate::compact_instant::CompactInstant;
use crate::framing::{Framed, Framing};
use crate::segment::{Segment, allocated};

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
pub struct Frame(Repr);

#[derive(Clone)]
enum Repr {
    /// A frame with memory of its own.
    Own(Arc<Inner>),
    /// Events of a segment, from the index `first` to before `end`, framed as one chunk. There is
    /// at least one. (The fields are not a type of their own, which would make this larger.)
    Run { segment: Arc<Segment>, first: u16, end: u16 },
}

// Every connection holds one.
const _: () = assert!(size_of::<Option<Frame>>() == 16);

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

/// Returns the ID that an encoded event sets, if any.
fn encoded_id(encoded: &[u8]) -> Option<&[u8]> {
    let id = encoded[id_line_offset(encoded)..].strip_prefix(ID)?;
    id.split(|byte| *byte == b'\n').next()
}

impl From<Comment<'_>> for Frame {
    fn from(comment: Comment<'_>) -> Self {
        Self::framing(comment.encoded_len(), false, None, |out| comment.encode_to_vec(out))
    }
}

impl Frame {
    fn own(inner: Inner) -> Self {
        Self(Repr::Own(Arc::new(inner)))
    }

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
        Self::own(Inner { bytes: bytes.into(), head: 0, before, after: 2, is_event, id })
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
        let Repr::Own(inner) = &mut self.0 else {
            return false;
        };
        let Some(Inner { bytes, id: Some(id), .. }) = Arc::get_mut(inner) else {
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
        Self::own(Inner { bytes, head, before: 0, after: 0, is_event: false, id: None })
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
        match &self.0 {
            Repr::Own(own) => &own.bytes[own.before..own.bytes.len() - own.after],
            Repr::Run { segment, first, end } => segment.encoded(*first, *end),
        }
    }

    /// Returns the ID that the event sets, if any.
    pub fn id(&self) -> Option<&[u8]> {
        match &self.0 {
            Repr::Own(own) => own.id.map(|id| &own.bytes[id.start.get()..][..id.len]),
            Repr::Run { segment, end, .. } => encoded_id(segment.encoded(end - 1, *end)),
        }
    }

    /// Returns the number of bytes of memory that the frame takes. For a run, this is the memory of
    /// its whole segment.
    pub(crate) fn memory(&self) -> usize {
        match &self.0 {
            Repr::Own(own) => allocated(own.bytes.len()) + allocated(size_of::<Inner>() + 16),
            Repr::Run { segment, .. } => segment.memory(),
        }
    }

    /// Returns the number of events in the frame.
    pub(crate) fn events(&self) -> usize {
        match &self.0 {
            Repr::Own(own) => own.is_event.into(),
            Repr::Run { first, end, .. } => usize::from(end - first),
        }
    }

    /// Appends the frame as a chunk.
    pub(crate) fn append_chunk(&self, out: &mut Vec<u8>) {
        self.framed(Framing::Chunked).pieces(0).for_each(|piece| out.extend_from_slice(piece));
    }

    pub(crate) fn framed(&self, framing: Framing) -> Framed<'_> {
        match (&self.0, framing) {
            (Repr::Own(own), Framing::Chunked) => Framed::whole(&own.bytes),
            (Repr::Run { .. }, Framing::Chunked) => Framed::chunk(self.encoded()),
            (_, Framing::Close) => Framed::whole(self.encoded()),
        }
    }

    /// Returns the number of body bytes among the first `len` bytes of the framed form.
    pub(crate) fn body_len(&self, len: usize, framing: Framing) -> usize {
        let (start, most) = match (&self.0, framing) {
            (Repr::Own(own), Framing::Chunked) => {
                let start = own.head + own.before;
                (start, own.bytes.len() - start - own.after)
            }
            (Repr::Own(own), Framing::Close) => {
                (own.head, own.bytes.len() - own.head - own.before - own.after)
            }
            (Repr::Run { .. }, _) => (self.framed(framing).size_line_len(), self.encoded().len()),
        };
        len.saturating_sub(start).min(most)
    }
}

/// Runs: frames with events of a segment.
impl Frame {
    /// Creates a frame of all events of a segment, or returns `None` if it has none.
    pub(crate) fn of_segment(segment: Segment) -> Option<Self> {
        let end = segment.len();
        (end > 0).then(|| Self(Repr::Run { segment: Arc::new(segment), first: 0, end }))
    }

    /// Returns the part of a run between two indices, or `None` if that is empty.
    fn part(&self, from: u16, to: u16) -> Option<Self> {
        let Repr::Run { segment, .. } = &self.0 else {
            return None;
        };
        let run = || Self(Repr::Run { segment: Arc::clone(segment), first: from, end: to });
        (from < to).then(run)
    }

    /// Returns the position and the time of the first event of a run.
    pub(crate) fn run_start(&self) -> Option<(u64, CompactInstant)> {
        match &self.0 {
            Repr::Own(_) => None,
            Repr::Run { segment, first, .. } => {
                Some((segment.position(*first), segment.at(*first)))
            }
        }
    }

    /// Removes the first event of a run with several. Returns false if there is only one.
    pub(crate) fn skip_first(&mut self) -> bool {
        match &mut self.0 {
            Repr::Run { first, end, .. } if *first + 1 < *end => {
                *first += 1;
                true
            }
            Repr::Run { .. } | Repr::Own(_) => false,
        }
    }

    /// Returns the ID that the first event sets, if any.
    pub(crate) fn first_id(&self) -> Option<&[u8]> {
        match &self.0 {
            Repr::Own(_) => self.id(),
            Repr::Run { segment, first, .. } => encoded_id(segment.encoded(*first, first + 1)),
        }
    }

    /// Returns the events of a run after a position, or `None` if there are none.
    pub(crate) fn run_after(&self, position: u64) -> Option<Self> {
        match &self.0 {
            Repr::Own(_) => None,
            Repr::Run { segment, first, end } => {
                self.part(segment.after(position).max(*first), *end)
            }
        }
    }

    /// Returns the events of a run that are whole in the first `len` bytes of its framed form.
    pub(crate) fn run_within(&self, len: usize, framing: Framing) -> Option<Self> {
        match &self.0 {
            Repr::Own(_) => None,
            Repr::Run { segment, first, end } => {
                let body_len = self.body_len(len, framing);
                self.part(*first, segment.within(*first, body_len).min(*end))
            }
        }
    }

    /// Returns the events of the frame one by one, with their positions. `position` is that of the
    /// last one.
    pub(crate) fn single_events(self, position: u64) -> impl Iterator<Item = (u64, Self)> {
        let (run, own) = match &self.0 {
            Repr::Own(_) => (0..0, Some((position, self.clone()))),
            Repr::Run { first, end, .. } => (*first..*end, None),
        };
        let events = run.filter_map(move |index| {
            let event = self.part(index, index + 1)?;
            Some((event.run_start()?.0, event))
        });
        own.into_iter().chain(events)
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
    use crate::segment::SegmentSize;

    fn chunk(frame: &Frame) -> Vec<u8> {
        let mut chunk = Vec::new();
        frame.append_chunk(&mut chunk);
        chunk
    }

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
                assert_eq!((chunk(&added), added.id()), (chunk(&encoded), encoded.id()));
                assert_eq!(encoded_id(encoded.encoded()), encoded.id());

                let other = "z".repeat(text.len());
                assert!(added.replace_id(&other));
                assert_eq!(chunk(&added), chunk(&Frame::with_id(&fields, &other)));
                assert!(!added.replace_id(&format!("{other}z")), "of another length");
                let _shared = added.clone();
                assert!(!added.replace_id(text), "of a shared frame");
            }
        }
    }

    #[test]
    fn a_run_is_one_chunk_of_its_events() {
        let at = CompactInstant::now();
        let frames = ["1", "2", "3"].map(|id| Frame::with_id(b"data: x\n\n", id));
        let events = (10..).zip(&frames).map(|(n, frame)| (n, at, frame.encoded()));
        let size = SegmentSize { events: 10, bytes: 100 };
        let run = Frame::of_segment(Segment::copy_of(events, size)).unwrap();
        assert_eq!((run.events(), run.id()), (3, Some(&b"3"[..])));
        let text = "id: 1\ndata: x\n\nid: 2\ndata: x\n\nid: 3\ndata: x\n\n";
        assert_eq!(run.encoded(), text.as_bytes());
        let chunked = format!("2D\r\n{text}\r\n");
        assert_eq!(chunk(&run), chunked.as_bytes());
        for taken in 0..=chunked.len() {
            let left: Vec<u8> =
                run.framed(Framing::Chunked).pieces(taken).flatten().copied().collect();
            assert_eq!(left, chunked.as_bytes()[taken..]);
            let body = taken.saturating_sub(4).min(45);
            assert_eq!(run.body_len(taken, Framing::Chunked), body);
            let whole = run.run_within(taken, Framing::Chunked).map_or(0, |run| run.events());
            assert_eq!(whole, body / 15);
            let whole = run.run_within(taken, Framing::Close).map_or(0, |run| run.events());
            assert_eq!(whole, taken.min(45) / 15);
        }

        let mut rest = run.run_after(10).unwrap();
        assert_eq!(rest.encoded(), &text.as_bytes()[15..]);
        for (after, events) in [(0, 2), (10, 2), (11, 1), (12, 0)] {
            assert_eq!(rest.run_after(after).map_or(0, |run| run.events()), events);
        }
        for ((position, event), frame) in rest.clone().single_events(12).zip(&frames[1..]) {
            assert_eq!(event.run_start(), Some((position, at)));
            assert_eq!((chunk(&event), event.id()), (chunk(frame), frame.id()));
        }
        assert_eq!(rest.first_id(), frames[1].id());
        assert!(rest.skip_first());
        assert_eq!((rest.encoded(), rest.first_id()), (frames[2].encoded(), frames[2].id()));
        assert!(!rest.skip_first(), "the last event stays");
    }
}
