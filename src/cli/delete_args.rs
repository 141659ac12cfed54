//! Arguments of `snapfs delete`.

use super::line_args::Json;
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct DeleteArgs {
    /// Mount point, any path in a mount, or a mounted store
    pub(super) target: PathBuf,
    /// Names, or patterns of names
    #[arg(required_unless_present = "trash", value_name = "NAME")]
    pub(super) names: Vec<OsString>,
    /// Of these, only those that were made before this
    #[arg(long, value_name = "VIEW")]
    pub(super) before: Option<OsString>,
    /// Only those that were made after this
    #[arg(long, value_name = "VIEW")]
    pub(super) after: Option<OsString>,
    /// Only tell which would go, and what that would free
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Wait until all the space of what was deleted is back
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) wait: bool,
    /// For good, and not into the trash
    #[arg(long)]
    pub(super) now: bool,
    /// Empty the trash, or only of these names; clones are .clones/NAME
    #[arg(long, conflicts_with_all = ["before", "after", "dry_run", "wait", "now"])]
    pub(super) trash: bool,
    #[command(flatten)]
    pub(super) json: Json,
}
