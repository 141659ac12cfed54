//! Who is newer of two sides, and which may be served, from their labels alone.

use crate::format::mirror::{Label, Standing};

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
    // Whoever is behind has the generation that the other parted from.
    let ahead = |a: &Label, b: &Label| a.parted_from != 0 && a.parted_from == b.current;
    match (first.standing, second.standing) {
        _ if !partners => Both::Strangers,
        (Split, _) | (_, Split) => Both::Strangers,
        (Together | Alone, Incomplete) => Both::FirstAhead,
        (Incomplete, Together | Alone) => Both::SecondAhead,
        (Incomplete | Stale, Incomplete | Stale) => Both::Neither,
        (Together, Together) if first.current == second.current => Both::Together,
        (Alone, Together | Stale) if ahead(first, second) => Both::FirstAhead,
        (Together | Stale, Alone) if ahead(second, first) => Both::SecondAhead,
        _ => Both::SplitBrain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            limit_ms: 1,
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
        ];
        for (a, b, expected) in cases {
            let (a, b) = (label(1, a.0, a.1, a.2), label(2, b.0, b.1, b.2));
            assert_eq!(meet(&a, &b), expected, "{a:?} {b:?}");
            assert_eq!(meet(&a, &Label { pair: [2; 16], ..b.clone() }), Both::Strangers);
            assert_eq!(meet(&a, &Label { side: 9, ..b }), Both::Strangers);
        }
    }
}
