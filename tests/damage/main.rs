//! Damage of every kind to every metadata block and to a sample of data blocks: the outcome is an error or a finding,
//! never a panic and never wrong data. See docs/testing.md.
//!
//! `blocks`: bytes change behind their checksums, as media do it. `crafted`: bytes change and the checksums are made
//! right again, as only an attacker or a bug does it; there no more is asked than that nothing panics. `effects`: the same for
//! records of the log, one by one. `records`: the same for what superblock and records of views say about each other. `log`: what is only there. `product`: each kind
//! of damage to each structure before each operation.

mod blocks;
mod crafted;
mod effects;
#[path = "../common/fixtures.rs"]
mod fixtures;
mod log;
mod observe;
mod product;
mod records;
mod resealed;
mod sample;
