//! The bodies of the targets `stream` and `stream_on_base`: a stream whose packets are numbered and sealed anew, whatever is in
//! them, and received: into an empty store, or into one that has the base which it is told against.

use super::image::fixtures;
use snapfs::check::{Depth, check};
use snapfs::device::Sim;
use snapfs::format::Identity;
use snapfs::format::stream::{HEADER_BYTES, PacketHeader, PacketKind, StreamBegin};
use snapfs::fs::{Fs, ReceiveOrder, SendOrder};
use snapfs::ops::{AllocateMode, NodeId, Operations, RenameMode, XattrMode};
use std::sync::{Arc, OnceLock};

/// A store that a test receives into, in bytes.
const STORE_BYTES: u64 = 32 << 20;

/// A store with a snapshot `sent`.
fn sender() -> Arc<Fs> {
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
    fs
}

fn told(fs: &Fs, name: &str, base: Option<&str>) -> Vec<u8> {
    let named = |name: &str| fs.snapshots().into_iter().find(|s| s.name == name.as_bytes()).unwrap();
    let (snapshot, base) = (named(name), base.map(named));
    let mut stream = Vec::new();
    let order = SendOrder { snapshot: &snapshot, base: base.as_ref(), gone: None, resume: None };
    fs.send(&order, &mut stream, &mut |_| true).unwrap();
    stream
}

/// A stream that says of each kind of change something.
pub fn sample() -> Vec<u8> {
    told(&sender(), "sent", None)
}

/// One that does so of what has changed since.
pub fn sample_on_base() -> Vec<u8> {
    let fs = sender();
    let [dir, file] = ["dir", "dir/file"].map(|path| fixtures::find(&fs, path));
    fixtures::overwrite(&fs, file, 4096, &fixtures::bytes(2, 4096));
    let handle = fs.open(&fixtures::ADMIN, file, fixtures::RW).unwrap();
    let copy =
        |from, to, len| fs.copy_range(&fixtures::ADMIN, file, handle, from, file, handle, to, len).unwrap();
    assert_eq!(copy(0, 65_536, 4096) + copy(4096, 81_920, 4096), 8192);
    fs.fallocate(&fixtures::ADMIN, file, handle, 8192, 4096, AllocateMode::PunchHole).unwrap();
    fs.fallocate(&fixtures::ADMIN, file, handle, 131_072, 8192, AllocateMode::Extend).unwrap();
    fs.release(file, handle);
    fs.removexattr(&fixtures::ADMIN, file, b"user.long").unwrap();
    fs.unlink(&fixtures::ADMIN, NodeId::ROOT, b"small").unwrap();
    fs.rename(&fixtures::ADMIN, dir, b"link", NodeId::ROOT, b"moved", RenameMode::Replace).unwrap();
    fixtures::put(&fs, dir, "new", b"more");
    fixtures::snapshot(&fs, "later");
    told(&fs, "later", Some("sent"))
}

/// Packets as they are cut by their headers, with numbers and checksums that are right; what is told against something is told
/// against `base`, if that is given.
fn sealed(mut bytes: &[u8], base: Option<Identity>) -> Vec<u8> {
    let (mut out, mut stream, mut number) = (Vec::new(), None, 0);
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        let len = u32::from_le_bytes([header[12], header[13], header[14], header[15]]) as usize;
        let (payload, rest) = rest.split_at(len.min(rest.len()));
        let mut payload = payload.to_vec();
        let kind = match header[24] % 8 {
            _ if number == 0 => PacketKind::Begin,
            3 => PacketKind::End,
            1 => PacketKind::Begin,
            _ => PacketKind::Changes,
        };
        if number == 0
            && let Ok(mut begin) = StreamBegin::decode(&payload)
        {
            begin.base = begin.base.map(|own| base.unwrap_or(own));
            (payload, stream) = (begin.encode(), Some(begin.stream()));
        }
        out.extend(PacketHeader::seal(kind, number, stream.filter(|_| number > 0), &payload));
        (bytes, number) = (rest, number + 1);
    }
    out
}

/// Receives it: what comes of it is sound, and nothing of what is refused is to be seen.
pub fn stream(bytes: &[u8]) {
    receive(&fixtures::mount(fixtures::new_store(STORE_BYTES)), bytes, None);
}

/// Receives it where what [`sample`] tells is, which it is told against.
pub fn stream_on_base(bytes: &[u8]) {
    static BASE: OnceLock<Sim> = OnceLock::new();
    let base = BASE.get_or_init(|| {
        let sim = fixtures::new_store(STORE_BYTES);
        let fs = fixtures::mount(sim.clone());
        fs.receive(&mut &sample()[..], &ReceiveOrder::default(), &mut |_, _| ()).unwrap();
        fs.close().unwrap();
        sim.clone_image()
    });
    let fs = fixtures::mount(Arc::new(base.clone_image()));
    let identity = fs.volume().identity(fs.snapshots()[0].id);
    receive(&fs, bytes, identity);
    assert_eq!(fixtures::read_whole(&fs, fixtures::find(&fs, ".snapshots/sent/small")).unwrap(), b"content");
}

fn receive(fs: &Fs, bytes: &[u8], base: Option<Identity>) {
    let snapshots =
        || fs.volume().lines().iter().map(|line| fs.volume().own_snapshots(line.id).len()).sum::<usize>();
    let before = snapshots();
    let done = fs.receive(&mut &sealed(bytes, base)[..], &ReceiveOrder::default(), &mut |_, _| ());
    assert_eq!(snapshots(), before + usize::from(done.is_ok_and(|got| !got.was_here)));
    fs.commit().unwrap();
    let report = check(fs.volume(), Depth::Metadata).unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert!(fs.getattr(NodeId::ROOT, None).is_ok());
}
