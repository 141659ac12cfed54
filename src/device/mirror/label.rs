//! Labels and rests on a device: the newest of those that are there, and the next one.

use crate::device::{Device, DeviceError};
use crate::format::BLOCK_BYTES;
use crate::format::mirror::{LABEL_ADDRS, LABEL_BYTES, Label};
use crate::format::rest::{FillRest, REST_ADDRS, REST_BYTES};

/// The label of a device, if it has one. What is neither zeros nor a label is none.
///
/// # Errors
/// If none is found and a place cannot be read.
pub fn read_label(device: &dyn Device) -> Result<Option<Label>, DeviceError> {
    let (mut newest, mut failed): (Option<Label>, _) = (None, None);
    for addr in LABEL_ADDRS {
        let mut bytes = vec![0; LABEL_BYTES];
        match device.read_at(addr, &mut bytes) {
            Err(e) => failed = Some(e),
            Ok(()) => match Label::decode(&bytes) {
                Ok(Some(label)) if newest.as_ref().is_none_or(|n| n.number < label.number) => {
                    newest = Some(label);
                }
                _ => {}
            },
        }
    }
    match (newest, failed) {
        (None, Some(e)) => Err(e),
        (newest, _) => Ok(newest),
    }
}

/// True if all places of labels can be read and are zeros: none was ever written, or all were taken away.
pub fn never_labelled(device: &dyn Device) -> bool {
    LABEL_ADDRS.into_iter().all(|addr| {
        let mut bytes = vec![0; LABEL_BYTES];
        device.read_at(addr, &mut bytes).is_ok() && matches!(Label::decode(&bytes), Ok(None))
    })
}

/// True if a label says that it was written to another file than the one it is in: this is a copy of a side.
pub fn is_copied(device: &dyn Device, label: &Label) -> bool {
    label.home.is_some_and(|home| device.birth(LABEL_ADDRS[0]).is_some_and(|here| here != home))
}

/// Writes a label to its places, durably, with the file that they are in. Its number is one more than that of the one in
/// force.
///
/// # Errors
/// The device's.
pub fn write_label(device: &dyn Device, label: &Label) -> Result<(), DeviceError> {
    let bytes = Label { home: device.birth(LABEL_ADDRS[0]), ..label.clone() }.encode();
    for addr in label.addrs() {
        device.write_at(addr, &bytes)?;
    }
    device.flush()
}

/// Takes all labels away, durably: the one in force goes last.
///
/// # Errors
/// The device's.
pub fn clear_labels(device: &dyn Device) -> Result<(), DeviceError> {
    let in_force = read_label(device).ok().flatten().map(|label| label.addrs());
    let is_last = |addr: &u64| in_force.is_some_and(|addrs| addrs.contains(addr));
    for last in [false, true] {
        for addr in LABEL_ADDRS.into_iter().filter(|addr| is_last(addr) == last) {
            device.write_at(addr, &[0; LABEL_BYTES])?;
        }
        if last || in_force.is_some() {
            device.flush()?;
        }
    }
    Ok(())
}

/// The newest rest of a device, if it has one that can be read.
#[must_use]
pub fn read_rest(device: &dyn Device) -> Option<FillRest> {
    read_rests(device).into_iter().next()
}

/// The rests of a device that can be read, the newest first.
#[must_use]
pub fn read_rests(device: &dyn Device) -> Vec<FillRest> {
    let read = |addr| {
        let mut bytes = vec![0; REST_BYTES];
        device.read_at(addr, &mut bytes).ok()?;
        FillRest::decode(&bytes).ok()
    };
    let mut rests: Vec<FillRest> = REST_ADDRS.into_iter().filter_map(read).collect();
    rests.sort_by_key(|rest| std::cmp::Reverse(rest.number));
    rests
}

/// Clears the place of the rest with this number, durably.
///
/// # Errors
/// The device's.
pub fn clear_rest(device: &dyn Device, number: u64) -> Result<(), DeviceError> {
    device.write_at(FillRest::place(number), &vec![0; BLOCK_BYTES as usize])?;
    device.flush()
}

/// Writes a rest to its place, durably, once everything is that it says is there.
///
/// # Errors
/// The device's.
pub fn write_rest(device: &dyn Device, rest: &FillRest) -> Result<(), DeviceError> {
    device.flush()?;
    device.write_at(rest.addr(), &rest.encode())?;
    device.flush()
}
