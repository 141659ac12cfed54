//! Arguments of `create`.

use super::freeze_args::parse_timeout;
use super::hold_args::HeldFor;
use super::line_args::Json;
use super::method::Method;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct CreateArgs {
    /// Mount point, any path in a mount, or a mounted store
    pub(super) target: PathBuf,
    /// Name of the snapshot
    pub(super) name: OsString,
    /// What it is, for people: kept with it, at most 1024 bytes
    #[arg(long, value_name = "TEXT")]
    pub(super) description: Option<OsString>,
    /// Hold it from the first moment on, by this tag: as snapfs hold does
    #[arg(long, value_name = "TAG", value_parser = super::hold_order::parse_tag)]
    pub(super) hold: Option<String>,
    #[command(flatten)]
    pub(super) held_for: HeldFor,
    /// How it is made; without it, in the store, and files keep their layout
    #[arg(long, value_enum, value_name = "METHOD")]
    pub(super) method: Option<Method>,
    /// The store of the copy, which is made if there is none, or where it is mounted
    #[arg(long, value_name = "STORE2")]
    pub(super) to: Option<PathBuf>,
    /// With --method background: bytes a second at most, such as 50M, or none; otherwise as fast as nobody notices
    #[arg(long, value_name = "RATE", value_parser = super::hydrate_args::parse_rate)]
    pub(super) rate: Option<u64>,
    /// With --method background: wait until the copy is whole
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) hooks: HookArgs,
    #[command(flatten)]
    pub(super) json: Json,
}

/// What is run around it.
#[derive(Args, Debug)]
pub(super) struct HookArgs {
    /// Run this by the shell first: it has applications write what they hold, and be quiet
    #[arg(long, value_name = "CMD")]
    pub(super) pre: Option<OsString>,
    /// Run this by the shell afterwards, whatever has failed before
    #[arg(long, value_name = "CMD")]
    pub(super) post: Option<OsString>,
    /// If --pre fails: make none, or make one that says that it is consistent as after a crash
    #[arg(long, value_enum, value_name = "POLICY", default_value = "abort", requires = "pre")]
    pub(super) on_pre_failure: OnPreFailure,
    /// Each of the two is ended after this time, with all that it has started, and has failed then: 1s to 1h
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_timeout)]
    pub(super) hook_timeout: u64,
}

impl HookArgs {
    /// True if anything is run.
    pub(super) fn any(&self) -> bool {
        self.pre.is_some() || self.post.is_some()
    }
}

/// What becomes of a snapshot if what is run before it fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum OnPreFailure {
    /// None is made.
    Abort,
    /// It is made, and says so.
    CrashConsistent,
}
