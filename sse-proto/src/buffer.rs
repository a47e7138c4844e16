//! The decoder's memory: allocated on demand, or borrowed from the caller.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use self::sealed::Storage;
#[cfg(feature = "alloc")]
use crate::utf8::BLOCK;

/// The memory of a [`Decoder`](crate::Decoder): [`GrowableBuffer`] or [`BorrowedBuffer`]. The trait
/// is sealed.
pub trait DecodeBuffer: Storage {}

mod sealed {
    /// A vector of bytes with a maximum length, which its users must not exceed.
    #[allow(unnameable_types)] // a sealed trait
    pub trait Storage {
        fn limit(&self) -> usize;
        fn len(&self) -> usize;
        fn as_slice(&self) -> &[u8];
        fn as_mut_slice(&mut self) -> &mut [u8];
        fn extend(&mut self, bytes: &[u8]);
        fn truncate(&mut self, len: usize);

        /// Appends a block of UTF-8 validation, if there is memory for it.
        fn pad(&mut self) {}

        /// Returns whether `clear` may have memory to release.
        fn is_large(&self) -> bool {
            false
        }

        /// Empties the buffer after an event, and may release memory.
        fn clear(&mut self) {
            self.truncate(0);
        }
    }
}

/// Memory from the allocator, which grows with events that span chunks or have several lines of
/// data. Up to 40 bytes, which hold most IDs, are stored in the buffer itself.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug)]
pub struct GrowableBuffer {
    /// Holds the first `inline_len` bytes, until more are needed. From then on, `heap` holds them.
    inline: [u8; Self::INLINE],
    inline_len: usize,
    heap: Vec<u8>,
    limit: usize,
}

/// Memory from the allocator. Without the feature `alloc`, it cannot be created.
#[cfg(not(feature = "alloc"))]
#[derive(Clone, Debug)]
pub enum GrowableBuffer {}

#[cfg(feature = "alloc")]
impl GrowableBuffer {
    /// The number of bytes that are stored inline: enough for a UUID.
    const INLINE: usize = 40;

    /// The number of bytes that are kept between events, however small the events are.
    const KEPT: usize = 64 * 1024;

    pub(crate) const fn new(limit: usize) -> Self {
        Self { inline: [0; Self::INLINE], inline_len: 0, heap: Vec::new(), limit }
    }

    /// Takes the first `len` bytes out of the buffer, and drops the others. The next event has as
    /// much memory as it would have if the buffer had been cleared.
    #[cfg(any(feature = "futures-core", feature = "tokio-util"))]
    pub(crate) fn take(&mut self, len: usize) -> Vec<u8> {
        if self.is_inline() {
            let bytes = self.inline[..len].to_vec();
            self.inline_len = 0;
            return bytes;
        }
        let kept = Vec::with_capacity(self.heap.capacity().min(Self::KEPT));
        let mut bytes = core::mem::replace(&mut self.heap, kept);
        bytes.truncate(len);
        bytes.shrink_to_fit();
        bytes
    }

    #[inline]
    fn is_inline(&self) -> bool {
        self.heap.capacity() == 0
    }

    /// Appends bytes that do not fit into the current memory.
    #[cold]
    fn extend_heap(&mut self, bytes: &[u8]) {
        if self.is_inline() {
            self.grow(self.inline_len + bytes.len());
            self.heap.extend_from_slice(&self.inline[..self.inline_len]);
            // A clone of an empty heap has no capacity, so it starts inline again.
            self.inline_len = 0;
        }
        self.grow(self.heap.len() + bytes.len());
        self.heap.extend_from_slice(bytes);
    }

    /// Makes room for `len` bytes in total. Doubles the capacity if the limit allows it.
    fn grow(&mut self, len: usize) {
        let capacity = self.heap.capacity();
        if len > capacity {
            let target = len.max(capacity.saturating_mul(2).min(self.limit));
            self.heap.reserve_exact(target - self.heap.len());
        }
    }
}

#[cfg(feature = "alloc")]
impl DecodeBuffer for GrowableBuffer {}

#[cfg(feature = "alloc")]
impl Storage for GrowableBuffer {
    fn limit(&self) -> usize {
        self.limit
    }

    #[inline]
    fn len(&self) -> usize {
        self.inline_len + self.heap.len()
    }

    #[inline]
    fn as_slice(&self) -> &[u8] {
        if self.is_inline() { &self.inline[..self.inline_len] } else { &self.heap }
    }

    #[inline]
    fn as_mut_slice(&mut self) -> &mut [u8] {
        if self.is_inline() { &mut self.inline[..self.inline_len] } else { &mut self.heap }
    }

    #[inline]
    fn extend(&mut self, bytes: &[u8]) {
        if self.is_inline() {
            let len = self.inline_len + bytes.len();
            if let Some(room) = self.inline.get_mut(self.inline_len..len) {
                room.copy_from_slice(bytes);
                self.inline_len = len;
                return;
            }
        } else if bytes.len() <= self.heap.capacity() - self.heap.len() {
            self.heap.extend_from_slice(bytes);
            return;
        }
        self.extend_heap(bytes);
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        if self.is_inline() {
            self.inline_len = self.inline_len.min(len);
        } else {
            self.heap.truncate(len);
        }
    }

    #[inline]
    fn pad(&mut self) {
        if self.heap.capacity() - self.heap.len() >= BLOCK {
            self.heap.extend_from_slice(&[0; BLOCK]);
        }
    }

    #[inline]
    fn is_large(&self) -> bool {
        self.heap.capacity() > Self::KEPT
    }

    /// Releases memory when an event needs much less than the largest before it. If all events of a
    /// stream are large, their memory is kept.
    #[inline]
    fn clear(&mut self) {
        let (len, capacity) = (self.heap.len(), self.heap.capacity());
        self.truncate(0);
        if capacity > Self::KEPT && len < capacity / 4 {
            self.heap.shrink_to(Self::KEPT.max(len * 2));
        }
    }
}

/// Memory that is borrowed from the caller. Its length is the limit.
#[derive(Debug)]
pub struct BorrowedBuffer<'b> {
    bytes: &'b mut [u8],
    len: usize,
}

impl<'b> BorrowedBuffer<'b> {
    pub(crate) const fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes, len: 0 }
    }
}

impl DecodeBuffer for BorrowedBuffer<'_> {}

impl Storage for BorrowedBuffer<'_> {
    fn limit(&self) -> usize {
        self.bytes.len()
    }

    fn len(&self) -> usize {
        self.len
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    #[inline]
    fn extend(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}
