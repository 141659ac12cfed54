//! Why a snapshot or clone was made, and by whom: the end of its record.
//!
//! Texts are bytes as they were given, of any encoding.

use super::{FormatError, bad};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Most bytes of a description.
pub const DESCRIPTION_BYTES_MAX: usize = 1024;
/// Most bytes of a command line.
pub const COMMAND_BYTES_MAX: usize = 1024;

/// Why a snapshot or clone was made. What is made before something is the guard that takes it back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Reason {
    /// Somebody asked for it.
    #[default]
    User,
    /// The schedule.
    Schedule,
    /// Before a rollback.
    Rollback,
    /// Before a restore.
    Restore,
    /// Before a merge into the line.
    Merge,
    /// Before a rebase of the line.
    Rebase,
    /// Before a clone became the line.
    Promote,
    /// Before the line got the head back that it had.
    Undo,
    /// Right after a restore, merge or rebase, or after one was taken back; the guard before it has the number before.
    After,
    /// Before a command that was run on the live tree.
    Step,
    /// For a command that was tried on a clone.
    Trial,
    /// Before a restore, merge or rebase, or another one of these, was taken back.
    TakeBack,
    /// Somebody asked for it, and for the second side of a mirror to become a store of its own at that moment.
    Split,
    /// Before much was deleted or overwritten in a short time.
    MassDeletion,
}

impl Reason {
    /// All of them: their numbers on disk are 1 and up.
    const ALL: [Reason; 14] = [
        Reason::User,
        Reason::Schedule,
        Reason::Rollback,
        Reason::Restore,
        Reason::Merge,
        Reason::Rebase,
        Reason::Promote,
        Reason::Undo,
        Reason::After,
        Reason::Step,
        Reason::Trial,
        Reason::TakeBack,
        Reason::Split,
        Reason::MassDeletion,
    ];

    /// What users call it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::User => "user",
            Reason::Schedule => "schedule",
            Reason::Rollback => "before rollback",
            Reason::Restore => "before restore",
            Reason::Merge => "before merge",
            Reason::Rebase => "before rebase",
            Reason::Promote => "before promote",
            Reason::Undo | Reason::TakeBack => "before undo",
            Reason::After => "after change",
            Reason::Step => "step",
            Reason::Trial => "trial",
            Reason::Split => "split",
            Reason::MassDeletion => "before mass deletion",
        }
    }

    /// How the name of an automatic snapshot begins that is made for this; the time follows. None for what people name.
    pub fn name_prefix(self) -> Option<&'static str> {
        Some(match self {
            Reason::User | Reason::Split => return None,
            Reason::Schedule => "@GMT-",
            Reason::Rollback => "@before-rollback-",
            Reason::Restore => "@before-restore-",
            Reason::Merge => "@before-merge-",
            Reason::Rebase => "@before-rebase-",
            Reason::Promote => "@before-promote-",
            Reason::Undo | Reason::TakeBack => "@before-undo-",
            Reason::After => "@after-",
            Reason::Step => "@step-",
            Reason::Trial => "@trial-",
            Reason::MassDeletion => "@before-mass-deletion-",
        })
    }

    fn number(self) -> u8 {
        1 + Reason::ALL.iter().position(|r| *r == self).unwrap_or_default() as u8
    }
}

/// By which method a snapshot was made, if that was said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MadeBy {
    /// Nobody has said: it is as the layout of its tree has it.
    #[default]
    Layout,
    /// What is written over later goes to a new place.
    Row,
    /// What is written over later comes back to its place.
    Cow,
    /// And as a full copy in another store, at once.
    Clone,
    /// And as one that is made in the background.
    Background,
    /// By parting the second side of a mirror.
    Mirror,
}

impl MadeBy {
    /// All of them, by their numbers on disk.
    const ALL: [MadeBy; 6] =
        [MadeBy::Layout, MadeBy::Row, MadeBy::Cow, MadeBy::Clone, MadeBy::Background, MadeBy::Mirror];

    /// The method, as users call it, if it was said.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            MadeBy::Layout => return None,
            MadeBy::Row => "row",
            MadeBy::Cow => "cow",
            MadeBy::Clone => "clone",
            MadeBy::Background => "background",
            MadeBy::Mirror => "mirror",
        })
    }

    /// The other way.
    pub fn from_name(name: &str) -> Option<MadeBy> {
        MadeBy::ALL.into_iter().find(|made| made.name() == Some(name))
    }

    fn number(self) -> u8 {
        MadeBy::ALL.iter().position(|made| *made == self).unwrap_or_default() as u8
    }
}

/// Why and by whom.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Provenance {
    /// Why.
    pub reason: Reason,
    /// By which method, of snapshots.
    pub method: MadeBy,
    /// Who asked for it: the number of a user, where it is known.
    pub user: Option<u32>,
    /// What that user has said about it: at most [`DESCRIPTION_BYTES_MAX`].
    pub description: Vec<u8>,
    /// The command line that it was made for or by, where it is known: at most [`COMMAND_BYTES_MAX`], words between blanks.
    pub command: Vec<u8>,
}

impl From<Reason> for Provenance {
    fn from(reason: Reason) -> Provenance {
        Provenance { reason, ..Provenance::default() }
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawProvenance {
    reason: u8,
    has_user: u8,
    description_len: le::U16,
    command_len: le::U16,
    method: u8,
    reserved: u8,
    user: le::U32,
}

const RAW_BYTES: usize = 12;
const _: () = assert!(size_of::<RawProvenance>() == RAW_BYTES);

impl Provenance {
    /// Most bytes that one takes.
    pub const BYTES_MAX: usize = RAW_BYTES + DESCRIPTION_BYTES_MAX + COMMAND_BYTES_MAX;

    /// Bytes that it takes: 12 and the texts.
    pub fn encoded_len(&self) -> usize {
        RAW_BYTES + self.description.len() + self.command.len()
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let raw = RawProvenance {
            reason: self.reason.number(),
            has_user: self.user.is_some().into(),
            description_len: (self.description.len() as u16).into(),
            command_len: (self.command.len() as u16).into(),
            method: self.method.number(),
            reserved: 0,
            user: self.user.unwrap_or(0).into(),
        };
        out.extend_from_slice(raw.as_bytes());
        out.extend_from_slice(&self.description);
        out.extend_from_slice(&self.command);
    }

    /// Takes one off the front.
    pub fn take(rest: &mut &[u8]) -> Result<Provenance, FormatError> {
        let Ok((raw, tail)) = RawProvenance::read_from_prefix(rest) else {
            return bad!("a reason is cut off: {} bytes", rest.len());
        };
        let (description_len, command_len) =
            (usize::from(raw.description_len.get()), usize::from(raw.command_len.get()));
        if description_len > DESCRIPTION_BYTES_MAX || command_len > COMMAND_BYTES_MAX {
            return bad!("a description of {description_len} bytes, a command of {command_len}");
        }
        let Some(&reason) = Reason::ALL.get(usize::from(raw.reason).wrapping_sub(1)) else {
            return bad!("reason {}, known are 1..={}", raw.reason, Reason::ALL.len());
        };
        let Some(&method) = MadeBy::ALL.get(usize::from(raw.method)) else {
            return bad!("method {}, known are 0..{}", raw.method, MadeBy::ALL.len());
        };
        if raw.has_user > 1 || raw.reserved != 0 || (raw.has_user == 0 && raw.user.get() != 0) {
            return bad!("a reason with reserved bytes that are not zero");
        }
        let (Some(description), Some(after)) = (tail.get(..description_len), tail.get(description_len..))
        else {
            return bad!("a description is cut off");
        };
        let (Some(command), Some(after)) = (after.get(..command_len), after.get(command_len..)) else {
            return bad!("a command is cut off");
        };
        *rest = after;
        Ok(Provenance {
            reason,
            method,
            user: (raw.has_user == 1).then(|| raw.user.get()),
            description: description.to_vec(),
            command: command.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_names() {
        for made in MadeBy::ALL {
            assert_eq!(made.name().map(MadeBy::from_name), (made != MadeBy::Layout).then_some(Some(made)));
        }
        // What was made before methods were kept reads as if nobody had said.
        let mut old = Vec::new();
        Provenance::default().encode(&mut old);
        assert_eq!((old[6], Provenance::take(&mut &old[..]).unwrap().method), (0, MadeBy::Layout));
    }

    #[test]
    fn round_trip_and_damage() {
        for reason in Reason::ALL {
            for user in [None, Some(0), Some(u32::MAX)] {
                let all = Provenance {
                    reason,
                    method: MadeBy::ALL[reason.number() as usize % MadeBy::ALL.len()],
                    user,
                    description: vec![0xff; DESCRIPTION_BYTES_MAX],
                    command: b"make".to_vec(),
                };
                let mut bytes = Vec::new();
                all.encode(&mut bytes);
                assert_eq!(bytes.len(), all.encoded_len());
                assert!((0..bytes.len()).all(|len| Provenance::take(&mut &bytes[..len]).is_err()));
                bytes.push(9);
                let mut rest = &bytes[..];
                assert_eq!(Provenance::take(&mut rest), Ok(all));
                assert_eq!(rest, [9]);
            }
        }
        let mut good = Vec::new();
        Provenance::default().encode(&mut good);
        // Reason, user's mark, lengths beyond their limits, method, reserved byte, a user without a mark.
        for (at, byte) in [(0, 0), (0, 255), (1, 2), (3, 5), (5, 5), (6, 6), (7, 1), (8, 1)] {
            let mut bad = good.clone();
            bad[at] = byte;
            bad.resize(4096, 0);
            assert!(Provenance::take(&mut &bad[..]).is_err(), "byte {at} is {byte}");
        }
    }
}
