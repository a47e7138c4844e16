//! Where the decoder keeps what outlives a chunk: memory that grows, or memory that was lent.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use self::sealed::Storage;

/// Memory of a [`Decoder`](crate::Decoder): [`Growing`] or [`Lent`]. The two differ in nothing
/// else, and no other can be made.
pub trait Buffer: Storage {}

mod sealed {
    /// A vector of bytes, and how long it may get. Its users keep to that.
    #[allow(unnameable_types)] // a sealed trait
    pub trait Storage {
        fn limit(&self) -> usize;
        fn as_slice(&self) -> &[u8];
        fn as_mut_slice(&mut self) -> &mut [u8];
        fn extend(&mut self, bytes: &[u8]);
        fn truncate(&mut self, len: usize);

        /// Empties the buffer after an event, in a moment when it may give memory back.
        fn clear(&mut self) {
            self.truncate(0);
        }
    }
}

/// Memory from the allocator, as much as events need that span chunks or hold several lines.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug)]
pub struct Growing {
    bytes: Vec<u8>,
    limit: usize,
}

/// Memory from the allocator; without the feature `alloc` there is none.
#[cfg(not(feature = "alloc"))]
#[derive(Clone, Debug)]
pub enum Growing {}

#[cfg(feature = "alloc")]
impl Growing {
    /// Up to so much is kept between events, however small they are.
    const KEPT: usize = 64 * 1024;

    pub(crate) const fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit }
    }
}

#[cfg(feature = "alloc")]
impl Buffer for Growing {}

#[cfg(feature = "alloc")]
impl Storage for Growing {
    fn limit(&self) -> usize {
        self.limit
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    #[inline]
    fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// The first event that needs much less than the largest before it gives the difference back.
    /// A stream of nothing but large ones keeps its memory.
    #[inline]
    fn clear(&mut self) {
        let (len, capacity) = (self.bytes.len(), self.bytes.capacity());
        self.bytes.clear();
        if capacity > Self::KEPT && len < capacity / 4 {
            self.bytes.shrink_to(Self::KEPT.max(len * 2));
        }
    }
}

/// Memory that the caller lends; its length is the limit.
#[derive(Debug)]
pub struct Lent<'b> {
    bytes: &'b mut [u8],
    len: usize,
}

impl<'b> Lent<'b> {
    pub(crate) const fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes, len: 0 }
    }
}

impl Buffer for Lent<'_> {}

impl Storage for Lent<'_> {
    fn limit(&self) -> usize {
        self.bytes.len()
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
