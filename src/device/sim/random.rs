//! The simulator's own random numbers (SplitMix64), so that a seed means the same run for ever, whatever the
//! dependencies do. Not for secrets.

#[derive(Clone, Debug)]
pub(super) struct SplitMix {
    state: u64,
}

impl SplitMix {
    pub fn new(seed: u64) -> SplitMix {
        SplitMix { state: seed }
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// What [`SplitMix::next`] will return.
    pub fn peek(&self) -> u64 {
        self.clone().next()
    }

    /// A number below `bound`, which is not zero. The bias is of no matter for tests.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
