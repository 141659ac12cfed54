//! The control channel between commands and the daemon of a mount.
//!
//! A socket and a registry file for each mount in a directory of the daemon's user ([`dirs`]). One JSON line asks
//! (`{"version":1,"verb":"create","args":{...}}`), any number of `{"progress":...}` lines and exactly one `{"ok":...}`
//! or `{"error":{"code":"...","message":"..."}}` line answer. It knows no verb but `hello`: a [`Handler`] does.

mod ahead;
mod client;
pub mod dirs;
mod mount_turn;
mod patience;
mod protocol;
pub mod registry;
mod server;

pub use client::{Bond, Client};
pub use mount_turn::MountTurn;
pub use patience::within;
pub use protocol::{Code, Failure, of_device};
pub use registry::{MountRecord, StoreId};
pub use server::{Handler, IsMounted, Peer, Server, read_request};
