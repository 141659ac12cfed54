//! Making stores: a store in use, and a making that was cut off.

use super::builtin::{Builtin, open_volume};
use super::engine::{Backend, InitOptions, OpenFor, Partner};
use super::making::{NewStore, Old, make};
use crate::device::MAKING;
use crate::format::Copies;
use std::path::PathBuf;

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
