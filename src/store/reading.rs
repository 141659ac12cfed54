//! Who reads metadata blocks, and the bad places that auditors met.

use crate::format::{BlockAddr, BlockPtr};

/// Who reads: decides which copies of a metadata block are read, and what happens to a bad one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// Whoever needs what is in the block: the second copy is read if the first is bad, which is healed.
    Serve,
    /// An auditor: all copies are read, nothing is changed.
    Prove,
    /// A scrub: all copies are read, and the bad one is healed.
    Scrub,
}

/// A bad place of a block that has a good copy elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadCopy {
    /// The pointer to the block.
    pub ptr: BlockPtr,
    /// Which of its places is bad.
    pub addr: BlockAddr,
    /// It was written anew with what the other copy has.
    pub healed: bool,
    /// What was wrong.
    pub what: String,
}

/// A bad place of one side of a mirror, which is good on another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadSide {
    /// Which.
    pub side: usize,
    /// Its first byte.
    pub addr: u64,
    /// Bytes.
    pub len: u64,
    /// It was written anew with what the other side has.
    pub healed: bool,
    /// What was wrong.
    pub what: String,
}
