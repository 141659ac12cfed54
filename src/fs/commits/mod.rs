//! How changes become durable, and how they are brought back after a crash.
//!
//! State: [`Commits`]. Below: `heads`, `log`, `items`. It puts delayed content onto the device and into trees, and asks
//! for nothing that a request means.

#[expect(clippy::module_inception, reason = "the room is named after the type that owns its state")]
mod commits;
pub mod flush;
mod inline;
mod pressure;
mod replay;
mod rolling;
mod stager;
mod sync;

pub use commits::Commits;
pub use replay::Gates;
pub use stager::Stager;
