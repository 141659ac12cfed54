//! Arguments of the verbs about lines: clones, trials, merges, and ways back.

use super::list_args::{CHOICES, ListChoice};
use super::property::Property;
use super::property::parse_after;
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

/// Machine-readable output.
#[derive(Args, Debug)]
pub(super) struct Json {
    /// Print JSON: sizes in bytes, times in RFC 3339 UTC
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    /// Mount point, any path in a mount, or a store
    pub(super) target: PathBuf,
    /// List the clones alone
    #[arg(long, conflicts_with_all = CHOICES)]
    pub(super) clones: bool,
    /// List what is being received alone: by whom it was sent, how far it is, and when it goes if nobody goes on
    #[arg(long, conflicts_with = "clones", conflicts_with_all = CHOICES)]
    pub(super) arrivals: bool,
    /// List what was deleted and can be brought back alone: snapshots of the line, and clones as .clones/NAME
    #[arg(long, conflicts_with_all = ["clones", "arrivals"], conflicts_with_all = CHOICES)]
    pub(super) trash: bool,
    /// List what each other store was sent last alone: where that store was, when, and whether the snapshot is here still. It
    /// holds nothing, and what is sent there next is told against it
    #[arg(long, conflicts_with_all = ["clones", "arrivals", "trash"], conflicts_with_all = CHOICES)]
    pub(super) sent: bool,
    #[command(flatten)]
    pub(super) choice: ListChoice,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct CloneArgs {
    /// Mount point, any path in a mount, or a mounted store
    pub(super) target: PathBuf,
    /// Name of the clone
    pub(super) name: OsString,
    /// What it is, for people: kept with it, at most 1024 bytes
    #[arg(long, value_name = "TEXT")]
    pub(super) description: Option<OsString>,
    /// Begin as this snapshot or clone
    #[arg(long, value_name = "VIEW")]
    pub(super) from: Option<OsString>,
    /// Drop it after this time, once nobody has it in use: 90s, 15m, 12h, 7d, 2w
    #[arg(long, value_name = "TIME", value_parser = parse_after)]
    pub(super) expire: Option<u64>,
    /// Drop it when nobody has used it for this time
    #[arg(long, value_name = "TIME", value_parser = parse_after)]
    pub(super) idle: Option<u64>,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct DropArgs {
    /// Mount point, any path in a mount, or a mounted store
    pub(super) target: PathBuf,
    /// Names of clones
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<OsString>,
    /// For good, and not into the trash
    #[arg(long)]
    pub(super) now: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct MergeArgs {
    /// Mount point, or any path in the line that the clone was made from
    #[arg(value_name = "MNT")]
    pub(super) target: PathBuf,
    /// Name of the clone
    pub(super) name: OsString,
    /// Only tell what would be changed, or what contradicts
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Leave the clone; a later merge brings only what is changed in it from now on
    #[arg(long)]
    pub(super) keep: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct RebaseArgs {
    /// Mount point, or any path in the line that the clone was made from
    #[arg(value_name = "MNT")]
    pub(super) target: PathBuf,
    /// Name of the clone
    pub(super) name: OsString,
    /// Only tell what would be changed, or what contradicts
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct TryArgs {
    /// Mount point, any path in a mount, or a mounted store
    pub(super) target: PathBuf,
    #[command(flatten)]
    pub(super) end: TryEnd,
    /// Give it a namespace of processes, in which it sees none but its own
    #[arg(long)]
    pub(super) isolate: bool,
    #[command(flatten)]
    pub(super) json: Json,
    /// The command, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

/// What becomes of the clone.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(super) struct TryEnd {
    /// Take over what it changed if the command succeeds: nothing, if that conflicts with what others changed (exit code 3)
    #[arg(long)]
    pub(super) merge: bool,
    /// Keep it under this name
    #[arg(long, value_name = "NAME")]
    pub(super) keep: Option<OsString>,
    /// Throw it away
    #[arg(long)]
    pub(super) drop: bool,
}

#[derive(Args, Debug)]
pub(super) struct RunArgs {
    /// Mount point, any path in a mount, or a mounted store
    pub(super) target: PathBuf,
    /// If the command fails, put back all that has changed since, whoever changed it
    #[arg(long)]
    pub(super) undo_on_failure: bool,
    /// How many snapshots that were made by this are kept: of older ones the oldest go
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) keep_steps: u64,
    #[command(flatten)]
    pub(super) json: Json,
    /// The command, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(super) struct RollbackArgs {
    /// Mount point, any path in a mount, or a mounted store
    #[arg(value_name = "MNT")]
    pub(super) target: PathBuf,
    /// The snapshot to go back to
    #[arg(value_name = "VIEW")]
    pub(super) view: OsString,
    /// Only print what would change, as diff does, and what would be in the way
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Cut off whoever has files open for writing
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct PromoteArgs {
    /// Mount point, any path in a mount, or a mounted store
    #[arg(value_name = "MNT")]
    pub(super) target: PathBuf,
    /// Name of the clone
    pub(super) name: OsString,
    /// Name of the snapshot of what the line had
    #[arg(long = "as", value_name = "OLD")]
    pub(super) keep_as: Option<OsString>,
    /// The line that it becomes, where that is not the one it came from: '.' or .clones/NAME
    #[arg(long, value_name = "LINE")]
    pub(super) onto: Option<OsString>,
    /// Cut off whoever has files open for writing
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct UndoArgs {
    /// Mount point, any path in a mount, or a mounted store
    #[arg(value_name = "MNT")]
    pub(super) target: PathBuf,
    /// Cut off whoever has files open for writing, where a rollback is taken back
    #[arg(long)]
    pub(super) force: bool,
    /// Only tell what would change, as diff does
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    /// Mount point, any path in a mount, or a store
    pub(super) target: PathBuf,
    /// A snapshot, or a clone as .clones/NAME; without it TARGET is a file of a mount
    pub(super) name: Option<OsString>,
    /// Of a file: wait until all of it is home that can be (exit code 3: not all of it can)
    #[arg(long, conflicts_with = "name")]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct RenameArgs {
    /// Mount point, any path in a mount, or a mounted store
    pub(super) target: PathBuf,
    /// Name now
    pub(super) name: OsString,
    /// Name from now on
    pub(super) new_name: OsString,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct GetArgs {
    /// Which: compression
    #[arg(value_name = "PROPERTY", value_parser = Property::parse)]
    pub(super) property: Property,
    /// Files or directories in a mount, snapshots included
    #[arg(required = true, value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) json: Json,
}
