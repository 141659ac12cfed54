//! The bodies of the fuzz targets under seeded mutations of valid encodings: no panic, and what decodes is as it must
//! be. `SNAPFS_SEED` is the seed, `SNAPFS_FUZZ_ROUNDS` the number of inputs for each target.

#[path = "../../fuzz/src/targets.rs"]
mod targets;

use snapfs::format::age::AgeRecord;
use snapfs::format::deadlist::{self, DeadEntry};
use snapfs::format::dirent::NameBucket;
use snapfs::format::hold::HoldRecord;
use snapfs::format::hydration::{CopyHold, HydrationRecord, HydrationState};
use snapfs::format::inode::Inode;
use snapfs::format::job::Job;
use snapfs::format::leaf::LeafPage;
use snapfs::format::line::{LineRecord, LineState};
use snapfs::format::link::Links;
use snapfs::format::log::{Effect, Effects, HEADER_BYTES, RecordHeader};
use snapfs::format::provenance::Reason;
use snapfs::format::purge::{GoneRecord, HeldRecord, LeafRecord, PurgeRest};
use snapfs::format::schedule::{Class, Period, Schedule, Share, Unit};
use snapfs::format::scrub::{Cursor, Finding, ScrubRecord, ScrubState, Stage};
use snapfs::format::space_map::{self, SpaceChange};
use snapfs::format::superblock::{PendingPoint, Superblock};
use snapfs::format::terms::{Expiry, Terms};
use snapfs::format::trash::{TrashRecord, Trashed};
use snapfs::format::view::{Consistency, Role, ViewRecord};
use snapfs::format::xattr::{XattrValue, Xattrs};
use snapfs::format::{
    BlockAddr, BlockPtr, Compression, CompressionProperty, Copies, Epoch, Generation, Identity, Ino, Key,
    Kind, LineId, Slot, ViewId, inner,
};
use snapfs::ops::{FileType, Timestamp};
use snapfs::store::Codec;

const ROUNDS: u64 = 20_000;

fn ptr(n: u64) -> BlockPtr {
    BlockPtr {
        addr: BlockAddr(n * 16384),
        copy: BlockAddr((n % 2) << 40),
        birth: Epoch(n),
        checksum: n * n,
        len: 16384,
    }
}

fn counted(count: usize, block: &[u8]) -> Vec<u8> {
    [&(count as u16).to_le_bytes(), block].concat()
}

fn superblock() -> Vec<Vec<u8>> {
    let point = |n: u64| PendingPoint {
        provenance: Reason::Merge.into(),
        id: ViewId(n),
        line: LineId::MAIN,
        slot: Slot(n as u32),
        generation: Generation(n as u32),
        epoch: Epoch(n),
        created: (5, 7),
        pause_ns: 1,
        consistency: Consistency::FileSystem,
        name: vec![b'n'; n as usize],
        identity: (n > 1).then_some(Identity([7; 16])),
    };
    let sb = Superblock {
        uuid: [7; 16],
        identity: [7; 16],
        seq: 12,
        epoch: Epoch(4),
        time: (1, 2),
        size: 1 << 30,
        meta_root: ptr(3),
        space_map: Some(ptr(4)),
        allocated: 77,
        next_view: ViewId(9),
        next_line: LineId(4),
        next_generation: Generation(300),
        next_ino: Ino(16),
        next_id: 5,
        metadata_copies: Copies::Two,
        incompat: 1,
        log_bytes: 1 << 20,
        log_start: 8192,
        log_generation: 3,
        log_begins: true,
        pending: vec![point(1), point(200)],
    };
    vec![sb.encode()]
}

fn leaf() -> Vec<Vec<u8>> {
    let mut page = LeafPage::new();
    for n in 1..60 {
        page.insert(page.count(), &Key::new(n, Kind::Inode, 0), &vec![n as u8; (n * 7) as usize]);
    }
    vec![counted(page.count(), page.bytes())]
}

fn inner_node() -> Vec<Vec<u8>> {
    let key = |n: u64| if n == 1 { Key::MIN } else { Key::new(n, Kind::Inode, 0) };
    vec![counted(90, &inner::encode((1..=90).map(|n| (key(n), ptr(n)))))]
}

fn space_map_block() -> Vec<Vec<u8>> {
    let change = |n: u64| match n % 2 {
        0 => SpaceChange::Allocated(n * 4096, 8192),
        _ => SpaceChange::Freed(n * 4096, 4096),
    };
    let changes: Vec<_> = (1..300).map(change).collect();
    vec![counted(changes.len(), &space_map::encode(Some(ptr(9)), &changes))]
}

fn items() -> Vec<Vec<u8>> {
    let time = Timestamp { secs: -5, nanos: 999_999_999 };
    let inode = Inode {
        kind: FileType::Regular,
        mode: 0o6755,
        nlink: 2,
        uid: 1,
        gid: 2,
        rdev: 0,
        has_inline: true,
        has_xattr: true,
        size: 1 << 40,
        blocks: 8,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        parent: Ino(0),
        generation: 3,
        compression: Some(CompressionProperty { value: Compression::Zstd(9), inherited: true }),
        layout: None,
        flags: snapfs::ops::FileFlags::default(),
    };
    let (mut bucket, mut links, mut xattrs) = (NameBucket::default(), Links::default(), Xattrs::default());
    for n in 0..5_u8 {
        let name = vec![b'a' + n; usize::from(n) * 9 + 1];
        assert!(bucket.add(&name, Ino(20), FileType::Socket) && links.add(Ino(17), &name));
        let long = XattrValue::Long { number: u64::from(n), len: 3000 };
        assert!(xattrs.add(&name, if n % 2 == 1 { long } else { XattrValue::Short(vec![n; 9]) }));
    }
    let mut extent = vec![0; 32];
    extent[2] = 1;
    extent[8] = 3;
    (extent[17], extent[21]) = (0x40, 0x40);
    let written = [extent.as_slice(), &[9; 16]].concat();
    extent[24] = 1;
    assert!(
        snapfs::format::Extent::decode(&extent).is_ok() && snapfs::format::Extent::decode(&written).is_ok()
    );
    // Blocks 2 to 5 of a frame of 16 that is stored in two.
    let mut piece = [extent.as_slice(), &[7; 8]].concat();
    (piece[21], piece[24], piece[25], piece[26], piece[28], piece[29]) = (0x20, 0, 1, 99, 16, 2);
    assert!(snapfs::format::Extent::decode(&piece).is_ok());
    vec![inode.encode().to_vec(), bucket.encode(), links.encode(), xattrs.encode(), extent, written, piece]
}

fn frame() -> Vec<Vec<u8>> {
    let content: Vec<u8> =
        (0..65536_u32).map(|i| if i % 5 == 0 { ((i * i) >> 7) as u8 } else { 3 }).collect();
    let short = |bytes: &[u8]| {
        let mut packed = vec![(bytes.len() / 4096 - 1) as u8];
        Codec::default().pack(3, bytes, &mut packed).expect("it pays");
        let end = packed.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
        packed.truncate(end);
        packed
    };
    vec![short(&content), short(&[7; 8192])]
}

fn dead_list() -> Vec<Vec<u8>> {
    let entry = |n: u64| DeadEntry { addr: n * 8192, len: 4096, birth: Epoch(n) };
    let bucket = deadlist::Bucket { bytes: 1 << 20, count: 9, oid: 5, chunks: 2 };
    vec![deadlist::encode_chunk(&(1..40).map(entry).collect::<Vec<_>>()), bucket.encode()]
}

fn schedule() -> Schedule {
    Schedule {
        name: "frequent".into(),
        every: Period { count: 15, unit: Unit::Minute },
        keep: vec![Class { count: 24, unit: Unit::Hour }, Class { count: 2, unit: Unit::Year }],
        budget: Some(Share::Percent(20)),
        free: Some(Share::Bytes(1 << 30)),
        always: true,
        by_hand: false,
    }
}

fn records() -> Vec<Vec<u8>> {
    let view = ViewRecord {
        provenance: Reason::Merge.into(),
        id: ViewId(3),
        role: Role::Snapshot,
        line: LineId::MAIN,
        slot: Slot(7),
        generation: Generation(8),
        name: b"a snapshot".to_vec(),
        epoch: Epoch(9),
        prev: Some(ViewId(2)),
        list: 4,
        referenced: 1 << 30,
        written: 1 << 20,
        exclusive: 4096,
        created: (1, 2),
        pause_ns: 3,
        consistency: Consistency::Application,
        identity: Some(Identity([7; 16])),
        digest: Some(1 << 99),
        edited: Some(1 << 30),
        root: Some(ptr(5)),
    };
    let line = LineRecord {
        provenance: Reason::Merge.into(),
        id: LineId(2),
        name: b"a clone".to_vec(),
        head: ViewId(4),
        slot: Slot(8),
        generation: Generation(9),
        head_generation: Generation(10),
        origin: Some(ViewId(3)),
        base: Some(ViewId(3)),
        from: Some(LineId::MAIN),
        terms: Terms { expiry: Some(Expiry { after: 60, at: 70 }), ..Terms::default() },
        state: LineState::Received,
        schedules: vec![schedule()],
        created: (1, 2),
    };
    let tree = Job::FreeTree { root: ptr(8), newer_than: Epoch(2), cursor: Key::new(5, Kind::Extent, 6) };
    let cursor =
        Cursor { stage: Stage::Heads, number: 3, newer_than: Epoch(2), key: Key::new(5, Kind::Extent, 6) };
    let scrub = ScrubRecord {
        state: ScrubState::Paused,
        cursor,
        until: Epoch(9),
        limit: 1 << 20,
        done_bytes: 5,
        total_bytes: 6,
        healed: 7,
        bad: 8,
        started_secs: 9,
        ended_secs: 10,
    };
    let finding = Finding {
        addr: 1 << 30,
        len: 4096,
        files_total: 1,
        views_total: 2,
        what: "content".into(),
        files: vec!["/a/b".into()],
        views: vec!["one".into(), "two".into()],
    };
    let jobs = [Job::FreeList(7).encode(), Job::DropList(8).encode(), tree.encode()];
    let all = vec![
        view.encode(),
        line.encode(),
        scrub.encode(),
        finding.encode(),
        hydration().encode(),
        hold().encode(),
        trash().encode(),
    ];
    let purged = [
        HeldRecord { len: 8192, wiped: true }.encode(),
        GoneRecord { len: 8192, until: Epoch(7), refs: 2 }.encode(),
        LeafRecord { copy: BlockAddr(1 << 30), birth: Epoch(7), checksum: 1 << 60, in_pieces: true }.encode(),
    ];
    let rest = PurgeRest { path: b"a/b".to_vec(), views: vec![ViewId(3)], all: true };
    let rest = rest.items().into_iter().map(|(_, piece)| piece).collect();
    [all, jobs.to_vec(), purged.to_vec(), rest].concat()
}

fn hydration() -> HydrationRecord {
    HydrationRecord {
        number: 3,
        view: ViewId(5),
        store: [7; 16],
        path: b"/copy".to_vec(),
        state: HydrationState::Paused,
        rate: 1 << 20,
        begun_secs: 4,
        ended_secs: 0,
        done_bytes: 1,
        about_bytes: 2,
        trouble: b"away".to_vec(),
        user: Some(7),
        hold: CopyHold::Until(9),
    }
}

fn trash() -> TrashRecord {
    TrashRecord {
        number: 3,
        what: Trashed::Snapshot(ViewId(5), LineId(6)),
        name: b"monday".to_vec(),
        since_secs: 4,
        ends: 9,
        next_view: ViewId(8),
        by: Reason::Merge.into(),
    }
}

fn hold() -> HoldRecord {
    HoldRecord {
        number: 3,
        view: ViewId(5),
        tag: "legal".into(),
        since_secs: 4,
        ends: Some(9),
        by: Reason::Merge.into(),
    }
}

fn log_record() -> Vec<Vec<u8>> {
    let mut effects = Effects::default();
    effects.push(&Effect::SetHydration(hydration()));
    effects.push(&Effect::EndHydration(4));
    effects.push(&Effect::SetHold(hold()));
    effects.push(&Effect::EndHold(4));
    effects.push(&Effect::Trash(trash()));
    effects.push(&Effect::Undelete(4, b"back"));
    effects.push(&Effect::EmptyTrash(4));
    effects.push(&Effect::SetAge(AgeRecord { secs: 7, at: 8 }));
    let key = Key::new(17, Kind::Dirent, 99);
    effects.push(&Effect::Insert(key, b"value"));
    effects.push(&Effect::Publish(4096, 8192));
    effects.push(&Effect::Note(b"note"));
    effects.push(&Effect::Rename(ViewId(5), b"tuesday"));
    effects.push(&Effect::SetSchedules(LineId(6), vec![schedule()]));
    effects.push(&Effect::DropLine(LineId(6)));
    effects.push(&Effect::Free(8192, 4096, Epoch(3)));
    let len = (HEADER_BYTES + effects.bytes().len()) as u32;
    let header = RecordHeader {
        len,
        generation: 3,
        lsn: 4096,
        prev_end: 4000,
        durable: 4096,
        epoch: Epoch(7),
        line: LineId::MAIN,
    };
    let mut record = Vec::new();
    header.seal(effects.bytes(), &mut record);
    record.truncate(len as usize);
    vec![effects.bytes().to_vec(), record]
}

fn request() -> Vec<Vec<u8>> {
    let lines = [
        r#"{"version":1,"verb":"create","args":{"name":"a","list":[1,2.5e3,null,true,"\u00e4"]}}"#,
        r#"{"version":2,"verb":"status"}"#,
        r#"{"version":1,"verb":"check","args":[[[[[[[[]]]]]]]]}"#,
    ];
    lines.iter().map(|l| l.as_bytes().to_vec()).collect()
}

fn mount_options() -> Vec<Vec<u8>> {
    let lists = [
        "ro,allow_other,cache=writeback,snapdir=visible,commit=30,threads=8,fsname=/a\\,b\\\\c",
        "defaults,x-systemd.automount,cache_size=64,dirty_size=16,subtype=snapfs,comment=hello",
    ];
    lists.iter().map(|l| l.as_bytes().to_vec()).collect()
}

fn samples(name: &str) -> Vec<Vec<u8>> {
    match name {
        "superblock" => superblock(),
        "leaf" => leaf(),
        "inner" => inner_node(),
        "space_map" => space_map_block(),
        "items" => items(),
        "deadlist" => dead_list(),
        "records" => records(),
        "log" => log_record(),
        "image" => vec![vec![0; 13 * 3]],
        "request" => request(),
        "mount_options" => mount_options(),
        "frame" => frame(),
        "stream" => vec![targets::stream::sample()],
        "stream_on_base" => vec![targets::stream::sample_on_base()],
        other => panic!("no sample for the target {other}"),
    }
}

/// Changes a few bytes, words or lengths.
fn mutate(bytes: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    for _ in 0..rng.usize(1..6) {
        let len = bytes.len();
        match rng.u8(0..12) {
            _ if len < 9 => bytes.push(rng.u8(..)),
            0 => bytes.truncate(rng.usize(0..len)),
            1 => bytes.extend_from_within(rng.usize(0..len)..),
            2 => {
                let (from, to) = (rng.usize(0..len), rng.usize(0..len));
                bytes.swap(from, to);
            }
            // The front, where counts and lengths are, is hit as often as all the rest.
            n => {
                let at = if n % 2 == 0 { rng.usize(0..len.min(140) - 7) } else { rng.usize(0..len - 7) };
                let odd = [0, u64::MAX, 1 << 63, 4096, u64::from(u32::MAX), rng.u64(..)][rng.usize(0..6)];
                let width = [1, 1, 1, 2, 4, 8][rng.usize(0..6)];
                bytes[at..at + width].copy_from_slice(&odd.to_le_bytes()[..width]);
                if n > 8 {
                    bytes[at] = rng.u8(..);
                }
            }
        }
    }
    bytes.truncate(64 << 10);
}

/// The seed corpus in `fuzz/seeds` is made of the samples: `SNAPFS_SEEDS=1` writes it anew.
#[test]
fn seeds_are_the_samples() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, body) in targets::TARGETS {
        for (n, sample) in samples(name).iter().enumerate() {
            let path = root.join(name).join(n.to_string());
            if std::env::var_os("SNAPFS_SEEDS").is_some() {
                std::fs::create_dir_all(root.join(name)).expect("mkdir");
                std::fs::write(&path, sample).expect("write");
            }
            let seed = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert!(seed == *sample, "{} is old: SNAPFS_SEEDS=1 writes it anew", path.display());
            body(&seed);
        }
    }
}

#[test]
fn every_target_takes_mutated_bytes() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |v| v.parse().expect(name));
    let (seed, rounds) = (number("SNAPFS_SEED", 1), number("SNAPFS_FUZZ_ROUNDS", ROUNDS));
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    for (name, body) in targets::TARGETS {
        let samples = samples(name);
        samples.iter().for_each(|s| body(s));
        // A whole store takes as long as hundreds of records.
        let rounds = if ["image", "stream", "stream_on_base"].contains(&name) { rounds / 10 } else { rounds };
        // Each thread draws all inputs, so that they are the same on every machine, and takes its share of them.
        let take = |share: u64| {
            let mut rng = fastrand::Rng::with_seed(seed);
            for round in 0..rounds {
                let mut bytes = samples[rng.usize(..samples.len())].clone();
                mutate(&mut bytes, &mut rng);
                if round % threads != share {
                    continue;
                }
                if let Err(panic) = std::panic::catch_unwind(|| body(&bytes)) {
                    let start = &bytes[..bytes.len().min(200)];
                    println!("target {name}, seed {seed}, round {round}: {start:x?}");
                    std::panic::resume_unwind(panic);
                }
            }
        };
        std::thread::scope(|scope| (0..threads).for_each(|share| drop(scope.spawn(move || take(share)))));
    }
}
