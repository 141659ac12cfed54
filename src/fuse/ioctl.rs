//! The requests of `ioctl` that the kernel passes on: what `chattr` and `lsattr` ask, in its two forms.
//!
//! `FS_IOC_GETFLAGS` and `FS_IOC_SETFLAGS` carry 32 bits, `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR` a `struct fsxattr`
//! (linux/fs.h). The kernel has checked that the caller is the owner, and has CAP_LINUX_IMMUTABLE where that is needed.
//! Everything else is ENOTTY.

use crate::ops::{Error, FileFlags, NodeId, Operations, Result};

const GET_FLAGS: u32 = 0x8008_6601;
const SET_FLAGS: u32 = 0x4008_6602;
const GET_XATTR: u32 = 0x801c_581f;
const SET_XATTR: u32 = 0x401c_5820;
/// Bytes of `struct fsxattr`. The flags come first; nothing else of it means anything here.
const XATTR_BYTES: usize = 28;

/// Each flag with its bit in the two forms.
type FlagOf = fn(&mut FileFlags) -> &mut bool;
const BITS: [(FlagOf, u32, u32); 5] = [
    (|f| &mut f.sync, 0x8, 0x20),
    (|f| &mut f.immutable, 0x10, 0x8),
    (|f| &mut f.append_only, 0x20, 0x10),
    (|f| &mut f.no_dump, 0x40, 0x80),
    (|f| &mut f.no_atime, 0x80, 0x40),
];

/// The two forms.
#[derive(Clone, Copy)]
enum Form {
    Flags,
    Xattr,
}

impl Form {
    fn bit(self, (_, flag, xattr): (FlagOf, u32, u32)) -> u32 {
        match self {
            Form::Flags => flag,
            Form::Xattr => xattr,
        }
    }

    fn encode(self, mut flags: FileFlags) -> u32 {
        BITS.iter().filter(|of| *(of.0)(&mut flags)).map(|of| self.bit(*of)).sum()
    }

    fn decode(self, bits: u32) -> Result<FileFlags> {
        let mut flags = FileFlags::default();
        let mut rest = bits;
        for of in BITS {
            *(of.0)(&mut flags) = bits & self.bit(of) != 0;
            rest &= !self.bit(of);
        }
        if rest == 0 { Ok(flags) } else { Err(Error::NotSupported) }
    }
}

/// Whether [`answer`] can be asked.
pub(super) fn is_known(command: u32) -> bool {
    [GET_FLAGS, SET_FLAGS, GET_XATTR, SET_XATTR].contains(&command)
}

/// The answer to a request.
pub(super) fn answer(ops: &dyn Operations, node: NodeId, command: u32, input: &[u8]) -> Result<Vec<u8>> {
    let form = if [GET_FLAGS, SET_FLAGS].contains(&command) { Form::Flags } else { Form::Xattr };
    if [GET_FLAGS, GET_XATTR].contains(&command) {
        let mut bytes = form.encode(ops.file_flags(node)?).to_ne_bytes().to_vec();
        if command == GET_XATTR {
            bytes.resize(XATTR_BYTES, 0);
        }
        return Ok(bytes);
    }
    let (bits, rest) = input.split_first_chunk::<4>().ok_or(Error::Invalid)?;
    if command == SET_XATTR && rest.iter().any(|b| *b != 0) {
        return Err(Error::NotSupported);
    }
    ops.set_file_flags(node, form.decode(u32::from_ne_bytes(*bits))?)?;
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_there_and_back() {
        for form in [Form::Flags, Form::Xattr] {
            let all = BITS.iter().map(|of| form.bit(*of)).sum::<u32>();
            for bits in (0..=all).filter(|bits| bits & !all == 0) {
                assert_eq!(form.decode(bits).map(|flags| form.encode(flags)), Ok(bits));
            }
            assert_eq!(form.decode(all | 1 << 30), Err(Error::NotSupported));
        }
    }
}
