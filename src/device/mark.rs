//! Tells a copy that was made while the store was in use from the store itself.
//!
//! Such a copy has each of its files, or each part of its image, from another moment, and nothing of it need be damaged
//! at first sight. While a store is open for writing its marks say so, and which file each is in. A copy is another
//! file; after a crash, a reboot, a move, or in an atomic snapshot of the host, it is the same one. Where the host does
//! not tell when files were made, and on block devices, nothing is marked.

use super::{Device, DeviceError};
use crate::format::mark::{MARK_ADDRS, MARK_BYTES, Mark};

/// True if a mark says that the store was open for writing in another file. What cannot be read as a mark says nothing, and
/// neither does a mark where the host does not tell which file this is: an image may be reached through a loop device.
pub fn is_copy_of_open(device: &dyn Device) -> bool {
    let foreign = |addr: u64| match read(device, addr) {
        Some(Mark::Open(birth)) => device.birth(addr).is_some_and(|here| here != birth),
        _ => false,
    };
    MARK_ADDRS.into_iter().any(foreign)
}

/// Marks the store open for writing; where the host does not tell which file it is, takes away what marks there are.
/// Durable when it returns, and to be called before anything of the store is overwritten.
///
/// # Errors
/// The device's.
pub fn open(device: &dyn Device) -> Result<(), DeviceError> {
    write(device, |addr| device.birth(addr).map(Mark::Open))
}

/// Marks the store closed, with everything of it durable.
///
/// # Errors
/// The device's.
pub fn close(device: &dyn Device) -> Result<(), DeviceError> {
    write(device, |addr| device.birth(addr).map(|_| Mark::Closed))
}

fn write(device: &dyn Device, mark: impl Fn(u64) -> Option<Mark>) -> Result<(), DeviceError> {
    let mut written = false;
    for addr in MARK_ADDRS {
        let old = read(device, addr);
        let new = mark(addr).or(old.map(|_| Mark::Closed));
        if let Some(new) = new.filter(|new| old != Some(*new)) {
            device.write_at(addr, &new.encode())?;
            written = true;
        }
    }
    if written { device.flush() } else { Ok(()) }
}

fn read(device: &dyn Device, addr: u64) -> Option<Mark> {
    let mut bytes = vec![0; MARK_BYTES];
    device.read_at(addr, &mut bytes).ok()?;
    Mark::decode(&bytes).ok()?
}
