//! Arguments of `purge`.

use super::line_args::Json;
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct PurgeArgs {
    /// A file or symbolic link in a mount, where it is now or was, or a directory with all files below it
    pub(super) path: PathBuf,
    /// In which snapshots: all, or names, patterns, ages and ranges with commas between, such as monday..friday,@latest
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub(super) snapshots: OsString,
    /// Also take it from whoever else has some of it
    #[arg(long)]
    pub(super) all: bool,
    /// Only say what would be done
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) json: Json,
}
