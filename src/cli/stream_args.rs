//! Arguments of the verbs that carry snapshots between stores.

use super::line_args::Json;
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct SendArgs {
    /// Mount point, any path in a mount, or a store
    pub(super) target: PathBuf,
    /// The snapshot that is sent
    pub(super) view: OsString,
    /// Send only what differs from this snapshot, which the receiver has. With --to, that is found by itself
    #[arg(long, value_name = "VIEW")]
    pub(super) from: Option<OsString>,
    /// Go on where a transfer was cut off: what `snapfs receive` has printed then
    #[arg(long, value_name = "TOKEN")]
    pub(super) resume: Option<String>,
    /// Send to this store, or to the store mounted there, instead of the standard output
    #[arg(long, value_name = "STORE")]
    pub(super) to: Option<PathBuf>,
    /// There, as a clone of its own of that name
    #[arg(long = "as", value_name = "NAME", requires = "to")]
    pub(super) as_name: Option<OsString>,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct ReceiveArgs {
    /// A store, which is made if there is none, or where it is mounted
    pub(super) target: PathBuf,
    /// Receive as a clone of its own of that name
    #[arg(long = "as", value_name = "NAME")]
    pub(super) as_name: Option<OsString>,
    /// Receive nothing: give up what is here of a transfer that was cut off
    #[arg(long, value_name = "TOKEN", conflicts_with = "as_name")]
    pub(super) drop: Option<String>,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    /// Mount point, any path in a mount, or a store
    pub(super) target: PathBuf,
    /// The snapshot
    pub(super) view: OsString,
    /// The other store, or where it is mounted
    #[arg(long, value_name = "STORE2")]
    pub(super) with: PathBuf,
    #[command(flatten)]
    pub(super) json: Json,
}
