//! What of a view is younger than an epoch: leaf by leaf, with the keys that each stands for.

use super::{View, VolumeError};
use crate::format::{Epoch, Key};
use crate::tree::{self, Child, Step, Visit};

/// A leaf: all that a view has from one key up to, not including, another.
pub struct YoungLeaf {
    /// The first key.
    pub from: Key,
    /// The key behind the last.
    pub to: Key,
    /// The items.
    pub items: Vec<(Key, Vec<u8>)>,
}

impl View {
    /// Tells of each leaf that was made after an epoch, in the order of keys. What is in no such leaf was there in each view
    /// below this one in the history whose point in time is not before that. Reads no other leaves. Only of a view that a
    /// commit has written.
    pub fn younger<E: From<VolumeError>>(
        &self,
        than: Epoch,
        tell: &mut dyn FnMut(YoungLeaf) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let Child::Stored(root) = &self.root else { return Err(VolumeError::NoSuchView.into()) };
        let (mut leaf, mut failed): (Option<YoungLeaf>, Option<E>) = (None, None);
        let mut end = |leaf: &mut Option<YoungLeaf>, to: Key| match leaf.take() {
            Some(found) => tell(YoungLeaf { to, ..found }),
            None => Ok(()),
        };
        let walked = tree::walk(&self.shared.pager, root, than, &mut |visit| {
            let done = match visit {
                Visit::Node(_, from, level) => end(&mut leaf, from).map(|()| {
                    leaf = (level == 0).then(|| YoungLeaf { from, to: Key::MAX, items: Vec::new() });
                }),
                Visit::Old(_, from) => end(&mut leaf, from),
                Visit::Item(key, value) => {
                    leaf.iter_mut().for_each(|leaf| leaf.items.push((key, value.to_vec())));
                    Ok(())
                }
            };
            failed = done.err();
            Ok(if failed.is_some() { Step::Stop } else { Step::Into })
        });
        walked.map_err(VolumeError::from)?;
        match failed {
            Some(e) => Err(e),
            None => end(&mut leaf, Key::MAX),
        }
    }

    /// True if a commit has written it.
    pub fn is_written(&self) -> bool {
        matches!(self.root, Child::Stored(_))
    }
}
