//! Who is newer of two sides, and which may be served, from their labels alone.

use crate::format::mirror::{Label, PastGeneration, Standing};

/// What a device is, as its label says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SideFound {
    /// A store of its own.
    Plain,
    /// A side that may be served without its partner.
    Whole,
    /// A side that was told that its partner is newer.
    Stale,
    /// A side whose filling was not finished: no store.
    Incomplete,
}

/// How two sides stand to each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Both {
    /// Both have everything.
    Together,
    /// The first went on alone: the second is to be filled from it.
    FirstAhead,
    /// The other way round.
    SecondAhead,
    /// Each went on without the other.
    SplitBrain,
    /// Neither may be served.
    Neither,
    /// They are not each other's partners.
    Strangers,
}

/// What a device is that has this label.
#[must_use]
pub fn alone(label: Option<&Label>) -> SideFound {
    match label.map(|label| label.standing) {
        None | Some(Standing::Split) => SideFound::Plain,
        Some(Standing::Together | Standing::Alone) => SideFound::Whole,
        Some(Standing::Stale) => SideFound::Stale,
        Some(Standing::Incomplete) => SideFound::Incomplete,
    }
}

/// How two sides stand to each other.
#[must_use]
pub fn meet(first: &Label, second: &Label) -> Both {
    use Standing::*;
    let partners = first.pair == second.pair && first.partner == second.side && second.partner == first.side;
    // Whoever is behind has a generation that is past for the other, and went on in none of its own.
    let ahead = |a: &Label, b: &Label| a.past().any(|past| past.generation == b.current);
    match (first.standing, second.standing) {
        _ if !partners => Both::Strangers,
        (Split, _) | (_, Split) => Both::Strangers,
        (Together | Alone, Incomplete) => Both::FirstAhead,
        (Incomplete, Together | Alone) => Both::SecondAhead,
        (Incomplete | Stale, Incomplete | Stale) => Both::Neither,
        (Together, Together) if first.current == second.current => Both::Together,
        (Alone | Together, Together | Stale) if ahead(first, second) => Both::FirstAhead,
        (Together | Stale, Alone | Together) if ahead(second, first) => Both::SecondAhead,
        _ => Both::SplitBrain,
    }
}

/// The same of two sides of which also the epoch of the state before the newest is known: one that is behind by its label and has states
/// that the other never had went on as well. Then the other was put back to an older time, and went on alone from there. The newest
/// state itself may have been under way when they parted, and its epoch tells nothing: epochs skip numbers, because one that ends
/// with nothing to write has no state.
#[must_use]
pub fn meet_in_states(first: (&Label, u64), second: (&Label, u64)) -> Both {
    let met = meet(first.0, second.0);
    let (ahead, (behind, before)) = match met {
        Both::FirstAhead => (first.0, second),
        Both::SecondAhead => (second.0, first),
        _ => return met,
    };
    let common = parted_at(ahead, behind);
    let is_store = matches!(behind.standing, Standing::Together | Standing::Stale);
    // Nothing in common says that nothing counts.
    if is_store && common > 0 && before > common { Both::SplitBrain } else { met }
}

/// What had been committed on both in the newest generation that both know: an epoch; 0 if there is none. What was
/// committed on either side last may be less.
#[must_use]
pub fn parted_at(first: &Label, second: &Label) -> u64 {
    let known = |label: &Label| {
        let current = PastGeneration { generation: label.current, until: u64::MAX };
        std::iter::once(current).chain(label.past()).collect::<Vec<_>>()
    };
    let theirs = known(second);
    let until = |ours: &PastGeneration| {
        let same = theirs.iter().find(|past| past.generation == ours.generation)?;
        Some(ours.until.min(same.until))
    };
    known(first).iter().find_map(until).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::mirror::EARLIER_MAX;

    fn label(side: u64, standing: Standing, current: u64, parted_from: u64) -> Label {
        let (pair, partner, path) = ([1; 16], 3 - side, Vec::new());
        Label {
            pair,
            number: 1,
            side,
            partner,
            standing,
            current,
            parted_from,
            parted_at: 0,
            parted_secs: 0,
            earlier: Vec::new(),
            limit_ms: 1,
            opened: false,
            home: None,
            wide: 0,
            path,
        }
    }

    #[test]
    fn who_is_newer_follows_from_generations() {
        use Standing::*;
        let cases = [
            ((Together, 5, 0), (Together, 5, 0), Both::Together),
            ((Together, 5, 0), (Together, 6, 0), Both::SplitBrain),
            ((Alone, 6, 5), (Together, 5, 0), Both::FirstAhead),
            ((Alone, 6, 5), (Stale, 5, 0), Both::FirstAhead),
            ((Together, 5, 0), (Alone, 6, 5), Both::SecondAhead),
            ((Alone, 6, 5), (Together, 4, 0), Both::SplitBrain),
            ((Alone, 6, 5), (Alone, 7, 5), Both::SplitBrain),
            ((Alone, 6, 0), (Incomplete, 9, 0), Both::FirstAhead),
            ((Incomplete, 9, 0), (Together, 6, 0), Both::SecondAhead),
            ((Incomplete, 9, 0), (Stale, 6, 0), Both::Neither),
            ((Split, 9, 0), (Alone, 6, 9), Both::Strangers),
            // A power cut between the labels of a mount.
            ((Together, 6, 5), (Together, 5, 4), Both::FirstAhead),
            ((Together, 5, 4), (Together, 6, 5), Both::SecondAhead),
            ((Together, 6, 5), (Stale, 5, 0), Both::FirstAhead),
            // It may have gone on, whatever it had before.
            ((Together, 6, 5), (Alone, 5, 4), Both::SplitBrain),
        ];
        for (a, b, expected) in cases {
            let (a, b) = (label(1, a.0, a.1, a.2), label(2, b.0, b.1, b.2));
            assert_eq!(meet(&a, &b), expected, "{a:?} {b:?}");
            assert_eq!(meet(&a, &Label { pair: [2; 16], ..b.clone() }), Both::Strangers);
            assert_eq!(meet(&a, &Label { side: 9, ..b }), Both::Strangers);
        }
    }

    #[test]
    fn who_has_states_that_the_other_never_had_is_not_behind() {
        use Standing::*;
        let ours = label(1, Together, 5, 0).followed(Alone, 6, 30);
        for (standing, before, expected) in [
            (Together, 29, Both::FirstAhead),
            // One state more, of whatever epoch.
            (Together, 30, Both::FirstAhead),
            (Together, 31, Both::SplitBrain),
            (Stale, 30, Both::FirstAhead),
            (Stale, 31, Both::SplitBrain),
            // What is being filled gets states, and is no store.
            (Incomplete, 31, Both::FirstAhead),
        ] {
            let theirs = label(2, standing, 5, 0);
            let met = meet_in_states((&ours, 40), (&theirs, before));
            let turned = meet_in_states((&theirs, before), (&ours, 40));
            let expected_turned = if expected == Both::SplitBrain { expected } else { Both::SecondAhead };
            assert_eq!((met, turned), (expected, expected_turned), "{standing:?} {before}");
            let lost = ours.with_nothing_in_common();
            assert_eq!(meet_in_states((&lost, 40), (&theirs, before)), Both::FirstAhead);
        }
    }

    #[test]
    fn an_older_copy_of_a_side_is_behind_as_long_as_its_generation_is_known() {
        let mut a = label(1, Standing::Together, 100, 0);
        let old: Vec<Label> = (0..2 * EARLIER_MAX as u64)
            .map(|n| {
                let copy = Label { side: 2, partner: 1, ..a.clone() };
                a = a.followed(Standing::Together, 101 + n, 10 * (n + 1));
                copy
            })
            .collect();
        for (n, b) in old.iter().enumerate() {
            let is_known = n + EARLIER_MAX + 1 >= old.len();
            let met = (meet(&a, b), meet(b, &a));
            let expected = if is_known {
                (Both::FirstAhead, Both::SecondAhead)
            } else {
                (Both::SplitBrain, Both::SplitBrain)
            };
            assert_eq!(met, expected, "generation {n}");
            if is_known {
                assert_eq!(parted_at(&a, b), 10 * (n as u64 + 1));
            }
            // Used by itself, it has something of its own.
            let b = b.followed(Standing::Alone, 9, 15);
            assert_eq!((meet(&a, &b), meet(&b, &a)), (Both::SplitBrain, Both::SplitBrain));
        }
        let ours = label(1, Standing::Together, 5, 0).followed(Standing::Alone, 6, 30);
        let theirs = label(2, Standing::Together, 5, 0).followed(Standing::Alone, 7, 20);
        assert_eq!((parted_at(&ours, &theirs), parted_at(&theirs, &ours)), (20, 20));
        assert_eq!(parted_at(&ours, &label(2, Standing::Alone, 8, 0)), 0);
    }
}
