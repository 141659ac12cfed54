//! Arguments of `freeze` and `thaw`.

use super::line_args::Json;
use crate::clock::parse_span;
use clap::Args;
use std::path::PathBuf;

/// Nobody is to wait for longer, in seconds.
pub(super) const TIMEOUT_MAX: u64 = 3600;

#[derive(Args, Debug)]
pub(super) struct FreezeArgs {
    /// Mount point, or any path in a mount: the line that it is in
    #[arg(value_name = "MNT")]
    pub(super) target: PathBuf,
    /// All lines that there are, clones too
    #[arg(long)]
    pub(super) all: bool,
    /// Changes go on after this time in any case: 1s to 1h
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_timeout)]
    pub(super) timeout: u64,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct ThawArgs {
    /// Mount point, or any path in a mount
    #[arg(value_name = "MNT")]
    pub(super) target: PathBuf,
    /// Only the freeze of this number, as snapfs freeze --json tells it; in hooks: those that the hook has begun
    #[arg(long, value_name = "NUMBER")]
    pub(super) of: Vec<u64>,
    #[command(flatten)]
    pub(super) json: Json,
}

/// A time limit in seconds.
pub(super) fn parse_timeout(text: &str) -> Result<u64, String> {
    let found = parse_span(text).filter(|secs| (1..=TIMEOUT_MAX).contains(secs));
    found.ok_or_else(|| format!("'{text}' is no time from 1s to 1h, such as 30s"))
}
