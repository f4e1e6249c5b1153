//! Why somebody waits (C13). Looks and changes nothing, but for bringing rates up to now, which time does anyway.
//!
//! What is said holds for this moment and takes nothing into account that is yet to happen in the same turn.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::model::{
    Ahead, Amounts, Blocker, BudgetId, Cause, Ending, Explanation, Next, Priority, Tag, Terms, Unit, WaitState,
};
use crate::policy::Rank;

use super::activity::Claimant;
use super::lines::Filing;
use super::queue::State;
use super::{Asked, Engine, Refusal, Turn, Verdict};

/// One alternative, as it is to be explained.
struct Way {
    alternative: u8,
    want: Amounts,
    /// What would do now.
    ask: Amounts,
    /// The line it stands in.
    place: Option<BudgetId>,
}

impl Engine {
    /// Why a waiter waits, or whatever else it does. Budgets have no names and nobody holds anything: the engine knows
    /// neither. `None` when there is nobody in the slot.
    pub fn explain(&self, turn: &mut Turn<'_>, slot: u32) -> Option<Explanation> {
        let waiter = *self.queue.find(slot)?;
        let now = self.refill(turn);
        let state = match waiter.state {
            State::Waiting => WaitState::Waiting,
            // Whoever has taken it up knows.
            State::Offered => WaitState::Granted,
            State::Dormant => WaitState::Dormant,
            State::Ended => WaitState::Ended(self.ending(slot)),
            State::Free => return None,
        };
        let ended = self.ended.get(&slot).map(|ended| ended.waited);
        let mut found = Explanation {
            arrival: Some(waiter.rank.arrival()),
            waited: Duration::from_nanos(ended.unwrap_or(now.saturating_sub(waiter.since))),
            level: waiter.rank.level(),
            alternatives: self.queue.alternatives(slot),
            passes: waiter.passes,
            bypass_limit: self.settings.bypass_limit,
            hard: waiter.spent,
            expiries: waiter.expiries,
            ..Explanation::new(state, waiter.base)
        };
        if matches!(state, WaitState::Waiting | WaitState::Dormant) {
            let ways = (0..found.alternatives).map(|alternative| self.way(slot, alternative)).collect();
            self.explain_ways(turn, &mut found, (self.claimant(slot), self.tag(slot)), ways);
        }
        self.explain_times(&mut found, slot, now);
        Some(found)
    }

    /// What a request would meet if it arrived now.
    pub fn explain_newcomer(&self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Explanation {
        let now = self.refill(turn);
        let mut found = Explanation::new(WaitState::Unpolled, asked.level);
        found.bypass_limit = self.settings.bypass_limit;
        let refused = match (self.closed, self.impossible(turn.books, asked)) {
            (Some(reason), _) => Some(format!("the scheduler grants nothing any more, as {reason}")),
            (_, Some(Refusal::UnknownBudget(id))) => Some(format!("the scheduler has no budget {id}")),
            (_, Some(_)) => Some("it asks for more than there is".to_owned()),
            (_, None) => None,
        };
        let ways: Vec<Way> = match &asked.terms {
            None => vec![rigid(asked.amounts)],
            Some(terms) => flexible(terms),
        };
        found.alternatives = u8::try_from(ways.len()).unwrap_or(u8::MAX);
        found.next.extend(refused.map(|why| Next::Refused { why }));
        let tag = asked.terms.as_ref().map_or(Tag::NOBODY, |terms| terms.tag);
        let who = Claimant { rank: self.rank_of(asked, now), holds: self.parties.holds(tag.party()) };
        self.explain_ways(turn, &mut found, (who, tag), ways);
        if found.next.is_empty() && asked.deadline == 0 {
            found.next.push(Next::Refused { why: "its deadline is now".to_owned() });
        } else if found.next.is_empty() && self.is_full_for(asked) {
            found.next.push(Next::Refused { why: format!("{} wait already, and no more may", self.waiting) });
        }
        found
    }

    /// The budget in whose line a waiter stands, with the first of its alternatives that stands in one, and what that
    /// asks of it. `None` when there is nobody in the slot, or it stands in no line.
    pub fn stands_at(&self, slot: u32) -> Option<(BudgetId, u64)> {
        self.queue.find(slot)?;
        let (filing, id) = self.queue.filings(slot).next()?;
        Some((id, self.queue.asks(slot, filing.alternative()).get(id)))
    }

    /// Those that wait or are dormant, in order of rank, the first `most` of them. Looks at every slot once, and at
    /// none for nobody.
    pub fn first_waiting(&self, most: usize) -> Vec<u32> {
        if most == 0 {
            return Vec::new();
        }
        let waits = self.queue.iter().filter(|(_, waiter)| matches!(waiter.state, State::Waiting | State::Dormant));
        let mut first = BinaryHeap::with_capacity(most.min(self.queue.len()) + 1);
        for (slot, waiter) in waits {
            if first.len() < most || first.peek().is_some_and(|&(last, _)| waiter.rank < last) {
                first.push((waiter.rank, slot));
            }
            if first.len() > most {
                first.pop();
            }
        }
        first.into_sorted_vec().into_iter().map(|(_, slot)| slot).collect()
    }

    /// The time, with the rates brought up to it.
    fn refill(&self, turn: &mut Turn<'_>) -> u64 {
        let now = turn.now.max(self.now);
        for id in BudgetId::in_set(turn.books.rates()) {
            turn.books.bucket_mut(id).into_iter().for_each(|bucket| bucket.refill(now));
        }
        now
    }

    fn ending(&self, slot: u32) -> Ending {
        match self.ended.get(&slot).map(|ended| ended.why) {
            Some(Verdict::Late) => Ending::Late,
            Some(Verdict::NeverFits) => Ending::NeverFits,
            Some(Verdict::RollBack) => Ending::RolledBack,
            Some(Verdict::Split) => Ending::Split,
            Some(Verdict::Closed(_)) | None => Ending::Closed,
        }
    }

    fn way(&self, slot: u32, alternative: u8) -> Way {
        let ask = self.queue.asks(slot, alternative).bundle();
        let terms = self.queue.flexible(slot).map(|flexible| &flexible.terms);
        let chosen = terms.and_then(|terms| terms.alternatives.get(usize::from(alternative)));
        let want = chosen.map_or_else(|| ask.clone(), |chosen| chosen.want().clone());
        Way { alternative, want, ask, place: self.queue.place(Filing::new(slot, alternative)) }
    }

    fn explain_ways(&self, turn: &mut Turn<'_>, found: &mut Explanation, who: (Claimant, Tag), ways: Vec<Way>) {
        for way in ways {
            let blockers = self.blockers(turn, who, &way);
            if blockers.is_empty() && found.next.is_empty() {
                found.next.push(Next::Served { alternative: way.alternative });
            }
            found.blockers.extend(blockers);
        }
    }

    /// The budgets that cannot give what an alternative asks; that in whose line it stands first.
    fn blockers(&self, turn: &mut Turn<'_>, (who, tag): (Claimant, Tag), way: &Way) -> Vec<Blocker> {
        if let Some((id, _)) = way.ask.iter().find(|&(id, units)| units > turn.books.limit(id)) {
            return vec![Blocker { cause: Cause::TooLarge, ..self.blocker(turn, who, way, id) }];
        }
        if let Some(id) = self.modules.exceeds(tag, &way.ask) {
            return vec![Blocker { cause: Cause::Capped, ..self.blocker(turn, who, way, id) }];
        }
        // Rates are tested last (R7): while a loan is short, none is.
        let rates = turn.books.rates();
        for metered in [false, true] {
            let asked = way.ask.iter().filter(|(id, _)| (rates & id.bit() != 0) == metered);
            let blocking: Vec<_> =
                asked.filter(|&(id, units)| self.blocks(turn.books, id, units, who)).map(|(id, _)| id).collect();
            if !blocking.is_empty() {
                let mut found: Vec<_> = blocking.into_iter().map(|id| self.blocker(turn, who, way, id)).collect();
                found.sort_by_key(|blocker| Reverse(blocker.in_line));
                return found;
            }
        }
        let cause = match () {
            () if self.kept_by(turn.books, tag, &way.ask, |_| true) != 0 => Cause::Unsafe,
            () if self.is_kept_out(turn.books, tag, &way.ask, who) => Cause::KeptOut,
            () => return Vec::new(),
        };
        let first = BudgetId::first_of(way.ask.set()).unwrap_or(BudgetId::GPU);
        vec![Blocker { cause, ..self.blocker(turn, who, way, first) }]
    }

    fn blocker(&self, turn: &Turn<'_>, who: Claimant, way: &Way, id: BudgetId) -> Blocker {
        let (books, now) = (&*turn.books, turn.now.max(self.now));
        let (asked, claimed) = (way.ask.get(id), self.claimed_above(books, id, who, u64::MAX));
        let (free, bucket) = (books.free(id), books.bucket(id));
        let at_once = bucket.map_or(asked, |bucket| asked.min(bucket.burst()));
        let deficit = bucket.map_or_else(|| books.deficit(id), |bucket| bucket.debt());
        let cause = match bucket {
            Some(_) => Cause::Refilling,
            None if deficit > 0 => Cause::Overdrawn,
            None if free < asked => Cause::Short,
            None => Cause::Claimed,
        };
        let ready = bucket.map(|bucket| bucket.ready_at(asked, claimed)).filter(|&at| at != u64::MAX);
        Blocker {
            alternative: way.alternative,
            in_line: way.place == Some(id),
            budget: id,
            name: String::new(),
            unit: Unit::Count,
            cause,
            wanted: way.want.get(id),
            asked,
            free,
            deficit,
            claimed,
            capacity: bucket.map_or_else(|| books.capacity(id), |bucket| bucket.burst()),
            missing: at_once.saturating_add(claimed).saturating_add(deficit).saturating_sub(free),
            ready_in: ready.map(|at| Duration::from_nanos(at.saturating_sub(now))),
            ahead: self.ahead(id, who.rank),
            holders: Vec::new(),
            other_holders: 0,
            unlabelled: 0,
            offered: 0,
        }
    }

    /// Those in line at a budget who rank before `rank`.
    fn ahead(&self, id: BudgetId, rank: Rank) -> Ahead {
        let mut ahead = Ahead::default();
        for filing in self.queue.before(id, rank) {
            if ahead.count == Ahead::MOST {
                ahead.more = true;
                break;
            }
            ahead.count += 1;
            ahead.asked = ahead.asked.saturating_add(self.queue.asks(filing.slot(), filing.alternative()).get(id));
        }
        ahead
    }

    /// What time will do to a waiter.
    fn explain_times(&self, found: &mut Explanation, slot: u32, now: u64) {
        let waiter = self.queue.get(slot);
        let until = |at: u64| Duration::from_nanos(at.saturating_sub(now));
        let waiting = found.state == WaitState::Waiting;
        if found.state == WaitState::Granted {
            let expiry = self.offers.iter().find(|&&(_, offered)| offered == slot);
            found.next.extend(expiry.map(|&(at, _)| Next::PassesOn { within: until(at) }));
        }
        if waiting && !waiter.spent {
            let times = self.settings.bypass_limit.saturating_sub(waiter.passes);
            let last = waiter.first_pass.saturating_add(self.settings.bypass_time);
            found.next.push(Next::Passed { times, within: (waiter.passes > 0).then(|| until(last)) });
        }
        if waiting && waiter.raise_at != u64::MAX {
            let to = Priority::ALL[waiter.rank.level().index().saturating_sub(1)];
            found.next.push(Next::Rises { to, within: until(waiter.raise_at) });
        }
        if !(waiting || found.state == WaitState::Dormant) {
            return;
        }
        let elastic = |terms: &Terms| terms.alternatives.iter().any(|each| each.is_elastic());
        if let Some(flexible) = self.queue.flexible(slot).filter(|flexible| !flexible.ripe && elastic(&flexible.terms))
        {
            found.next.push(Next::TakesLess { within: until(flexible.ripe_at) });
        }
        if waiter.deadline != u64::MAX {
            found.next.push(Next::EndsLate { within: until(waiter.deadline) });
        }
    }
}

fn rigid(amounts: &Amounts) -> Way {
    Way { alternative: 0, want: amounts.clone(), ask: amounts.clone(), place: None }
}

/// The alternatives of a request that was not submitted yet.
fn flexible(terms: &Terms) -> Vec<Way> {
    let each = (0u8..).zip(&terms.alternatives);
    let way = |(alternative, chosen): (u8, &crate::model::Alternative)| {
        let ask = if terms.patience == 0 { chosen.least() } else { chosen.want() };
        Way { alternative, want: chosen.want().clone(), ask: ask.clone(), place: None }
    };
    each.map(way).collect()
}
