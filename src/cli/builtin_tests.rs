//! Making stores: a store in use, and a making that was cut off.

use super::builtin::{Builtin, open_volume};
use super::engine::{Backend, Engine, InitOptions, OpenFor, Partner, StoreOptions};
use super::making::{NewStore, Old, make};
use super::mirror_order::MirrorOrder;
use crate::check::Depth;
use crate::clock::Clock;
use crate::device::{Access, DirDevice, MAKING};
use crate::format::Copies;
use crate::format::mirror::{LABEL_ADDRS, LABEL_BYTES};
use crate::format::superblock::INCOMPAT_MIRRORED;
use crate::fs::{Fs, FsOptions};
use crate::limits::STORE_BYTES_DEFAULT;
use crate::repair::Mode;
use crate::volume::{OpenOptions, Volume, newest_superblock};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn place(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("snapfs-builtin-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

#[test]
fn a_store_in_use_is_not_made_anew() {
    let dir = place("used");
    let opened = open_volume(&dir, OpenFor::Mount, &Partner::AsNoted, 1 << 20).unwrap();
    let options = InitOptions { force: true, ..InitOptions::default() };
    assert!(Builtin.init(&dir, &options).is_err(), "somebody is in it");
    drop(opened);
    let opened = open_volume(&dir, OpenFor::Mount, &Partner::AsNoted, 1 << 20).expect("it is untouched");
    let uuid = opened.volume.uuid();
    drop(opened);
    make(&dir, &NewStore { copies: Copies::One, ..NewStore::default() }, Old::Stays).unwrap();
    assert_eq!(
        open_volume(&dir, OpenFor::Mount, &Partner::AsNoted, 1 << 20).unwrap().volume.uuid(),
        uuid,
        "it stays"
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_making_that_was_cut_off_is_done_again() {
    let dir = place("cut");
    drop(open_volume(&dir, OpenFor::Mount, &Partner::AsNoted, 1 << 20).unwrap());
    std::fs::write(dir.join(MAKING), b"").unwrap();
    let uuid = open_volume(&dir, OpenFor::Mount, &Partner::AsNoted, 1 << 20).unwrap().volume.uuid();
    assert_eq!(
        open_volume(&dir, OpenFor::Mount, &Partner::AsNoted, 1 << 20).unwrap().volume.uuid(),
        uuid,
        "it was whole"
    );
    for name in ["super.a", "super.b"] {
        let len = std::fs::metadata(dir.join(name)).unwrap().len();
        std::fs::write(dir.join(name), vec![0; len as usize]).unwrap();
    }
    let again = open_volume(&dir, OpenFor::Mount, &Partner::AsNoted, 1 << 20).expect("it is made again");
    assert!(again.volume.uuid() != uuid && !dir.join(MAKING).exists());
    std::fs::remove_dir_all(&dir).unwrap();
}

/// What says that it is a side, and not how it stands to the other, may be the older one.
#[test]
fn a_side_of_which_no_label_can_be_read_is_served_only_when_somebody_says_so() {
    for (places, garbage) in [(4, 7u8), (1, 7), (4, 0)] {
        let dir = place(&format!("label{garbage}-{places}"));
        let access = |access, partner| StoreOptions { access, partner, ..StoreOptions::default() };
        let open = |how, partner| Builtin.open(&dir, &access(how, partner));
        drop(open_volume(&dir, OpenFor::Mount, &Partner::AsNoted, 1 << 20).unwrap());
        let device = DirDevice::open(&dir, STORE_BYTES_DEFAULT, Access::ReadWrite).unwrap();
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
        let volume = Volume::open(Arc::new(device), options).unwrap();
        let fs = Fs::open(volume, FsOptions::default(), Clock::manual(1_000_000)).unwrap();
        fs.volume().set_mirrored(true).unwrap();
        fs.close().unwrap();
        drop(fs);
        // Each place of a label is in one of two files of the same size.
        for at in LABEL_ADDRS.into_iter().take(places) {
            let (name, at) = if at < 512 << 10 { ("super.a", at) } else { ("super.b", at - (512 << 10)) };
            let file = std::fs::File::options().write(true).open(dir.join(name)).unwrap();
            file.write_all_at(&[garbage; LABEL_BYTES], at).unwrap();
        }
        if garbage == 0 {
            // It never had one, or it was taken away: a store by itself, from then on, unless somebody knows of another side.
            assert!(open(OpenFor::Mount, Partner::At(place("other"))).is_err());
            for how in [OpenFor::Look, OpenFor::MountReadOnly] {
                open(how, Partner::AsNoted).unwrap().close().unwrap();
            }
            let store = open(OpenFor::Mount, Partner::AsNoted).unwrap();
            assert_eq!(store.mirror(&MirrorOrder::Status, &mut |_| true).unwrap()["mirrored"], false);
            store.close().unwrap();
            drop(store);
            let device = DirDevice::open(&dir, STORE_BYTES_DEFAULT, Access::ReadOnly).unwrap();
            let flags = newest_superblock(&device).unwrap().incompat;
            assert_eq!(flags & INCOMPAT_MIRRORED, 0);
            std::fs::remove_dir_all(&dir).unwrap();
            continue;
        }
        for how in [OpenFor::Mount, OpenFor::Work, OpenFor::MountReadOnly] {
            let refused = open(how, Partner::AsNoted).err().expect("it may be the older one").message;
            let told = refused.contains("label cannot be read") && refused.contains("-o mirror=alone");
            assert!(told, "{how:?}: {refused}");
        }
        // Whoever only looks, mends or rescues is told, and not refused.
        open(OpenFor::Look, Partner::AsNoted).unwrap().close().unwrap();
        open(OpenFor::MountReadOnly, Partner::Nobody).unwrap().close().unwrap();
        assert_eq!(Builtin.check(&dir, Depth::Data, &mut |_| {}).unwrap().findings, Vec::<String>::new());
        for mode in [Mode::DryRun, Mode::Write] {
            assert_eq!(Builtin.repair(&dir, mode, Depth::Data).unwrap().left, Vec::<String>::new());
        }
        assert!(open(OpenFor::Mount, Partner::AsNoted).is_err(), "it is no less a side for that");
        let store = open(OpenFor::Mount, Partner::Nobody).unwrap();
        assert_eq!(store.mirror(&MirrorOrder::Status, &mut |_| true).unwrap()["mirrored"], false);
        store.close().unwrap();
        drop(store);
        open(OpenFor::Mount, Partner::AsNoted).unwrap().close().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn a_repair_of_a_sound_side_writes_nothing() {
    let (dir, other) = (place("sound"), place("sound-other"));
    let mounted = || Builtin.open(&dir, &StoreOptions::default()).unwrap();
    let store = mounted();
    let attach = MirrorOrder::Attach { path: other.clone(), force: false, limit: None };
    store.mirror(&attach, &mut |_| true).unwrap();
    let in_sync = |store: &Arc<dyn Engine>| {
        store.mirror(&MirrorOrder::Status, &mut |_| true).unwrap()["in_sync"] == true
    };
    let end = Instant::now() + Duration::from_secs(60);
    while !in_sync(&store) {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(10));
    }
    store.close().unwrap();
    drop(store);
    let bytes =
        |side: &Path| ["super.a", "super.b", "log"].map(|name| std::fs::read(side.join(name)).unwrap());
    // Each of them while the other is away.
    for (side, partner) in [(&dir, &other), (&other, &dir)] {
        let (before, away) = (bytes(side), place("sound-away"));
        std::fs::rename(partner, &away).unwrap();
        let done = Builtin.repair(side, Mode::Write, Depth::Data).unwrap();
        assert_eq!((done.rebuilt, done.left), (vec![], vec![]));
        assert!(bytes(side) == before, "{}", side.display());
        std::fs::rename(&away, partner).unwrap();
    }
    let store = mounted();
    assert!(in_sync(&store));
    store.close().unwrap();
    drop(store);
    [dir, other].iter().for_each(|dir| std::fs::remove_dir_all(dir).unwrap());
}
