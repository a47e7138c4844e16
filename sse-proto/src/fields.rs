//! The decoder's memory for everything but data: one buffer in four parts.

use crate::buffer::DecodeBuffer;

/// `[last event ID][new id][event type][line]`, one behind the other in one buffer.
///
/// - *last event ID*: in force.
/// - *new id*, *event type*: what the block at hand has said so far, as far as it has been copied.
/// - *line*: a value that is still being received. It moves to its place when its line is whole,
///   not before: an id is ignored if a NUL turns up in it.
///
/// Who adds to it sees to it that `len` stays within the buffer's limit.
#[derive(Clone, Debug)]
pub(crate) struct Fields<B> {
    buffer: B,
    last_event_id: usize,
    new_id: Option<usize>,
    event_type: usize,
}

impl<B> Fields<B> {
    pub(crate) const fn new(buffer: B) -> Self {
        Self { buffer, last_event_id: 0, new_id: None, event_type: 0 }
    }
}

impl<B: DecodeBuffer> Fields<B> {
    pub(crate) fn limit(&self) -> usize {
        self.buffer.limit()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    #[inline]
    pub(crate) fn last_event_id(&self) -> &[u8] {
        match self.last_event_id {
            0 => &[],
            len => &self.buffer.as_slice()[..len],
        }
    }

    #[inline]
    pub(crate) fn event_type(&self) -> &[u8] {
        if self.event_type == 0 {
            return &[];
        }
        let start = self.type_start();
        &self.buffer.as_slice()[start..start + self.event_type]
    }

    #[inline]
    fn type_start(&self) -> usize {
        self.last_event_id + self.new_id.unwrap_or(0)
    }

    pub(crate) fn push_line(&mut self, part: &[u8]) {
        self.buffer.extend(part);
    }

    pub(crate) fn clear_line(&mut self) {
        self.buffer.truncate(self.type_start() + self.event_type);
    }

    #[inline]
    pub(crate) fn clear_type(&mut self) {
        if self.event_type > 0 {
            let start = self.type_start();
            self.remove(start, self.event_type);
            self.event_type = 0;
        }
    }

    #[inline]
    pub(crate) fn clear_new_id(&mut self) {
        if let Some(len) = self.new_id.take() {
            self.remove(self.last_event_id, len);
        }
    }

    /// Forgets the block at hand; the last event ID stays.
    pub(crate) fn clear_block(&mut self) {
        self.new_id = None;
        self.event_type = 0;
        self.buffer.truncate(self.last_event_id);
    }

    /// The line becomes the event type.
    pub(crate) fn line_to_type(&mut self) {
        self.clear_type();
        self.event_type = self.len() - self.type_start();
    }

    /// The line becomes the new id.
    pub(crate) fn line_to_new_id(&mut self) {
        self.clear_new_id();
        let start = self.last_event_id;
        let line = self.len() - start - self.event_type;
        self.buffer.as_mut_slice()[start..].rotate_right(line);
        self.new_id = Some(line);
    }

    /// The new id, if there is one, becomes the last event ID. Tells whether there was.
    #[inline]
    pub(crate) fn commit_id(&mut self) -> bool {
        let Some(len) = self.new_id.take() else {
            return false;
        };
        self.remove(0, self.last_event_id);
        self.last_event_id = len;
        true
    }

    /// `id` becomes the last event ID; all else stays.
    #[inline]
    pub(crate) fn set_last_event_id(&mut self, id: &[u8]) {
        if self.len() == self.last_event_id {
            self.buffer.truncate(0);
            self.buffer.extend(id);
        } else {
            self.remove(0, self.last_event_id);
            self.buffer.extend(id);
            self.buffer.as_mut_slice().rotate_right(id.len());
        }
        self.last_event_id = id.len();
    }

    #[inline]
    fn remove(&mut self, start: usize, len: usize) {
        let bytes = self.buffer.as_mut_slice();
        bytes.copy_within(start + len.., start);
        let left = bytes.len() - len;
        self.buffer.truncate(left);
    }
}
