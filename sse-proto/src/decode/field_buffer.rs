//! The decoder's memory for everything except data: one buffer in four parts.

use crate::DecodeBuffer;

/// The parts `[last event ID][new ID][event type][line]`, in this order, in one buffer.
///
/// - *last event ID*: the one in effect.
/// - *new ID*, *event type*: those of the current block, as far as they have been copied.
/// - *line*: a value that is still being received. It moves to its part when its line is complete,
///   not before: an ID that contains NUL is ignored.
///
/// Callers that add bytes must keep `len` within the buffer's limit.
#[derive(Clone, Debug)]
pub(super) struct FieldBuffer<B> {
    buffer: B,
    last_event_id: usize,
    new_id: Option<usize>,
    event_type: usize,
}

impl<B> FieldBuffer<B> {
    pub(super) const fn new(buffer: B) -> Self {
        Self { buffer, last_event_id: 0, new_id: None, event_type: 0 }
    }
}

impl<B: DecodeBuffer> FieldBuffer<B> {
    pub(super) fn limit(&self) -> usize {
        self.buffer.limit()
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    #[inline]
    pub(super) fn last_event_id(&self) -> &[u8] {
        match self.last_event_id {
            0 => &[],
            len => &self.buffer.as_slice()[..len],
        }
    }

    #[inline]
    pub(super) fn event_type(&self) -> &[u8] {
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

    pub(super) fn extend_line(&mut self, part: &[u8]) {
        self.buffer.extend(part);
    }

    pub(super) fn clear_line(&mut self) {
        self.buffer.truncate(self.type_start() + self.event_type);
    }

    #[inline]
    pub(super) fn clear_type(&mut self) {
        if self.event_type > 0 {
            let start = self.type_start();
            self.remove(start, self.event_type);
            self.event_type = 0;
        }
    }

    #[inline]
    pub(super) fn clear_new_id(&mut self) {
        if let Some(len) = self.new_id.take() {
            self.remove(self.last_event_id, len);
        }
    }

    /// Drops the current block; the last event ID stays.
    pub(super) fn clear_block(&mut self) {
        self.new_id = None;
        self.event_type = 0;
        self.buffer.truncate(self.last_event_id);
    }

    /// Makes the line the event type.
    pub(super) fn finish_type(&mut self) {
        self.clear_type();
        self.event_type = self.len() - self.type_start();
    }

    /// Makes the line the new ID.
    pub(super) fn finish_id(&mut self) {
        self.clear_new_id();
        let start = self.last_event_id;
        let line = self.len() - start - self.event_type;
        self.buffer.as_mut_slice()[start..].rotate_right(line);
        self.new_id = Some(line);
    }

    /// Makes the new ID the last event ID. Returns whether there was a new ID.
    #[inline]
    pub(super) fn commit_id(&mut self) -> bool {
        let Some(len) = self.new_id.take() else {
            return false;
        };
        self.remove(0, self.last_event_id);
        self.last_event_id = len;
        true
    }

    /// Sets the last event ID; the other parts stay.
    #[inline]
    pub(super) fn set_last_event_id(&mut self, id: &[u8]) {
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
