//! Arguments of `hold`, `release` and `undelete`.

use super::hold_order::{WantedHold, parse_tag};
use super::line_args::Json;
use super::property::parse_after;
use crate::clock::{Clock, SPAN_MAX, is_span, parse_date};
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

/// What a hold is called that was given no name.
pub(super) const DEFAULT_TAG: &str = "hold";

/// For how long something is held.
#[derive(Args, Debug)]
pub(super) struct HeldFor {
    /// Until this time: 2026-12-31, 2026-12-31T18:00, in UTC unless a zone follows (Z, +01:00)
    #[arg(long, value_name = "TIME", value_parser = parse_until)]
    pub(super) until: Option<i64>,
    /// For so long: 90s, 15m, 12h, 7d, 2w
    #[arg(long = "for", value_name = "TIME", value_parser = parse_after, conflicts_with = "until")]
    pub(super) after: Option<u64>,
}

impl HeldFor {
    /// A hold of that tag, from now on.
    pub(super) fn wanted(&self, tag: &str) -> WantedHold {
        let until = self.until.map(|until| until.saturating_sub(Clock::System.now().secs).max(1) as u64);
        WantedHold { tag: tag.into(), after: self.after.or(until) }
    }

    /// True if something was said.
    pub(super) fn is_some(&self) -> bool {
        self.until.is_some() || self.after.is_some()
    }
}

fn parse_until(text: &str) -> Result<i64, String> {
    let Some((until, _)) = parse_date(text) else {
        return Err(format!("'{text}' is no time such as 2026-12-31 or 2026-12-31T18:00+01:00"));
    };
    match until.saturating_sub(Clock::System.now().secs) {
        ..=0 => Err(format!("{text} is past")),
        after if is_span(after.unsigned_abs()) => Ok(until),
        _ => Err(format!("{text} is too far away: it may be {SPAN_MAX} from now at most")),
    }
}

#[derive(Args, Debug)]
pub(super) struct HoldArgs {
    /// Mount point, any path in a mount, or a mounted store
    #[arg(value_name = "MNT")]
    pub(super) target: PathBuf,
    /// The snapshot
    #[arg(required_unless_present = "list")]
    pub(super) name: Option<OsString>,
    /// What the hold is called: one snapshot may have several, and goes when the last one is gone
    #[arg(long, value_name = "T", default_value = DEFAULT_TAG, value_parser = parse_tag)]
    pub(super) tag: String,
    #[command(flatten)]
    pub(super) held_for: HeldFor,
    /// List what holds snapshots of the line that MNT is in, or this one
    #[arg(long, conflicts_with_all = ["until", "after"])]
    pub(super) list: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct ReleaseArgs {
    /// Mount point, any path in a mount, or a mounted store
    #[arg(value_name = "MNT")]
    pub(super) target: PathBuf,
    /// The snapshot
    pub(super) name: OsString,
    /// Which hold; need not be said if there is one alone
    #[arg(long, value_name = "T", value_parser = parse_tag)]
    pub(super) tag: Option<String>,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct UndeleteArgs {
    /// Mount point, any path in a mount, or a mounted store
    #[arg(value_name = "MNT")]
    pub(super) target: PathBuf,
    /// What was deleted: snapshots of the line that MNT is in, and clones as .clones/NAME: names, or patterns of names
    #[arg(value_name = "NAME", required = true)]
    pub(super) names: Vec<OsString>,
    /// Call it this from now on, where its name is another's by now
    #[arg(long = "as", value_name = "NEW")]
    pub(super) as_name: Option<OsString>,
    /// Only tell which would come back
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) json: Json,
}
