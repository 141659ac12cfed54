//! What differs between two views of one store, inode by inode, as somebody sees it who only knows inodes with a name.
//!
//! Inodes without a name, which were open somewhere, are no part of what is told: to whoever looks they are not there.
//!
//! Where two stores went on from one state, one number may be of a file in the one view and of a directory in the other. That is no
//! change of an inode: the one goes and the other comes.

use crate::format::inode::Inode;
use crate::format::{Ino, Key};
use crate::fs::items::Items;
use crate::volume::{View, VolumeError};
use std::iter::Peekable;

/// Who is told.
pub trait InodeVisitor {
    /// How it fails.
    type Error: From<VolumeError>;

    /// The items of an inode come next; it is there in the older view, in the newer one, or in both. Two of different types that
    /// have one number come one after the other, the older one first.
    fn begin(&mut self, ino: Ino, old: Option<&Inode>, new: Option<&Inode>) -> Result<(), Self::Error>;

    /// An item that differs, or is there in one view only.
    fn item(&mut self, key: &Key, old: Option<&[u8]>, new: Option<&[u8]>) -> Result<(), Self::Error>;

    /// All items of the inode have come.
    fn end(&mut self) -> Result<(), Self::Error>;

    /// There are items of an inode without a name, or without an inode, in the newer view.
    fn nameless(&mut self, _ino: Ino) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// An item of both views.
type Both = (Key, Option<Vec<u8>>, Option<Vec<u8>>);
type Items2<'v> = Peekable<Box<dyn Iterator<Item = Result<Both, VolumeError>> + 'v>>;

/// Tells what differs, in the order of keys: all of `new` where there is no older view.
pub fn visit_inodes<V: InodeVisitor>(
    old: Option<&View>,
    new: &View,
    visitor: &mut V,
) -> Result<(), V::Error> {
    let mut items = items_of(old, new);
    loop {
        let object = match items.peek() {
            None => return Ok(()),
            Some(Ok((key, ..))) => key.object,
            Some(Err(_)) => match items.next() {
                Some(Err(e)) => return Err(e.into()),
                _ => return Ok(()),
            },
        };
        if object != Ino::ROOT.0 && object < Ino::FIRST_FREE.0 {
            pass(&mut items, object, &mut |_| Ok(()))?;
            continue;
        }
        visit_inode(Ino(object), (old, new), &mut items, visitor)?;
    }
}

fn items_of<'v>(old: Option<&'v View>, new: &'v View) -> Items2<'v> {
    let all: Box<dyn Iterator<Item = Result<Both, VolumeError>>> = match old {
        None => {
            let items = new.range(&Key::MIN, &Key::MAX);
            Box::new(items.map(|item| item.map(|(key, value)| (key, None, Some(value.to_vec())))))
        }
        Some(old) => Box::new(old.diff(new, &Key::MIN, &Key::MAX).map(|item| {
            item.map(|item| (item.key, item.old.map(|v| v.to_vec()), item.new.map(|v| v.to_vec())))
        })),
    };
    all.peekable()
}

fn visit_inode<V: InodeVisitor>(
    ino: Ino,
    (old, new): (Option<&View>, &View),
    items: &mut Items2<'_>,
    visitor: &mut V,
) -> Result<(), V::Error> {
    let found = match old {
        Some(old) => old.inode(ino)?,
        None => None,
    };
    let was_there = found.is_some();
    let named = |inode: &Inode| inode.nlink > 0;
    let (had, has) = (found.filter(named), new.inode(ino)?.filter(named));
    if had.is_none() && has.is_none() {
        let mut any = false;
        pass(items, ino.0, &mut |(_, _, new)| {
            any |= new.is_some();
            Ok::<_, V::Error>(())
        })?;
        return if any { visitor.nameless(ino) } else { Ok(()) };
    }
    if let (Some(old), Some(before), Some(now)) = (old, &had, &has)
        && before.kind != now.kind
    {
        visitor.begin(ino, Some(before), None)?;
        for_all(old, ino, &mut |key, value| visitor.item(key, Some(value), None))?;
        visitor.end()?;
        visitor.begin(ino, None, Some(now))?;
        for_all(new, ino, &mut |key, value| visitor.item(key, None, Some(value)))?;
        pass(items, ino.0, &mut |_| Ok::<_, V::Error>(()))?;
        return visitor.end();
    }
    visitor.begin(ino, had.as_ref(), has.as_ref())?;
    match (old.filter(|_| had.is_some()), &has) {
        (Some(old), None) => {
            for_all(old, ino, &mut |key, value| visitor.item(key, Some(value), None))?;
            pass(items, ino.0, &mut |_| Ok::<_, V::Error>(()))?;
        }
        (None, Some(_)) if was_there => {
            for_all(new, ino, &mut |key, value| visitor.item(key, None, Some(value)))?;
            pass(items, ino.0, &mut |_| Ok::<_, V::Error>(()))?;
        }
        _ => pass(items, ino.0, &mut |(key, old, new)| {
            visitor.item(&key, old.as_deref().filter(|_| had.is_some()), new.as_deref())
        })?,
    }
    visitor.end()
}

/// Takes all items of an object.
fn pass<E: From<VolumeError>>(
    items: &mut Items2<'_>,
    object: u64,
    take: &mut dyn FnMut(Both) -> Result<(), E>,
) -> Result<(), E> {
    while let Some(item) = items.next_if(|item| !item.as_ref().is_ok_and(|(key, ..)| key.object != object)) {
        take(item?)?;
    }
    Ok(())
}

/// Takes an item.
type TellItem<'t, E> = &'t mut dyn FnMut(&Key, &[u8]) -> Result<(), E>;

/// All items of an inode.
fn for_all<E: From<VolumeError>>(view: &View, ino: Ino, tell: TellItem<'_, E>) -> Result<(), E> {
    let [from, to] = [ino.0, ino.0 + 1].map(|object| Key { object, kind: 0, rest: 0 });
    for item in view.range(&from, &to) {
        let (key, value) = item?;
        tell(&key, &value)?;
    }
    Ok(())
}
