//! One suite for every device, and what only files and directories have.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const BLOCK: u64 = 4096;
const SIZE: u64 = 64 << 20;

/// A directory of its own for a test, removed at the end.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("snapfs-device-{}-{number}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Scratch(dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Content that tells its address and version.
pub(super) fn pattern(offset: u64, len: u64, version: u64) -> Vec<u8> {
    (0..len).map(|at| ((offset + at) / 8).wrapping_mul(0x9E37_79B9).wrapping_add(version) as u8).collect()
}

pub(super) fn read(device: &dyn Device, offset: u64, len: u64) -> Vec<u8> {
    let mut buf = vec![0x11; len as usize];
    device.read_at(offset, &mut buf).unwrap();
    buf
}

/// What every device promises. `size` of the device is at least [`SIZE`].
fn conforms(device: &dyn Device) {
    let size = device.size();
    assert!(size >= SIZE && size.is_multiple_of(BLOCK));
    assert!(!device.describe().is_empty());

    // Ranges in the superblocks, across their border, across the reserved border and across a chunk.
    let spots =
        [(0, BLOCK), ((512 << 10) - BLOCK, 2 * BLOCK), ((1 << 20) - BLOCK, 3 * BLOCK), (40 << 20, 3 << 20)];
    for (offset, len) in spots {
        device.back(offset, len).unwrap();
        device.back(offset, len).unwrap();
        device.write_at(offset, &pattern(offset, len, 1)).unwrap();
        assert!(read(device, offset, len) == pattern(offset, len, 1));
        device.back(offset, len).unwrap();
    }
    device.flush().unwrap();
    for (offset, len) in spots {
        assert!(read(device, offset, len) == pattern(offset, len, 1), "{} at {offset}", device.describe());
    }

    // A write changes nothing around it.
    let (offset, len) = spots[3];
    device.write_at(offset + BLOCK, &pattern(7, BLOCK, 9)).unwrap();
    let mut expected = pattern(offset, len, 1);
    expected[BLOCK as usize..2 * BLOCK as usize].copy_from_slice(&pattern(7, BLOCK, 9));
    assert!(read(device, offset, len) == expected);

    concurrent_writes(device);

    // Advice changes nothing, whether content was flushed or not.
    for (offset, len) in [(0, SIZE), (spots[3].0, spots[3].1), (size - BLOCK, BLOCK), (size, BLOCK)] {
        device.will_need(offset, len);
        device.release(offset, len);
        device.will_need(offset, len);
    }
    let (offset, len) = spots[3];
    assert!(read(device, offset, len) == expected);

    // A discard leaves its neighbours alone, and its range can be used again.
    device.discard(offset + BLOCK, BLOCK);
    assert!(read(device, offset, BLOCK) == expected[..BLOCK as usize]);
    assert!(read(device, offset + 2 * BLOCK, len - 2 * BLOCK) == expected[2 * BLOCK as usize..]);
    device.discard(offset + len / 2, len / 2);
    device.back(offset + len / 2, len / 2).unwrap();
    device.write_at(offset + len / 2, &pattern(0, len / 2, 3)).unwrap();
    assert!(read(device, offset + len / 2, len / 2) == pattern(0, len / 2, 3));
    device.flush().unwrap();

    ends_are_kept(device);
}

fn concurrent_writes(device: &dyn Device) {
    let base = 8 << 20;
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            scope.spawn(move || {
                for round in 0..16 {
                    let offset = base + (round * 4 + thread) * BLOCK;
                    device.back(offset, BLOCK).unwrap();
                    device.write_at(offset, &pattern(offset, BLOCK, thread)).unwrap();
                    if round % 8 == 0 {
                        device.flush().unwrap();
                    }
                    assert!(read(device, offset, BLOCK) == pattern(offset, BLOCK, thread));
                    if round % 3 == 2 {
                        device.discard(offset, BLOCK);
                    }
                }
            });
        }
    });
    for thread in 0..4 {
        for round in (0..16).filter(|round| round % 3 != 2) {
            let offset = base + (round * 4 + thread) * BLOCK;
            assert!(read(device, offset, BLOCK) == pattern(offset, BLOCK, thread));
        }
    }
}

fn ends_are_kept(device: &dyn Device) {
    let size = device.size();
    device.back(size - BLOCK, BLOCK).unwrap();
    device.write_at(size - BLOCK, &pattern(5, BLOCK, 5)).unwrap();
    assert!(read(device, size - BLOCK, BLOCK) == pattern(5, BLOCK, 5));
    let mut two = vec![0; 2 * BLOCK as usize];
    for offset in [size - BLOCK, size, u64::MAX - BLOCK + 1] {
        let error = device.read_at(offset, &mut two).unwrap_err().to_string();
        assert!(error.contains("truncated"), "{error}");
        assert!(device.write_at(offset, &two).is_err());
        assert!(device.back(offset, 2 * BLOCK).is_err());
        if offset >= size {
            device.discard(offset, 2 * BLOCK);
        }
    }
    assert!(read(device, size - BLOCK, BLOCK) == pattern(5, BLOCK, 5));
    device.discard(size - BLOCK, u64::MAX);
}

#[test]
fn memory_conforms() {
    conforms(&Memory::new(SIZE));
}

#[test]
fn simulator_conforms() {
    conforms(&Sim::new(SIZE, 1));
}

#[test]
fn image_file_conforms_and_keeps_content() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    let device = FileDevice::create_image(&path, SIZE).unwrap();
    assert!(FileDevice::create_image(&path, SIZE).is_err());
    conforms(&device);
    drop(device);
    assert_eq!(probe(&path).unwrap(), StoreKind::ImageFile { len: SIZE });

    let device = FileDevice::open(&path, Access::ReadOnly).unwrap();
    assert_eq!(device.size(), SIZE);
    assert!(read(&device, 0, BLOCK) == pattern(0, BLOCK, 1));
    refuses_changes(&device);

    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(BLOCK).unwrap();
    let error = device.read_at(BLOCK, &mut [0; 4096]).unwrap_err().to_string();
    assert!(error.contains("truncated") && error.contains("image"), "{error}");
    assert!(device.location().lost.is_some_and(|lost| lost.contains("cut short")));
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(SIZE).unwrap();
    let device = FileDevice::open(&path, Access::ReadWrite).unwrap();
    device.flush().unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(BLOCK).unwrap();
    let error = device.flush().unwrap_err().to_string();
    assert!(error.contains("cut short"), "{error}");
}

#[test]
fn directory_conforms_and_keeps_content() {
    let scratch = Scratch::new();
    let path = scratch.path("store");
    let size = (3 << 30) + SIZE;
    let device = DirDevice::create(&path, size).unwrap();
    conforms(&device);
    drop(device);
    assert_eq!(probe(&path).unwrap(), StoreKind::DirectoryStore);
    assert!(DirDevice::create(&path, size).is_err());

    let device = DirDevice::open(&path, size, Access::ReadOnly).unwrap();
    assert!(read(&device, 0, BLOCK) == pattern(0, BLOCK, 1));
    assert!(device.available() > 0);
    refuses_changes(&device);
    assert!(read(&device, 0, BLOCK) == pattern(0, BLOCK, 1));
}

fn refuses_changes(device: &dyn Device) {
    assert!(device.write_at(0, &[0; 4096]).is_err());
    assert!(device.back(0, BLOCK).is_err());
    device.discard(0, BLOCK);
    device.flush().unwrap();
}

#[test]
fn backing_is_limited() {
    let memory = Memory::with_space_limit(SIZE, 8 * BLOCK);
    let sim = Sim::new(SIZE, 1);
    sim.set_space_limit(8 * BLOCK);
    let devices: [&dyn Device; 2] = [&memory, &sim];
    for device in devices {
        device.back(0, 6 * BLOCK).unwrap();
        device.back(2 * BLOCK, 4 * BLOCK).unwrap();
        assert_eq!(device.available(), 2 * BLOCK);
        assert!(matches!(device.back(10 * BLOCK, 3 * BLOCK), Err(DeviceError::NoSpace)));
        assert!(matches!(device.write_at(20 * BLOCK, &[1; 4096]), Err(DeviceError::NoSpace)));
        device.write_at(BLOCK, &pattern(0, 2 * BLOCK, 0)).unwrap();
        assert_eq!(device.available(), 0, "a part was secured");
        device.discard(10 * BLOCK, 3 * BLOCK);
        assert_eq!(device.available(), 2 * BLOCK);
        device.write_at(20 * BLOCK, &[1; 4096]).unwrap();
        assert_eq!(device.available(), BLOCK);
    }
}

#[test]
fn unfit_sizes_are_refused() {
    let scratch = Scratch::new();
    for size in [0, RESERVED_BYTES, RESERVED_BYTES + 1, (1 << 62) + BLOCK] {
        assert!(FileDevice::create_image(&scratch.path("image"), size).is_err());
        assert!(DirDevice::create(&scratch.path("store"), size).is_err());
    }
    assert_eq!(fs::read_dir(scratch.path("")).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn paths_are_told_apart() {
    let scratch = Scratch::new();
    let path = scratch.path("dir");
    assert_eq!(probe(&path).unwrap(), StoreKind::Missing);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("lock"), b"").unwrap();
    fs::create_dir(path.join("lost+found")).unwrap();
    assert_eq!(probe(&path).unwrap(), StoreKind::EmptyDirectory);
    fs::write(path.join("b"), b"").unwrap();
    fs::write(path.join("a"), b"").unwrap();
    assert_eq!(probe(&path).unwrap(), StoreKind::ForeignDirectory { example: "a".into() });
    assert!(DirDevice::create(&path, SIZE).is_err());
    assert!(DirDevice::open(&path, SIZE, Access::ReadOnly).is_err());
    for own in ["super.b", "super.a"] {
        fs::write(path.join(own), b"").unwrap();
        assert_eq!(probe(&path).unwrap(), StoreKind::DirectoryStore);
        fs::remove_file(path.join(own)).unwrap();
    }
    fs::create_dir(path.join("seg")).unwrap();
    assert_eq!(probe(&path).unwrap(), StoreKind::DirectoryStore);
    assert!(probe(&path.join("a/below-a-file")).is_err());
    std::os::unix::fs::symlink("nowhere", scratch.path("link")).unwrap();
    assert!(matches!(probe(&scratch.path("link")).unwrap(), StoreKind::Other { .. }));
    assert!(matches!(probe("/dev/null".as_ref()).unwrap(), StoreKind::Other { .. }));
    assert!(FileDevice::open("/dev/null".as_ref(), Access::ReadOnly).is_err());
}

#[test]
fn no_space_and_no_quota_on_the_host_are_no_space() {
    let host = |number| DeviceError::host(|| "here".into(), std::io::Error::from_raw_os_error(number));
    assert!(matches!(host(libc::ENOSPC), DeviceError::NoSpace));
    assert!(matches!(host(libc::EDQUOT), DeviceError::NoSpace));
    assert_eq!(host(libc::EIO).to_string().split(':').next(), Some("here"));
}
