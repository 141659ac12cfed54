//! The hydration record: a copy of a snapshot in another store, which is made in the background or was made by a command; an
//! item of the meta tree for each.

use super::ids::COUNTER_MAX;
use super::{FormatError, ViewId, bad};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Copies of a snapshot that are known at most.
pub const COPIES_MAX: usize = 32;
/// Bytes of the path of a store at most.
pub const STORE_PATH_MAX: usize = 3072;
/// Bytes of the sentence about the last failure at most.
pub const TROUBLE_BYTES_MAX: usize = 512;

/// How a copy stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HydrationState {
    /// It is being made.
    Running,
    /// It waits until it is told to go on.
    Paused,
    /// All of it is there.
    Whole,
}

impl HydrationState {
    fn number(self) -> u8 {
        match self {
            HydrationState::Running => 1,
            HydrationState::Paused => 2,
            HydrationState::Whole => 3,
        }
    }

    fn from_number(number: u8) -> Option<HydrationState> {
        use HydrationState::*;
        [Running, Paused, Whole].into_iter().find(|state| state.number() == number)
    }

    /// In a word, for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            HydrationState::Running => "running",
            HydrationState::Paused => "paused",
            HydrationState::Whole => "whole",
        }
    }
}

/// For how long the snapshot is kept for a copy that is not whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyHold {
    /// Until it is whole or given up: so those of programs that knew no end.
    Always,
    /// Until the store has this age, in seconds, not 0.
    Until(u64),
    /// No longer.
    Ended,
}

/// A copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HydrationRecord {
    /// Its number.
    pub number: u64,
    /// The snapshot.
    pub view: ViewId,
    /// The store that it goes to.
    pub store: [u8; 16],
    /// Where that was.
    pub path: Vec<u8>,
    /// How it stands.
    pub state: HydrationState,
    /// Bytes a second at most: 0 as it finds right, the greatest number none.
    pub rate: u64,
    /// When it was begun, and when it was whole: seconds since 1970 UTC; 0 for never.
    pub begun_secs: i64,
    /// The second of these.
    pub ended_secs: i64,
    /// Bytes that the other store had received when this was written.
    pub done_bytes: u64,
    /// How many it will be, about.
    pub about_bytes: u64,
    /// Why it did not go on, if something was in its way.
    pub trouble: Vec<u8>,
    /// Who asked for it: the number of a user, where it is known.
    pub user: Option<u32>,
    /// For how long it holds the snapshot.
    pub hold: CopyHold,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHydration {
    number: le::U64,
    view: le::U64,
    store: [u8; 16],
    rate: le::U64,
    begun_secs: le::I64,
    ended_secs: le::I64,
    done_bytes: le::U64,
    about_bytes: le::U64,
    path_len: le::U16,
    trouble_len: le::U16,
    state: u8,
    marks: u8,
    reserved: [u8; 2],
}
const RAW_BYTES: usize = 80;
const _: () = assert!(size_of::<RawHydration>() == RAW_BYTES);
/// What is there behind the sentence, as bits of the marks.
const HAS_USER: u8 = 1;
const HAS_END: u8 = 2;

impl HydrationRecord {
    /// True if all of it is there.
    pub fn is_whole(&self) -> bool {
        self.state == HydrationState::Whole
    }

    /// True while the snapshot is kept for it.
    pub fn holds(&self) -> bool {
        !self.is_whole() && self.hold != CopyHold::Ended
    }

    /// To the value of a meta tree item: 80 bytes, the path, the sentence, the end of its hold if it has one, and the user if that
    /// is known.
    pub fn encode(&self) -> Vec<u8> {
        let ends = match self.hold {
            CopyHold::Always => None,
            CopyHold::Until(age) => Some(age),
            CopyHold::Ended => Some(0),
        };
        let user = if self.user.is_some() { HAS_USER } else { 0 };
        let marks = user | if ends.is_some() { HAS_END } else { 0 };
        let raw = RawHydration {
            number: self.number.into(),
            view: self.view.0.into(),
            store: self.store,
            rate: self.rate.into(),
            begun_secs: self.begun_secs.into(),
            ended_secs: self.ended_secs.into(),
            done_bytes: self.done_bytes.into(),
            about_bytes: self.about_bytes.into(),
            path_len: (self.path.len() as u16).into(),
            trouble_len: (self.trouble.len() as u16).into(),
            state: self.state.number(),
            marks,
            reserved: [0; 2],
        };
        let mut out = raw.as_bytes().to_vec();
        out.extend_from_slice(&self.path);
        out.extend_from_slice(&self.trouble);
        ends.iter().for_each(|ends| out.extend_from_slice(&ends.to_le_bytes()));
        self.user.iter().for_each(|user| out.extend_from_slice(&user.to_le_bytes()));
        out
    }

    /// From its item.
    pub fn decode(bytes: &[u8]) -> Result<HydrationRecord, FormatError> {
        let Ok((raw, rest)) = RawHydration::read_from_prefix(bytes) else {
            return bad!("hydration record has {} bytes, fewer than {RAW_BYTES}", bytes.len());
        };
        let (marks, mut rest, mut user, mut hold) = (raw.marks, rest, None, CopyHold::Always);
        if marks & !(HAS_USER | HAS_END) != 0 {
            return bad!("hydration record with marks {marks}");
        }
        if marks & HAS_USER != 0 {
            let Some((front, last)) = rest.split_last_chunk() else {
                return bad!("the user in a hydration record is cut off");
            };
            (rest, user) = (front, Some(u32::from_le_bytes(*last)));
        }
        if marks & HAS_END != 0 {
            let Some((front, last)) = rest.split_last_chunk() else {
                return bad!("the end of the hold in a hydration record is cut off");
            };
            hold = match u64::from_le_bytes(*last) {
                0 => CopyHold::Ended,
                age if age < COUNTER_MAX => CopyHold::Until(age),
                age => return bad!("a copy that holds its snapshot until {age}"),
            };
            rest = front;
        }
        let Some((path, trouble)) = rest.split_at_checked(raw.path_len.get().into()) else {
            return bad!("the path in a hydration record is cut off");
        };
        let fits = (1..=STORE_PATH_MAX).contains(&path.len()) && path.starts_with(b"/") && !path.contains(&0);
        if !fits || trouble.len() != usize::from(raw.trouble_len.get()) || trouble.len() > TROUBLE_BYTES_MAX {
            return bad!(
                "hydration record with a path of {} bytes and {} behind it",
                path.len(),
                trouble.len()
            );
        }
        let Some(state) = HydrationState::from_number(raw.state).filter(|_| raw.reserved == [0; 2]) else {
            return bad!("hydration record in state {}", raw.state);
        };
        let numbers = [&raw.number, &raw.view].map(|number| number.get());
        if numbers.iter().any(|number| *number == 0 || *number > COUNTER_MAX) {
            return bad!("hydration record with numbers {numbers:?}");
        }
        Ok(HydrationRecord {
            number: raw.number.get(),
            view: ViewId(raw.view.get()),
            store: raw.store,
            path: path.to_vec(),
            state,
            rate: raw.rate.get(),
            begun_secs: raw.begun_secs.get(),
            ended_secs: raw.ended_secs.get(),
            done_bytes: raw.done_bytes.get(),
            about_bytes: raw.about_bytes.get(),
            trouble: trouble.to_vec(),
            user,
            hold,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_damage() {
        use CopyHold::*;
        use HydrationState::*;
        for (state, user, hold) in [
            (Running, None, Always),
            (Running, None, Until(COUNTER_MAX - 1)),
            (Paused, Some(0), Until(1)),
            (Paused, Some(0), Ended),
            (Whole, Some(u32::MAX), Always),
        ] {
            let record = HydrationRecord {
                number: 1,
                view: ViewId(2),
                store: [3; 16],
                path: b"/mnt/\xff".to_vec(),
                state,
                rate: u64::MAX,
                begun_secs: -4,
                ended_secs: 5,
                done_bytes: 6,
                about_bytes: 7,
                trouble: b"it is away".to_vec(),
                user,
                hold,
            };
            let bytes = record.encode();
            assert_eq!(HydrationRecord::decode(&bytes), Ok(record.clone()));
            (0..bytes.len())
                .for_each(|len| assert!(HydrationRecord::decode(&bytes[..len]).is_err(), "at {len}"));
            assert_eq!(record.holds(), state != HydrationState::Whole && hold != Ended);
            let wrong = [
                HydrationRecord { number: 0, ..record.clone() },
                HydrationRecord { view: ViewId(0), ..record.clone() },
                HydrationRecord { path: Vec::new(), ..record.clone() },
                HydrationRecord { path: b"relative".to_vec(), ..record.clone() },
                HydrationRecord { path: b"/\0".to_vec(), ..record.clone() },
                HydrationRecord { path: [b'/'; STORE_PATH_MAX + 1].to_vec(), ..record.clone() },
                HydrationRecord { trouble: vec![0; TROUBLE_BYTES_MAX + 1], ..record.clone() },
                HydrationRecord { hold: Until(COUNTER_MAX), ..record },
            ];
            wrong.iter().for_each(|record| assert!(HydrationRecord::decode(&record.encode()).is_err()));
            for at in [76, 77, 78, 79] {
                let mut spoiled = bytes.clone();
                spoiled[at] = 9;
                assert!(HydrationRecord::decode(&spoiled).is_err(), "{at}");
            }
        }
    }
}
