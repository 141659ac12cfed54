//! Arguments of `snapfs hydrate`, and how fast a copy may go as a user writes it.

use super::limit::UNLIMITED;
use super::line_args::Json;
use super::output;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// What becomes of copies that are being made.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HydrateWord {
    /// They wait until they are told to go on, also over unmounting
    Pause,
    /// They go on, and what was in their way is tried at once
    Resume,
    /// They are given up, and the snapshot may be deleted
    Cancel,
}

#[derive(Args, Debug)]
pub(super) struct HydrateArgs {
    /// Mount point, any path in a mount, or a store
    pub(super) target: PathBuf,
    /// The snapshot; without it all copies are shown
    pub(super) name: Option<OsString>,
    /// What becomes of its copies; without it they are shown
    #[arg(value_enum, requires = "name")]
    pub(super) word: Option<HydrateWord>,
    /// Begin a copy in this store, which is made if there is none
    #[arg(long, value_name = "STORE2", requires = "name", conflicts_with = "word")]
    pub(super) to: Option<PathBuf>,
    /// Bytes a second at most, such as 50M; none: no limit; auto: as fast as nobody notices
    #[arg(long, value_name = "RATE", value_parser = parse_rate, requires = "name")]
    pub(super) rate: Option<u64>,
    /// Wait until they are whole
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

/// A rate as a user writes it.
pub(super) fn parse_rate(text: &str) -> Result<u64, String> {
    match text {
        "auto" => Ok(0),
        "none" => Ok(UNLIMITED),
        _ => match output::parse_size(text.strip_suffix("/s").unwrap_or(text))? {
            0 => Err("at a rate of 0 nothing would go on: pause it, or give none for no limit".into()),
            bytes => Ok(bytes),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        assert_eq!((parse_rate("50M"), parse_rate("1.5MiB/s")), (Ok(50 << 20), Ok(3 << 19)));
        assert_eq!((parse_rate("auto"), parse_rate("none")), (Ok(0), Ok(UNLIMITED)));
        assert!(parse_rate("0").is_err() && parse_rate("fast").is_err());
    }
}
