//! Results of operations as replies to the kernel: one function for each shape of reply.

use super::convert;
use super::errno::errno;
use crate::ops::{Attr, Caching, Entry, Handle, NodeId, Result};
use fuser::{
    Errno, FileHandle, FopenFlags, Generation, ReplyAttr, ReplyCreate, ReplyData, ReplyEmpty, ReplyEntry,
    ReplyLseek, ReplyOpen, ReplyWrite, ReplyXattr,
};
use std::time::Duration;

pub(super) fn entry(reply: ReplyEntry, result: Result<Entry>) {
    match result {
        Ok(e) => reply.entry_with_ttls(
            &convert::ttl(e.attr_ttl),
            &convert::ttl(e.entry_ttl),
            &convert::attr_out(&e.attr),
            Generation(e.generation),
        ),
        Err(e) => reply.error(errno(&e)),
    }
}

pub(super) fn empty(reply: ReplyEmpty, result: Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(errno(&e)),
    }
}

pub(super) fn attributes(reply: ReplyAttr, result: Result<(Attr, Duration)>) {
    match result {
        Ok((a, ttl)) => reply.attr(&convert::ttl(ttl), &convert::attr_out(&a)),
        Err(e) => reply.error(errno(&e)),
    }
}

/// A value for a buffer of `size` bytes; 0 asks for the length only.
pub(super) fn value(reply: ReplyXattr, size: u32, result: Result<Vec<u8>>) {
    match result {
        Ok(v) if size == 0 => reply.size(v.len() as u32), // at most 64 KiB, the limit of the kernel
        Ok(v) if v.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(v) => reply.data(&v),
        Err(e) => reply.error(errno(&e)),
    }
}

/// There is no such name, and the kernel may remember that: node 0 with a time to live.
pub(super) fn nothing(reply: ReplyEntry) {
    let nothing = convert::bare_attr(0, crate::ops::FileType::Regular);
    reply.entry_with_ttls(&Duration::ZERO, &convert::ttl(Duration::MAX), &nothing, Generation(0));
}

pub(super) fn opened(reply: ReplyOpen, result: Result<Handle>, flags: FopenFlags) {
    match result {
        Ok(h) => reply.opened(FileHandle(h.0), flags),
        Err(e) => reply.error(errno(&e)),
    }
}

/// A listing is cached, except of a `.snapshots` directory, which changes without a request of the kernel's.
pub(super) fn listing_open_flags(node: NodeId, caching: Caching) -> FopenFlags {
    match caching {
        _ if node.is_snapdir() => FopenFlags::empty(),
        Caching::Keep => FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE,
        Caching::Refresh => FopenFlags::FOPEN_CACHE_DIR,
        Caching::Bypass => FopenFlags::empty(),
    }
}

pub(super) fn created(reply: ReplyCreate, result: Result<(Entry, Handle)>) {
    match result {
        // The reply has one time to live for both: the shorter.
        Ok((e, h)) => reply.created(
            &convert::listing_ttl(&e),
            &convert::attr_out(&e.attr),
            Generation(e.generation),
            FileHandle(h.0),
            file_open_flags(Caching::Keep),
        ),
        Err(e) => reply.error(errno(&e)),
    }
}

pub(super) fn data(reply: ReplyData, result: Result<&[u8]>) {
    match result {
        Ok(bytes) => reply.data(bytes),
        Err(e) => reply.error(errno(&e)),
    }
}

pub(super) fn found_at(reply: ReplyLseek, result: Result<u64>) {
    match result.map(i64::try_from) {
        Ok(Ok(offset)) => reply.offset(offset),
        Ok(Err(_)) => reply.error(Errno::EOVERFLOW),
        Err(e) => reply.error(errno(&e)),
    }
}

/// `result` fits into 32 bits: requests are bounded.
pub(super) fn written(reply: ReplyWrite, result: Result<u64>) {
    match result {
        Ok(n) => reply.written(n as u32),
        Err(e) => reply.error(errno(&e)),
    }
}

/// Contents change only through this kernel or with an explicit notification, so its pages stay valid over an open.
/// `O_DIRECT` is the kernel's to do: with FOPEN_DIRECT_IO it would not drop pages that were read while a direct write was
/// under way.
pub(super) fn file_open_flags(caching: Caching) -> FopenFlags {
    match caching {
        Caching::Keep => FopenFlags::FOPEN_KEEP_CACHE,
        Caching::Refresh => FopenFlags::empty(),
        Caching::Bypass => FopenFlags::FOPEN_DIRECT_IO,
    }
}
