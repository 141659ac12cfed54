//! How a store that is served stands, as `status` and `info` tell it, and whether it is whole when it is closed.

use super::output::{counted, rfc3339};
use crate::ctl::{Code, Failure};
use crate::format::LineId;
use crate::fs::{Fs, TripwireState};
use crate::names;
use crate::ops::Timestamp;
use crate::volume::Volume;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A store that is served; `scrub` is what is known of scrubs, and whether one has found damage.
pub(super) fn status(fs: &Fs, store: &Path, (scrub, scrub_found): (String, bool)) -> Value {
    let volume = fs.volume();
    let (trash_items, trash_bytes) = volume.trash_bytes().unwrap_or_default();
    let (space, io, damage) = (volume.space_with_freed(), volume.io(), volume.damage());
    let recovered = fs.recovered();
    let log_damage = recovered.damage.as_ref().or(recovered.bad_content.first());
    let place = volume.location();
    let leftover = volume.leftover().ok(); // what cannot be read is told by the next commit
    let state = match (volume.read_only_reason(), &place.lost) {
        (_, Some(lost)) => format!("lost: {lost}"),
        (Some(why), None) => format!("read-only: {why}"),
        (None, None) => "ok".to_string(),
    };
    let mut status = json!({
        "store_covered": place.covered,
        "state": state,
        "snapshots": volume.snapshot_count(LineId::MAIN),
        "clones": volume.clone_count().0,
        "used_bytes": space.used,
        "free_bytes": space.free,
        "available_bytes": space.available,
        "coming_bytes": fs.comes_back(),
        "may_free_bytes": fs.may_free(),
        "dirty_bytes": volume.dirty_bytes(),
        "cached_bytes": volume.cached_bytes(),
        "freeing": volume.has_background_work(),
        "deleting": leftover.map(|left| left.views),
        "deleting_read": leftover.map(|left| left.read),
        "deleting_without_room": leftover.map(|left| left.without_room),
        "freeing_jobs": leftover.map(|left| left.jobs),
        "freeing_set_aside": leftover.map(|left| left.jobs_set_aside),
        "freeing_bytes": leftover.map(|left| left.bytes),
        "trash": fs.trash_secs().map(crate::clock::span),
        "trash_items": trash_items,
        "trash_bytes": trash_bytes,
        "purge_left": volume.has_purged_left(),
        "blocks_healed": damage.healed,
        "blocks_bad": damage.bad,
        "damage_known": damage.bad > 0 || scrub_found || log_damage.is_some(),
        "log_records_replayed": recovered.records,
        "log_damage": log_damage,
        "scrub": scrub,
        "last_snapshot_pause_us": fs.snapshot_pause().as_micros() as u64,
        "longest_deletion_pause_us": volume.removal_pauses().longest.as_micros() as u64,
        "device_reads": io.reads,
        "device_read_bytes": io.read_bytes,
        "device_writes": io.writes,
        "device_written_bytes": io.written_bytes,
        "device_flushes": io.flushes,
    });
    if let Some(Ok(state)) = fs.tripwire_state() {
        put_tripwire(&mut status, &state);
    }
    names::put(&mut status, "store", place.path.as_ref().map_or(store, |path| path));
    status
}

/// Whether there would be a snapshot if much were gone, in a sentence, and in numbers.
fn put_tripwire(status: &mut Value, state: &TripwireState) {
    status["tripwire_gone_files"] = state.gone.files.into();
    status["tripwire_gone_bytes"] = state.gone.bytes.into();
    let time = |(secs, nanos)| rfc3339(Timestamp { secs, nanos });
    status["tripwire_point"] = state.point.map(time).into();
    let told = match (state.files_max, state.point) {
        (None, _) => "off".to_string(),
        (Some(_), _) if state.is_short_of_space => "off while less than a tenth of the store is free".into(),
        (Some(_), None) => "set by the first change".into(),
        (Some(files), Some(_)) => {
            let gone = counted(state.gone.files, "old file");
            let told = format!("set: {gone} gone of {files}, or of a quarter of all");
            match state.gone.files.saturating_sub(state.lost.files) {
                0 => told,
                kept => format!("{told}; the snapshot that was kept last has {kept} of them"),
            }
        }
    };
    status["tripwire"] = told.into();
    if let Some(last) = &state.last {
        names::put(status, "tripwire_last", OsStr::from_bytes(last));
    }
}

/// What does not change while it is served, and its space.
pub(super) fn info(fs: &Fs, store: &Path) -> Value {
    let volume = fs.volume();
    let (space, place) = (volume.space_with_freed(), volume.location());
    let uuid: String = volume.uuid().iter().map(|b| format!("{b:02x}")).collect();
    let mut info = json!({
        "uuid": uuid,
        "format_version": crate::format::superblock::VERSION,
        "metadata_copies": volume.metadata_copies() as u8,
        "epoch": volume.epoch().0,
        "snapshots": volume.snapshot_count(LineId::MAIN),
        "total_bytes": space.total,
        "used_bytes": space.used,
        "free_bytes": space.free,
    });
    names::put(&mut info, "store", place.path.as_ref().map_or(store, |path| path));
    info
}

/// Fails if the store that was served is not what is on the host now: files of it are gone, or it stopped taking changes.
pub(super) fn prove_whole(volume: &Volume, store: &Path) -> Result<(), Failure> {
    let failed = |what: String| Err(Failure::new(Code::Io, format!("{}: {what}", names::shown(store))));
    if let Some(lost) = volume.location().lost {
        return failed(format!("what was written is not in the store: {lost}"));
    }
    match volume.read_only_reason() {
        Some(why) => failed(format!("the store took no more changes: {why}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::fixtures::{ADMIN, CACHE_BYTES, bytes, find, new_store, overwrite, put, snapshot};
    use crate::fs::FsOptions;
    use crate::ops::{NodeId, Operations};
    use crate::volume::{Access, OpenOptions};

    /// What is free, what comes back of what was deleted, and what automatic snapshots may give are together what `df` calls free.
    #[test]
    fn a_status_and_df_agree_while_something_is_being_deleted() {
        const SIZE: u64 = 20 << 20;
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: CACHE_BYTES };
        let volume = Volume::open(new_store(256 << 20), options).unwrap();
        let clock = Clock::manual(1000);
        let fs = Fs::open(volume, FsOptions::default(), clock.clone()).unwrap();
        let told = || {
            while fs.keep_schedules() {}
            let status = status(&fs, Path::new("store"), (String::new(), false));
            let number = |key: &str| status[key].as_u64().unwrap();
            let [free, coming, may_free] = ["free_bytes", "coming_bytes", "may_free_bytes"].map(number);
            let df = fs.statfs(NodeId::ROOT).unwrap();
            assert_eq!(df.free_bytes, (free + coming + may_free).min(df.total_bytes));
            let text = crate::cli::output::fields(&status);
            assert!(text.contains("coming: ") && text.contains("may free: "), "{text}");
            [coming, may_free]
        };
        let [_, deleted] =
            ["kept", "deleted"].map(|name| put(&fs, NodeId::ROOT, name, &bytes(1, SIZE as usize)));
        snapshot(&fs, "s");
        fs.unlink(&ADMIN, NodeId::ROOT, b"deleted").unwrap();
        fs.forget(deleted);
        fs.commit().unwrap();
        assert_eq!(told(), [0, 0]);
        fs.delete_snapshot(b"s").unwrap();
        let [coming, may_free] = told();
        assert!(coming >= SIZE && may_free == 0, "{coming} {may_free}");
        (0..8).for_each(|_| fs.commit().unwrap());
        assert_eq!(told(), [0, 0]);
        let rules = crate::schedule::parse_rules("default", "every=1h keep=all").unwrap();
        fs.set_schedules(LineId::MAIN, vec![rules]).unwrap();
        for n in 2..4 {
            told();
            clock.advance(3600 * 1_000_000_000);
            overwrite(&fs, find(&fs, "kept"), 0, &bytes(n, SIZE as usize));
            fs.commit().unwrap();
        }
        let [coming, may_free] = told();
        assert!(coming == 0 && may_free >= SIZE, "{coming} {may_free}");
    }
}
