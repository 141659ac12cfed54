//! System calls that the standard library does not offer: the only module with `unsafe` code.
//!
//! Every function is a thin, safe wrapper: it owns its buffers, checks the return value and reports errors as
//! `std::io::Error`. No policy lives here.
#![allow(unsafe_code)]

pub mod at;
pub mod attribute;
pub mod family;
pub mod mount;
pub mod namespace;
pub mod process;
pub mod random;
pub mod schedule;
mod storage;
pub use storage::*;
