//! The order by response ratio (R14): of those who are to be looked at, whose turn it is.

use std::cmp::Ordering;

use super::regrant::{BREATH, Filing, InTheWay, Place, Settled};
use super::{Model, Waiter};

/// How long whoever does not say holds what it gets: a tenth of a second.
pub(super) const USUAL_HOLD: u64 = 100_000_000;

/// What it goes by when it is whose turn.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    Growth,
    Others { since: u64, hold: u64 },
    Minimum,
}

impl Model {
    /// As `regrant`: those who are first in rank are looked at in order of ratio, as many at a time as may be looked at
    /// in vain.
    pub(super) fn regrant_by_ratio(&mut self) -> Settled {
        let (mut in_vain, mut granted) = (0, 0);
        loop {
            if granted >= BREATH && !self.dirty.is_empty() {
                return Settled::Breath;
            }
            let left = self.settings.look_ahead - in_vain;
            let mut batch = self.first_of_a_level(left.max(1));
            let Some(&(rank, last, ..)) = batch.last() else { return Settled::Done };
            if left > 0 {
                // What changes while they are looked at is marked again.
                self.dirty.values_mut().for_each(|from| *from = (rank, last + 1).max(*from));
            }
            batch.sort_by(|a, b| self.in_turn(a, b));
            for (rank, alternative, at, place) in batch {
                let still_there = self.waiters[at].place(alternative) == Some(place);
                if !still_there || self.is_too_little_for_all(place) {
                    continue;
                }
                match self.examine_at(at, alternative, place) {
                    Ok(()) => granted += 1,
                    Err(InTheWay::Preempted) => {
                        if let Place::Budget(id) = place {
                            self.mark(id, rank);
                        }
                    }
                    Err(_) if left == 0 => {
                        self.dirty.values_mut().for_each(|from| *from = (rank, alternative).max(*from));
                        return Settled::LookAhead;
                    }
                    Err(in_the_way) => {
                        in_vain += 1;
                        self.react(at, alternative, in_the_way);
                    }
                }
            }
        }
    }

    /// The first of those who are to be looked at, in order of rank: at most so many, and of the level of the first.
    fn first_of_a_level(&mut self, most: usize) -> Vec<Filing> {
        let mut found: Vec<Filing> = Vec::new();
        while found.len() < most {
            let last = found.last().map(|(rank, alternative, ..)| (*rank, *alternative));
            let Some(next) = self.next(last) else { break };
            if found.first().is_some_and(|first| first.0.0 != next.0.0) {
                break;
            }
            found.push(next);
        }
        found
    }

    /// Growth, then the higher ratio, then minima; the better rank among equals. Who has inherited its rank keeps pace
    /// with whom it has it from.
    fn in_turn(&self, a: &Filing, b: &Filing) -> Ordering {
        let pace = |at: usize| {
            let waiter = &self.waiters[at];
            waiter.inherited.filter(|_| waiter.own != waiter.rank).unwrap_or(waiter.pace())
        };
        let by_pace = match (pace(a.2), pace(b.2)) {
            (Pace::Others { since, hold }, Pace::Others { since: other, hold: others }) => {
                compare_fractions(self.ratio(other, others), self.ratio(since, hold))
            }
            (one, other) => one.group().cmp(&other.group()),
        };
        by_pace.then(a.0.cmp(&b.0)).then(a.1.cmp(&b.1))
    }

    /// (wait + hold) / hold.
    fn ratio(&self, since: u64, hold: u64) -> (u128, u128) {
        let hold = u128::from(hold.max(1));
        (u128::from(self.now - since) + hold, hold)
    }
}

impl Waiter {
    pub(super) fn pace(&self) -> Pace {
        match self {
            _ if self.guaranteed.is_some() => Pace::Minimum,
            _ if self.grows => Pace::Growth,
            _ => Pace::Others { since: self.since, hold: self.hold },
        }
    }
}

impl Pace {
    fn group(self) -> u8 {
        match self {
            Pace::Growth => 0,
            Pace::Others { .. } => 1,
            // What is served from a minimum goes after all of its level.
            Pace::Minimum => 2,
        }
    }
}

/// By whole parts; then, of what is left of each, by the reciprocals, the other way round.
fn compare_fractions(one: (u128, u128), other: (u128, u128)) -> Ordering {
    let whole = (one.0 / one.1).cmp(&(other.0 / other.1));
    let (left, others) = (one.0 % one.1, other.0 % other.1);
    whole.then_with(|| match (left, others) {
        (0, _) | (_, 0) => left.cmp(&others),
        _ => compare_fractions((other.1, others), (one.1, left)),
    })
}

#[test]
fn fractions_are_compared_exactly() {
    let most = u128::from(u64::MAX);
    assert_eq!(compare_fractions((7, 3), (14, 6)), Ordering::Equal);
    assert_eq!(compare_fractions((7, 3), (9, 4)), Ordering::Greater);
    assert_eq!(compare_fractions((5, 3), (7, 4)), Ordering::Less);
    assert_eq!(compare_fractions((most + 1, most), (most, most - 1)), Ordering::Less);
    assert_eq!(compare_fractions((6, 3), (7, 3)), Ordering::Less);
}
