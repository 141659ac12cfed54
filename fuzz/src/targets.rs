//! The bodies of the fuzz targets: each takes any bytes, decodes them, and asserts what must hold of what decodes.
//!
//! They call public functions only and keep no state. `tests/fuzz_smoke` includes this file and runs the same bodies with
//! seeded mutations of valid encodings, so that they are compiled and tried wherever the tests are.

use snapfs::format::age::AgeRecord;
use snapfs::format::deadlist;
use snapfs::format::hold::HoldRecord;
use snapfs::format::hydration::HydrationRecord;
use snapfs::format::inode::Inode;
use snapfs::format::job::Job;
use snapfs::format::leaf::LeafPage;
use snapfs::format::line::LineRecord;
use snapfs::format::link::Links;
use snapfs::format::log::{Effects, HEADER_BYTES, RecordHeader};
use snapfs::format::purge::{GoneRecord, HeldRecord, LeafRecord, PurgeRest};
use snapfs::format::scrub::{Finding, ScrubRecord};
use snapfs::format::superblock::Superblock;
use snapfs::format::trash::TrashRecord;
use snapfs::format::view::ViewRecord;
use snapfs::format::xattr::Xattrs;
use snapfs::format::{BLOCK_BYTES, Extent, Key, Kind, NODE_BYTES};
use snapfs::format::{dirent, inner, space_map};
use snapfs::store::Codec;

#[path = "image.rs"]
pub mod image;
#[path = "stream.rs"]
pub mod stream;

/// A target: its name and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 14] = [
    ("superblock", superblock),
    ("leaf", leaf),
    ("inner", inner_node),
    ("space_map", space_map_block),
    ("items", items),
    ("deadlist", dead_list),
    ("records", records),
    ("log", log),
    ("image", image::image),
    ("request", request),
    ("mount_options", mount_options),
    ("frame", frame),
    ("stream", stream::stream),
    ("stream_on_base", stream::stream_on_base),
];

/// Two bytes of count in front, then the block.
fn counted(bytes: &[u8]) -> Option<(u16, Box<[u8]>)> {
    let (count, rest) = bytes.split_first_chunk::<2>()?;
    let mut block = vec![0; NODE_BYTES].into_boxed_slice();
    let len = rest.len().min(NODE_BYTES);
    block[..len].copy_from_slice(&rest[..len]);
    Some((u16::from_le_bytes(*count), block))
}

/// A superblock slot; the checksum is made right, so that the fields are reached.
pub fn superblock(bytes: &[u8]) {
    let mut slot = bytes.to_vec();
    for _ in 0..2 {
        if let Ok(sb) = Superblock::decode(&slot) {
            assert!(sb.epoch.0 != 0 && sb.next_line.0 > 1 && sb.meta_root.addr.0 != 0);
            if slot.len() == snapfs::format::superblock::SLOT_BYTES {
                assert_eq!(Superblock::decode(&sb.encode()), Ok(sb));
            }
        }
        let _features = Superblock::unknown_ro_features(&slot);
        if slot.len() < 8 {
            return;
        }
        let sum = snapfs::format::superblock::checksum(&slot);
        slot[..8].copy_from_slice(&sum.to_le_bytes());
    }
}

/// A leaf: what decodes can be read and changed.
pub fn leaf(bytes: &[u8]) {
    let Some((count, block)) = counted(bytes) else { return };
    let Ok(mut page) = LeafPage::decode(block, count) else { return };
    let keys: Vec<Key> = (0..page.count()).map(|i| page.key(i)).collect();
    assert!(keys.is_sorted());
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(page.find(key), Ok(i));
        assert!(page.value(i).len() <= snapfs::format::leaf::VALUE_BYTES_MAX);
    }
    let new = Key::new(77, Kind::Inline, 7);
    if let Err(i) = page.find(&new)
        && page.fits(100)
    {
        page.insert(i, &new, &[1; 100]);
        assert_eq!(page.find(&new), Ok(i));
        page.remove(i);
    }
    for key in keys.iter().step_by(3) {
        if let Ok(i) = page.find(key) {
            page.remove(i);
        }
    }
    let half = page.count() / 2;
    let right = page.split_off(half);
    assert_eq!(page.count(), half);
    page.append(&right);
    let again = LeafPage::decode(page.bytes().into(), page.count() as u16);
    assert!(again.is_ok(), "a changed leaf no longer decodes");
}

/// An inner node.
pub fn inner_node(bytes: &[u8]) {
    let Some((count, block)) = counted(bytes) else { return };
    if let Ok(entries) = inner::decode(&block, count) {
        assert!(entries.is_sorted_by(|a, b| a.0 < b.0) && entries.len() == usize::from(count));
        let encoded = inner::encode(entries.iter().copied());
        assert_eq!(inner::decode(&encoded, count).ok(), Some(entries));
    }
}

/// A block of the space map.
pub fn space_map_block(bytes: &[u8]) {
    let Some((count, block)) = counted(bytes) else { return };
    if let Ok((prev, changes)) = space_map::decode(&block, count) {
        let encoded = space_map::encode(prev, &changes);
        assert_eq!(space_map::decode(&encoded, count), Ok((prev, changes)));
    }
}

/// Every record of files: what decodes encodes to the same bytes.
pub fn items(bytes: &[u8]) {
    if let Ok(inode) = Inode::decode(bytes) {
        assert_eq!(Inode::decode(&inode.encode()), Ok(inode));
    }
    if let Ok(bucket) = dirent::NameBucket::decode(bytes) {
        assert_eq!(bucket.encode(), bytes);
    }
    if let Ok(links) = Links::decode(bytes) {
        assert_eq!(links.encode(), bytes);
    }
    if let Ok(xattrs) = Xattrs::decode(bytes) {
        assert_eq!(xattrs.encode(), bytes);
    }
    if let Ok(extent) = Extent::decode(bytes) {
        assert_eq!(extent.encode(), bytes);
        let last = extent.cut(extent.len_bytes() - BLOCK_BYTES, BLOCK_BYTES);
        assert_eq!(last.len_bytes(), BLOCK_BYTES);
    }
    if let Some((key, _)) = bytes.split_first_chunk() {
        assert_eq!(Key::decode(key).encode(), *key);
    }
}

/// A chunk and a bucket of a dead list.
pub fn dead_list(bytes: &[u8]) {
    if let Ok(entries) = deadlist::decode_chunk(bytes) {
        assert_eq!(deadlist::encode_chunk(&entries), bytes);
    }
    if let Ok(bucket) = deadlist::Bucket::decode(bytes) {
        assert_eq!(bucket.encode(), bytes);
    }
}

/// Records of the meta tree.
pub fn records(bytes: &[u8]) {
    if let Ok(line) = LineRecord::decode(bytes) {
        assert_eq!(LineRecord::decode(&line.encode()), Ok(line));
    }
    if let Ok(view) = ViewRecord::decode(bytes) {
        assert_eq!(ViewRecord::decode(&view.encode()), Ok(view));
    }
    if let Ok(copy) = HydrationRecord::decode(bytes) {
        assert_eq!(copy.encode(), bytes);
    }
    if let Ok(hold) = HoldRecord::decode(bytes) {
        assert_eq!(hold.encode(), bytes);
    }
    if let Ok(trash) = TrashRecord::decode(bytes) {
        assert_eq!(trash.encode(), bytes);
    }
    if let Ok(age) = AgeRecord::decode(bytes) {
        assert_eq!(age.encode(), bytes);
    }
    if let Ok(job) = Job::decode(bytes) {
        assert_eq!(Job::decode(&job.encode()), Ok(job));
    }
    if let Ok(record) = ScrubRecord::decode(bytes) {
        assert_eq!(ScrubRecord::decode(&record.encode()), Ok(record));
    }
    if let Ok(held) = HeldRecord::decode(4096, bytes) {
        assert_eq!(held.encode(), bytes);
    }
    if let Ok(gone) = GoneRecord::decode(4096, bytes) {
        assert_eq!(gone.encode(), bytes);
    }
    if let Ok(leaf) = LeafRecord::decode(4096, bytes) {
        assert_eq!(leaf.encode(), bytes);
    }
    if let Ok(rest) = PurgeRest::decode(bytes) {
        let pieces: Vec<u8> = rest.items().into_iter().flat_map(|(_, piece)| piece).collect();
        assert_eq!(pieces, bytes);
    }
    if let Ok(finding) = Finding::decode(bytes) {
        assert!(finding.encode().len() <= snapfs::format::leaf::VALUE_BYTES_MAX);
    }
}

/// A record of the log: its effects, and the whole with the checksum made right.
pub fn log(bytes: &[u8]) {
    for effect in Effects::decode(bytes).take(10_000) {
        let Ok(effect) = effect else { break };
        let mut again = Effects::default();
        again.push(&effect);
        assert!(Effects::decode(again.bytes()).eq([Ok(effect)]));
    }
    if let Some(header) = RecordHeader::peek(bytes) {
        let _proved = header.proves(bytes);
        // A place near the end of all places is for who follows the records to refuse.
        if header.lsn < 1 << 62 && header.len as usize == bytes.len() {
            let mut sealed = Vec::new();
            header.seal(&bytes[HEADER_BYTES..], &mut sealed);
            assert!(RecordHeader::peek(&sealed) == Some(header) && header.proves(&sealed[..bytes.len()]));
        }
    }
}

/// A line on the control channel.
pub fn request(bytes: &[u8]) {
    if let Err(failure) = snapfs::ctl::read_request(bytes) {
        assert!(!failure.message.is_empty());
    }
}

/// The text after `-o`.
pub fn mount_options(bytes: &[u8]) {
    if let Err(why) = snapfs::cli::read_mount_options(&String::from_utf8_lossy(bytes)) {
        assert!(!why.is_empty());
    }
}

/// A compressed frame, with the number of blocks that it should have in front: nothing but that many bytes comes out.
pub fn frame(bytes: &[u8]) {
    let Some((blocks, frame)) = bytes.split_first() else { return };
    let mut content = vec![0; (usize::from(*blocks) % 32 + 1) * BLOCK_BYTES as usize];
    let codec = Codec::default();
    if codec.unpack(frame, &mut content).is_ok() {
        let mut again = Vec::new();
        if codec.pack(1, &content, &mut again).is_some() {
            assert!(again.len() < content.len() && again.len().is_multiple_of(BLOCK_BYTES as usize));
        }
    } else if let Err(why) = codec.unpack(frame, &mut content) {
        assert!(!why.is_empty());
    }
}
