//! The writable trees, and what belongs to them beside the tree: delayed content, inodes without a name, open files.
//!
//! State: [`Heads`], with a [`Head`] for each line. Below: `items`, `log`. It begins a [`Change`] and puts what that has
//! collected into the tree; what requests mean is said in the rooms above.

mod around;
mod bar;
mod blocks;
mod change;
mod dirty;
mod frost;
mod handle;
mod head;
#[expect(clippy::module_inception, reason = "the room is named after the type that owns its state")]
mod heads;
mod known_dirs;
mod misses;
mod node;
mod shown;
mod standstill;
mod told;
mod tripwire;

pub use bar::KeptOut;
pub use blocks::{opened_to_write, show_blocks, tell_all_blocks, tell_blocks};
pub use change::Change;
pub use dirty::{Block, Dirty, DirtyBlock, Pass, zero_block};
pub use frost::{Frost, FrostEnd, NewFrost};
pub use handle::{Barred, Open, Stale};
pub use head::{Gate, Head};
pub use heads::{Heads, NamedNode, OpenBy};
pub use node::{Target, snapdir_node, target};
pub use tripwire::{GoneFiles, RollingPoint, Tripwire};
