//! The command line, and the sizes of a run.

use crate::common::medium::MediumKind;
use crate::common::report::Output;
use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;

/// Compares snapfs with other file systems.
#[derive(Parser)]
#[command(name = "peers", bin_name = "cargo bench --bench peers --")]
pub struct Options {
    /// File systems, in this order. `NAME=PATH` is another program of snapfs, to compare two of them.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "snapfs,snapfs-image,btrfs,ext4,xfs,zfs-fuse,ntfs-3g,fuse2fs,bindfs,s3ql"
    )]
    pub peers: Vec<String>,
    /// The peer that the others are compared with.
    #[arg(long, default_value = "btrfs")]
    pub base: String,
    /// Groups of workloads, or `all`; `--list` shows them.
    #[arg(long, value_delimiter = ',', default_value = "all")]
    pub workloads: Vec<String>,
    /// Shows peers and workloads and ends.
    #[arg(long)]
    pub list: bool,
    /// How often each workload runs on each peer.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// A tenth of the full size; `SMALL=1` means the same.
    #[arg(long)]
    pub small: bool,
    /// Where the images and stores are.
    #[arg(long, value_enum, default_value = "disk")]
    pub medium: MediumKind,
    /// Directory of the host for `--medium disk`.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// MiB of each image; 2048 unless given, 1024 with `--small`, 5120 with the workload snapshots-1m in full size.
    #[arg(long)]
    pub image: Option<u64>,
    #[command(flatten)]
    pub output: Output,
    /// Records a profile of each daemon and workload in this directory, with `perf record`.
    #[arg(long)]
    pub profile: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The sizes of a run. Tenfold smaller with `small`, and shorter.
#[derive(Clone, Copy)]
pub struct Scale {
    pub name: &'static str,
    /// Bytes of the large file.
    pub file: u64,
    /// Small files, and files below each snapshot.
    pub files: usize,
    /// Operations at random places.
    pub random: usize,
    /// Files of the source tree, and its directories.
    pub tree: (usize, usize),
    /// The large numbers of files and of snapshots.
    pub many_files: usize,
    pub many_snapshots: usize,
    /// Rows that SQLite inserts.
    pub rows: usize,
    /// How long a workload that repeats something goes on.
    pub seconds: Duration,
    /// After so long an operation that is counted is counted no further.
    pub limit: Duration,
    /// MiB of each image.
    pub image: u64,
}

const FULL: Scale = Scale {
    name: "full",
    file: 512 << 20,
    files: 20_000,
    random: 40_000,
    tree: (10_000, 600),
    many_files: 1_000_000,
    many_snapshots: 10_000,
    rows: 20_000,
    seconds: Duration::from_secs(2),
    limit: Duration::from_secs(10),
    image: 2048,
};

const SMALL: Scale = Scale {
    name: "small",
    file: 64 << 20,
    files: 2_000,
    random: 4_000,
    tree: (1_000, 60),
    many_files: 20_000,
    many_snapshots: 500,
    rows: 2_000,
    seconds: Duration::from_millis(500),
    limit: Duration::from_secs(3),
    image: 1024,
};

impl Options {
    /// The sizes that were asked for.
    pub fn scale(&self) -> Scale {
        let small = self.small || std::env::var_os("SMALL").is_some_and(|v| !v.is_empty());
        let mut scale = if small { SMALL } else { FULL };
        let huge = self.workloads.iter().any(|w| w == "all" || w == "snapshots-1m");
        if !small && huge {
            scale.image = 5120;
        }
        scale.image = self.image.unwrap_or(scale.image);
        scale
    }
}
