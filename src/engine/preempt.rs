//! Preemption (C8): leases that said they can end early are asked to, so that a higher level can go on.
//!
//! When the first in some line waits for units, and leases of lower levels that are marked preemptible hold enough of
//! them, a smallest set of these (`policy::victims`) is asked to end within `grace`. Meanwhile the beneficiary goes
//! first in its level and its claim is hard, so that what comes back gathers for it and only a higher level may take it
//! (R13). There is one such set at a time. It is done when the beneficiary waits no more, when all have ended, or when
//! the grace is over; whoever has not ended then is overdue: it is reported, and never asked again.
//!
//! Levels are those of requests, or inherited, never aged (R8); equals do not preempt. A waiter inside the unused
//! minimum of its module may ask whoever of another module has more than its own minimum, as that is lent (R9).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::Held;
use crate::model::{BudgetId, Priority};
use crate::policy::{Candidate, Rank, choose_victims};

use super::lines::Filing;
use super::queue::State;
use super::{Effect, Engine, Turn};

/// In how many leases the search for victims looks; those of lowest level and least age.
const CANDIDATES: usize = 1_024;

/// How many in each line are asked whether somebody could give way to them, if those in front cannot be helped.
const HEADS: usize = 8;

/// The order in which leases are asked: level and grant, the last first, and the place.
type Order = (Reverse<Priority>, Reverse<u64>, u32);

/// How a preemptible lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Nobody has asked for it.
    Quiet,
    /// It was asked to end by then, for this level.
    Asked { by: Priority, until: u64 },
}

/// A preemptible lease. What it holds, and for whom, is in the books.
#[derive(Debug)]
struct Lent {
    held: Held,
    /// Grants are numbered.
    granted: u64,
    /// When its request arrived.
    arrived: u64,
    standing: Standing,
}

/// Who was asked to end, and for whom.
#[derive(Debug)]
struct Underway {
    slot: u32,
    /// Tells the beneficiary from a later waiter in its slot.
    arrival: u64,
    until: u64,
    victims: Vec<u32>,
}

/// All preemptible leases, by place.
#[derive(Debug, Default)]
pub(super) struct Preemption {
    lent: BTreeMap<u32, Lent>,
    /// Those that nobody has asked, the least urgent and youngest first.
    quiet: BTreeSet<Order>,
    /// The others.
    asked: BTreeSet<u32>,
    underway: Option<Underway>,
    granted: u64,
}

impl Preemption {
    /// When the grace of those who were asked is over.
    pub(super) fn due(&self) -> u64 {
        self.underway.as_ref().map_or(u64::MAX, |underway| underway.until)
    }

    /// Notes that a lease was asked to end. Its level, if there is such a lease.
    fn ask(&mut self, place: u32, standing: Standing) -> Option<Priority> {
        let lent = self.lent.get_mut(&place)?;
        lent.standing = standing;
        let level = lent.held.level();
        self.quiet.remove(&lent.order(place));
        self.asked.insert(place);
        Some(level)
    }
}

impl Lent {
    /// Where it stands among those that nobody has asked.
    fn order(&self, place: u32) -> Order {
        (Reverse(self.held.level()), Reverse(self.granted), place)
    }
}

impl Engine {
    /// When the request of a waiter arrived, or its work first did.
    pub(super) fn arrived(&self, slot: u32) -> u64 {
        let since = self.queue.get(slot).since;
        let before = self.queue.flexible(slot).map_or(0, |flexible| flexible.terms.arrived);
        if before == 0 { since } else { before.min(since) }
    }

    /// A preemptible lease was granted to a request that arrived then.
    pub(super) fn lend(&mut self, held: Held, arrived: u64) {
        if let Some(place) = held.place() {
            self.preemption.granted += 1;
            let lent = Lent { held, granted: self.preemption.granted, arrived, standing: Standing::Quiet };
            self.preemption.quiet.insert(lent.order(place));
            self.preemption.lent.insert(place, lent);
        }
    }

    /// A part of a preemptible lease was split off. What was asked of the whole is asked of it too.
    pub fn lend_part(&mut self, of: Held, part: Held) {
        let Some(whole) = of.place().and_then(|place| self.preemption.lent.get(&place)) else { return };
        let (arrived, standing) = (whole.arrived, whole.standing);
        self.lend(part, arrived);
        let Some(place) = part.place().filter(|_| standing != Standing::Quiet) else { return };
        self.preemption.ask(place, standing);
        if let Some(underway) = &mut self.preemption.underway
            && of.place().is_some_and(|of| underway.victims.contains(&of))
        {
            underway.victims.push(place);
        }
    }

    /// A lease is no more, or nobody will ever end it.
    #[inline]
    pub fn unlend(&mut self, held: Held) {
        if !self.preemption.lent.is_empty()
            && let Some(place) = held.place()
            && let Some(lent) = self.preemption.lent.remove(&place)
        {
            self.preemption.quiet.remove(&lent.order(place));
            self.preemption.asked.remove(&place);
            if let Some(underway) = &mut self.preemption.underway {
                underway.victims.retain(|&victim| victim != place);
            }
        }
    }

    /// The number of a preemptible lease, by which it is told from a later one in its place, and when its request
    /// arrived.
    pub fn lent(&self, held: Held) -> Option<(u64, u64)> {
        let lent = self.preemption.lent.get(&held.place()?)?;
        Some((lent.granted, lent.arrived))
    }

    /// How long those that were asked have, in nanoseconds.
    pub fn grace(&self) -> u64 {
        self.settings.grace
    }

    /// For which level a lease was asked to end, until when, and when its request arrived. `None` while it was not.
    pub fn revocation(&self, held: Held) -> Option<(Priority, u64, u64)> {
        let lent = self.preemption.lent.get(&held.place()?)?;
        match lent.standing {
            Standing::Quiet => None,
            Standing::Asked { by, until } => Some((by, until, lent.arrived)),
        }
    }

    /// Asks whoever has to give way, if nobody is on the way already.
    #[inline]
    pub(super) fn preempt(&mut self, turn: &mut Turn<'_>) {
        if !self.preemption.quiet.is_empty() && self.waiting > 0 {
            self.preempt_for_heads(turn);
        }
    }

    #[cold]
    fn preempt_for_heads(&mut self, turn: &mut Turn<'_>) {
        if self.preemption.underway.as_ref().is_some_and(|underway| self.goes_on(underway)) {
            return;
        }
        self.preemption.underway = None;
        let mut heads: Vec<(Rank, Filing)> = Vec::new();
        for id in BudgetId::in_set(turn.books.budgets()) {
            let mut next = self.queue.head(id);
            for _ in 0..HEADS {
                let Some((rank, filing)) = next else { break };
                heads.push((rank, filing));
                next = self.queue.next(id, (rank, filing.alternative()), Some(filing));
            }
        }
        heads.sort_unstable_by_key(|&(rank, filing)| (rank, filing.alternative()));
        let found = heads.into_iter().find_map(|(_, filing)| Some((filing, self.victims_for(turn, filing)?)));
        if let Some((filing, victims)) = found {
            self.ask_to_end(turn, filing, victims);
        }
    }

    /// Whether those who were asked are still to be waited for.
    fn goes_on(&self, underway: &Underway) -> bool {
        let waits = |slot| self.queue.find(slot).is_some_and(|waiter| waiter.state == State::Waiting);
        !underway.victims.is_empty()
            && waits(underway.slot)
            && self.queue.get(underway.slot).rank.arrival() == underway.arrival
    }

    /// Who has to end so that a filing can be served. Rates come back by themselves.
    fn victims_for(&self, turn: &mut Turn<'_>, filing: Filing) -> Option<Vec<u32>> {
        let slot = filing.slot();
        if self.filing_endangers(turn.books, filing) {
            // Whatever came back, it could not have it.
            return None;
        }
        let level = self.unaged_level(slot);
        let guaranteed = self.queue.flexible(slot).is_some_and(|flexible| flexible.guaranteed);
        let lowest = self.preemption.quiet.first().map_or(Priority::Critical, |&(Reverse(lowest), ..)| lowest);
        if lowest <= level && !guaranteed {
            return None;
        }
        let mut lacks = self.missing_loans(turn, filing);
        // What others were asked for and have not given back yet is on its way.
        let asked = |lent: &&Lent| matches!(lent.standing, Standing::Asked { until, .. } if until > self.now);
        for lent in self.preemption.asked.iter().filter_map(|place| self.preemption.lent.get(place)).filter(asked) {
            let back = |id: BudgetId| turn.books.placed(lent.held).map_or(0, |amounts| amounts.get(id));
            lacks.iter_mut().for_each(|(id, units)| *units = units.saturating_sub(back(*id)));
        }
        lacks.retain(|&(_, units)| units > 0);
        let books = &*turn.books;
        let own = self.tag(slot).module;
        let gives_way = |held: Held| {
            let tag = books.tag(held);
            let borrows = || lacks.iter().any(|&(id, _)| self.modules.borrows(tag, id));
            let lent_minimum = guaranteed && held.level() > Priority::Critical && tag.module != own && borrows();
            held.level() > level || lent_minimum
        };
        let candidate = |&(Reverse(level), Reverse(granted), place): &Order| {
            let held = self.preemption.lent.get(&place)?.held;
            let amounts = books.placed(held)?;
            let helps = lacks.iter().any(|&(id, _)| amounts.get(id) > 0);
            (helps && gives_way(held)).then_some((place, Candidate { level, granted, amounts }))
        };
        let found = self.preemption.quiet.iter().filter_map(candidate).take(CANDIDATES);
        let (places, candidates): (Vec<_>, Vec<_>) = found.unzip();
        let chosen = choose_victims(&lacks, &candidates)?;
        Some(chosen.into_iter().map(|at| places[at]).collect())
    }

    /// What a filing lacks of loans, beyond what higher ranks claim. Rates come back by themselves.
    fn missing_loans(&self, turn: &mut Turn<'_>, filing: Filing) -> Vec<(BudgetId, u64)> {
        let who = self.claimant(filing.slot());
        let asks = self.queue.asks(filing.slot(), filing.alternative()).bundle().without(turn.books.rates());
        let lack = |(id, units): (BudgetId, u64)| {
            let kept = self.claimed_above(id, who, u64::MAX).saturating_add(self.kept(turn.books, id, who));
            let lack = units.saturating_add(kept).saturating_sub(turn.books.free(id));
            (lack > 0).then(|| (id, lack.saturating_add(turn.books.deficit(id))))
        };
        asks.iter().filter_map(lack).collect()
    }

    /// The level of a waiter's request, or the one it has inherited if that is higher (R8).
    fn unaged_level(&self, slot: u32) -> Priority {
        let waiter = self.queue.get(slot);
        let inherits = self.queue.flexible(slot).is_some_and(|flexible| flexible.own_rank.is_some());
        if inherits { waiter.base.min(waiter.rank.level()) } else { waiter.base }
    }

    fn ask_to_end(&mut self, turn: &mut Turn<'_>, filing: Filing, victims: Vec<u32>) {
        let slot = filing.slot();
        let by = self.unaged_level(slot);
        let until = self.now.saturating_add(self.settings.grace);
        for place in &victims {
            if let Some(level) = self.preemption.ask(*place, Standing::Asked { by, until }) {
                self.effects.push(Effect::Revoke { place: *place, level });
            }
        }
        // First in its level: an equal with an earlier deadline may not take what others give up for it. Who is served
        // from a minimum stays behind all that are critical (R9).
        let own = self.own_rank(slot);
        let first = Rank::new(own.level(), 0, own.arrival());
        let guaranteed = self.queue.flexible(slot).is_some_and(|flexible| flexible.guaranteed);
        match self.queue.flexible_mut(slot).and_then(|flexible| flexible.own_rank.as_mut()) {
            _ if guaranteed => {}
            Some(own) => *own = first,
            None => self.rerank(slot, first),
        }
        // Its claim is on what they give back.
        if let Some(flexible) = self.queue.flexible_mut(slot) {
            flexible.claiming = Some(filing);
        }
        if self.queue.get(slot).hard {
            self.renew_claim(turn, slot);
        } else {
            self.harden(turn, slot);
        }
        let arrival = self.queue.get(slot).rank.arrival();
        self.preemption.underway = Some(Underway { slot, arrival, until, victims });
    }

    /// The grace of those who were asked is over: whoever has not ended is overdue, and others may be asked.
    pub(super) fn end_grace(&mut self) {
        if self.preemption.due() <= self.now
            && let Some(underway) = self.preemption.underway.take()
            && self.goes_on(&underway)
        {
            for place in underway.victims {
                if let Some(lent) = self.preemption.lent.get(&place) {
                    self.effects.push(Effect::Overdue { place, level: lent.held.level() });
                }
            }
        }
    }
}
