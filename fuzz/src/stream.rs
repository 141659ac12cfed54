//! The body of the target `stream`: a stream whose packets are numbered and sealed anew, whatever is in them, and received.

use super::image::fixtures;
use snapfs::check::{Depth, check};
use snapfs::format::stream::{HEADER_BYTES, PacketHeader, PacketKind, StreamBegin};
use snapfs::fs::{ReceiveOrder, SendOrder};
use snapfs::ops::{NodeId, Operations, XattrMode};

/// A store that a test receives into, in bytes.
const STORE_BYTES: u64 = 32 << 20;

/// A stream that says of each kind of change something.
pub fn sample() -> Vec<u8> {
    let fs = fixtures::mount(fixtures::new_store(STORE_BYTES));
    let dir = fixtures::mkdir(&fs, NodeId::ROOT, "dir");
    let file = fixtures::put(&fs, dir, "file", &fixtures::bytes(1, 12_000));
    fixtures::put(&fs, NodeId::ROOT, "small", b"content");
    fs.symlink(&fixtures::ADMIN, dir, b"link", b"to/nowhere").unwrap();
    fs.link(&fixtures::ADMIN, file, NodeId::ROOT, b"second").unwrap();
    fs.setxattr(&fixtures::ADMIN, file, b"user.long", &[5; 3500], XattrMode::Set).unwrap();
    let handle = fs.open(&fixtures::ADMIN, file, fixtures::RW).unwrap();
    fs.copy_range(&fixtures::ADMIN, file, handle, 0, file, handle, 40_960, 8192).unwrap();
    fs.release(file, handle);
    fixtures::snapshot(&fs, "sent");
    let snapshot = fs.snapshots().remove(0);
    let mut stream = Vec::new();
    let order = SendOrder { snapshot: &snapshot, base: None, gone: None, resume: None };
    fs.send(&order, &mut stream, &mut |_| true).unwrap();
    stream
}

/// Packets as they are cut by their headers, with numbers and checksums that are right.
fn sealed(mut bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut stream, mut number) = (Vec::new(), None, 0);
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        let len = u32::from_le_bytes([header[12], header[13], header[14], header[15]]) as usize;
        let (payload, rest) = rest.split_at(len.min(rest.len()));
        let kind = match header[24] % 8 {
            _ if number == 0 => PacketKind::Begin,
            3 => PacketKind::End,
            1 => PacketKind::Begin,
            _ => PacketKind::Changes,
        };
        out.extend(PacketHeader::seal(kind, number, stream, payload));
        if number == 0 {
            stream = StreamBegin::decode(payload).ok().map(|begin| begin.stream());
        }
        (bytes, number) = (rest, number + 1);
    }
    out
}

/// Receives it: what comes of it is sound, and nothing of what is refused is to be seen.
pub fn stream(bytes: &[u8]) {
    let fs = fixtures::mount(fixtures::new_store(STORE_BYTES));
    let done = fs.receive(&mut &sealed(bytes)[..], &ReceiveOrder::default(), &mut |_, _| ());
    assert_eq!(fs.snapshots().len(), usize::from(done.is_ok()));
    fs.commit().unwrap();
    let report = check(fs.volume(), Depth::Metadata).unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert!(fs.getattr(NodeId::ROOT, None).is_ok());
}
