//! The parts below the file system, each alone and in memory: trees, space, checksums, records of the log.
//!
//! `cargo bench --bench micro` measures with criterion, which says how sure it is and compares with the run before. The
//! numbers of calls and bytes are asserted in `tests/cost`.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use snapfs::device::{Memory, RESERVED_BYTES};
use snapfs::format::header::{BlockKind, Header, seal};
use snapfs::format::log::{Effect, Effects, RecordHeader};
use snapfs::format::{BlockAddr, CopyAddrs, Epoch, Key, Kind, LineId, NODE_BYTES};
use snapfs::store::{AllocClass, Allocator, Store};
use snapfs::tree::{Child, Edit, Pager, get};
use snapfs::volume::{Access, Need, OpenOptions, ReserveFor as Asks, Volume};
use std::hint::black_box;
use std::sync::Arc;

const ITEMS: u64 = 100_000;
/// As long as an inode.
const VALUE: [u8; 128] = [7; 128];
const SIZE: u64 = 4 << 30;

fn key(n: u64) -> Key {
    Key::new(n, Kind::Inode, 0)
}

fn pager() -> Pager {
    let store = Store::new(Arc::new(Memory::new(SIZE)), 1, Allocator::new(RESERVED_BYTES, SIZE));
    Pager::new(Arc::new(store), 64 << 20)
}

/// A tree of [`ITEMS`] items that were inserted at epoch 1.
fn tree(pager: &Pager) -> Child {
    let mut freed = Vec::new();
    let mut edit = Edit { pager, epoch: Epoch(1), freed: &mut freed, nodes_made: 0 };
    let mut root = edit.new_root();
    (0..ITEMS).for_each(|n| edit.insert(&mut root, &key(n), &VALUE).expect("memory"));
    root
}

fn trees(c: &mut Criterion) {
    let pager = pager();
    let root = tree(&pager);
    let mut group = c.benchmark_group("tree");
    group.throughput(Throughput::Elements(1));
    let mut rng = fastrand::Rng::with_seed(1);
    group.bench_function("lookup", |b| {
        b.iter(|| get(&pager, &root, &key(rng.u64(..ITEMS))).expect("memory").is_some());
    });
    let (mut changed, mut freed) = (tree(&pager), Vec::new());
    group.bench_function("replace", |b| {
        let mut edit = Edit { pager: &pager, epoch: Epoch(1), freed: &mut freed, nodes_made: 0 };
        b.iter(|| edit.insert(&mut changed, &key(rng.u64(..ITEMS)), &VALUE).expect("memory"));
    });
    // Each is the first change after a snapshot: it copies the path.
    group.bench_function("replace after a snapshot", |b| {
        b.iter_batched(
            || root.clone(),
            |mut root| {
                let mut freed = Vec::new();
                let mut edit = Edit { pager: &pager, epoch: Epoch(2), freed: &mut freed, nodes_made: 0 };
                edit.insert(&mut root, &key(rng.u64(..ITEMS)), &VALUE).expect("memory");
                root
            },
            BatchSize::SmallInput,
        );
    });
    group.throughput(Throughput::Elements(ITEMS));
    group.sample_size(10);
    group.bench_function("insert 100,000 in order", |b| b.iter(|| tree(&pager)));
    group.finish();
}

fn space(c: &mut Criterion) {
    let mut group = c.benchmark_group("allocator");
    group.throughput(Throughput::Elements(1));
    for (name, len) in [("4 KiB", 4096), ("128 KiB", 128 << 10), ("1 MiB", 1 << 20)] {
        // Half of the store is in pieces of 128 KiB with as much between them.
        let mut alloc = Allocator::new(RESERVED_BYTES, SIZE);
        alloc.backed(RESERVED_BYTES, SIZE - RESERVED_BYTES);
        let mut out = Vec::new();
        while let Some((addr, got)) = alloc.alloc(128 << 10, AllocClass::Data) {
            out.push((addr, got));
        }
        out.iter().step_by(2).for_each(|(addr, len)| alloc.give_back(*addr, *len));
        group.bench_function(format!("{name} from fragmented space, and back"), |b| {
            b.iter(|| {
                let (addr, got) = alloc.alloc(len, AllocClass::Data).expect("space");
                alloc.give_back(black_box(addr), got);
            });
        });
    }
    group.finish();
}

fn checksums(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    let mut bytes = vec![0; 128 << 10];
    fastrand::Rng::with_seed(2).fill(&mut bytes);
    group.throughput(Throughput::Bytes(4096));
    group.bench_function("CRC-32C of 4 KiB of content", |b| {
        b.iter(|| crc32c::crc32c(black_box(&bytes[..4096])))
    });
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("CRC-32C of 128 KiB, each 4 KiB", |b| {
        b.iter(|| bytes.chunks(4096).map(crc32c::crc32c).fold(0, |a, b| a ^ b));
    });
    let header = Header { kind: BlockKind::Leaf, level: 0, count: 1, owner: 1 };
    group.throughput(Throughput::Bytes(NODE_BYTES as u64));
    group.bench_function("header and XXH3 of a node", |b| {
        let node = &mut bytes[..NODE_BYTES];
        b.iter(|| seal(black_box(node), header, 1, CopyAddrs::single(BlockAddr(4096)), Epoch(1)));
    });
    group.finish();
}

fn log(c: &mut Criterion) {
    let mut group = c.benchmark_group("log");
    group.throughput(Throughput::Elements(1));
    let mut out = Vec::new();
    group.bench_function("record of two items", |b| {
        b.iter(|| {
            let mut effects = Effects::default();
            (1..3).for_each(|n| effects.push(&Effect::Insert(key(n), &VALUE)));
            let header = RecordHeader {
                len: 64 + effects.bytes().len() as u32,
                generation: 1,
                lsn: 0,
                prev_end: 0,
                durable: 0,
                epoch: Epoch(1),
                line: LineId::MAIN,
            };
            out.clear();
            header.seal(effects.bytes(), &mut out);
            black_box(out.len())
        });
    });
    // The whole way: a transaction, its record, and a flush of a device that needs none.
    let device = Arc::new(Memory::new(SIZE));
    Volume::create(device.clone(), SIZE, [1; 16], (0, 0)).expect("a store in memory");
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 64 << 20 };
    let volume = Volume::open(device, options).expect("a store in memory");
    volume.recover(&mut snapfs::volume::NothingAbove);
    volume.commit(&mut |_| Ok(())).expect("memory");
    let mut n = 0;
    group.bench_function("transaction of two items, made durable", |b| {
        b.iter(|| {
            let mut txn = volume.begin(LineId::MAIN).unwrap();
            txn.reserve(Need { items: 2, ..Need::default() }, Asks::Write).expect("space");
            n = n % 1000 + 2;
            (n..n + 2).for_each(|n| txn.insert(key(n), &VALUE).expect("memory"));
            drop(txn);
            // A full log is emptied by a commit, as the daemon does it.
            if !volume.sync().expect("memory") || volume.log_fill().0 > volume.log_fill().1 / 2 {
                volume.commit(&mut |_| Ok(())).expect("memory");
            }
        });
    });
    group.finish();
}

criterion_group!(benches, trees, space, checksums, log);
criterion_main!(benches);
