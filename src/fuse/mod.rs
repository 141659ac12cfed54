//! The transport for Linux FUSE: mounts, and translates between the kernel's requests and [`ops`](crate::ops).
//!
//! It knows nothing of stores, trees or snapshots: [`Mounted::start`] takes any `Operations`, and gives back the
//! [`Kernel`](crate::ops::Kernel) that belongs to the mount. The only place with error numbers (`errno`).

mod adapter;
mod answering;
mod aside;
mod background;
mod changing;
#[cfg(test)]
mod changing_tests;
mod convert;
mod errno;
mod flusher;
mod hidden;
mod ioctl;
mod kernel;
mod locality;
mod mount;
pub mod mounts;
mod read_buffer;
mod reply;
mod session;
mod waiting_writes;

pub use flusher::run_flusher;
pub use mount::{Options, bind, check_point, clear_if_dead, remount, unmount};
pub use session::{Connection, Mounted, Unmounter, own_devices};
pub use waiting_writes::THREADS_MAX as QUEUE_THREADS_MAX;
