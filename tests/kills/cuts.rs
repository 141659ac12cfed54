//! The daemon's device calls are recorded while SQLite works; then the power is cut at random calls, on a simulated
//! disk that loses, tears and reorders what was not flushed. Every row that was acknowledged before a cut must be there.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use snapfs::check::{self, Depth};
use snapfs::clock::Clock;
use snapfs::device::{Access, CrashPolicy, Device, DirDevice, RecordedCall, Sim, read_changes};
use snapfs::fs::{Fs, FsOptions};
use snapfs::limits::STORE_BYTES_DEFAULT;
use snapfs::ops::{NodeId, Operations};
use snapfs::volume;

use crate::fixtures::{ADMIN, open, read_whole};
use crate::guard::can_mount;
use crate::harness::{finish, installed, number, ok};
use crate::place::Place;
use crate::sqlite;

/// Records a run for each kind of journal, and cuts the power `cuts` times in it.
pub fn cut_again_and_again(cuts: u64) {
    if !can_mount() || !installed("sqlite3", "sqlite3") {
        return;
    }
    for mode in ["WAL", "DELETE"] {
        let (p, record) = (Place::new(), "record");
        p.ok(&["init", "store", "--size", "128M"]);
        let base = copy(&p.at("store"));
        let record = p.at(record);
        let mounted =
            p.command(&["mount", "store", "mnt", "-o", "commit=1"]).env("SNAPFS_RECORD", &record).status();
        assert!(mounted.expect("snapfs").success());
        let acknowledged = work(&p, mode, &record);
        p.umount();
        let changes = read_changes(&fs::read(&record).expect("the record")).expect("a whole record");
        let (tried, rows) = replay(&p, base, &changes, &acknowledged, number("SNAPFS_CUTS", cuts));
        println!(
            "power cuts under sqlite, {mode}: {tried} cuts in {} device calls, {} rows acknowledged, {rows} found in \
             sum, 0 lost",
            changes.len(),
            acknowledged.len()
        );
    }
}

/// A store on a simulated disk.
fn copy(store: &Path) -> Sim {
    let device = DirDevice::open(store, STORE_BYTES_DEFAULT, Access::ReadOnly).expect("the store");
    let sim = Sim::new(device.size(), 1);
    let mut bytes = Vec::new();
    for (at, len) in device.stored() {
        bytes.resize(len as usize, 0);
        device.read_at(at, &mut bytes).expect("read");
        sim.back(at, len).expect("space");
        sim.write_at(at, &bytes).expect("write");
    }
    sim.flush().expect("flush");
    sim
}

/// Inserts for a while. Returns the length of the record when each row was acknowledged.
fn work(p: &Place, mode: &str, record: &Path) -> Vec<u64> {
    let database = p.path("rows.db");
    ok(std::process::Command::new("sqlite3")
        .arg(&database)
        .arg(format!("PRAGMA journal_mode={mode}; CREATE TABLE t(i INTEGER PRIMARY KEY, s TEXT);")));
    let (seen, record) = (Arc::new(Mutex::new(Vec::new())), record.to_path_buf());
    let noted = seen.clone();
    let note =
        move |_| noted.lock().expect("alone").push(fs::metadata(&record).map_or(u64::MAX, |m| m.len()));
    let (mut child, thread) = sqlite::insert(&database, mode, 1, note);
    std::thread::sleep(Duration::from_millis(2500));
    finish(&mut child);
    thread.join().expect("the worker");
    std::mem::take(&mut *seen.lock().expect("alone"))
}

/// Cuts the power and proves what is left. Returns the cuts and the rows that were found.
fn replay(
    p: &Place,
    sim: Sim,
    changes: &[(u64, RecordedCall)],
    acknowledged: &[u64],
    cuts: u64,
) -> (u64, u64) {
    let mut rng = fastrand::Rng::with_seed(number("SNAPFS_SEED", 1));
    let mut at: Vec<usize> = (0..cuts).map(|_| rng.usize(..=changes.len())).collect();
    at.sort_unstable();
    let (mut played, mut rows) = (0, 0);
    for (n, cut) in at.iter().enumerate() {
        changes[played..*cut].iter().for_each(|(_, change)| play(&sim, change));
        played = *cut;
        let end = cut.checked_sub(1).map_or(0, |last| changes[last].0);
        let promised = acknowledged.partition_point(|length| *length <= end) as u64;
        let seed = rng.u64(..);
        for policy in [CrashPolicy::Random(seed), CrashPolicy::Shuffled(seed), CrashPolicy::DropAll] {
            let here = format!("cut {n} before call {cut}, {policy:?}");
            let found = prove(p, sim.crash(policy)).unwrap_or_else(|why| panic!("{here}: {why}"));
            assert!(found >= promised, "{here}: {found} rows, {promised} acknowledged");
            rows += found;
        }
    }
    (3 * cuts, rows)
}

fn play(sim: &Sim, change: &RecordedCall) {
    match change {
        RecordedCall::Write { offset, data } => sim.write_at(*offset, data).expect("write"),
        RecordedCall::Flush => sim.flush().expect("flush"),
        RecordedCall::Back { offset, len } => sim.back(*offset, *len).expect("space"),
        RecordedCall::Discard { offset, len } => sim.discard(*offset, *len),
    }
}

/// Opens what is left, audits it, takes the database out and lets SQLite judge it. Returns its rows.
fn prove(p: &Place, disk: Sim) -> Result<u64, String> {
    let volume = open(Arc::new(disk), volume::Access::ReadWrite).map_err(|e| e.to_string())?;
    let fs = Fs::open(volume, FsOptions::default(), Clock::manual(1_000_000)).map_err(|e| e.to_string())?;
    let report = check::check(fs.volume(), Depth::Data).map_err(|e| e.to_string())?;
    if !report.is_clean() {
        return Err(report.problems.join("\n"));
    }
    let names = ["rows.db", "rows.db-wal", "rows.db-journal"];
    let mut has_table = false;
    for name in names {
        let out = p.at(name);
        let _ = fs::remove_file(&out);
        let Ok(entry) = fs.lookup(&ADMIN, NodeId::ROOT, name.as_bytes()) else { continue };
        let content = read_whole(&fs, entry.attr.node).map_err(|e| e.to_string())?;
        has_table |= !content.is_empty();
        fs::write(&out, content).map_err(|e| e.to_string())?;
    }
    let _ = fs::remove_file(p.at("rows.db-shm"));
    let table = "SELECT count(*) FROM sqlite_master WHERE name = 't'";
    if !has_table || ok(std::process::Command::new("sqlite3").arg(p.at("rows.db")).arg(table)).trim() == "0" {
        // Before the table was made, which nobody counted.
        return Ok(0);
    }
    Ok(sqlite::prove(&p.at("rows.db"), 0))
}
