//! `snapfs try` and `snapfs run`: a program on a clone of the tree, or on the tree itself with a snapshot before it.
//!
//! Three processes make a trial. The command ([`command`]) makes the clone, and in the end shows what changed and merges, keeps
//! or drops. It starts the *outer* process ([`outer`]), which leaves the mount namespace, puts the clone where the tree is
//! ([`covering`]) and waits for all that descends from it. That starts the *inner* one ([`inner`]), which enters a user
//! namespace with mounts of its own: what was mounted before is locked there, and cannot be taken away to see what is below.
//! It becomes the program, or with a namespace of processes its init. Each is this program started again: a process with
//! threads can enter no user namespace.

mod command;
mod covering;
mod ending;
mod inner;
mod outer;
mod stage;
mod step;
mod watch;
mod words;

pub(super) use command::run as try_command;
pub(super) use stage::run_stage;
pub(super) use step::run as run_command;
