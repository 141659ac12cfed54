//! Real programs on a real mount whose daemon is killed at random moments, again and again; and power cuts of the same
//! daemon, replayed from a recording of what it did to its device. See docs/testing.md.
//!
//! After each kill the store is mounted again and checked, the program's own check must be content, and everything that
//! it was told is done must be there. `SNAPFS_KILLS` is the number of kills for each program, `SNAPFS_CUTS` that of power
//! cuts, `SNAPFS_FLUSH_KILLS` that of kills while snapshots flush; `SNAPFS_SEED` decides the moments.

mod cuts;
#[path = "../common/fixtures.rs"]
mod fixtures;
mod flushes;
mod git;
#[path = "../mount/guard.rs"]
mod guard;
mod harness;
mod names;
#[path = "../mount/place.rs"]
mod place;
mod postgres;
mod sqlite;
mod tar;

use harness::kill_again_and_again;

#[test]
fn sqlite_with_a_write_ahead_log() {
    kill_again_and_again(4, |p| sqlite::Sqlite::new(p, "WAL"));
}

#[test]
fn sqlite_with_a_rollback_journal() {
    kill_again_and_again(4, |p| sqlite::Sqlite::new(p, "DELETE"));
}

#[test]
fn postgresql_under_pgbench() {
    kill_again_and_again(3, postgres::Postgres::new);
}

#[test]
fn git_commits() {
    kill_again_and_again(3, git::Git::new);
}

#[test]
fn an_archive_is_unpacked() {
    kill_again_and_again(3, tar::Tar::new);
}

#[test]
fn names_and_snapshots() {
    kill_again_and_again(3, names::Names::new);
}

#[test]
fn snapshots_in_the_middle_of_their_flush() {
    flushes::kill_again_and_again("cache=strict,commit=1");
}

#[test]
fn snapshots_in_the_middle_of_their_flush_with_a_write_back_cache() {
    flushes::kill_again_and_again("cache=writeback,commit=1");
}

#[test]
fn power_cuts_under_sqlite() {
    cuts::cut_again_and_again(40);
}
