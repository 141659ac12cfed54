//! The plan that makes one view of another: all that differs.

use super::plan::{Aspects, Plan, Takeover};
use super::tree::has_other_attributes;
use crate::fs::difference::{FileAt, each_inode, is_same_content};
use crate::fs::items::Items;
use crate::volume::{View, VolumeError};

/// What a line that is as `old` takes over from `new` to be as that is. Costs what differs.
pub fn between(old: &View, new: &View) -> Result<Plan, VolumeError> {
    let mut plan = Plan::default();
    each_inode(old, new, &mut |diff| {
        // What has no name in the newer view goes by losing its names.
        if new.inode(diff.ino)?.is_some_and(|inode| inode.nlink > 0) {
            let aspects = match &diff.inode {
                // One without a name may go at any time, and then it is made.
                Some((Some(before), Some(now))) if before.nlink > 0 => {
                    let attributes = has_other_attributes(before, now);
                    let ends = [(old, before), (new, now)];
                    let [before, now] = ends.map(|(view, inode)| FileAt { view, ino: diff.ino, inode });
                    let content = (diff.content || diff.resized()) && !is_same_content(before, now)?;
                    Aspects { attributes, times: false, xattrs: diff.xattrs, content }
                }
                Some(_) => Aspects::ALL,
                None => Aspects { xattrs: diff.xattrs, content: diff.content, ..Aspects::NOTHING },
            };
            if aspects != Aspects::NOTHING {
                plan.inodes.insert(diff.ino, Takeover { from: diff.ino, aspects });
            }
        }
        for (dir, name) in diff.gone {
            plan.entries.entry((dir, name)).or_insert(None);
        }
        for (dir, name) in diff.come {
            plan.entries.insert((dir, name), Some(diff.ino));
        }
        Ok(())
    })?;
    Ok(plan)
}
