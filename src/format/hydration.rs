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
    has_user: u8,
    reserved: [u8; 2],
}
const RAW_BYTES: usize = 80;
const _: () = assert!(size_of::<RawHydration>() == RAW_BYTES);

impl HydrationRecord {
    /// True while the snapshot is needed for it.
    pub fn holds(&self) -> bool {
        self.state != HydrationState::Whole
    }

    /// To the value of a meta tree item: 80 bytes, the path, the sentence, and the user if that is known.
    pub fn encode(&self) -> Vec<u8> {
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
            has_user: self.user.is_some().into(),
            reserved: [0; 2],
        };
        let mut out = raw.as_bytes().to_vec();
        out.extend_from_slice(&self.path);
        out.extend_from_slice(&self.trouble);
        self.user.iter().for_each(|user| out.extend_from_slice(&user.to_le_bytes()));
        out
    }

    /// From its item.
    pub fn decode(bytes: &[u8]) -> Result<HydrationRecord, FormatError> {
        let Ok((raw, rest)) = RawHydration::read_from_prefix(bytes) else {
            return bad!("hydration record has {} bytes, fewer than {RAW_BYTES}", bytes.len());
        };
        let (rest, user) = match (raw.has_user, rest.split_last_chunk::<4>()) {
            (0, _) => (rest, None),
            (1, Some((rest, user))) => (rest, Some(u32::from_le_bytes(*user))),
            (has_user, _) => return bad!("hydration record with a mark {has_user} of a user"),
        };
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
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_damage() {
        use HydrationState::*;
        for (state, user) in [(Running, None), (Paused, Some(0)), (Whole, Some(u32::MAX))] {
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
            };
            let bytes = record.encode();
            assert_eq!(HydrationRecord::decode(&bytes), Ok(record.clone()));
            (0..bytes.len())
                .for_each(|len| assert!(HydrationRecord::decode(&bytes[..len]).is_err(), "at {len}"));
            assert_eq!(record.holds(), state != HydrationState::Whole);
            let wrong = [
                HydrationRecord { number: 0, ..record.clone() },
                HydrationRecord { view: ViewId(0), ..record.clone() },
                HydrationRecord { path: Vec::new(), ..record.clone() },
                HydrationRecord { path: b"relative".to_vec(), ..record.clone() },
                HydrationRecord { path: b"/\0".to_vec(), ..record.clone() },
                HydrationRecord { path: [b'/'; STORE_PATH_MAX + 1].to_vec(), ..record.clone() },
                HydrationRecord { trouble: vec![0; TROUBLE_BYTES_MAX + 1], ..record },
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
