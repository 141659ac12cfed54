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
        NAME is a snapshot of the line that MNT is in, by its name or its age, or a clone as .clones/NAME. Exact, whatever they share with\n\
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
    /// Snapshots, and clones as .clones/NAME
    #[arg(value_name = "NAME", required = true)]
    pub(super) names: Vec<OsString>,
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
