//! The command line, and the sizes of a run.

use crate::common::medium::MediumKind;
use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;

/// What each way to make a snapshot costs and gives.
#[derive(Parser)]
#[command(name = "methods", bin_name = "cargo bench --bench methods --")]
pub struct Options {
    /// Parts: columns (the table of methods), plain (ROW beside no snapshot), history (the last of many snapshots beside the
    /// first), mirror (beside its slower side), split (how long writers wait), copy (beside a background copy),
    /// deletion (a long history goes beside a writer, and the same of btrfs), tripwire (with it beside without).
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "columns,plain,history,mirror,split,copy,deletion,tripwire"
    )]
    only: Vec<String>,
    /// Columns of the table, all without it: none, row, cow, clone, background, mirror.
    #[arg(long, value_delimiter = ',')]
    methods: Vec<String>,
    /// Small files and few snapshots, some minutes; `SMALL=1` means the same.
    #[arg(long)]
    small: bool,
    /// Where the first stores are; the second ones are in memory.
    #[arg(long, value_enum, default_value = "disk")]
    pub medium: MediumKind,
    /// Directory of the host for `--medium disk`.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// MiB of the file.
    #[arg(long)]
    file: Option<u64>,
    /// Random overwrites of a block.
    #[arg(long)]
    overwrites: Option<u64>,
    /// Snapshots of which the last is compared with the first.
    #[arg(long)]
    snapshots: Option<usize>,
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
    /// MiB of the file that is written over.
    pub file: u64,
    /// Random overwrites, in all rounds together.
    pub overwrites: u64,
    /// Rounds, each with a snapshot before.
    pub rounds: u64,
    /// Different blocks that are written over once after a snapshot and then again.
    pub batch: u64,
    /// How often a figure that is a median is measured.
    pub turns: usize,
    /// Snapshots of a long history.
    pub snapshots: usize,
    /// How long the foreground is looked at, alone or beside a copy.
    pub window: Duration,
    /// Pairs of such windows.
    pub pairs: usize,
}

const FULL: Sizes = Sizes {
    name: "full",
    file: 512,
    overwrites: 100_000,
    rounds: 10,
    batch: 2_000,
    turns: 5,
    snapshots: 10_000,
    window: Duration::from_secs(4),
    pairs: 10,
};
const SMALL: Sizes = Sizes {
    name: "small",
    file: 64,
    overwrites: 10_000,
    rounds: 10,
    batch: 500,
    turns: 3,
    snapshots: 1_000,
    window: Duration::from_millis(500),
    pairs: 3,
};

impl Options {
    /// The sizes that were asked for.
    pub fn sizes(&self) -> Sizes {
        let small = self.small || std::env::var_os("SMALL").is_some_and(|v| !v.is_empty());
        let mut sizes = if small { SMALL } else { FULL };
        sizes.file = self.file.unwrap_or(sizes.file).max(4);
        sizes.overwrites = self.overwrites.unwrap_or(sizes.overwrites).max(sizes.rounds);
        sizes.snapshots = self.snapshots.unwrap_or(sizes.snapshots).max(2);
        sizes.batch = sizes.batch.min(sizes.file << 20 >> 13);
        sizes
    }

    /// True if a part was asked for.
    pub fn wants(&self, part: &str) -> bool {
        self.only.iter().any(|only| only == part)
    }

    /// True if the column of a method was asked for.
    pub fn wants_method(&self, name: &str) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|method| method == name)
    }
}
