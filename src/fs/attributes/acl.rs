//! POSIX access control lists: how they and the mode bits follow each other, and how new files inherit them.
//!
//! A list is stored as the extended attribute that Linux makes of it (version 2; then for each entry tag, permissions,
//! id; little-endian), so every tool that copies attributes copies lists. Invariant: an inode has an access list only if
//! it says more than the mode does, and where both speak they agree: owner, others, and the mask as the group bits.
//! Rules of POSIX 1003.1e draft 17, as acl(5) and `fs/posix_acl.c` of Linux have them. Access is checked by the kernel.

use super::flags;
use super::privileges::SET_GROUP_ID;
use super::stored::{self, add_xattr, take_xattr};
use crate::format::Ino;
use crate::format::inode::Inode;
use crate::fs::error::inconsistent;
use crate::fs::heads::{Change, Heads};
use crate::ops::{Caller, Error, FileType, NodeId, Result, XattrMode};
use crate::volume::ReserveFor;

/// The attribute that holds the access list.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute that holds the default list of a directory.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    tag: u16,
    perm: u16,
    id: u32,
}

/// A valid list: owner, users, group, groups, mask (if a user or group is named), others, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acl(Vec<Entry>);

impl Acl {
    /// From the bytes of the attribute. No entry at all is a valid value that takes the list away: `Some(None)`.
    fn parse(bytes: &[u8]) -> Option<Option<Acl>> {
        let (version, entries) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        if u32::from_le_bytes(*version) != VERSION || entries.len() % ENTRY_BYTES != 0 {
            return None;
        }
        let word = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
        let entry = |b: &[u8]| Entry {
            tag: word(b),
            perm: word(&b[2..]),
            id: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        };
        let acl = Acl(entries.chunks_exact(ENTRY_BYTES).map(entry).collect());
        match acl.0.is_empty() {
            true => Some(None),
            false => acl.is_valid().then_some(Some(acl)),
        }
    }

    fn is_valid(&self) -> bool {
        let count = |tag| self.0.iter().filter(|e| e.tag == tag).count();
        let named = count(USER) + count(GROUP);
        let masks = count(MASK);
        self.0.is_sorted_by_key(|e| e.tag)
            && self.0.iter().all(|e| e.perm <= 7)
            && [USER_OBJ, GROUP_OBJ, OTHER].iter().all(|&tag| count(tag) == 1)
            && (masks == 1 || (masks == 0 && named == 0))
            && self.0.len() == 3 + named + masks
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        for e in &self.0 {
            out.extend_from_slice(&e.tag.to_le_bytes());
            out.extend_from_slice(&e.perm.to_le_bytes());
            out.extend_from_slice(&e.id.to_le_bytes());
        }
        out
    }

    /// True if nine bits of a mode say the same.
    fn is_a_mode(&self) -> bool {
        self.0.len() == 3
    }

    /// The entries that the permission bits show, with the place of those bits.
    fn classes(&mut self) -> impl Iterator<Item = (&mut Entry, u32)> {
        let group = if self.is_a_mode() { GROUP_OBJ } else { MASK };
        // A list of four entries may be the three with a mask; one with named entries always has a mask.
        self.0.iter_mut().filter_map(move |e| match e.tag {
            USER_OBJ => Some((e, 6)),
            OTHER => Some((e, 0)),
            tag if tag == group => Some((e, 3)),
            _ => None,
        })
    }

    /// The permission bits that go with the list.
    fn mode(&mut self) -> u32 {
        self.classes().fold(0, |mode, (e, shift)| mode | u32::from(e.perm) << shift)
    }

    /// Follows a `chmod`.
    fn set_mode(&mut self, mode: u32) {
        self.classes().for_each(|(e, shift)| e.perm = (mode >> shift & 7) as u16);
    }

    /// Makes a default list the access list of a new file that asked for `mode`; returns the mode it gets.
    fn inherit(&mut self, mode: u32) -> u32 {
        self.classes().for_each(|(e, shift)| e.perm &= (mode >> shift & 7) as u16);
        mode & !0o777 | self.mode()
    }
}

/// True for the attributes of this file.
pub fn is_acl(name: &[u8]) -> bool {
    name == ACCESS || name == DEFAULT
}

/// `setxattr` of one of the two attributes.
pub fn set_acl(
    heads: &Heads,
    caller: &Caller,
    node: NodeId,
    name: &[u8],
    value: &[u8],
    mode: XattrMode,
) -> Result<()> {
    let (head, ino) = heads.target(node)?;
    let acl = Acl::parse(value).ok_or(Error::Invalid)?;
    let kernel = heads.kernel();
    let mut change = heads.change(&head)?;
    let mut inode = change.known(ino)?;
    flags::check_change(&inode)?;
    match inode.kind {
        FileType::Symlink => return Err(Error::NotSupported),
        FileType::Directory => {}
        _ if name == DEFAULT && acl.is_some() => return Err(Error::AccessDenied),
        _ => {}
    }
    let existed = inode.has_xattr && take_xattr(&mut change, ino, name)?;
    match mode {
        XattrMode::Create if existed => return Err(Error::Exists),
        XattrMode::Replace if !existed => return Err(Error::NoAttribute),
        _ => {}
    }
    if let Some(mut acl) = acl {
        if name == ACCESS {
            inode.mode = inode.mode & !0o777 | acl.mode();
            if inode.mode & SET_GROUP_ID != 0 && !kernel.is_member(caller, inode.gid) {
                inode.mode &= !SET_GROUP_ID;
            }
        }
        if name == DEFAULT || !acl.is_a_mode() {
            add_xattr(&mut change, ino, name, &acl.encode())?;
            inode.has_xattr = true;
        }
    }
    inode.ctime = change.now;
    change.put_inode(ino, &inode);
    change.finish(ReserveFor::Write)
}

fn acl(change: &Change<'_>, ino: Ino, name: &[u8]) -> Result<Option<Acl>> {
    match stored::value(change.view(), ino, name)? {
        None => Ok(None),
        Some(bytes) => Ok(Acl::parse(&bytes)
            .flatten()
            .map(Some)
            .ok_or_else(|| inconsistent(ino, "has an access control list that is none"))?),
    }
}

/// Makes the access list, if there is one, follow the new mode of `inode`.
pub fn follow_mode(change: &mut Change<'_>, ino: Ino, inode: &Inode) -> Result<()> {
    if !inode.has_xattr {
        return Ok(());
    }
    if let Some(mut acl) = acl(change, ino, ACCESS)? {
        acl.set_mode(inode.mode);
        take_xattr(change, ino, ACCESS)?;
        add_xattr(change, ino, ACCESS, &acl.encode())?;
    }
    Ok(())
}

/// Gives the new inode `ino` in `parent` its permission bits: those that its creator asked for, cut by the default
/// list of the directory, which it inherits, or by the creator's umask if there is none.
pub fn inherit_acl(
    change: &mut Change<'_>,
    caller: &Caller,
    parent: (Ino, &Inode),
    ino: Ino,
    inode: &mut Inode,
) -> Result<()> {
    if inode.kind == FileType::Symlink {
        return Ok(());
    }
    let default = if parent.1.has_xattr { acl(change, parent.0, DEFAULT)? } else { None };
    let Some(default) = default else {
        inode.mode &= !(caller.umask & 0o777);
        return Ok(());
    };
    let mut access = default.clone();
    inode.mode = access.inherit(inode.mode);
    if !access.is_a_mode() {
        add_xattr(change, ino, ACCESS, &access.encode())?;
        inode.has_xattr = true;
    }
    if inode.kind == FileType::Directory {
        add_xattr(change, ino, DEFAULT, &default.encode())?;
        inode.has_xattr = true;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::tests::{ROOT, SUPER, T, USER as CALLER};
    use crate::ops::{Operations, SetAttr};

    /// A list with these entries; ids count from 1.
    fn list(entries: &[(u16, u16)]) -> Vec<u8> {
        let entry = |(at, &(tag, perm)): (usize, &(u16, u16))| Entry { tag, perm, id: at as u32 };
        Acl(entries.iter().enumerate().map(entry).collect()).encode()
    }

    fn full(user: u16, named: u16, mask: u16) -> Vec<u8> {
        list(&[(USER_OBJ, user), (USER, named), (GROUP_OBJ, 5), (MASK, mask), (OTHER, 0)])
    }

    #[test]
    fn only_valid_lists_are_taken() {
        assert_eq!(Acl::parse(&list(&[])), Some(None));
        for good in
            [full(7, 6, 4), list(&[(1, 7), (4, 5), (32, 0)]), list(&[(1, 7), (4, 5), (16, 7), (32, 0)])]
        {
            let acl = Acl::parse(&good).flatten().expect("valid");
            assert_eq!(acl.encode(), good);
        }
        let bad: [&[(u16, u16)]; 7] = [
            &[(1, 7), (4, 5)],
            &[(1, 8), (4, 5), (32, 0)],
            &[(4, 5), (1, 7), (32, 0)],
            &[(1, 7), (2, 6), (4, 5), (32, 0)],
            &[(1, 7), (1, 7), (4, 5), (32, 0)],
            &[(1, 7), (4, 5), (16, 7), (16, 7), (32, 0)],
            &[(1, 7), (4, 5), (32, 0), (64, 0)],
        ];
        for entries in bad {
            assert_eq!(Acl::parse(&list(entries)), None, "{entries:?}");
        }
        for cut in 0..4 {
            assert_eq!(Acl::parse(&full(7, 6, 4)[..cut]), None);
        }
        assert_eq!(Acl::parse(&full(7, 6, 4)[..13]), None);
        assert_eq!(Acl::parse(&[3, 0, 0, 0]), None);
    }

    #[test]
    fn list_and_mode_follow_each_other() {
        let t = T::new();
        let f = t.create(ROOT, "f").0;
        let set = |value: &[u8]| t.fs.setxattr(&CALLER, f, ACCESS, value, XattrMode::Set);
        let get = || t.fs.getxattr(f, ACCESS);
        set(&full(6, 7, 4)).unwrap();
        assert_eq!((t.attr(f).mode, get()), (0o640, Ok(full(6, 7, 4))));
        let mode = SetAttr { mode: Some(0o751), ..SetAttr::default() };
        t.fs.setattr(&CALLER, f, None, &mode).unwrap();
        let after = list(&[(USER_OBJ, 7), (USER, 7), (GROUP_OBJ, 5), (MASK, 5), (OTHER, 1)]);
        assert_eq!((t.attr(f).mode, get()), (0o751, Ok(after)));
        assert_eq!(t.fs.listxattr(f).unwrap(), b"system.posix_acl_access\0");
        // A list that a mode can say is a mode.
        set(&list(&[(1, 6), (4, 2), (32, 1)])).unwrap();
        assert_eq!((t.attr(f).mode, get()), (0o621, Err(Error::NoAttribute)));
        set(&full(6, 7, 4)).unwrap();
        set(&list(&[])).unwrap();
        assert_eq!((t.attr(f).mode, get()), (0o640, Err(Error::NoAttribute)));
        assert_eq!(set(b"nonsense"), Err(Error::Invalid));
        let default = t.fs.setxattr(&CALLER, f, DEFAULT, &full(7, 7, 7), XattrMode::Set);
        assert_eq!(default, Err(Error::AccessDenied));
    }

    #[test]
    fn set_group_id_goes_when_a_stranger_sets_a_list() {
        let t = T::new();
        let f = t.create(ROOT, "f").0;
        let set = SetAttr { mode: Some(0o2755), gid: Some(77), ..SetAttr::default() };
        for (caller, kept) in [(SUPER, 0o2000), (CALLER, 0)] {
            t.fs.setattr(&SUPER, f, None, &SetAttr { mode: None, ..set }).unwrap();
            t.fs.setattr(&SUPER, f, None, &SetAttr { gid: None, ..set }).unwrap();
            t.fs.setxattr(&caller, f, ACCESS, &full(7, 7, 7), XattrMode::Set).unwrap();
            assert_eq!(t.attr(f).mode & 0o7000, kept);
        }
    }

    #[test]
    fn new_files_inherit_and_the_umask_gives_way() {
        let t = T::new();
        let d = t.mkdir(ROOT, "d").unwrap();
        let who = Caller { umask: 0o077, ..CALLER };
        let make = |dir, name: &str, mode| t.fs.mknod(&who, dir, name.as_bytes(), FileType::Regular, mode, 0);
        assert_eq!(make(d, "before", 0o666).unwrap().attr.mode, 0o600);
        t.fs.setxattr(&CALLER, d, DEFAULT, &full(7, 6, 7), XattrMode::Set).unwrap();
        assert_eq!(t.attr(d).mode, 0o755, "a default list is not about the directory itself");
        let file = make(d, "file", 0o666).unwrap().attr;
        let inherited = list(&[(USER_OBJ, 6), (USER, 6), (GROUP_OBJ, 5), (MASK, 6), (OTHER, 0)]);
        assert_eq!((file.mode, t.fs.getxattr(file.node, ACCESS)), (0o660, Ok(inherited)));
        assert_eq!(t.fs.getxattr(file.node, DEFAULT), Err(Error::NoAttribute));
        let sub = t.fs.mkdir(&who, d, b"sub", 0o777).unwrap().attr;
        assert_eq!((sub.mode, t.fs.getxattr(sub.node, DEFAULT)), (0o770, Ok(full(7, 6, 7))));
        let link = t.fs.symlink(&who, d, b"link", b"x").unwrap().attr;
        assert_eq!((link.mode, t.fs.listxattr(link.node)), (0o777, Ok(vec![])));
        // A default list that is only a mode leaves no access list behind.
        t.fs.setxattr(&CALLER, d, DEFAULT, &list(&[(1, 7), (4, 1), (32, 0)]), XattrMode::Set).unwrap();
        let plain = make(d, "plain", 0o666).unwrap().attr;
        assert_eq!((plain.mode, t.fs.listxattr(plain.node)), (0o600, Ok(vec![])));
    }
}
