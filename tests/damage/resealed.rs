//! A store in memory whose metadata can be changed with all checksums made right again, up to the superblock, and the
//! records of its log; and everything that can be done with such a store.

use snapfs::check::{self, Depth};
use snapfs::device::{Device, RESERVED_BYTES, Sim};
use snapfs::format::log::{HEADER_BYTES, RecordHeader};
use snapfs::format::superblock::{SLOT_BYTES, Superblock};
use snapfs::format::{Copies, Epoch, Generation, Ino, LineId, ViewId};
use snapfs::ops::*;
use snapfs::volume::Access;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::fixtures::{self, ADMIN, RW, SNAPDIR};
use super::observe::observe;
use super::sample::{Sample, mount, open};

/// The metadata of a store in memory.
pub struct Image {
    sim: Sim,
    pub superblock: Superblock,
    pub blocks: BTreeMap<u64, Vec<u8>>,
    /// Address -> where the second copy is.
    copies: HashMap<u64, u64>,
    /// Address -> (address of a block with a pointer to it, offset of the pointer there).
    holders: HashMap<u64, Vec<(u64, usize)>>,
    /// Records of the log that a mount replays: where, header, effects.
    pub records: Vec<(u64, RecordHeader, Vec<u8>)>,
}

impl Image {
    pub fn new(sample: &Sample) -> Image {
        let slots = sample.slots();
        let decoded = slots.iter().map(|at| sample.sim.peek(*at, SLOT_BYTES as u64));
        let superblock =
            decoded.filter_map(|s| Superblock::decode(&s).ok()).max_by_key(|s| s.seq).expect("a superblock");
        let blocks: BTreeMap<u64, Vec<u8>> =
            sample.metadata.iter().map(|p| (p.addr.0, sample.sim.peek(p.addr.0, u64::from(p.len)))).collect();
        let checksums: HashMap<u64, u64> = sample.metadata.iter().map(|p| (p.addr.0, p.checksum)).collect();
        let mut holders: HashMap<u64, Vec<(u64, usize)>> = HashMap::new();
        for (holder, bytes) in &blocks {
            for at in 64..bytes.len() - 40 {
                let addr = word(bytes, at);
                if checksums.get(&addr).is_some_and(|sum| *sum == word(bytes, at + 24)) {
                    holders.entry(addr).or_default().push((*holder, at));
                }
            }
        }
        let copies = sample.metadata.iter().map(|p| (p.addr.0, p.copy.0)).collect();
        let records = records(&sample.sim, &superblock);
        Image { sim: sample.sim.clone_image(), superblock, blocks, copies, holders, records }
    }

    pub fn copy(&self) -> Image {
        Image {
            sim: self.sim.clone_image(),
            superblock: self.superblock.clone(),
            blocks: self.blocks.clone(),
            copies: self.copies.clone(),
            holders: self.holders.clone(),
            records: self.records.clone(),
        }
    }

    /// Makes the checksum of a block right, and that of everything above it.
    pub fn reseal(&mut self, addr: u64) {
        let block = self.blocks.get_mut(&addr).expect("a metadata block");
        let sum = fixtures::reseal(block);
        for ptr in [Some(&mut self.superblock.meta_root), self.superblock.space_map.as_mut()] {
            if let Some(ptr) = ptr.filter(|p| p.addr.0 == addr) {
                ptr.checksum = sum;
            }
        }
        for (holder, at) in self.holders.get(&addr).cloned().unwrap_or_default() {
            if let Some(block) = self.blocks.get_mut(&holder)
                && word(block, at) == addr
            {
                block[at + 24..at + 32].copy_from_slice(&sum.to_le_bytes());
                self.reseal(holder);
            }
        }
    }

    pub fn device(&self) -> Arc<Sim> {
        let sim = self.sim.clone_image();
        for (addr, bytes) in &self.blocks {
            sim.write_at(*addr, bytes).unwrap();
            sim.write_at(self.copies[addr], bytes).unwrap();
        }
        for (at, header, effects) in &self.records {
            let mut bytes = Vec::new();
            header.seal(effects, &mut bytes);
            let end = RESERVED_BYTES + self.superblock.log_bytes;
            let first = bytes.len().min(end.saturating_sub(*at) as usize);
            sim.write_at(*at, &bytes[..first]).unwrap();
            sim.write_at(RESERVED_BYTES, &bytes[first..]).unwrap();
        }
        fixtures::write_superblock(&sim, &self.superblock);
        Arc::new(sim)
    }
}

/// The little-endian number at a place.
pub fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The records behind a superblock.
fn records(sim: &Sim, superblock: &Superblock) -> Vec<(u64, RecordHeader, Vec<u8>)> {
    let mut found = Vec::new();
    let mut lsn = superblock.log_start;
    while let Some(at) = [lsn, lsn.next_multiple_of(4096)].into_iter().find_map(|lsn| {
        let at = RESERVED_BYTES + lsn % superblock.log_bytes;
        let header = RecordHeader::peek(&sim.peek(at, HEADER_BYTES as u64))?;
        (header.lsn == lsn && header.generation == superblock.log_generation).then_some((at, header))
    }) {
        let (at, header) = at;
        let len = u64::from(header.len) - HEADER_BYTES as u64;
        let from = RESERVED_BYTES + (header.lsn + HEADER_BYTES as u64) % superblock.log_bytes;
        let first = len.min(RESERVED_BYTES + superblock.log_bytes - from);
        let effects = [sim.peek(from, first), sim.peek(RESERVED_BYTES, len - first)].concat();
        lsn = header.end();
        found.push((at, header, effects));
    }
    found
}

/// Changes one field of a superblock.
pub fn change_superblock(sb: &mut Superblock, which: u8, value: u64) {
    match which % 14 {
        13 => sb.next_generation = Generation(value as u32),
        12 => sb.log_start = value,
        11 => sb.log_bytes = value,
        10 => sb.metadata_copies = Copies::One,
        0 => sb.epoch = Epoch(value.max(1)),
        1 => sb.size = value,
        2 => sb.allocated = value,
        3 => sb.next_line = LineId(value.max(2)),
        4 => sb.next_view = ViewId(value),
        5 => sb.next_ino = Ino(value),
        6 => sb.next_id = value,
        7 => sb.seq = value,
        8 => sb.space_map = None,
        _ => sb.meta_root.birth = Epoch(value.max(1)),
    }
}

/// Does everything with an image; errors are all right.
pub fn exercise(device: &Arc<Sim>) {
    if let Ok(volume) = open(Arc::new(device.clone_image()), Access::ReadOnly) {
        let report = check::check(&volume, Depth::Data);
        let _waiting = report
            .map(|mut report| check::check_waiting(Arc::new(device.clone_image()), Depth::Data, &mut report));
        if let Ok(fs) = mount(volume) {
            observe(&fs);
        }
    }
    let Ok(fs) = open(device.clone(), Access::ReadWrite).and_then(mount) else { return };
    let steps: [&dyn Fn() -> Result<()>; 8] = [
        &|| {
            let (entry, handle) = fs.create(&ADMIN, NodeId::ROOT, b"new", 0o600, RW)?;
            fs.write(entry.attr.node, handle, 0, &[1; 200_000], false)?;
            fs.fallocate(&ADMIN, entry.attr.node, handle, 0, 1 << 20, AllocateMode::Extend)?;
            fs.commit()
        },
        &|| fs.mkdir(&ADMIN, SNAPDIR, b"four", 0).map(drop),
        &|| {
            let dir = fs.lookup(&ADMIN, NodeId::ROOT, b"b")?.attr.node;
            fs.unlink(&ADMIN, dir, b"hard")?;
            fs.rename(&ADMIN, dir, b"later3", NodeId::ROOT, b"here", RenameMode::Replace)?;
            fs.rmdir(&ADMIN, dir, b"moved").or(Ok(()))
        },
        &|| {
            let dir = fs.lookup(&ADMIN, NodeId::ROOT, b"a")?.attr.node;
            for n in 1..100 {
                if let Ok(file) = fs.lookup(&ADMIN, dir, format!("small{n}").as_bytes()) {
                    let set = SetAttr { size: Some(n * 20), ..SetAttr::default() };
                    fs.setattr(&ADMIN, file.attr.node, None, &set)?;
                    fs.unlink(&ADMIN, dir, format!("small{n}").as_bytes())?;
                    fs.forget(file.attr.node);
                }
            }
            Ok(())
        },
        &|| fs.rmdir(&ADMIN, SNAPDIR, b"one"),
        &|| fs.rmdir(&ADMIN, SNAPDIR, b"three"),
        &|| fs.commit(),
        &|| fs.statfs(NodeId::ROOT).map(drop),
    ];
    for step in steps {
        let _done = step();
    }
    let _ticked = (fs.tick(), fs.tick());
    let _closed = fs.close();
    let _report = check::check(fs.volume(), Depth::Data);
}
