//! Every crash point of a set of workloads, and every n-th failure of a device. See docs/testing.md.

mod cuts;
#[allow(dead_code, reason = "shared with the test program `model`")]
#[path = "../model/observe.rs"]
mod observe;
#[allow(dead_code, reason = "shared with the test program `model`")]
#[path = "../model/reference.rs"]
mod reference;
mod tape;
mod workloads;
mod world;

use std::time::Instant;
use workloads::WORKLOADS;

#[test]
fn every_crash_point() {
    for workload in &WORKLOADS {
        let start = Instant::now();
        let recording = cuts::record(workload, 1, 2000);
        let took = start.elapsed();
        let n = recording.tape.len() as u64;
        let tried = cuts::try_all(&recording, 0, n + 1).unwrap();
        println!(
            "{}: {} ops {} calls, recorded in {took:?}; {} disks in {:?}, {:?} each",
            workload.name,
            recording.history.len(),
            n,
            tried.disks,
            start.elapsed(),
            start.elapsed() / tried.disks as u32
        );
    }
}
