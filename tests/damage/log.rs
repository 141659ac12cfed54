//! What is only in the log of a store that nobody has open: the audit proves it, and what a mount tells is what it tells.

use snapfs::check::{self, Depth, Report};
use snapfs::device::{Device, Sim};
use snapfs::format::log::{Effect, Effects};
use snapfs::format::{Extent, Kind};
use snapfs::limits::{LOG_BYTES_MIN, RESERVED_BYTES};
use snapfs::ops::{NodeId, Operations};
use snapfs::volume::Access;
use std::sync::Arc;

use crate::fixtures::ADMIN;
use crate::observe::observe;
use crate::resealed::{Image, word};
use crate::sample::{Sample, mount, open};

/// What `check` tells of a store that nobody has open.
pub fn try_audit(sim: &Sim) -> Result<Report, String> {
    let device: Arc<dyn Device> = Arc::new(sim.clone_image());
    let volume = open(device.clone(), Access::ReadOnly)?;
    let mut report = check::check(&volume, Depth::Metadata).map_err(|e| e.to_string())?;
    check::check_waiting(device, Depth::Metadata, &mut report).map_err(|e| e.to_string())?;
    Ok(report)
}

fn audit(sim: &Sim) -> Report {
    try_audit(sim).unwrap()
}

/// Addresses of content that is only in the log, with their lengths: in the order of the records.
fn published(sample: &Sample) -> Vec<(u64, u64)> {
    let image = Image::new(sample);
    let effects = image.records.iter().flat_map(|(_, _, effects)| Effects::decode(effects));
    let extents = effects.filter_map(|effect| match effect {
        Ok(Effect::Insert(key, value)) if key.kind == Kind::Extent as u8 => {
            Some((word(value, 0), Extent::decode(value).unwrap().stored_bytes()))
        }
        _ => None,
    });
    extents.collect()
}

#[test]
fn a_sound_log_is_counted_and_changes_nothing() {
    let sample = Sample::with_log();
    let before = sample.sim.peek(0, 2 << 20);
    let report = audit(&sample.sim);
    assert!(report.is_clean(), "{:?}", report.problems);
    assert!(report.log_records > 20 && report.log_bytes > 10_000, "{report:?}");
    assert!(sample.sim.peek(0, 2 << 20) == before);
    let closed = audit(&Sample::new().sim);
    assert!(closed.is_clean() && closed.log_records == 0, "{closed:?}");
}

#[test]
fn a_bad_record_is_told() {
    let sample = Sample::with_log();
    let image = Image::new(&sample);
    // Word of the flush is behind the last, too.
    let told: Vec<_> = image.records.iter().filter(|(_, _, effects)| !effects.is_empty()).collect();
    for (at, ..) in [told[0], told[told.len() / 2], told[told.len() - 1]] {
        let sim = sample.sim.clone_image();
        sim.flip(at + 70, 4);
        assert!(!audit(&sim).is_clean(), "the record at {at:#x}");
        let fs = mount(open(Arc::new(sim), Access::ReadWrite).unwrap()).unwrap();
        assert!(fs.recovered().damage.is_some());
    }
}

#[test]
fn bad_content_that_was_flushed_is_told_the_last_too() {
    let sample = Sample::with_content_in_log();
    let places = published(&sample);
    assert!(places.len() > 1);
    for (at, _) in [places[0], places[places.len() - 1]] {
        let sim = sample.sim.clone_image();
        sim.flip(at + 100, 4);
        let report = audit(&sim);
        assert!(report.problems.iter().any(|p| p.contains("is bad")), "{at:#x}: {:?}", report.problems);
        let fs = mount(open(Arc::new(sim), Access::ReadWrite).unwrap()).unwrap();
        assert!(!fs.recovered().bad_content.is_empty());
        // Everything but that content is there.
        assert!(observe(&fs).lie(&sample.seen).is_none());
        assert!(fs.commit().is_ok());
    }
}

/// The log's bytes of an image.
fn log_of(sim: &Sim) -> Vec<u8> {
    sim.peek(RESERVED_BYTES, LOG_BYTES_MIN)
}

/// The store with another log.
fn with_log(sim: &Sim, log: &[u8]) -> Sim {
    let changed = sim.clone_image();
    changed.write_at(RESERVED_BYTES, log).unwrap();
    changed.flush().unwrap();
    changed
}

#[test]
fn a_log_that_is_emptied_or_older_is_told() {
    let (closed, killed) = (Sample::new(), Sample::with_log());
    let emptied = vec![0; LOG_BYTES_MIN as usize];
    for (what, log) in [("emptied", emptied), ("older", log_of(&closed.sim))] {
        let sim = with_log(&killed.sim, &log);
        let report = audit(&sim);
        assert!(report.problems.iter().any(|p| p.contains("no record at")), "{what}: {:?}", report.problems);
        let fs = mount(open(Arc::new(sim), Access::ReadWrite).unwrap()).unwrap();
        assert!(fs.recovered().damage.is_some(), "{what}");
    }
}

#[test]
fn a_store_that_was_closed_needs_no_log() {
    let sim = with_log(&Sample::new().sim, &vec![0; LOG_BYTES_MIN as usize]);
    let report = audit(&sim);
    assert!(report.is_clean(), "{:?}", report.problems);
    let sim = Arc::new(sim);
    let fs = mount(open(sim.clone(), Access::ReadWrite).unwrap()).unwrap();
    assert!(fs.recovered().damage.is_none());
    // From the first commit on it does, also if nothing was logged since.
    fs.mkdir(&ADMIN, NodeId::ROOT, b"new", 0o755).unwrap();
    fs.commit().unwrap();
    assert!(audit(&sim).is_clean());
    assert!(!audit(&with_log(&sim, &vec![0; LOG_BYTES_MIN as usize])).is_clean());
}
