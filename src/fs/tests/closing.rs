//! The end of a mount: whoever still changes something is in the store or is refused, and nothing is written afterwards.

use super::*;
use crate::device::{CrashPolicy, Sim};
use crate::volume::{Access, OpenOptions};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[test]
fn nothing_is_written_after_the_close() {
    let sim = Arc::new(Sim::new(1 << 30, 1));
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    let f = t.create(ROOT, "f");
    t.write(f, 0, b"kept");
    t.fs.close().unwrap();
    let changes = sim.changes();
    let refused = t.fs.create(&USER, ROOT, b"g", 0o644, RW).map(drop);
    assert!(matches!(refused, Err(Error::ReadOnly)), "{refused:?}");
    t.fs.write(f.0, f.1, 0, &[1; 100_000], false).unwrap_err();
    t.fs.mkdir(&USER, SNAPDIR, b"s", 0o755).unwrap_err();
    t.fs.commit().unwrap_err();
    assert!(t.fs.volume().stage(&[1; 4096]).is_err());
    // Nor by who was on the way.
    t.fs.volume().let_go();
    t.fs.volume().trim();
    assert_eq!(sim.changes(), changes);
    // What is there can be read.
    assert_eq!(t.read(f, 0, 9), b"kept");
}

#[test]
fn whoever_changes_something_while_it_closes_is_in_or_is_refused() {
    for seed in 0..8 {
        let sim = Arc::new(Sim::new(1 << 30, seed));
        let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
        let (fs, begun) = (&t.fs, AtomicBool::new(false));
        let (acknowledged, (closed, changes)) = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..2)
                .map(|n| {
                    let begun = &begun;
                    scope.spawn(move || {
                        let mut done = Vec::new();
                        for i in 0.. {
                            let name = format!("{n}-{i}");
                            let made = fs.create(&USER, ROOT, name.as_bytes(), 0o644, RW);
                            let Ok((entry, handle)) = made else { break };
                            let node = entry.attr.node;
                            let written = fs.write(node, handle, 0, name.as_bytes(), false);
                            if written.is_err() || fs.fsync(node, handle, SyncScope::All).is_err() {
                                break;
                            }
                            fs.release(node, handle);
                            done.push(name);
                            begun.store(true, Relaxed);
                        }
                        done
                    })
                })
                .collect();
            while !begun.load(Relaxed) {
                std::thread::yield_now();
            }
            fs.close().unwrap();
            fs.volume().let_go();
            // From here on somebody else may have it.
            let closed = (sim.clone_image(), sim.changes());
            (writers.into_iter().flat_map(|w| w.join().unwrap()).collect::<Vec<_>>(), closed)
        });
        assert_eq!(changes, sim.changes(), "seed {seed}");
        let disk = Arc::new(closed.crash(CrashPolicy::DropAll));
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
        let again = T::on(Volume::open(disk, options).unwrap(), FsOptions::default());
        for name in acknowledged {
            assert_eq!(again.cat(ROOT, &name), name.as_bytes(), "seed {seed}");
        }
        again.prove();
    }
}
