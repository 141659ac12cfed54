//! Arguments of `schedule` and `prune`.

use super::line_args::Json;
use crate::clock::parse_span;
use crate::schedule::is_schedule_name;
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

/// A simulation goes no further.
const SIMULATED_SECS_MAX: u64 = 20 * YEAR;
const YEAR: u64 = 365 * 86_400;

/// Which schedules.
#[derive(Args, Debug)]
pub(super) struct WhichArgs {
    /// The schedule of this name: letters, digits, '-', '_' and '.'
    #[arg(long, value_name = "N", value_parser = parse_name)]
    pub(super) name: Option<String>,
    /// Of this clone, in the place of the line that MNT is in
    #[arg(long, value_name = "NAME")]
    pub(super) clone: Option<OsString>,
}

#[derive(Args, Debug)]
pub(super) struct ScheduleArgs {
    /// Mount point, any path in a mount, or a store
    #[arg(value_name = "MNT")]
    pub(super) target: PathBuf,
    /// What is to hold from now on: every=15m keep=24h,7d,4w,12mo,2y [budget=20%] [free=5%] [always] [timer=off]
    #[arg(value_name = "RULE")]
    pub(super) rules: Vec<OsString>,
    #[command(flatten)]
    pub(super) which: WhichArgs,
    #[command(flatten)]
    pub(super) what: ScheduleVerb,
    #[command(flatten)]
    pub(super) json: Json,
}

/// What else is to be done.
#[derive(Args, Debug)]
#[group(multiple = false, conflicts_with = "rules")]
pub(super) struct ScheduleVerb {
    /// Have it no more, of several the one that --name says; what it has taken stays
    #[arg(long)]
    pub(super) remove: bool,
    /// Have the schedules of a TOML file, and no others
    #[arg(long, value_name = "FILE.toml", conflicts_with = "name")]
    pub(super) from: Option<PathBuf>,
    /// Print the schedules as such a file
    #[arg(long)]
    pub(super) export: bool,
    /// Take what is due and delete what is to go, now: for timers and cron, where the daemon's own timer is off (timer=off)
    #[arg(long)]
    pub(super) run: bool,
}

#[derive(Args, Debug)]
pub(super) struct PruneArgs {
    /// Mount point, any path in a mount, or a store
    #[arg(value_name = "MNT")]
    pub(super) target: PathBuf,
    /// Rules as of schedule, which are not set: what there would be by these, with --simulate
    #[arg(value_name = "RULE", requires = "simulate")]
    pub(super) rules: Vec<OsString>,
    /// The schedules of a TOML file in their place, with --simulate
    #[arg(long, value_name = "FILE.toml", requires = "simulate", conflicts_with = "rules")]
    pub(super) from: Option<PathBuf>,
    #[command(flatten)]
    pub(super) which: WhichArgs,
    #[command(flatten)]
    pub(super) what: PruneVerb,
    #[command(flatten)]
    pub(super) json: Json,
}

/// What is only told.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(super) struct PruneVerb {
    /// Only tell what would be deleted
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Only tell of each snapshot why it stays or goes
    #[arg(long)]
    pub(super) explain: bool,
    /// Only tell what there would be after this time, if something changes in each period: 12h, 90d, 4w, 2y
    #[arg(long, value_name = "TIME", value_parser = parse_simulated)]
    pub(super) simulate: Option<u64>,
}

fn parse_name(text: &str) -> Result<String, String> {
    if is_schedule_name(text) {
        Ok(text.into())
    } else {
        Err("a schedule is called by up to 32 letters, digits, '-', '_' and '.'".into())
    }
}

fn parse_simulated(text: &str) -> Result<u64, String> {
    let years = text.strip_suffix('y').and_then(|years| years.parse::<u64>().ok());
    let secs = years.and_then(|years| years.checked_mul(YEAR)).or_else(|| parse_span(text));
    match secs {
        Some(secs) if (1..=SIMULATED_SECS_MAX).contains(&secs) => Ok(secs),
        Some(_) => Err("more than nothing, and 20y at most".into()),
        None => Err(format!("'{text}' is no time; write it as 12h, 90d, 4w or 2y")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_names() {
        assert_eq!(parse_simulated("90d"), Ok(90 * 86_400));
        assert_eq!(parse_simulated("2y"), Ok(2 * YEAR));
        for bad in ["", "0d", "y", "21y", "3", "99999999999999999999y"] {
            assert!(parse_simulated(bad).is_err(), "{bad}");
        }
        assert!(parse_name("a.b-c_D9").is_ok() && parse_name("a b").is_err() && parse_name("").is_err());
    }
}
