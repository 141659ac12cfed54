//! The plan that makes one view of another: all that differs.

use super::plan::{Aspects, Plan, Takeover};
use crate::fs::difference::each_inode;
use crate::fs::items::Items;
use crate::volume::{View, VolumeError};

/// What a line that is as `old` takes over from `new` to be as that is. Costs what differs.
pub fn between(old: &View, new: &View) -> Result<Plan, VolumeError> {
    let mut plan = Plan::default();
    each_inode(old, new, &mut |diff| {
        // What has no name in the newer view goes by losing its names.
        if new.inode(diff.ino)?.is_some_and(|inode| inode.nlink > 0) {
            let resized = match &diff.inode {
                Some((Some(old), Some(new))) => old.size != new.size,
                made => made.is_some(),
            };
            let (attributes, content) = (diff.inode.is_some(), diff.content || resized);
            let aspects = Aspects { attributes, xattrs: diff.xattrs, content };
            if aspects.attributes || aspects.xattrs || aspects.content {
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
