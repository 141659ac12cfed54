//! The workloads: what programs do with files, each around one thing that can go wrong in a crash.
//!
//! A workload is a script over a seed: the same seed gives the same operations. It keeps few and small files, so that
//! the state after each of thousands of crashes can be read whole.

use fastrand::Rng;
use snapfs::ops::{AllocateMode, RenameMode, SyncScope};

use crate::lines::{LineKey, MAIN};
use crate::world::{Excuse, World};

/// A script with its name.
pub struct Workload {
    pub name: &'static str,
    /// Runs until the device has seen so many changing calls.
    pub run: fn(&mut World, &mut Rng, calls: u64),
}

/// All of them.
pub const WORKLOADS: [Workload; 16] = [
    Workload { name: "small_files", run: small_files },
    Workload { name: "appends", run: appends },
    Workload { name: "truncate_then_write", run: truncate_then_write },
    Workload { name: "snapshots", run: snapshots },
    Workload { name: "large_files", run: large_files },
    Workload { name: "compressed", run: compressed },
    Workload { name: "in_place", run: in_place },
    Workload { name: "trees", run: trees },
    Workload { name: "unlinked", run: unlinked },
    Workload { name: "attributes", run: attributes },
    Workload { name: "nearly_full", run: nearly_full },
    Workload { name: "mixed", run: mixed },
    Workload { name: "reopened", run: reopened },
    Workload { name: "lines", run: lines },
    Workload { name: "lines_in_turn", run: lines_in_turn },
    Workload { name: "copies_between_lines", run: copies_between_lines },
];

pub fn bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    rng.fill(&mut data);
    data
}

/// Content of which most can be compressed, in stretches of a few blocks.
fn words(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut data = bytes(rng, len);
    for stretch in data.chunks_mut(10_000) {
        if rng.u8(0..4) > 0 {
            stretch.iter_mut().enumerate().filter(|(i, _)| i % 4 > 0).for_each(|(_, b)| *b = 7);
        }
    }
    data
}

/// Sizes around every border: inline, one block, several, staged at once.
pub fn size(rng: &mut Rng) -> usize {
    match rng.u8(0..10) {
        0 => 0,
        1..=3 => rng.usize(1..300),
        4 => rng.usize(2040..2060),
        5..=6 => rng.usize(3000..9000),
        7..=8 => 4096 * rng.usize(1..4),
        _ => rng.usize(66_000..80_000),
    }
}

/// What careful programs do: the new content under another name, fsync, rename over the old one. And careless ones: the
/// same without the fsync, or over the old content.
fn small_files(w: &mut World, rng: &mut Rng, calls: u64) {
    w.mkdir("d");
    for round in 0_usize.. {
        if w.is_done(calls) {
            return;
        }
        let name = format!("d/f{}", rng.u8(0..8));
        let data_len = size(rng).min(9000);
        let data = bytes(rng, data_len);
        match rng.u8(0..4) {
            0 => w.put(&name, &data),
            careful => {
                let new = format!("d/new{round}");
                w.put(&new, &data);
                if careful > 1 {
                    w.fsync(&new, SyncScope::All);
                }
                w.rename(&new, &name, RenameMode::Replace);
                if careful == 3 {
                    w.fsync_dir("d");
                }
            }
        }
        if rng.u8(0..6) == 0 && w.has(&name) {
            w.unlink(&name);
        }
    }
}

/// Logs of several programs: short appends, each made durable in one of the ways that there are, or not.
fn appends(w: &mut World, rng: &mut Rng, calls: u64) {
    let names = ["a.log", "b.log", "c.log", "d.log"];
    names.iter().for_each(|name| w.create(name));
    while !w.is_done(calls) {
        let name = names[rng.usize(..4)];
        let len = [rng.usize(1..200), rng.usize(1..5000), 4096][rng.usize(..3)];
        let data = bytes(rng, len);
        let how = rng.u8(0..5);
        w.append(name, &data, how == 0);
        match how {
            1 | 2 => w.fsync(name, SyncScope::Data),
            3 => w.fsync(name, SyncScope::All),
            _ => {}
        }
        if w.size(name) > 30_000 {
            let old = format!("{name}.1");
            w.rename(name, &old, RenameMode::Replace);
            w.create(name);
            w.fsync_dir("");
        }
    }
}

/// Files that are cut, to nothing or to a part, and written again.
fn truncate_then_write(w: &mut World, rng: &mut Rng, calls: u64) {
    let names = ["one", "two", "three"];
    for name in names {
        let data = bytes(rng, 20_000);
        w.put(name, &data);
    }
    while !w.is_done(calls) {
        let name = names[rng.usize(..3)];
        let keep = if rng.bool() { 0 } else { rng.u64(..=w.size(name)) };
        w.truncate(name, keep);
        let len = size(rng);
        let data = bytes(rng, len);
        if !data.is_empty() {
            let at = if rng.u8(0..4) == 0 { keep + rng.u64(0..10_000) } else { keep };
            w.write(name, at, &data);
        }
        match rng.u8(0..4) {
            0 => w.fsync(name, SyncScope::All),
            1 => w.fsync(names[rng.usize(..3)], SyncScope::Data),
            _ => {}
        }
    }
}

/// Snapshots are made, renamed and deleted while files change.
fn snapshots(w: &mut World, rng: &mut Rng, calls: u64) {
    for round in 0_usize.. {
        if w.is_done(calls) {
            return;
        }
        for _ in 0..rng.usize(0..4) {
            let name = format!("f{}", rng.u8(0..6));
            let len = size(rng).min(20_000);
            let data = bytes(rng, len);
            w.put(&name, &data);
        }
        let all = w.snapshots();
        let one = (!all.is_empty()).then(|| all[rng.usize(..all.len())].clone());
        match (rng.u8(0..8), one) {
            (0..=2, _) | (_, None) if all.len() < 6 => w.snap(&format!("s{round}")),
            (3, Some(old)) => w.rename_snap(&old, &format!("r{round}")),
            (4, Some(old)) => {
                // The name is free at once.
                w.unsnap(&old);
                w.snap(&old);
            }
            (5, _) => w.commit(),
            (_, Some(old)) => w.unsnap(&old),
            _ => {}
        }
    }
}

/// Holes, secured space, punched ranges and shared blocks in files of some size.
fn large_files(w: &mut World, rng: &mut Rng, calls: u64) {
    change_large_files(w, rng, calls, bytes);
}

/// The same with content that is compressed: what is cut and shared are pieces of frames.
fn compressed(w: &mut World, rng: &mut Rng, calls: u64) {
    w.compress();
    change_large_files(w, rng, calls, words);
}

fn change_large_files(w: &mut World, rng: &mut Rng, calls: u64, content: fn(&mut Rng, usize) -> Vec<u8>) {
    let names = ["big", "copy", "sparse"];
    names.iter().for_each(|name| w.create(name));
    let data = content(rng, 150_000);
    w.write("big", 0, &data);
    while !w.is_done(calls) {
        let name = names[rng.usize(..3)];
        let at = [rng.u64(0..200_000), rng.u64(0..50) * 4096][rng.usize(..2)];
        let len = [rng.u64(1..50_000), rng.u64(1..12) * 4096][rng.usize(..2)];
        match rng.u8(0..10) {
            0 => w.fallocate(name, at, len, AllocateMode::PunchHole),
            1 => w.fallocate(name, at, len, AllocateMode::ZeroRange),
            2 => w.fallocate(name, at, len, AllocateMode::KeepSize),
            3 => w.fallocate(name, at, len, AllocateMode::Extend),
            4 | 5 => {
                let to = names[rng.usize(..3)];
                let to_at = if rng.bool() { at } else { rng.u64(0..60) * 4096 };
                if to != name && w.size(name) > at {
                    let len = len.min(w.size(name) - at);
                    w.copy((name, at), (to, to_at), len);
                }
            }
            6 => w.truncate(name, at),
            _ => {
                let data = content(rng, len.min(80_000) as usize);
                w.write(name, at, &data);
            }
        }
        if rng.u8(0..3) == 0 {
            w.fsync(name, SyncScope::All);
        }
        if rng.u8(0..12) == 0 {
            let old = w.snapshots();
            old.iter().for_each(|s| w.unsnap(s));
            w.snap(&format!("s{}", rng.u16(..)));
        }
    }
}

/// Files that are written over in place, under snapshots that come and go: what these need is copied out, and content comes home,
/// between all that is done with the files.
fn in_place(w: &mut World, rng: &mut Rng, calls: u64) {
    w.lay_in_place();
    let names = ["image", "database"];
    for name in names {
        let data = bytes(rng, 100_000);
        w.put(name, &data);
    }
    w.commit();
    for round in 0_usize.. {
        if w.is_done(calls) {
            return;
        }
        let name = names[rng.usize(..2)];
        let all = w.snapshots();
        match rng.u8(0..16) {
            0..=4 => {
                for _ in 0..rng.usize(1..6) {
                    let data = bytes(rng, 4096);
                    w.write(name, rng.u64(0..24) * 4096, &data);
                }
            }
            5 => {
                let len = rng.usize(1..9000);
                let data = bytes(rng, len);
                w.write(name, rng.u64(0..100_000), &data);
            }
            6 => {
                let ways = [AllocateMode::PunchHole, AllocateMode::ZeroRange, AllocateMode::Extend];
                w.fallocate(name, rng.u64(0..90_000), rng.u64(1..30_000), ways[rng.usize(..3)]);
            }
            7 => w.truncate(name, rng.u64(40_000..110_000)),
            8 => {
                let (at, to_at) = (rng.u64(0..10) * 4096, rng.u64(0..20) * 4096);
                let to = if name == names[0] { names[1] } else { "copy" };
                let len = (rng.u64(1..4) * 4096).min(w.size(name).saturating_sub(at));
                if !w.has(to) {
                    w.create(to);
                }
                if len > 0 {
                    w.copy((name, at), (to, to_at), len);
                }
            }
            9 if all.len() < 4 => w.snap(&format!("s{round}")),
            10 if all.len() > 1 => w.unsnap(&all[rng.usize(..all.len())]),
            11..=14 => w.bring_home(rng.u64(1..16) << 12),
            _ => w.fsync(name, SyncScope::All),
        }
    }
}

/// Trees of directories grow, move and are removed with all that is in them.
fn trees(w: &mut World, rng: &mut Rng, calls: u64) {
    for round in 0_usize.. {
        if w.is_done(calls) {
            return;
        }
        let top = format!("t{}", rng.u8(0..4));
        if w.has(&top) && rng.u8(0..3) == 0 {
            w.remove_all(&top);
        } else if w.has(&top) {
            let to = format!("t{}", rng.u8(0..4));
            match w.has(&to) {
                true if to != top => w.rename(&top, &to, RenameMode::Exchange),
                true => w.mkdir(&format!("{top}/more{round}")),
                false => w.rename(&top, &to, RenameMode::NoReplace),
            }
        } else {
            w.mkdir(&top);
            for sub in ["x", "y"] {
                w.mkdir(&format!("{top}/{sub}"));
                for file in 0..rng.u8(0..4) {
                    let len = size(rng).min(3000);
                    let data = bytes(rng, len);
                    w.put(&format!("{top}/{sub}/f{file}"), &data);
                }
            }
            w.rename(&format!("{top}/x"), &format!("{top}/y/x"), RenameMode::Replace);
        }
        match rng.u8(0..4) {
            0 => w.fsync_dir(""),
            1 => w.commit(),
            _ => {}
        }
    }
}

/// Files that are deleted, or replaced, while they are open and written to.
fn unlinked(w: &mut World, rng: &mut Rng, calls: u64) {
    while !w.is_done(calls) {
        let tag = format!("h{}", rng.u8(0..4));
        let name = format!("f{}", rng.u8(0..5));
        let len = size(rng).min(20_000);
        let data = bytes(rng, len.max(1));
        match rng.u8(0..8) {
            0 => w.let_go(&tag),
            1 => {
                w.write_held(&tag, rng.u64(0..9000), &data);
                w.fsync_held(&tag);
            }
            2 => w.write_held(&tag, rng.u64(0..9000), &data),
            3 | 4 if w.has(&name) => {
                w.let_go(&tag);
                w.hold(&tag, &name);
                w.unlink(&name);
            }
            5 if w.has(&name) => {
                w.let_go(&tag);
                w.hold(&tag, &name);
                w.put("new", &data);
                w.rename("new", &name, RenameMode::Replace);
            }
            6 => w.commit(),
            _ => w.put(&name, &data),
        }
        if rng.u8(0..5) == 0 {
            w.fsync_dir("");
        }
    }
}

/// Names, links, owners, modes, times and extended attributes.
fn attributes(w: &mut World, rng: &mut Rng, calls: u64) {
    w.mkdir("d");
    for name in ["f", "d/g"] {
        w.put(name, b"content");
    }
    for round in 0_usize.. {
        if w.is_done(calls) {
            return;
        }
        let name = ["f", "d/g", "d"][rng.usize(..3)];
        let attribute = ["user.a", "user.b", "trusted.c"][rng.usize(..3)];
        match rng.u8(0..10) {
            0..=2 => {
                let len = [0, 30, 1000, 1025, 5000, 9000][rng.usize(..6)];
                let value = bytes(rng, len);
                w.set_xattr(name, attribute, &value);
            }
            3 if w.inode(name).is_some_and(|i| i.xattrs.contains_key(attribute.as_bytes())) => {
                w.remove_xattr(name, attribute);
            }
            4 => w.chmod(name, rng.u32(0..0o1000)),
            5 => w.chown(name, rng.u32(0..3), rng.u32(0..3)),
            6 => w.touch(name, i64::from(rng.i32(..))),
            7 => {
                let link = format!("d/l{}", rng.u8(0..6));
                if w.has(&link) { w.unlink(&link) } else { w.link(["f", "d/g"][round % 2], &link) }
            }
            8 => {
                let link = format!("s{}", rng.u8(0..4));
                match w.has(&link) {
                    true => w.unlink(&link),
                    false if rng.bool() => w.mkfifo(&link),
                    false => w.symlink(&link, &"../x".repeat(rng.usize(1..300))),
                }
            }
            _ => w.fsync("f", SyncScope::All),
        }
        if rng.u8(0..4) == 0 {
            w.fsync_dir("d");
        }
    }
}

/// A store with so little space that writes are refused and space has to be won back.
fn nearly_full(w: &mut World, rng: &mut Rng, calls: u64) {
    if w.excuse == Excuse::Nothing {
        w.excuse = Excuse::Full;
    }
    w.create("ballast");
    let mut ballast = 0;
    // What is kept for the worst case of the request itself cannot be had.
    for _ in 0..64 {
        let len = (w.available() / 2).max(1 << 18) / 4096 * 4096;
        w.fallocate("ballast", ballast, len, AllocateMode::Extend);
        ballast += len;
    }
    for round in 0_usize.. {
        if w.is_done(calls) {
            return;
        }
        let name = format!("f{}", rng.u8(0..6));
        let room = w.available();
        match rng.u8(0..8) {
            0 if w.has(&name) => w.unlink(&name),
            1 if w.has(&name) => w.truncate(&name, 0),
            2 if w.snapshots().len() < 2 => w.snap(&format!("s{round}")),
            3 => {
                let old = w.snapshots();
                old.iter().for_each(|s| w.unsnap(s));
            }
            4 => w.fsync_dir(""),
            _ if room > 300_000 => {
                let data = bytes(rng, 20_000);
                w.put(&name, &data);
            }
            _ => {
                w.commit();
                let small = format!("f{}", rng.u8(0..6));
                if w.has(&small) {
                    w.unlink(&small);
                }
            }
        }
    }
}

/// A little of everything, with commits in between as the timer makes them.
fn mixed(w: &mut World, rng: &mut Rng, calls: u64) {
    w.mkdir("d");
    while !w.is_done(calls) {
        match rng.u8(0..8) {
            0 => w.commit(),
            1 => w.fsync_dir(""),
            n => {
                let name = format!("d/m{}", n % 5);
                let len = size(rng).min(12_000);
                let data = bytes(rng, len);
                w.put(&name, &data);
                if rng.bool() {
                    w.rename(&name, &format!("d/m{}", rng.u8(0..5)), RenameMode::Replace);
                }
            }
        }
    }
}

/// A store that is closed and opened again and again.
fn reopened(w: &mut World, rng: &mut Rng, calls: u64) {
    for round in 0_usize.. {
        if w.is_done(calls) {
            return;
        }
        let name = format!("f{}", rng.u8(0..6));
        let len = size(rng);
        let data = bytes(rng, len);
        w.put(&name, &data);
        match rng.u8(0..6) {
            0 | 1 => w.reopen(),
            2 => {
                w.hold("held", &name);
                w.unlink(&name);
            }
            3 => w.fsync(&name, SyncScope::All),
            4 => w.snap(&format!("s{round}")),
            _ => {
                let old = w.snapshots();
                old.iter().for_each(|s| w.unsnap(s));
            }
        }
    }
}

/// One of the lines.
pub fn any_line(w: &World, rng: &mut Rng) -> LineKey {
    let lines = w.lines();
    lines[rng.usize(..lines.len())]
}

/// Keeps the line at hand, and has another begin there.
fn fork_as_it_is(w: &mut World, round: usize) {
    w.snap(&format!("p{round}"));
    w.fork(&format!("l{round}"), &format!("p{round}"));
}

/// Lines begin as a snapshot or as another line is, change, have snapshots of their own, and go with all of it, while
/// files of theirs are open.
fn lines(w: &mut World, rng: &mut Rng, calls: u64) {
    for round in 0_usize.. {
        if w.is_done(calls) {
            return;
        }
        w.turn_to(any_line(w, rng));
        for _ in 0..rng.usize(0..3) {
            let name = format!("f{}", rng.u8(0..4));
            let len = size(rng).min(12_000);
            let data = bytes(rng, len);
            w.put(&name, &data);
        }
        let all = w.snapshots();
        let one = (!all.is_empty()).then(|| all[rng.usize(..all.len())].clone());
        let (room, other) = (w.lines().len() < 5, any_line(w, rng));
        match (rng.u8(0..12), one) {
            (0 | 1, _) if room => fork_as_it_is(w, round),
            (2, Some(old)) if room => w.fork(&format!("l{round}"), &old),
            (3, _) => w.drop_line(other),
            (4, _) if other != MAIN => w.rename_line(other, &format!("r{round}")),
            (5 | 6, _) => w.snap(&format!("s{round}")),
            (7 | 8, Some(old)) => w.unsnap(&old),
            (9, _) => {
                let (tag, name) = (format!("h{}", rng.u8(0..3)), format!("f{}", rng.u8(0..4)));
                w.let_go(&tag);
                if w.has(&name) {
                    w.hold(&tag, &name);
                    w.unlink(&name);
                    w.write_held(&tag, 5000, b"held");
                }
            }
            (10, _) => w.commit(),
            _ => w.fsync_dir(""),
        }
        // It is not reopened under fire: a device that fails then leaves no line to turn to.
        if w.excuse == Excuse::Nothing && rng.u8(0..25) == 0 {
            w.reopen();
        }
    }
}

/// The same file is written in one line after the other, and rarely made durable: no line may have more of it after a
/// crash than one that was written before.
fn lines_in_turn(w: &mut World, rng: &mut Rng, calls: u64) {
    w.put("count", b"0");
    for round in 0..3 {
        fork_as_it_is(w, round);
    }
    for round in 0_usize.. {
        if w.is_done(calls) {
            return;
        }
        for line in w.lines() {
            w.turn_to(line);
            let filler = [0, 0, 3000, 9000, 70_000][rng.usize(..5)];
            let data = [round.to_string().into_bytes(), bytes(rng, filler)].concat();
            match rng.u8(0..3) {
                0 => w.put("count", &data),
                1 => w.append("count", &data[..data.len().min(5000)], false),
                _ => {
                    w.put("new", &data);
                    w.rename("new", "count", RenameMode::Replace);
                }
            }
        }
        w.turn_to(any_line(w, rng));
        match rng.u8(0..8) {
            0 => w.fsync("count", SyncScope::All),
            1 => w.commit(),
            2 if w.snapshots().len() < 3 => w.snap(&format!("s{round}")),
            3 => {
                let old = w.snapshots();
                old.iter().filter(|name| name.starts_with('s')).for_each(|name| w.unsnap(name));
            }
            _ => {}
        }
    }
}

/// Large files of lines that begin with the same content are cut, overwritten, and copied from one line to another.
fn copies_between_lines(w: &mut World, rng: &mut Rng, calls: u64) {
    let names = ["big", "sparse"];
    let data = bytes(rng, 100_000);
    w.put("big", &data);
    w.create("sparse");
    fork_as_it_is(w, 0);
    fork_as_it_is(w, 1);
    for round in 2_usize.. {
        if w.is_done(calls) {
            return;
        }
        w.turn_to(any_line(w, rng));
        let name = names[rng.usize(..2)];
        let at = [rng.u64(0..120_000), rng.u64(0..30) * 4096][rng.usize(..2)];
        let len = [rng.u64(1..30_000), rng.u64(1..8) * 4096][rng.usize(..2)];
        match rng.u8(0..10) {
            0 => w.fallocate(name, at, len, AllocateMode::PunchHole),
            1 => w.fallocate(name, at, len, AllocateMode::Extend),
            2 => w.truncate(name, at),
            3..=5 => {
                let other = any_line(w, rng);
                let to = names[rng.usize(..2)];
                if other != w.model.at() {
                    w.copy_from(other, (name, at), (to, rng.u64(0..30) * 4096), len);
                }
            }
            6 if w.lines().len() < 5 => fork_as_it_is(w, round),
            7 => w.drop_line(any_line(w, rng)),
            _ => {
                let data = bytes(rng, len as usize);
                w.write(name, at, &data);
            }
        }
        match rng.u8(0..6) {
            0 => w.fsync_dir(""),
            1 => {
                let old = w.snapshots();
                old.iter().for_each(|s| w.unsnap(s));
            }
            _ => {}
        }
    }
}
