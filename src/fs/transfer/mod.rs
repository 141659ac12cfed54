//! Changes at once: what a line takes over from another view, as one transaction of any size.
//!
//! No state. A [`Plan`] says what is taken over, by inodes and entries. [`change_at_once`] asks for one and carries it out
//! inside one attempt of a transaction, so it is done as a whole or not at all; blocks are shared. Whoever plans decides what
//! is wanted. Why so: docs/decisions/0023.

mod apply;
mod at_once;
mod between;
mod content;
mod copies;
mod entries;
mod in_place;
mod plan;
mod tree;
mod work;

pub use apply::Transferred;
pub use at_once::{
    ChangeOrder, Done, Refusal, Settled, Sides, TakenFrom, change_at_once, once_closed, rehearse_at_once,
};
pub use between::between;
pub use copies::{CopyOf, copy_into};
pub use in_place::put_back;
pub use plan::{Aspects, Plan, Takeover};
pub use tree::follow;
