//! Arguments of `snapfs mirror`.

use super::line_args::Json;
use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct MirrorArgs {
    #[command(subcommand)]
    pub(super) what: MirrorVerb,
}

#[derive(Subcommand, Debug)]
pub(super) enum MirrorVerb {
    /// Take in a second store: it is filled while work goes on, then every write goes to both
    #[command(after_help = "Example: snapfs mirror attach /data /mnt/disk2/data.snapfs --wait\n\n\
        STORE2 is a directory (made if it does not exist), an image file that has its size ('truncate -s 100G FILE'),\n\
        or a block device. What is in it is lost, which needs --force.")]
    Attach(AttachArgs),
    /// Tell how both sides are
    #[command(after_help = "Example: snapfs mirror status /data --json | jq .in_sync")]
    Status(MirrorStatusArgs),
    /// Make the second side a store of its own, at once, with a snapshot NAME of that moment on both
    #[command(after_help = "Example: snapfs mirror split /data before-upgrade")]
    Split(SplitArgs),
    /// Bring the second side back, moving only what differs since the two parted
    #[command(after_help = "Example: snapfs mirror resync /data --dry-run\n          \
        snapfs mirror resync /data --wait\n\n\
        What only the second side has, its live tree and snapshots that were made there, is received first, as snapshots\n\
        of a clone that nobody changes; --discard loses it. If both sides went on without the other, say --keep with\n\
        the path of the one to keep: mounted with -o mirror=alone, or while neither is mounted.")]
    Resync(ResyncArgs),
    /// Compare both sides while they are in use (exit code 3: they differ)
    #[command(after_help = "Example: snapfs mirror verify /data")]
    Verify(MirrorTargetArgs),
    /// Go on with one side; the other is no store any more
    #[command(after_help = "Example: snapfs mirror detach /data")]
    Detach(MirrorTargetArgs),
}

#[derive(Args, Debug)]
pub(super) struct MirrorTargetArgs {
    /// Mount point, any path in a mount, or a mounted store
    pub(super) target: PathBuf,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct AttachArgs {
    /// Mount point, any path in a mount, or a mounted store
    pub(super) target: PathBuf,
    /// The second store
    #[arg(value_name = "STORE2")]
    pub(super) store: PathBuf,
    /// Overwrite what is there
    #[arg(long)]
    pub(super) force: bool,
    /// Seconds that one side may keep the other waiting before it is left out: 10 unless said; snapfs set timeout= changes it
    #[arg(long, value_name = "SECONDS", value_parser = super::property::parse_timeout)]
    pub(super) timeout: Option<u64>,
    /// Bytes a second at which it is filled at most, such as 50M
    #[arg(long, value_name = "RATE", value_parser = super::limit::parse_rate)]
    pub(super) rate: Option<u64>,
    /// Return when both sides are in sync
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct MirrorStatusArgs {
    /// Mount point, any path in a mount, or a mounted store
    pub(super) target: PathBuf,
    /// Return when nothing is being filled
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct SplitArgs {
    /// Mount point, any path in a mount, or a mounted store
    pub(super) target: PathBuf,
    /// Name of the snapshot
    pub(super) name: OsString,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct ResyncArgs {
    /// Mount point, any path in a mount, or a mounted store
    pub(super) target: PathBuf,
    /// Where the second side is, if not where it was
    #[arg(long, value_name = "STORE2")]
    pub(super) with: Option<PathBuf>,
    /// The side that stays as it is: the one that is mounted, or either if none is
    #[arg(long, value_name = "SIDE")]
    pub(super) keep: Option<PathBuf>,
    /// Lose what only the second side has
    #[arg(long)]
    pub(super) discard: bool,
    /// Tell what the second side has of its own, and how much would be received and copied
    #[arg(long, conflicts_with_all = ["pause", "resume", "wait"])]
    pub(super) dry_run: bool,
    /// Wait before it goes on copying
    #[arg(long, conflicts_with_all = ["with", "keep", "discard", "wait", "resume"])]
    pub(super) pause: bool,
    /// Go on copying
    #[arg(long, conflicts_with_all = ["with", "keep", "discard"])]
    pub(super) resume: bool,
    /// Bytes a second at which it is filled at most, such as 50M
    #[arg(long, value_name = "RATE", value_parser = super::limit::parse_rate)]
    pub(super) rate: Option<u64>,
    /// Return when both sides are in sync
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

impl ResyncArgs {
    /// True if it says nothing of its own about which side comes back and what becomes of it.
    pub(super) fn brings_what_was_there(&self) -> bool {
        self.with.is_none() && self.keep.is_none() && !self.discard
    }
}
