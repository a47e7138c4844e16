//! Reproducible pseudorandom numbers.

/// A linear congruential generator with Knuth's constants.
#[derive(Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Creates a generator with this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number, below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        const FACTOR: u64 = 6_364_136_223_846_793_005;
        const TERM: u64 = 1_442_695_040_888_963_407;
        self.0 = self.0.wrapping_mul(FACTOR).wrapping_add(TERM);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}
