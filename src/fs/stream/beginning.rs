//! A line that is received into begins as its base is: so do the sums, and whatever a stream says of what there is.
//!
//! It may begin as the head of the line that the base is of, if nobody has changed anything there since: so that what came home
//! since the base was made is home in it. In such a head times of access and files without a name may be others than in the base. They
//! are made what they are there, in bounded steps. Nothing is told here of where content lies.

use crate::format::inode::Inode;
use crate::format::{Ino, Key, Kind, LineId};
use crate::fs::items::{Items, away_record, decode_extent};
use crate::fs::past::Past;
use crate::ops::{Result, RoomFor};
use crate::volume::{ReserveFor, Txn, View, VolumeError};

/// Items that are changed in one step.
const STEP_ITEMS: usize = 256;

/// What is to be done with an item.
enum Fix {
    Set(Key, Vec<u8>),
    Remove(Key),
}

/// What a line is to be in another way than it is; as far as it was looked at.
struct Looked {
    fixes: Vec<Fix>,
    /// Where to go on.
    next: Option<Key>,
}

/// Makes a line, of which nobody but who receives it knows, as `base` is to whoever looks. Where its files have content as in the base
/// that stays where it is.
pub fn begin_as_base(past: &Past, line: LineId, base: &View) -> Result<()> {
    let volume = &past.commits.heads.volume;
    let mut from = Some(Key::MIN);
    while let Some(at) = from {
        let looked = look(base, &volume.live(line)?, at)?;
        if !looked.fixes.is_empty() {
            past.in_room(RoomFor::Deletion, || {
                let mut txn = volume.begin(line)?;
                let done = txn.attempt(|txn| {
                    looked.fixes.iter().try_for_each(|fix| fix.carry_out(txn))?;
                    txn.reserve_attempted(ReserveFor::Write)
                });
                Ok(done?)
            })?;
        }
        from = looked.next;
    }
    Ok(())
}

/// What differs from a key on, for one step.
fn look(base: &View, now: &View, from: Key) -> std::result::Result<Looked, VolumeError> {
    let (mut fixes, mut named) = (Vec::new(), None);
    for item in base.diff(now, &from, &Key::MAX) {
        let item = item?;
        let key = item.key;
        if fixes.len() >= STEP_ITEMS {
            return Ok(Looked { fixes, next: Some(key) });
        }
        let ino = Ino(key.object);
        if ino == Ino::ORPHANS {
            // What is listed of files without a name goes with them.
            continue;
        }
        let is_named = match named {
            Some((of, is_named)) if of == ino => is_named,
            _ => now.inode(ino)?.is_some_and(|inode| inode.nlink > 0 || ino == Ino::ROOT),
        };
        named = Some((ino, is_named));
        if !is_named {
            let [first, end] = [ino.0, ino.0 + 1].map(|object| Key { object, kind: 0, rest: 0 });
            let left = STEP_ITEMS - fixes.len();
            for item in now.range(&first, &end).take(left) {
                fixes.push(Fix::Remove(item?.0));
            }
            // What is left of it is there to be seen when it is looked at again.
            let next = if fixes.len() < STEP_ITEMS { end } else { first };
            let listed = [Key::new(Ino::ORPHANS.0, Kind::Orphan, ino.0), away_record(ino)];
            fixes.extend(listed.map(Fix::Remove));
            return Ok(Looked { fixes, next: Some(next) });
        }
        if let (Some(old), Some(_), Some(Kind::Inode)) = (item.old, item.new, Kind::from_u8(key.kind)) {
            fixes.push(Fix::Set(key, old.to_vec()));
        }
    }
    Ok(Looked { fixes, next: None })
}

impl Fix {
    fn carry_out(&self, txn: &mut Txn<'_>) -> std::result::Result<(), VolumeError> {
        match self {
            // What a file takes follows from how its content lies.
            Fix::Set(key, value) => {
                let ino = Ino(key.object);
                let old = Inode::decode(value).map_err(|e| crate::fs::error::damaged(ino, e))?;
                let blocks = txn.view().inode(ino)?.map_or(old.blocks, |inode| inode.blocks);
                txn.insert(*key, &Inode { blocks, ..old }.encode())
            }
            Fix::Remove(key) => {
                let Some(value) = txn.view().get(key)?.map(|value| value.to_vec()) else { return Ok(()) };
                txn.remove(key)?;
                if key.kind == Kind::Extent as u8 {
                    txn.free(&decode_extent(key, &value)?.1);
                }
                Ok(())
            }
        }
    }
}
