//! The language of histories, and their random generation from a seed.
//!
//! An operation names its targets by numbers that the runner takes modulo what exists at that moment, so that every
//! list of operations, also one that the shrinker has cut, means something. Each seed draws its own weights (swarm
//! testing): some histories are all renames, some never sync, some live in snapshots.

use fastrand::Rng;
use snapfs::fs::MergeWay;
use snapfs::ops::{AllocateMode, FileType, RenameMode, SeekTarget, SyncScope, XattrMode};

/// A target, taken modulo what there is.
pub type Pick = u32;

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub enum Access {
    Read,
    Write,
    Append,
    Cut,
    Sync,
}

/// What is tried inside a snapshot and must be refused.
#[derive(Clone, Copy, Debug)]
pub enum Poke {
    OpenWrite,
    Chmod,
    Truncate,
    Mkdir,
    Create,
    Mknod,
    Symlink,
    Unlink,
    Rmdir,
    RenameInside,
    RenameIn,
    RenameOut,
    LinkInside,
    LinkOut,
    LinkIn,
    SetXattr,
    RemoveXattr,
}

/// What is tried on the directory of snapshots and must be refused.
#[derive(Clone, Copy, Debug)]
pub enum SnapdirPoke {
    Create,
    Mknod,
    Symlink,
    Unlink,
    Link,
    RenameIn,
    RenameOut,
    BadName,
    LongName,
    LookupMissing,
}

/// Lines that there are at once, but for a burst.
pub const LINES_MAX: usize = 6;
/// The same with one.
const BURST_MAX: usize = 40;
/// One history of so many has a burst.
const BURST_SHARE: u64 = 64;

/// The snapshot from which a line begins.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// One that any line shows.
    Any(Pick),
    /// One that the line at hand shows.
    Shown(Pick),
    /// The newest of these.
    Newest,
}

/// One step of a history.
#[derive(Clone, Debug)]
pub enum Op {
    Create {
        dir: Pick,
        name: Pick,
        mode: u32,
        access: Access,
        uid: u32,
    },
    Mkdir {
        dir: Pick,
        name: Pick,
        mode: u32,
        uid: u32,
    },
    Mknod {
        dir: Pick,
        name: Pick,
        kind: FileType,
        rdev: u32,
    },
    Symlink {
        dir: Pick,
        name: Pick,
        target_len: usize,
    },
    Link {
        node: Pick,
        dir: Pick,
        name: Pick,
    },
    Unlink {
        dir: Pick,
        name: Pick,
    },
    Rmdir {
        dir: Pick,
        name: Pick,
    },
    Rename {
        dir: Pick,
        name: Pick,
        to: Pick,
        to_name: Pick,
        mode: RenameMode,
    },
    Lookup {
        dir: Pick,
        name: Pick,
    },
    NotADirectory {
        node: Pick,
        how: Pick,
    },
    Readlink {
        node: Pick,
    },
    Open {
        file: Pick,
        access: Access,
    },
    Release {
        handle: Pick,
    },
    Write {
        file: Pick,
        offset: u64,
        len: usize,
        seed: u64,
        kill: bool,
    },
    WriteBeyond {
        file: Pick,
    },
    Read {
        file: Pick,
        offset: u64,
        len: usize,
    },
    Truncate {
        node: Pick,
        size: u64,
        by_handle: bool,
    },
    Fallocate {
        file: Pick,
        offset: u64,
        len: u64,
        mode: AllocateMode,
    },
    Seek {
        file: Pick,
        offset: u64,
        to: SeekTarget,
    },
    Copy {
        from: Pick,
        at: u64,
        to: Pick,
        to_at: u64,
        len: u64,
    },
    Chmod {
        node: Pick,
        mode: u32,
    },
    Chown {
        node: Pick,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    Times {
        node: Pick,
        secs: Option<i64>,
        nanos: u32,
    },
    SetXattr {
        node: Pick,
        name: Pick,
        len: usize,
        mode: XattrMode,
    },
    GetXattr {
        node: Pick,
        name: Pick,
    },
    RemoveXattr {
        node: Pick,
        name: Pick,
    },
    Forget {
        node: Pick,
    },
    Fsync {
        file: Pick,
        scope: SyncScope,
    },
    FsyncDir {
        dir: Pick,
    },
    Commit,
    Crash {
        seed: u64,
    },
    Reopen,
    Snap {
        name: Pick,
    },
    Unsnap {
        name: Pick,
    },
    RenameSnap {
        name: Pick,
        to: Pick,
    },
    RollBack {
        name: Pick,
    },
    Poke {
        snapshot: Pick,
        node: Pick,
        what: Poke,
    },
    PokeSnapdir {
        node: Pick,
        what: SnapdirPoke,
    },
    /// What follows is meant for this line.
    Turn {
        line: Pick,
    },
    Fork {
        from: Origin,
        name: Pick,
        lines_max: usize,
    },
    /// A line that begins as the line at hand is now.
    CloneLine {
        name: Pick,
    },
    /// The line at hand, while files are open in it.
    RollBackInUse {
        name: Pick,
        force: bool,
    },
    /// Takes back the last of these.
    Undo {
        force: bool,
    },
    /// All of the line at hand.
    Restore {
        from: Pick,
    },
    /// A clone becomes the line that it was made from, or another, and is no more.
    Promote {
        clone: Pick,
        onto: Pick,
        force: bool,
    },
    /// What a line has changed, into the one that it was made from, or the other way round.
    Merge {
        clone: Pick,
        way: MergeWay,
        /// Files of the line that gives are closed before.
        closed: bool,
    },
    /// Unless there are only so many.
    DropLine {
        line: Pick,
        but: usize,
    },
    RenameLine {
        line: Pick,
        name: Pick,
    },
    CopyAcross {
        line: Pick,
        from: Pick,
        at: u64,
        to: Pick,
        to_at: u64,
        len: u64,
    },
    PokeAcross {
        line: Pick,
        node: Pick,
        how: Pick,
    },
    /// Keeps a file of a snapshot open, whatever becomes of that.
    OpenPast {
        line: Pick,
        snapshot: Pick,
        node: Pick,
    },
    ReleasePast {
        handle: Pick,
    },
    CopyPast {
        handle: Pick,
        at: u64,
        to: Pick,
        to_at: u64,
        len: u64,
    },
    /// Whether what is deleted from now on gets into the trash.
    KeepTrash {
        on: bool,
    },
    Undelete {
        which: Pick,
        name: Pick,
    },
    /// For good.
    EmptyTrash {
        which: Pick,
    },
    /// The oldest, because space is needed.
    EmptySome,
    Hold {
        name: Pick,
        tag: Pick,
    },
    LetGo {
        name: Pick,
        tag: Pick,
    },
    PassTime {
        minutes: u64,
    },
    /// Tries to use what is in the trash.
    PokeTrash {
        which: Pick,
        how: Pick,
    },
    /// Whether a file is written over in place, or what is made in a directory.
    Layout {
        node: Pick,
        cow: bool,
    },
    /// Does about so many bytes of what brings content home, also of what was not committed before.
    BringHome {
        bytes: u64,
        committed: bool,
    },
    CheckLive,
    CheckAll,
}

/// Average weight, and how to draw one.
type Kind = (u32, fn(&mut Rng) -> Op);

/// Kinds of operations with the weight that each has on average.
const KINDS: &[Kind] = &[
    (12, create),
    (6, |r| Op::Mkdir { dir: r.u32(..), name: r.u32(..), mode: r.u32(..) & 0o1777, uid: uid(r) }),
    (2, |r| Op::Mknod { dir: r.u32(..), name: r.u32(..), kind: special(r), rdev: r.u32(..) & 0x000f_ffff }),
    (3, |r| Op::Symlink { dir: r.u32(..), name: r.u32(..), target_len: symlink_len(r) }),
    (4, |r| Op::Link { node: r.u32(..), dir: r.u32(..), name: r.u32(..) }),
    (6, |r| Op::Unlink { dir: r.u32(..), name: r.u32(..) }),
    (3, |r| Op::Rmdir { dir: r.u32(..), name: r.u32(..) }),
    (7, rename),
    (2, |r| Op::Lookup { dir: r.u32(..), name: r.u32(..) }),
    (1, |r| Op::NotADirectory { node: r.u32(..), how: r.u32(..) }),
    (1, |r| Op::Readlink { node: r.u32(..) }),
    (4, |r| Op::Open { file: r.u32(..), access: access(r) }),
    (4, |r| Op::Release { handle: r.u32(..) }),
    (22, write),
    (1, |r| Op::WriteBeyond { file: r.u32(..) }),
    (3, |r| Op::Read { file: r.u32(..), offset: offset(r), len: len(r) }),
    (6, |r| Op::Truncate { node: r.u32(..), size: offset(r) + r.u64(0..5000), by_handle: r.bool() }),
    (6, |r| Op::Fallocate { file: r.u32(..), offset: offset(r), len: len(r) as u64 - 1, mode: allocate(r) }),
    (3, |r| Op::Seek { file: r.u32(..), offset: offset(r), to: seek(r) }),
    (6, |r| Op::Copy {
        from: r.u32(..),
        at: offset(r),
        to: r.u32(..),
        to_at: offset(r),
        len: 2 * len(r) as u64,
    }),
    (3, |r| Op::Chmod { node: r.u32(..), mode: file_mode(r) | choose(r, &[0, 0, 0o1000, 0o2010]) }),
    (2, |r| Op::Chown { node: r.u32(..), uid: r.bool().then(|| uid(r)), gid: Some(r.u32(0..4)) }),
    (2, |r| Op::Times { node: r.u32(..), secs: time(r), nanos: r.u32(0..1_000_000_000) }),
    (5, set_xattr),
    (1, |r| Op::GetXattr { node: r.u32(..), name: r.u32(..) }),
    (2, |r| Op::RemoveXattr { node: r.u32(..), name: r.u32(..) }),
    (1, |r| Op::Forget { node: r.u32(..) }),
    (4, |r| Op::Fsync { file: r.u32(..), scope: if r.bool() { SyncScope::All } else { SyncScope::Data } }),
    (2, |r| Op::FsyncDir { dir: r.u32(..) }),
    (3, |_| Op::Commit),
    (7, |r| Op::Snap { name: r.u32(..) }),
    (4, |r| Op::Unsnap { name: r.u32(..) }),
    (1, |r| Op::RenameSnap { name: r.u32(..), to: r.u32(..) }),
    (3, |r| Op::Poke { snapshot: r.u32(..), node: r.u32(..), what: *choose(r, POKES) }),
    (1, |r| Op::PokeSnapdir { node: r.u32(..), what: *choose(r, SNAPDIR_POKES) }),
    (1, |_| Op::CheckLive),
    (1, |_| Op::CheckAll),
];

/// Kinds that only a history has: a workload for crash points is not interrupted by other means, and a rollback that
/// loses power between its guard snapshot and its end leaves a state that the model has no name for.
const INTERRUPTIONS: &[Kind] =
    &[(3, |r| Op::Crash { seed: r.u64(..) }), (2, |_| Op::Reopen), (1, |r| Op::RollBack { name: r.u32(..) })];

/// Kinds that need lines.
const ACROSS: &[Kind] = &[
    (22, |r| Op::Turn { line: r.u32(..) }),
    (6, |r| Op::Fork { from: Origin::Any(r.u32(..)), name: r.u32(..), lines_max: LINES_MAX }),
    (6, |r| Op::Fork { from: Origin::Shown(r.u32(..)), name: r.u32(..), lines_max: LINES_MAX }),
    (6, |r| Op::CloneLine { name: r.u32(..) }),
    (5, |r| Op::RollBackInUse { name: r.u32(..), force: r.u8(0..4) > 0 }),
    (4, |r| Op::Undo { force: r.u8(0..4) > 0 }),
    (10, merge),
    (3, |r| Op::Promote { clone: r.u32(..), onto: r.u32(..), force: r.u8(0..4) > 0 }),
    (8, |r| Op::Restore { from: r.u32(..) }),
    (3, |r| Op::DropLine { line: r.u32(..), but: 1 }),
    (4, |r| Op::RenameSnap { name: r.u32(..), to: r.u32(..) }),
    (1, |r| Op::RenameLine { line: r.u32(..), name: r.u32(..) }),
    (4, |r| Op::CopyAcross {
        line: r.u32(..),
        from: r.u32(..),
        at: offset(r),
        to: r.u32(..),
        to_at: offset(r),
        len: 2 * len(r) as u64,
    }),
    (1, |r| Op::PokeAcross { line: r.u32(..), node: r.u32(..), how: r.u32(..) }),
    (4, |r| Op::OpenPast { line: r.u32(..), snapshot: r.u32(..), node: r.u32(..) }),
    (2, |r| Op::ReleasePast { handle: r.u32(..) }),
    (2, |r| Op::CopyPast {
        handle: r.u32(..),
        at: offset(r),
        to: r.u32(..),
        to_at: offset(r),
        len: 2 * len(r) as u64,
    }),
];

/// Kinds about what is deleted.
const TRASH: &[Kind] = &[
    (2, |r| Op::KeepTrash { on: r.u8(0..4) > 0 }),
    (8, |r| Op::Undelete { which: r.u32(..), name: r.u32(..) }),
    (2, |r| Op::EmptyTrash { which: r.u32(..) }),
    (1, |_| Op::EmptySome),
    (4, |r| Op::Unsnap { name: r.u32(..) }),
    (3, |r| Op::Hold { name: r.u32(..), tag: r.u32(..) }),
    (2, |r| Op::LetGo { name: r.u32(..), tag: r.u32(..) }),
    (1, |r| Op::PassTime { minutes: *choose(r, &[5, 20, 45, 130]) }),
    (1, |r| Op::PokeTrash { which: r.u32(..), how: r.u32(..) }),
];
/// The same with lines.
const TRASH_OF_LINES: &[Kind] = &[
    (6, |r| Op::DropLine { line: r.u32(..), but: 1 }),
    (6, |r| Op::Undelete { which: r.u32(..), name: r.u32(..) }),
    (4, |r| Op::Undo { force: r.u8(0..4) > 0 }),
];

const POKES: &[Poke] = &[
    Poke::OpenWrite,
    Poke::Chmod,
    Poke::Truncate,
    Poke::Mkdir,
    Poke::Create,
    Poke::Mknod,
    Poke::Symlink,
    Poke::Unlink,
    Poke::Rmdir,
    Poke::RenameInside,
    Poke::RenameIn,
    Poke::RenameOut,
    Poke::LinkInside,
    Poke::LinkOut,
    Poke::LinkIn,
    Poke::SetXattr,
    Poke::RemoveXattr,
];

const SNAPDIR_POKES: &[SnapdirPoke] = &[
    SnapdirPoke::Create,
    SnapdirPoke::Mknod,
    SnapdirPoke::Symlink,
    SnapdirPoke::Unlink,
    SnapdirPoke::Link,
    SnapdirPoke::RenameIn,
    SnapdirPoke::RenameOut,
    SnapdirPoke::BadName,
    SnapdirPoke::LongName,
    SnapdirPoke::LookupMissing,
];

/// The history of a seed: about 60 operations.
pub fn history(seed: u64) -> Vec<Op> {
    let kinds = [KINDS, TRASH, INTERRUPTIONS].concat();
    with_moves(seed, with_trash(seed, draw(seed, &kinds)), Layouts::AreSet)
}

/// A history without crashes and reopenings of its own.
pub fn workload(seed: u64) -> Vec<Op> {
    let kinds = [KINDS, TRASH].concat();
    with_moves(seed, with_trash(seed, draw(seed, &kinds)), Layouts::AreSet)
}

/// The same with several lines.
pub fn history_of_lines(seed: u64) -> Vec<Op> {
    let kinds = [KINDS, INTERRUPTIONS, ACROSS, TRASH, TRASH_OF_LINES].concat();
    let history = with_trash(seed, with_lines(seed, draw(seed, &kinds)));
    with_moves(seed, history, Layouts::AreOfTheStore)
}

/// The same without crashes and reopenings of its own.
pub fn workload_of_lines(seed: u64) -> Vec<Op> {
    let kinds = [KINDS, ACROSS, TRASH, TRASH_OF_LINES].concat();
    let history = with_trash(seed, with_lines(seed, draw(seed, &kinds)));
    with_moves(seed, history, Layouts::AreOfTheStore)
}

/// Has every other history begin with a trash.
fn with_trash(seed: u64, mut history: Vec<Op>) -> Vec<Op> {
    if seed.is_multiple_of(2) {
        history.insert(0, Op::KeepTrash { on: true });
    }
    history
}

/// Whether files get another layout. That is a change that a merge tells of, which the model does not know: with several lines
/// all files of a store have the same.
#[derive(PartialEq, Eq)]
enum Layouts {
    AreSet,
    AreOfTheStore,
}

/// Has files be written over, layouts be set, and content come home between the operations; of the last two nobody sees anything.
fn with_moves(seed: u64, mut history: Vec<Op>, layouts: Layouts) -> Vec<Op> {
    let rng = &mut Rng::with_seed(!seed);
    let home = |rng: &mut Rng| Op::BringHome {
        bytes: *choose(rng, &[4096, 20_000, 1 << 20]),
        committed: rng.bool(),
    };
    for _ in 0..rng.usize(1..4) {
        let (file, name) = (rng.u32(..), rng.u32(..));
        let write =
            |rng: &mut Rng, offset, len| Op::Write { file, offset, len, seed: rng.u64(..), kill: false };
        let mut moves = vec![write(rng, 0, 60_000), Op::BringHome { bytes: 4096, committed: false }];
        if rng.bool() {
            moves.push(Op::Snap { name });
        }
        for _ in 0..rng.usize(1..4) {
            let (offset, len) = (rng.u64(0..14) * 4096, rng.usize(1..4) * 4096);
            moves.extend([write(rng, offset, len), home(rng)]);
        }
        let at = rng.usize(2..=history.len());
        history.splice(at..at, moves);
    }
    for _ in 0..rng.usize(2..6) {
        let is_set = layouts == Layouts::AreSet && rng.u8(0..3) == 0;
        let op = if is_set { Op::Layout { node: rng.u32(..), cow: rng.u8(0..4) > 0 } } else { home(rng) };
        history.insert(rng.usize(2..=history.len()), op);
    }
    history
}

/// Has lines begin as one is now, here and there, and rarely very many at once.
fn with_lines(seed: u64, mut history: Vec<Op>) -> Vec<Op> {
    let rng = &mut Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    for _ in 0..rng.usize(1..4) {
        let fork = Op::Fork { from: Origin::Newest, name: rng.u32(..), lines_max: LINES_MAX };
        let turn = Op::Turn { line: rng.u32(..) };
        let as_it_is = [Op::Snap { name: rng.u32(..) }, fork, turn, create(rng)];
        let at = rng.usize(4..=history.len());
        history.splice(at..at, as_it_is);
    }
    if seed % BURST_SHARE == BURST_SHARE / 2 {
        let mut burst = vec![Op::Snap { name: rng.u32(..) }];
        for name in 0..BURST_MAX as u32 {
            burst.push(Op::Fork { from: Origin::Any(rng.u32(..)), name, lines_max: BURST_MAX });
            burst.push(Op::Turn { line: rng.u32(..) });
            burst.extend([create(rng), write(rng)]);
        }
        burst.push(Op::Commit);
        let left = rng.usize(1..BURST_MAX);
        burst.extend((0..BURST_MAX).map(|_| Op::DropLine { line: rng.u32(..), but: left }));
        let at = rng.usize(4..=history.len());
        history.splice(at..at, burst);
    }
    history
}

fn draw(seed: u64, kinds: &[Kind]) -> Vec<Op> {
    let rng = &mut Rng::with_seed(seed);
    let weights: Vec<u32> = kinds.iter().map(|(w, _)| w * choose(rng, &[0, 1, 3, 3, 3, 9])).collect();
    let total = weights.iter().sum::<u32>().max(1);
    let mut history: Vec<Op> = (0..4).map(|_| create(rng)).collect();
    for _ in 0..rng.usize(30..85) {
        let mut at = rng.u32(0..total);
        let kind = weights.iter().position(|w| {
            let hit = at < *w;
            at = at.saturating_sub(*w);
            hit
        });
        history.push(kinds[kind.unwrap_or(0)].1(rng));
    }
    history
}

fn choose<'a, T>(rng: &mut Rng, all: &'a [T]) -> &'a T {
    &all[rng.usize(0..all.len())]
}

fn create(rng: &mut Rng) -> Op {
    let access = access(rng);
    Op::Create { dir: rng.u32(..), name: rng.u32(..), mode: file_mode(rng), access, uid: uid(rng) }
}

fn write(r: &mut Rng) -> Op {
    Op::Write { file: r.u32(..), offset: offset(r), len: len(r), seed: r.u64(..), kill: r.bool() }
}

fn rename(rng: &mut Rng) -> Op {
    let mode = *choose(
        rng,
        &[RenameMode::Replace, RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange],
    );
    Op::Rename { dir: rng.u32(..), name: rng.u32(..), to: rng.u32(..), to_name: rng.u32(..), mode }
}

fn set_xattr(rng: &mut Rng) -> Op {
    let len = *choose(rng, &[0, 1, 20, 200, 3000, 8000]);
    let mode = *choose(rng, &[XattrMode::Set, XattrMode::Set, XattrMode::Create, XattrMode::Replace]);
    Op::SetXattr { node: rng.u32(..), name: rng.u32(..), len, mode }
}

fn merge(rng: &mut Rng) -> Op {
    let ways = [MergeWay::Merge, MergeWay::MergeAndKeep, MergeWay::MergeAndKeep, MergeWay::Rebase];
    Op::Merge { clone: rng.u32(..), way: *choose(rng, &ways), closed: rng.u8(0..8) > 0 }
}

fn uid(rng: &mut Rng) -> u32 {
    *choose(rng, &[0, 1000, 1001])
}

/// Set-group-id without group execution is left out: who clears it when is not the same everywhere.
fn file_mode(rng: &mut Rng) -> u32 {
    (rng.u32(..) & 0o777) | choose(rng, &[0, 0, 0o4000, 0o4100])
}

fn access(rng: &mut Rng) -> Access {
    *choose(rng, &[Access::Read, Access::Write, Access::Write, Access::Append, Access::Cut, Access::Sync])
}

fn special(rng: &mut Rng) -> FileType {
    *choose(
        rng,
        &[FileType::Regular, FileType::Fifo, FileType::Socket, FileType::CharDevice, FileType::BlockDevice],
    )
}

fn symlink_len(rng: &mut Rng) -> usize {
    *choose(rng, &[1, 10, 60, 255, 256, 1000, 4095])
}

fn allocate(rng: &mut Rng) -> AllocateMode {
    *choose(
        rng,
        &[
            AllocateMode::Extend,
            AllocateMode::KeepSize,
            AllocateMode::PunchHole,
            AllocateMode::PunchHole,
            AllocateMode::ZeroRange,
            AllocateMode::ZeroRangeKeepSize,
        ],
    )
}

fn seek(rng: &mut Rng) -> SeekTarget {
    *choose(rng, &[SeekTarget::Data, SeekTarget::Hole])
}

fn time(rng: &mut Rng) -> Option<i64> {
    let secs = *choose(rng, &[0, -1, -77_777_777_777, 1_700_000_000, 4_294_967_296, 99_999_999_999]);
    choose(rng, &[Some(secs), Some(secs), None]).to_owned()
}

/// Mostly inside the first blocks and near the edges of blocks and extents, sometimes beyond 4 GiB and 1 TiB.
fn offset(rng: &mut Rng) -> u64 {
    let jitter = rng.u64(0..3);
    match rng.u32(0..16) {
        0..=4 => 0,
        5..=6 => rng.u64(0..200),
        7..=9 => (rng.u64(1..5) << 12) + jitter - 1,
        10..=11 => rng.u64(0..20_000),
        12 => (rng.u64(1..3) << 17) + jitter - 1,
        13 => rng.u64(0..300_000),
        14 => (4 << 30) + (rng.u64(0..3) << 12) + jitter - 1,
        _ => (1 << 40) + rng.u64(0..9000),
    }
}

/// At least 1.
fn len(rng: &mut Rng) -> usize {
    match rng.u32(0..16) {
        0..=3 => rng.usize(1..64),
        4..=6 => rng.usize(1..4096),
        7..=9 => 4096 * rng.usize(1..4),
        10..=12 => rng.usize(1..20_000),
        13..=14 => rng.usize(1..60_000),
        _ => rng.usize(100_000..290_000),
    }
}
