//! The schedules of a line: how often snapshots of it are taken by themselves, and which of these are kept. A part of line
//! records.
//!
//! What the numbers mean for snapshots is decided in `schedule`; nothing in here is text that anybody carries out.

use super::{FormatError, bad};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Most schedules of one line.
pub const SCHEDULES_MAX: usize = 8;
/// Most bytes of the name of one.
pub const SCHEDULE_NAME_BYTES_MAX: usize = 32;
/// The name of one that was given none.
pub const DEFAULT_SCHEDULE: &str = "default";

/// A unit of calendar time, in UTC. Weeks begin on Mondays.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Unit {
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
    /// 7 days.
    Week,
    /// Of the Gregorian calendar.
    Month,
    /// The same.
    Year,
}

impl Unit {
    /// All of them, finest first: their numbers on disk are 1 and up.
    pub const ALL: [Unit; 6] = [Unit::Minute, Unit::Hour, Unit::Day, Unit::Week, Unit::Month, Unit::Year];

    fn number(self) -> u8 {
        self as u8 + 1
    }

    fn from_number(n: u8) -> Result<Unit, FormatError> {
        match Unit::ALL.get(usize::from(n).wrapping_sub(1)) {
            Some(unit) => Ok(*unit),
            None => bad!("unit {n} of a schedule, known are 1..={}", Unit::ALL.len()),
        }
    }
}

/// A stretch of calendar time: so many units.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Period {
    /// How many: not 0.
    pub count: u32,
    /// Of what.
    pub unit: Unit,
}

/// How many are kept, one for each unit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Class {
    /// How many: not 0.
    pub count: u32,
    /// One for each of these.
    pub unit: Unit,
}

/// An amount of space.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Share {
    /// Of the store, in hundredths: 1 to 100.
    Percent(u8),
    /// In bytes: not 0.
    Bytes(u64),
}

/// When snapshots are taken by themselves, and which of them are kept.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Schedule {
    /// Its name: letters, digits, `-`, `_` and `.`; unique in its line. The snapshots that it takes bear it.
    pub name: String,
    /// One is taken in each of these.
    pub every: Period,
    /// What is kept of them, finest unit first, each at most once; nothing: all.
    pub keep: Vec<Class>,
    /// So much they may hold alone, together.
    pub budget: Option<Share>,
    /// So much of the store they leave free.
    pub free: Option<Share>,
    /// One is taken also if nothing has changed.
    pub always: bool,
    /// Only when somebody asks for it.
    pub by_hand: bool,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawSchedule {
    name_len: u8,
    flags: u8,
    every_unit: u8,
    classes: u8,
    every_count: le::U32,
    budget: le::U64,
    free: le::U64,
    budget_kind: u8,
    free_kind: u8,
    reserved: [u8; 6],
}
const RAW_BYTES: usize = 32;
const _: () = assert!(size_of::<RawSchedule>() == RAW_BYTES);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawClass {
    count: le::U32,
    unit: u8,
    reserved: [u8; 3],
}
const _: () = assert!(size_of::<RawClass>() == 8);

const ALWAYS: u8 = 1;
const BY_HAND: u8 = 2;

/// Most bytes that the schedules of a line take.
pub const SCHEDULES_BYTES_MAX: usize =
    SCHEDULES_MAX * (RAW_BYTES + SCHEDULE_NAME_BYTES_MAX + Unit::ALL.len() * size_of::<RawClass>());

/// True if a schedule may be called so.
pub fn is_schedule_name(name: &str) -> bool {
    let proper = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=SCHEDULE_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(proper)
}

fn share(kind: u8, amount: u64) -> Result<Option<Share>, FormatError> {
    match (kind, amount) {
        (0, 0) => Ok(None),
        (1, 1..=100) => Ok(Some(Share::Percent(amount as u8))),
        (2, 1..) => Ok(Some(Share::Bytes(amount))),
        _ => bad!("an amount of space {amount} of kind {kind} in a schedule"),
    }
}

fn raw_share(share: Option<Share>) -> (u8, u64) {
    match share {
        None => (0, 0),
        Some(Share::Percent(percent)) => (1, percent.into()),
        Some(Share::Bytes(bytes)) => (2, bytes),
    }
}

impl Schedule {
    /// Refuses what no schedule can be.
    fn prove(&self) -> Result<(), FormatError> {
        if !is_schedule_name(&self.name) {
            return bad!("a schedule with a name of {} bytes, or of what is none", self.name.len());
        }
        let ascending = self.keep.is_sorted_by(|a, b| a.unit < b.unit);
        if self.every.count == 0 || !ascending || self.keep.iter().any(|class| class.count == 0) {
            return bad!("schedule {} has numbers that mean nothing", self.name);
        }
        Ok(())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let ((budget_kind, budget), (free_kind, free)) = (raw_share(self.budget), raw_share(self.free));
        let raw = RawSchedule {
            name_len: self.name.len() as u8,
            flags: u8::from(self.always) * ALWAYS + u8::from(self.by_hand) * BY_HAND,
            every_unit: self.every.unit.number(),
            classes: self.keep.len() as u8,
            every_count: self.every.count.into(),
            budget: budget.into(),
            free: free.into(),
            budget_kind,
            free_kind,
            reserved: [0; 6],
        };
        out.extend_from_slice(raw.as_bytes());
        out.extend_from_slice(self.name.as_bytes());
        for class in &self.keep {
            let raw = RawClass { count: class.count.into(), unit: class.unit.number(), reserved: [0; 3] };
            out.extend_from_slice(raw.as_bytes());
        }
    }

    fn take(rest: &mut &[u8]) -> Result<Schedule, FormatError> {
        let Ok((raw, tail)) = RawSchedule::read_from_prefix(rest) else {
            return bad!("a schedule is cut off: {} bytes", rest.len());
        };
        if raw.flags & !(ALWAYS | BY_HAND) != 0 || raw.reserved != [0; 6] {
            return bad!("a schedule with reserved bytes that are not zero");
        }
        let Some((name, mut tail)) = tail.split_at_checked(raw.name_len.into()) else {
            return bad!("the name of a schedule is cut off");
        };
        let Ok(name) = std::str::from_utf8(name) else { return bad!("the name of a schedule is no text") };
        let mut keep = Vec::new();
        for _ in 0..raw.classes {
            let Ok((class, after)) = RawClass::read_from_prefix(tail) else {
                return bad!("what schedule {name} keeps is cut off");
            };
            if class.reserved != [0; 3] {
                return bad!("a schedule with reserved bytes that are not zero");
            }
            keep.push(Class { count: class.count.get(), unit: Unit::from_number(class.unit)? });
            tail = after;
        }
        *rest = tail;
        let schedule = Schedule {
            name: name.into(),
            every: Period { count: raw.every_count.get(), unit: Unit::from_number(raw.every_unit)? },
            keep,
            budget: share(raw.budget_kind, raw.budget.get())?,
            free: share(raw.free_kind, raw.free.get())?,
            always: raw.flags & ALWAYS != 0,
            by_hand: raw.flags & BY_HAND != 0,
        };
        schedule.prove()?;
        Ok(schedule)
    }
}

/// Appends the schedules of a line, whose number is kept elsewhere.
pub fn put_schedules(schedules: &[Schedule], out: &mut Vec<u8>) {
    schedules.iter().for_each(|schedule| schedule.encode(out));
}

/// Takes so many off the front.
pub fn take_schedules(count: u8, rest: &mut &[u8]) -> Result<Vec<Schedule>, FormatError> {
    if usize::from(count) > SCHEDULES_MAX {
        return bad!("{count} schedules of one line");
    }
    let all: Vec<Schedule> = (0..count).map(|_| Schedule::take(rest)).collect::<Result<_, _>>()?;
    if (1..all.len()).any(|i| all[..i].iter().any(|other| other.name == all[i].name)) {
        return bad!("two schedules of one line have one name");
    }
    Ok(all)
}

/// One with everything.
#[cfg(test)]
pub(super) fn sample() -> Schedule {
    Schedule {
        name: "frequent".into(),
        every: Period { count: 15, unit: Unit::Minute },
        keep: vec![Class { count: 24, unit: Unit::Hour }, Class { count: u32::MAX, unit: Unit::Year }],
        budget: Some(Share::Percent(20)),
        free: Some(Share::Bytes(u64::MAX)),
        always: true,
        by_hand: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(all: &[Schedule]) -> Vec<u8> {
        let mut out = Vec::new();
        put_schedules(all, &mut out);
        out
    }

    #[test]
    fn round_trip_and_damage() {
        let other = Schedule {
            name: "x".repeat(SCHEDULE_NAME_BYTES_MAX),
            every: Period { count: u32::MAX, unit: Unit::Year },
            keep: Unit::ALL.map(|unit| Class { count: 1, unit }).to_vec(),
            budget: None,
            free: None,
            always: false,
            by_hand: true,
        };
        let all = vec![sample(), other.clone(), Schedule { name: "a.b-c_D".into(), keep: vec![], ..other }];
        let bytes = encoded(&all);
        let mut rest = &[&bytes[..], &[9]].concat()[..];
        assert_eq!(take_schedules(3, &mut rest), Ok(all));
        assert_eq!(rest, [9]);
        assert!((0..bytes.len()).all(|len| take_schedules(3, &mut &bytes[..len]).is_err()));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            let _ = take_schedules(3, &mut &flipped[..]);
        }
        // Flags, units, reserved bytes, kinds of amounts, a count of nothing.
        for (at, value) in [(1, 4), (2, 0), (2, 7), (24, 3), (25, 0), (26, 1), (31, 1), (45, 9), (47, 1)] {
            let mut bytes = encoded(&[sample()]);
            bytes[at] = value;
            assert!(take_schedules(1, &mut &bytes[..]).is_err(), "{at}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let wrong: [fn(&mut Schedule); 6] = [
            |s| s.name = String::new(),
            |s| s.name = "a b".into(),
            |s| s.every.count = 0,
            |s| s.keep[0].count = 0,
            |s| s.keep.reverse(),
            |s| s.budget = Some(Share::Percent(101)),
        ];
        for change in wrong {
            let mut schedule = sample();
            change(&mut schedule);
            assert!(take_schedules(1, &mut &encoded(&[schedule])[..]).is_err());
        }
        assert!(take_schedules(2, &mut &encoded(&[sample(), sample()])[..]).is_err());
        let many: Vec<_> =
            (0..=SCHEDULES_MAX).map(|n| Schedule { name: format!("n{n}"), ..sample() }).collect();
        assert!(take_schedules(many.len() as u8, &mut &encoded(&many)[..]).is_err());
        assert!(encoded(&many[1..]).len() <= SCHEDULES_BYTES_MAX);
    }
}
