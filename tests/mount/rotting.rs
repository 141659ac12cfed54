//! One side of a mirror rots while programs work: none of them sees an error or wrong content, and a scrub heals all that was hit.

use super::{attach, is_same, status, with_image};
use crate::guard::can_mount;
use crate::place::{Place, said};
use crate::raw;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const BLOCK: usize = 4096;
/// Where content and nodes begin: superblocks, labels and the log are before that.
const BEGIN: u64 = 64 << 20;
/// Addresses that a segment file of a directory has.
const SEGMENT: u64 = 1 << 30;
/// Files that nobody changes, and the bytes of each.
const FILES: u64 = 12;
const FILE_BYTES: usize = 4 << 20;
/// Blocks of a file that is written over.
const TABLE_BLOCKS: usize = 512;
/// Rounds in which blocks are destroyed.
const WAVES: usize = 8;

fn random(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// Past the pages that the kernel has: from the daemon, each time.
fn open_direct(path: PathBuf) -> File {
    File::options().read(true).custom_flags(libc::O_DIRECT).open(path).expect("open")
}

fn read_direct(file: &File, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at).expect("no error reaches a reader");
    bytes
}

fn installed(program: &str) -> bool {
    let there = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let there = there.is_ok_and(|found| found.status.success());
    if !there {
        eprintln!("SKIPPED in part: {program} is not installed");
    }
    there
}

fn ok(command: &mut Command) -> String {
    let done = said(command);
    assert_eq!(done.code, 0, "{command:?}: {done:?}");
    done.out
}

fn git(p: &Place, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(p.path("repository"));
    for setting in ["user.name=n", "user.email=n@localhost", "core.fsync=all", "gc.auto=0"] {
        command.args(["-c", setting]);
    }
    ok(command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").args(args))
}

fn sqlite(p: &Place, sql: &str) -> String {
    ok(Command::new("sqlite3").arg("-bail").arg(p.path("rows.db")).arg(sql))
}

/// Who uses the store, and how far each has come.
struct Programs<'a> {
    p: &'a Place,
    content: Vec<Vec<u8>>,
    has_git: bool,
    has_sqlite: bool,
    /// What is in the file that is written over, and lines of the one that grows.
    table: Vec<u8>,
    lines: u64,
    commits: u64,
    rows: u64,
}

impl<'a> Programs<'a> {
    fn new(p: &'a Place) -> Programs<'a> {
        let content: Vec<_> = (0..FILES).map(|n| random(FILE_BYTES, 100 + n)).collect();
        for (n, bytes) in content.iter().enumerate() {
            fs::write(p.path(&format!("file{n}")), bytes).expect("write");
        }
        let table = random(TABLE_BLOCKS * BLOCK, 1);
        fs::write(p.path("table"), &table).expect("write");
        let (has_git, has_sqlite) = (installed("git"), installed("sqlite3"));
        if has_git {
            fs::create_dir(p.path("repository")).expect("mkdir");
            git(p, &["init", "-q", "-b", "main"]);
        }
        if has_sqlite {
            sqlite(p, "CREATE TABLE t(i INTEGER PRIMARY KEY, s TEXT); CREATE INDEX by_s ON t(s);");
        }
        Programs { p, content, has_git, has_sqlite, table, lines: 0, commits: 0, rows: 0 }
    }

    /// All of them work until `work` is done, which may tell that it has failed.
    fn while_they_work(&mut self, seed: u64, work: impl FnOnce()) {
        let ended = AtomicBool::new(false);
        let goes_on = || !ended.load(Ordering::SeqCst);
        let Programs { p, has_git, has_sqlite, .. } = *self;
        let Programs { content, table, lines, commits, rows, .. } = self;
        let read = |seed: u64| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let files: Vec<_> = (0..FILES).map(|n| open_direct(p.path(&format!("file{n}")))).collect();
            while goes_on() {
                let (n, len) = (rng.usize(..files.len()), BLOCK << rng.u32(0..6));
                let at = rng.usize(..FILE_BYTES / len) * len;
                let read = read_direct(&files[n], at as u64, len);
                assert!(read == content[n][at..at + len], "file{n} at {at} is not what it was");
            }
        };
        std::thread::scope(|s| {
            // Several, so that both sides are read.
            let read = &read;
            (1..=3).for_each(|n| drop(s.spawn(move || read(seed + n))));
            s.spawn(|| {
                let mut rng = fastrand::Rng::with_seed(seed);
                let open = |name: &str| {
                    let mut how = File::options();
                    how.append(name == "lines").write(true).create(true).truncate(false).open(p.path(name))
                };
                let (mut log, file) = (open("lines").expect("open"), open("table").expect("open"));
                while goes_on() {
                    *lines += 1;
                    writeln!(log, "{lines:09}")
                        .and_then(|()| log.sync_data())
                        .expect("no error reaches a writer");
                    let at = rng.usize(..TABLE_BLOCKS) * BLOCK;
                    rng.fill(&mut table[at..at + BLOCK]);
                    let written = file.write_all_at(&table[at..at + BLOCK], at as u64);
                    written.and_then(|()| file.sync_all()).expect("no error reaches a writer");
                }
            });
            if has_git {
                s.spawn(|| {
                    while goes_on() {
                        *commits += 1;
                        let file = p.path("repository").join(format!("f{}", *commits % 17));
                        fs::write(file, random(20_000, *commits)).expect("write");
                        git(p, &["add", "-A"]);
                        git(p, &["commit", "-q", "-m", "more"]);
                        if *commits % 8 == 0 {
                            git(p, &["fsck", "--full", "--strict"]);
                        }
                    }
                });
            }
            if has_sqlite {
                s.spawn(|| {
                    while goes_on() {
                        *rows += 1;
                        let told = sqlite(
                            p,
                            &format!(
                                "INSERT INTO t VALUES({rows}, hex(randomblob(3000))); SELECT count(*) FROM t;"
                            ),
                        );
                        assert_eq!(told.trim(), rows.to_string());
                    }
                });
            }
            work();
            ended.store(true, Ordering::SeqCst);
        });
    }

    /// All that they have made is there, read from the daemon.
    fn are_right(&self) {
        let p = self.p;
        for (n, bytes) in self.content.iter().enumerate() {
            assert!(
                read_direct(&open_direct(p.path(&format!("file{n}"))), 0, FILE_BYTES) == *bytes,
                "file{n}"
            );
        }
        assert!(read_direct(&open_direct(p.path("table")), 0, self.table.len()) == self.table, "the table");
        let lines = read_direct(&open_direct(p.path("lines")), 0, self.lines as usize * 10);
        let expected: String = (1..=self.lines).map(|n| format!("{n:09}\n")).collect();
        assert!(lines == expected.as_bytes(), "the lines");
        if self.has_git {
            git(p, &["fsck", "--full", "--strict"]);
            assert_eq!(git(p, &["rev-list", "--count", "HEAD"]).trim(), self.commits.to_string());
        }
        if self.has_sqlite {
            assert_eq!(
                sqlite(p, "PRAGMA integrity_check; SELECT count(*) FROM t;"),
                format!("ok\n{}\n", self.rows)
            );
        }
    }
}

/// The files of one side.
struct Side(PathBuf);

impl Side {
    /// Each with the address at which it begins.
    fn files(&self) -> Vec<(u64, File)> {
        let open = |path| File::options().read(true).write(true).open(path).expect("open");
        if self.0.is_file() {
            return vec![(0, open(self.0.clone()))];
        }
        let names =
            fs::read_dir(self.0.join("seg")).expect("segments").map(|entry| entry.expect("entry").path());
        let number = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).expect("text");
            u64::from_str_radix(name, 16).expect("a number")
        };
        names.map(|path| (number(&path) * SEGMENT, open(path))).collect()
    }

    /// Every block that holds something, by its address.
    fn blocks(&self) -> Vec<u64> {
        let mut found = Vec::new();
        for (begin, file) in self.files() {
            let mut at = BEGIN.saturating_sub(begin);
            while let Ok(data) = raw::seek(&file, at, libc::SEEK_DATA) {
                at = raw::seek(&file, data, libc::SEEK_HOLE).expect("a hole, or the end");
                let mut bytes = vec![0; (at - data) as usize];
                file.read_exact_at(&mut bytes, data).expect("read");
                let full = bytes.chunks(BLOCK).enumerate().filter(|(_, block)| **block != [0; BLOCK]);
                found.extend(full.map(|(n, _)| begin + data + (n * BLOCK) as u64));
            }
        }
        found
    }

    fn at<T>(&self, addr: u64, work: impl FnOnce(&File, u64) -> T) -> T {
        let files = self.files();
        let (begin, file) =
            files.iter().filter(|(begin, _)| *begin <= addr).max_by_key(|(begin, _)| *begin).expect("a file");
        work(file, addr - begin)
    }

    fn read(&self, addr: u64) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        self.at(addr, |file, at| file.read_exact_at(&mut block, at)).expect("read");
        block
    }

    fn destroy(&self, addr: u64, seed: u64) {
        self.at(addr, |file, at| file.write_all_at(&random(BLOCK, seed), at)).expect("write");
    }
}

/// Ranges that were healed, as the log tells: the side, and address and length of each.
fn healed(log: &str) -> Vec<(u64, u64, u64)> {
    let numbers = |line: &str| {
        let rest = &line[line.find("healed ")? + 7..];
        let (len, rest) = rest.split_once(" bytes at 0x")?;
        let (addr, rest) = rest.split_once(" on side ")?;
        let side = rest.split(' ').next()?;
        Some((side.parse().ok()?, u64::from_str_radix(addr, 16).ok()?, len.parse().ok()?))
    };
    log.lines().filter_map(numbers).collect()
}

/// What is healed of these blocks, and by how many healings.
fn hit(healed: &[(u64, u64, u64)], blocks: &BTreeSet<u64>) -> BTreeSet<u64> {
    let in_range =
        |(_, addr, len): &(u64, u64, u64)| blocks.range(*addr..addr + len).copied().collect::<Vec<_>>();
    healed.iter().flat_map(in_range).collect()
}

/// Nothing is written any more, and what was freed is free.
fn settle(p: &Place) {
    ok(Command::new("sync").arg("-f").arg(p.at("mnt")));
    p.wait_freed();
}

fn differing(p: &Place) -> BTreeSet<u64> {
    let said = p.run(&["mirror", "verify", "mnt", "--json"]);
    let told: Value = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    let found: BTreeSet<u64> = told["differing"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|at| at.as_u64().expect("a number"))
        .collect();
    assert_eq!(said.code, if found.is_empty() { 0 } else { 3 }, "{said:?}");
    assert_eq!(told["tables_differing"], serde_json::json!([]), "nobody has touched these");
    found
}

/// One block in a hundred of a side is destroyed while the programs work, and a scrub comes after them.
fn rots(programs: &mut Programs<'_>, side: &Side, seed: u64) {
    let p = programs.p;
    let (known, log) = (p.number("blocks_healed"), p.log().len());
    let at_rest: HashSet<Vec<u8>> =
        programs.content.iter().flat_map(|bytes| bytes.chunks(BLOCK)).map(<[u8]>::to_vec).collect();
    // What was there, of blocks that nobody changes.
    let mut destroyed: BTreeMap<u64, Option<Vec<u8>>> = BTreeMap::new();
    let mut wanted = 0;
    programs.while_they_work(seed, || {
        let mut rng = fastrand::Rng::with_seed(seed);
        for wave in 1..=WAVES {
            std::thread::sleep(Duration::from_millis(100));
            let blocks = side.blocks();
            wanted = blocks.len().div_ceil(100);
            while destroyed.len() < wanted * wave / WAVES {
                let addr = blocks[rng.usize(..blocks.len())];
                destroyed.entry(addr).or_insert_with(|| {
                    let was = side.read(addr);
                    side.destroy(addr, rng.u64(..));
                    at_rest.contains(&was).then_some(was)
                });
            }
        }
        std::thread::sleep(Duration::from_secs(1));
    });
    let all: BTreeSet<u64> = destroyed.keys().copied().collect();
    let resting: BTreeSet<u64> =
        destroyed.iter().filter(|(_, was)| was.is_some()).map(|(addr, _)| *addr).collect();
    assert!(
        destroyed.len() >= wanted && wanted > 100 && resting.len() > wanted / 4,
        "{wanted}, {}",
        resting.len()
    );
    assert_eq!(status(p)["in_sync"], true, "it is no reason to lose a side");

    // Nobody uses it now, so all is counted once.
    settle(p);
    let before = p.number("blocks_healed");
    let (by_programs, log) = (healed(&p.log()[log..]), p.log().len());
    assert_eq!(before - known, by_programs.len() as u64, "what the programs met is counted");
    let bad = differing(p);
    assert!(bad.is_subset(&all), "nothing else is bad: {:x?}", bad.difference(&all));
    let told = p.run(&["scrub", "mnt", "--wait", "--json"]);
    let last: Value = serde_json::from_str(told.out.lines().last().expect("a line")).expect("JSON");
    assert!(told.code == 0 && last["state"] == "finished" && last["blocks_bad"] == 0, "{told:?}");
    assert_eq!(last["findings"], serde_json::json!([]), "{last}");
    let by_scrub = healed(&p.log()[log..]);
    let counted = last["blocks_healed"].as_u64().expect("a number");
    assert_eq!(counted, by_scrub.len() as u64, "each is told once: {by_scrub:x?}");
    assert_eq!(p.number("blocks_healed"), before + counted);
    assert_eq!(p.number("blocks_bad"), 0);
    let sides: BTreeSet<u64> = by_programs.iter().chain(&by_scrub).map(|(side, ..)| *side).collect();
    assert_eq!(sides.len(), 1, "one side was bad");

    // What the scrub has healed is what was bad, and with what was healed before it is all that was destroyed and is in use.
    assert!(by_scrub.iter().all(|one| !hit(&[*one], &all).is_empty()), "what was sound is left alone");
    let found = hit(&by_scrub, &bad);
    let left: Vec<_> = bad.difference(&found).collect();
    println!(
        "{} blocks destroyed, {} of these at rest; {} places healed by programs, {counted} by the scrub; {} blocks were bad before \
         it, and {} of these in nodes that were replaced",
        all.len(),
        resting.len(),
        by_programs.len(),
        bad.len(),
        left.len()
    );
    assert!(left.len() <= 16 && left.iter().all(|addr| !resting.contains(addr)), "not healed: {left:x?}");
    let met = hit(&[&by_programs[..], &by_scrub[..]].concat(), &resting);
    assert_eq!(met, resting, "every block that nobody changes was found");
    for (addr, was) in destroyed.iter().filter_map(|(addr, was)| Some((addr, was.as_ref()?))) {
        assert!(side.read(*addr) == *was, "{addr:x} is as it was");
    }
    assert!(!by_programs.is_empty() && counted > 0, "both have met some");
    is_same(p, "after the scrub");
    programs.are_right();
}

#[test]
fn one_block_in_a_hundred_of_either_side_is_destroyed_while_programs_work() {
    if !can_mount() {
        return;
    }
    let p = with_image();
    p.mount("commit=5");
    let mut programs = Programs::new(&p);
    attach(&p);
    for (n, side) in ["store", "two.img"].into_iter().enumerate() {
        rots(&mut programs, &Side(p.at(side)), 10 * n as u64 + 7);
    }
    p.umount();
    // Each side has everything, also without the other.
    p.check();
    assert_eq!(p.run(&["check", "two.img", "--data"]).code, 0);
    for (away, side) in [("two.img", "store"), ("store", "two.img")] {
        fs::rename(p.at(away), p.at("away")).expect("rename");
        assert_eq!(super::mount_of(&p, side, &["mirror=alone"]).code, 0);
        programs.are_right();
        p.umount();
        fs::rename(p.at("away"), p.at(away)).expect("rename");
    }
}
