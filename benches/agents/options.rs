//! The command line, and the sizes of a run.

use crate::common::medium::MediumKind;
use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;

/// What a snapshot and a diff at each step of an agent cost, beside other ways to keep its steps.
#[derive(Parser)]
#[command(name = "agents", bin_name = "cargo bench --bench agents --")]
pub struct Options {
    /// Ways to keep the steps: ext4, snapfs-bare, snapfs, btrfs, git, branchfs.
    #[arg(long, value_delimiter = ',', default_value = "ext4,snapfs-bare,snapfs,btrfs,git,branchfs")]
    pub ways: Vec<String>,
    /// The program of the crate branchfs, as `cargo install branchfs` makes it.
    #[arg(long, default_value = "branchfs")]
    pub branchfs: PathBuf,
    /// Steps of the day; 1000 unless given, 40 with `--small`.
    #[arg(long)]
    pub steps: Option<usize>,
    /// Branches; 100 unless given, 10 with `--small`.
    #[arg(long)]
    pub branches: Option<usize>,
    /// Seconds of the day after which a way does no more steps.
    #[arg(long, default_value_t = 300)]
    pub limit: u64,
    /// Few steps in a small tree, about half a minute; `SMALL=1` means the same.
    #[arg(long)]
    pub small: bool,
    /// Where the images and stores are.
    #[arg(long, value_enum, default_value = "disk")]
    pub medium: MediumKind,
    /// Directory of the host for `--medium disk`.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// MiB of each image.
    #[arg(long, default_value_t = 2048)]
    pub image: u64,
    /// Writes the tables.
    #[arg(long)]
    pub markdown: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The sizes of a run.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub name: &'static str,
    pub steps: usize,
    pub branches: usize,
    /// Directories of the source tree, and modules in each.
    pub parts: usize,
    pub modules: usize,
    /// Steps or branches of one turn.
    pub turn: usize,
    /// The first and the last so many steps are looked at alone.
    pub ends: usize,
    /// After so long a way does no more steps.
    pub limit: Duration,
}

const LIMIT: Duration = Duration::from_secs(300);
const FULL: Sizes = Sizes {
    name: "full",
    steps: 1000,
    branches: 100,
    parts: 20,
    modules: 20,
    turn: 20,
    ends: 100,
    limit: LIMIT,
};
const SMALL: Sizes =
    Sizes { name: "small", steps: 40, branches: 10, parts: 5, modules: 8, turn: 10, ends: 10, limit: LIMIT };

impl Options {
    /// The sizes that were asked for.
    pub fn sizes(&self) -> Sizes {
        let small = self.small || std::env::var_os("SMALL").is_some_and(|v| !v.is_empty());
        let mut sizes = if small { SMALL } else { FULL };
        sizes.steps = self.steps.unwrap_or(sizes.steps);
        sizes.branches = self.branches.unwrap_or(sizes.branches);
        sizes.limit = Duration::from_secs(self.limit);
        sizes.ends = sizes.ends.min(sizes.steps / 2).max(1);
        sizes
    }
}
