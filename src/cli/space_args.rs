//! Arguments of `space` and `plan`.

use super::line_args::Json;
use super::output::parse_size;
use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct SpaceArgs {
    /// Mount point, any path in a mount, or a store
    #[arg(value_name = "MNT")]
    pub(super) target: PathBuf,
    /// Which files and directories have the most content that only snapshots of the line hold
    #[arg(long)]
    pub(super) paths: bool,
    /// Tell so many of them
    #[arg(long, value_name = "N", default_value_t = 20, requires = "paths")]
    pub(super) top: usize,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct PlanArgs {
    /// Mount point, any path in a mount, or a store
    #[arg(value_name = "MNT")]
    pub(super) target: PathBuf,
    #[command(subcommand)]
    pub(super) what: PlanVerb,
}

#[derive(Subcommand, Debug)]
pub(super) enum PlanVerb {
    /// What deleting these together would bring back
    #[command(after_help = "Example: snapfs plan /data delete monday tuesday .clones/upgrade\n\n\
        NAME is a snapshot of the line that MNT is in, a pattern as for snapfs delete ('nightly-*'), or a clone as .clones/NAME. Exact, whatever they share with\n\
        others: what is only theirs together comes back with the last of them. What stays for now is told with for whom.\n\
        Exit code 1 if one of them cannot be deleted.")]
    Delete(PlanDeleteArgs),
    /// Which snapshots to delete so that so much comes back, at the least loss of history (exit code 1: not to be reached)
    #[command(after_help = "Example: snapfs plan /data free 20G\n\n\
        Snapshots of the line that MNT is in: first automatic ones that no rule keeps any more, then those of the coarsest class,\n\
        guards after these, and what people made only if it must be. Never the newest, and nothing in use.\n\
        It prints the command that deletes them.")]
    Free(PlanFreeArgs),
}

#[derive(Args, Debug)]
pub(super) struct PlanDeleteArgs {
    /// Names of snapshots or patterns of such, as for snapfs delete, and clones as .clones/NAME
    #[arg(value_name = "NAME", required = true)]
    pub(super) names: Vec<OsString>,
    /// Of these snapshots, only those that were made before this
    #[arg(long, value_name = "VIEW")]
    pub(super) before: Option<OsString>,
    /// Only those that were made after this
    #[arg(long, value_name = "VIEW")]
    pub(super) after: Option<OsString>,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct PlanFreeArgs {
    /// How much is to come back, such as 20G
    #[arg(value_name = "SIZE", value_parser = parse_size)]
    pub(super) bytes: u64,
    #[command(flatten)]
    pub(super) json: Json,
}
