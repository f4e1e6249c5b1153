//! The order by response ratio, which changes with time (R14).
//!
//! Ranks do not change with it: they are those of arrival, and bypass, claims and inheritance go by them. The ratios
//! are looked at only when something is regranted: of those who are to be looked at, the first of one level, as many as
//! may still be examined in vain, are looked at in order of ratio instead of rank. So a turn costs no more than it may
//! anyway, whatever waits behind them; and who is in front of others is passed by no more than `bypass_limit` of them,
//! whatever they say of their holds.
//!
//! Growth goes before all of its level, as its rank does, and what is served from a minimum after all. Who has
//! inherited its rank has the turn of whom it has it from, right behind that one, whether that one is looked at too or
//! not: it is in as much of a hurry.

use std::cmp::Reverse;

use crate::policy::{Rank, ResponseRatio};

use super::caps::Place;
use super::lines::{Filing, Key};
use super::regrant::{BREATH, Found, Settled};
use super::{Engine, Turn};

/// How long waiters expect to hold what they ask for, in nanoseconds, by slot.
#[derive(Debug, Default)]
pub(super) struct Holds(Vec<u64>);

impl Holds {
    /// A new waiter in a slot.
    pub(super) fn note(&mut self, slot: u32, hold: u64) {
        let at = slot as usize;
        if at >= self.0.len() {
            self.0.resize(at + 1, 0);
        }
        self.0[at] = hold;
    }

    fn of(&self, slot: u32) -> u64 {
        self.0.get(slot as usize).copied().unwrap_or(0)
    }
}

/// A filing that is to be looked at, and in whose line it stands.
type Candidate = (Key, Filing, Place);

/// What orders a waiter among those of its level, whatever the time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    Growth,
    Ratio { since: u64, hold: u64 },
    Minimum,
}

/// Who comes before whom among the candidates of one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turns {
    /// Growth (C7).
    First,
    ByRatio(Reverse<ResponseRatio>),
    /// What is served from a minimum ranks below all of its level.
    Last,
}

impl Engine {
    /// As `regrant`, in order of ratio.
    pub(super) fn regrant_by_ratio(&mut self, turn: &mut Turn<'_>) -> Settled {
        let (mut granted, mut in_vain) = (0, 0);
        loop {
            if granted >= BREATH && !self.dirty.is_clean() {
                return Settled::Breath;
            }
            let is_last = in_vain == self.settings.look_ahead;
            let candidates = self.candidates(turn, self.settings.look_ahead - in_vain);
            let Some(&(end, ..)) = candidates.last() else { return Settled::Done };
            if !is_last {
                // Before they are looked at: what is marked meanwhile, because a claim is gone, is looked at again.
                self.leave_behind(end);
            }
            for (key, filing, place) in self.in_turn(candidates) {
                if !self.stands(filing, place) || self.is_too_little_for_all(turn, place) {
                    continue;
                }
                match self.look_where(turn, filing, place) {
                    Found::Granted => granted += 1,
                    Found::InVain(_) | Found::Capped if is_last => {
                        self.leave_off_before(key);
                        return Settled::LookAhead;
                    }
                    Found::InVain(instead) => {
                        in_vain += 1;
                        instead.into_iter().for_each(|instead| self.move_to(turn, filing, instead));
                    }
                    Found::Capped => {
                        in_vain += 1;
                        self.park(turn, filing);
                    }
                    Found::Asked => {
                        if let Place::Budget(id) = place {
                            self.mark_from(id, key.0);
                        }
                    }
                }
            }
        }
    }

    /// The first of those who are to be looked at, in order of rank, all of one level: `most`, and at least one if
    /// there is one.
    fn candidates(&mut self, turn: &Turn<'_>, most: usize) -> Vec<Candidate> {
        let mut found: Vec<Candidate> = Vec::new();
        let mut at = (Rank::BEFORE_ALL, 0);
        while found.len() < most.max(1)
            && let Some((key, filing, place)) = self.next_dirty(turn, at)
            && found.first().is_none_or(|(first, ..)| first.0.level() == key.0.level())
        {
            found.push((key, filing, place));
            self.dirty.note_last(place, filing);
            at = key;
        }
        found
    }

    /// Puts candidates, which are in order of rank, into the order in which it is their turn now.
    fn in_turn(&self, candidates: Vec<Candidate>) -> Vec<Candidate> {
        let turns = candidates.into_iter().map(|candidate| (self.turn_of(candidate.1.slot()), candidate));
        let mut turns: Vec<_> = turns.collect();
        turns.sort_unstable_by_key(|&(turn, (key, ..))| (turn, key));
        turns.into_iter().map(|(_, candidate)| candidate).collect()
    }

    /// By its own pace, or that of whom it has its rank from.
    fn turn_of(&self, slot: u32) -> Turns {
        let inherited = self.queue.flexible(slot).filter(|flexible| flexible.own_rank.is_some());
        match inherited.and_then(|flexible| flexible.pace).unwrap_or(self.pace(slot)) {
            Pace::Growth => Turns::First,
            Pace::Ratio { since, hold } => Turns::ByRatio(Reverse(ResponseRatio::new(self.now - since, hold))),
            Pace::Minimum => Turns::Last,
        }
    }

    /// What a waiter has of its own to be ordered by.
    pub(super) fn pace(&self, slot: u32) -> Pace {
        match self.queue.flexible(slot) {
            Some(flexible) if flexible.guaranteed.is_some() => Pace::Minimum,
            Some(flexible) if flexible.terms.grows => Pace::Growth,
            _ => {
                let hold = self.holds.as_ref().map_or(0, |holds| holds.of(slot));
                Pace::Ratio { since: self.queue.get(slot).since, hold }
            }
        }
    }
}
