//! The command line, and the sizes of a run.

use crate::common::medium::MediumKind;
use crate::common::report::Output;
use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;

/// Shows how cost grows, and what background work does to the foreground.
#[derive(Parser)]
#[command(name = "growth", bin_name = "cargo bench --bench growth --")]
pub struct Options {
    /// File systems, in this order; those without snapshots are left out.
    #[arg(long, value_delimiter = ',', default_value = "snapfs,btrfs")]
    pub peers: Vec<String>,
    /// Subjects: files, snapshots, size, fragments, age, background, or all.
    #[arg(long, value_delimiter = ',', default_value = "all")]
    pub only: Vec<String>,
    /// Small sizes, about a minute for all; `SMALL=1` means the same.
    #[arg(long)]
    pub small: bool,
    /// Where the images and stores are.
    #[arg(long, value_enum, default_value = "disk")]
    pub medium: MediumKind,
    /// Directory of the host for `--medium disk`.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// MiB of each image, whatever the subject; otherwise each has its own.
    #[arg(long)]
    pub image: Option<u64>,
    /// Simulated days of the subject age; 28 unless given, 2 with `--small`.
    #[arg(long)]
    pub days: Option<u64>,
    /// Simulated minutes from one snapshot of the subject age to the next; 10 unless given, 20 with `--small`; divides 60.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub minutes: Option<u64>,
    /// Pairs of windows, alone and beside background work; 8 unless given, 3 with `--small`.
    #[arg(long)]
    pub pairs: Option<usize>,
    /// Microseconds that a thread of the foreground rests after each call; 0 is as fast as it can.
    #[arg(long, default_value_t = 250)]
    pub rest: u64,
    #[command(flatten)]
    pub output: Output,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The sizes of a run.
#[derive(Clone, Copy)]
pub struct Scale {
    pub name: &'static str,
    /// Files of the tree, at each step.
    pub files: &'static [u64],
    /// Snapshots, at each step.
    pub snapshots: &'static [u64],
    /// MiB of the file, at each step.
    pub sizes: &'static [u64],
    /// MiB of the file that is fragmented.
    pub fragmented: u64,
    /// Operations at random places.
    pub random: u64,
    /// After so long an operation that is counted is counted no further.
    pub limit: Duration,
    /// The simulated life.
    pub days: u64,
    pub minutes: u64,
    /// Windows beside background work, and as many without; how long each is, and what the foreground rests between
    /// two calls.
    pub pairs: usize,
    pub window: Duration,
    pub rest: Duration,
    pub is_small: bool,
}

const FULL: Scale = Scale {
    name: "full",
    files: &[1_000, 10_000, 100_000, 1_000_000],
    snapshots: &[1, 10, 100, 1_000, 10_000],
    sizes: &[1, 16, 256, 4_096],
    fragmented: 256,
    random: 10_000,
    limit: Duration::from_secs(4),
    days: 28,
    minutes: 10,
    pairs: 8,
    window: Duration::from_millis(800),
    rest: Duration::ZERO,
    is_small: false,
};

const SMALL: Scale = Scale {
    name: "small",
    files: &[1_000, 10_000],
    snapshots: &[1, 10, 100],
    sizes: &[1, 16, 64],
    fragmented: 32,
    random: 2_000,
    limit: Duration::from_secs(1),
    days: 2,
    minutes: 20,
    pairs: 3,
    window: Duration::from_millis(300),
    rest: Duration::ZERO,
    is_small: true,
};

impl Options {
    /// The sizes that were asked for.
    pub fn scale(&self) -> Scale {
        let small = self.small || std::env::var_os("SMALL").is_some_and(|v| !v.is_empty());
        let mut scale = if small { SMALL } else { FULL };
        scale.days = self.days.unwrap_or(scale.days);
        scale.minutes = self.minutes.unwrap_or(scale.minutes);
        scale.pairs = self.pairs.unwrap_or(scale.pairs);
        scale.rest = Duration::from_micros(self.rest);
        scale
    }
}
