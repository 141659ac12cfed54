//! Extended attributes.
//!
//! Namespaces `user.`, `trusted.` and `security.` are stored as they come, access control lists as `acl` has them;
//! everything else is not offered. Names under `user.snapfs.` are made up and not stored: what snapshots say of themselves, and
//! properties of files. They are never listed: whoever copies a snapshot would copy them. Who may use which is the kernel's question.

use super::acl::{self, set_acl};
use super::compression::{self, compression_attribute, set_compression};
use super::flags;
use super::layout::{LAYOUT, LAYOUT_HOME, LAYOUT_SOURCE, home_attribute, layout_attribute, set_layout};
use super::side_limit::{is_side_limit, set_side_limit, side_limit_attribute};
use super::snapshot::snapshot_attributes;
use super::stored::{add_xattr, take_xattr, value};
use super::terms::{set_term, term_attribute, term_of};
use crate::format::xattr::Xattrs;
use crate::format::{Ino, Key, Kind};
use crate::fs::commits::Commits;
use crate::fs::error::damaged;
use crate::fs::heads::{Heads, Target, target};
use crate::fs::items::Items;
use crate::limits::{XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX};
use crate::ops::{Caller, Error, NodeId, Result, XattrMode};
use crate::volume::ReserveFor;

/// Prefix of the attributes that describe a snapshot.
const OWN_PREFIX: &[u8] = b"user.snapfs.";

/// Refuses what is not offered.
fn check_xattr_name(name: &[u8]) -> Result<()> {
    if name.len() > XATTR_NAME_BYTES_MAX {
        return Err(Error::TooSmall);
    }
    if acl::is_acl(name) {
        return Ok(());
    }
    let prefix = [b"user.".as_slice(), b"trusted.", b"security."].into_iter().find(|p| name.starts_with(p));
    match prefix {
        Some(prefix) if name.len() == prefix.len() || name.contains(&0) => Err(Error::Invalid),
        Some(_) => Ok(()),
        None => Err(Error::NotSupported),
    }
}

/// See [`Operations::getxattr`](crate::ops::Operations::getxattr).
pub fn get_xattr(heads: &Heads, node: NodeId, name: &[u8]) -> Result<Vec<u8>> {
    check_xattr_name(name)?;
    if let Some(term) = term_of(name) {
        return term_attribute(heads, node, term);
    }
    if is_side_limit(name) {
        return side_limit_attribute(heads, node, name);
    }
    match target(node) {
        Target::Snapdir(_) | Target::Clonedir => return Err(Error::NoAttribute),
        _ if name == compression::CHOICE || name == compression::SOURCE => {
            return compression_attribute(&*heads.view_of(node)?, Ino(node.ino()), name);
        }
        _ if name == LAYOUT || name == LAYOUT_SOURCE => {
            return layout_attribute(&*heads.view_of(node)?, Ino(node.ino()), name);
        }
        _ if name == LAYOUT_HOME => return home_attribute(heads, node),
        Target::Snapshot(view, Ino::ROOT) if name.starts_with(OWN_PREFIX) => {
            let own = snapshot_attributes(&heads.volume, view)?;
            let found = own.into_iter().find(|(n, _)| [OWN_PREFIX, n.as_bytes()].concat() == name);
            return found.map(|(_, v)| v).ok_or(Error::NoAttribute);
        }
        _ => {}
    }
    let view = heads.view_of(node)?;
    let ino = Ino(node.ino());
    if !view.inode(ino)?.ok_or(Error::Stale)?.has_xattr {
        return Err(Error::NoAttribute);
    }
    value(&view, ino, name)?.ok_or(Error::NoAttribute)
}

/// See [`Operations::listxattr`](crate::ops::Operations::listxattr).
pub fn list_xattr(heads: &Heads, node: NodeId) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    if let Target::Snapdir(_) | Target::Clonedir = target(node) {
        return Ok(out);
    }
    let view = heads.view_of(node)?;
    let ino = Ino(node.ino());
    if !view.inode(ino)?.ok_or(Error::Stale)?.has_xattr {
        return Ok(out);
    }
    for item in view.range(&Key::new(ino.0, Kind::Xattr, 0), &Key::new(ino.0, Kind::XattrData, 0)) {
        let bucket = Xattrs::decode(&item?.1).map_err(|e| damaged(ino, e))?;
        for (name, _) in bucket.entries {
            out.extend_from_slice(&name);
            out.push(0);
        }
    }
    Ok(out)
}

/// See [`Operations::setxattr`](crate::ops::Operations::setxattr).
pub fn set_xattr(
    commits: &Commits,
    caller: &Caller,
    node: NodeId,
    name: &[u8],
    value: &[u8],
    mode: XattrMode,
) -> Result<()> {
    let (head, ino) = commits.heads.target(node)?;
    check_xattr_name(name)?;
    if name == compression::CHOICE {
        return set_compression(commits, caller, node, value, mode);
    }
    if name == LAYOUT {
        return set_layout(commits, caller, node, value, mode);
    }
    if let Some((term, false)) = term_of(name) {
        return set_term(commits, caller, (node, term), value, mode);
    }
    if is_side_limit(name) {
        return set_side_limit(&commits.heads, caller, (node, name), Some(value), mode);
    }
    if name.starts_with(OWN_PREFIX) {
        return Err(Error::NotPermitted);
    }
    if value.len() > XATTR_VALUE_BYTES_MAX {
        return Err(Error::TooBig);
    }
    if acl::is_acl(name) {
        return set_acl(&commits.heads, caller, node, name, value, mode);
    }
    let mut change = commits.heads.change(&head)?;
    let mut inode = change.known(ino)?;
    flags::check_change(&inode)?;
    let existed = take_xattr(&mut change, ino, name)?;
    match mode {
        XattrMode::Create if existed => return Err(Error::Exists),
        XattrMode::Replace if !existed => return Err(Error::NoAttribute),
        _ => {}
    }
    add_xattr(&mut change, ino, name, value)?;
    inode.has_xattr = true;
    inode.ctime = change.now;
    change.put_inode(ino, &inode);
    change.finish(ReserveFor::Write)
}

/// See [`Operations::removexattr`](crate::ops::Operations::removexattr).
pub fn remove_xattr(commits: &Commits, caller: &Caller, node: NodeId, name: &[u8]) -> Result<()> {
    let (head, ino) = commits.heads.target(node)?;
    check_xattr_name(name)?;
    if name == compression::CHOICE {
        return set_compression(commits, caller, node, b"inherit", XattrMode::Replace);
    }
    if name == LAYOUT {
        return set_layout(commits, caller, node, b"inherit", XattrMode::Replace);
    }
    if let Some((term, false)) = term_of(name) {
        return set_term(commits, caller, (node, term), b"none", XattrMode::Replace);
    }
    if is_side_limit(name) {
        return set_side_limit(&commits.heads, caller, (node, name), None, XattrMode::Replace);
    }
    let mut change = commits.heads.change(&head)?;
    let mut inode = change.known(ino)?;
    flags::check_change(&inode)?;
    if !take_xattr(&mut change, ino, name)? {
        return Err(Error::NoAttribute);
    }
    inode.ctime = change.now;
    change.put_inode(ino, &inode);
    change.finish(ReserveFor::Delete)
}
