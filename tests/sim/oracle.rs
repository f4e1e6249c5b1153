//! What must hold whatever the scheduler decides, judged from what the owners did and saw: no model of its decisions,
//! and no look inside beyond the books and the list of waiters that everybody can read.

mod asked;
mod belongs;
mod bound;
mod judge;

use std::collections::{BTreeMap, BTreeSet};

use bursar::{BudgetId, Config, Order, Priority, Quota, Supply, Tag};

use crate::ask::{Ask, Asks, part_of, rest_of};
use crate::driven::Driven;
use crate::event::{Arrival, Event, Grant, Refused, Seen, View, Why, is_implied, tag_of_part};
use crate::tally::{Case, Tally};

type Rank = (Priority, u64, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Offered { until: u64 },
    Dormant,
    Ended,
}

/// A reservation, as its owner knows it.
#[derive(Debug, Clone)]
struct Wait {
    /// Without what aging gains.
    rank: Rank,
    ask: Ask,
    /// When it may be granted less than the whole.
    ripe_at: u64,
    deadline: Option<u64>,
    tag: Tag,
    grows: bool,
    state: State,
    expiries: u32,
}

/// The flow through a rate, in units and billionths of units. What an offer of a flexible request charged is known only
/// when it is taken up: until then it is between two bounds.
#[derive(Debug)]
struct Flow {
    per_second: u64,
    burst: u64,
    max_debt: u64,
    charged_least: u128,
    charged_most: u128,
    undone: u128,
    /// The most that can have come in since the start.
    inflow: u128,
    since: u64,
}

/// The judge of one trace.
#[derive(Debug)]
pub struct Oracle {
    waits: BTreeMap<u32, Wait>,
    held: BTreeMap<u32, Asks>,
    /// Whom the leases belong to, and the level they were granted at.
    owners: BTreeMap<u32, (Tag, Priority)>,
    modules: BTreeMap<u64, BTreeMap<BudgetId, Quota>>,
    /// Who was asked to end and has not, and until when.
    asked: BTreeMap<u32, u64>,
    /// Whether anything ever belonged to a module or an activity, was preemptible, or taken up again.
    belongs: bool,
    /// What activities said that they will ever hold at most; and those that took in leases of others.
    bounds: BTreeMap<u64, Asks>,
    merged: BTreeSet<u64>,
    /// Waits outside that an activity has declared.
    outside: BTreeMap<u64, u32>,
    capacities: BTreeMap<BudgetId, u64>,
    flows: BTreeMap<BudgetId, Flow>,
    arrivals: u64,
    immediate: [u64; Priority::COUNT],
    closed: bool,
    clock: u64,
    late: bool,
    /// What could be told after the event before.
    last: Option<View>,
    /// What this event granted, as far as the owners can know: rank and bundle.
    granted: Vec<(Rank, Asks)>,
    config: Config,
    pub tally: Tally,
}

type Verdict = Result<(), String>;

const BILLION: u128 = 1_000_000_000;

impl Oracle {
    pub fn new(config: &Config, clock: u64) -> Oracle {
        let (mut capacities, mut flows) = (BTreeMap::new(), BTreeMap::new());
        for budget in &config.budgets {
            match budget.supply {
                Supply::Loan { capacity } => drop(capacities.insert(budget.id, capacity)),
                Supply::Rate { per_second, burst, max_debt } => {
                    flows.insert(budget.id, Flow::new(per_second, burst, max_debt, clock));
                }
            }
        }
        Oracle {
            waits: BTreeMap::new(),
            held: BTreeMap::new(),
            owners: BTreeMap::new(),
            modules: BTreeMap::new(),
            asked: BTreeMap::new(),
            belongs: false,
            bounds: BTreeMap::new(),
            merged: BTreeSet::new(),
            outside: BTreeMap::new(),
            capacities,
            flows,
            arrivals: 0,
            immediate: [0; Priority::COUNT],
            closed: false,
            clock,
            late: false,
            last: None,
            granted: Vec::new(),
            config: config.clone(),
            tally: Tally::default(),
        }
    }

    /// Judges one event: what it did, what was seen, and what is left.
    pub fn judge(&mut self, event: &Event, seen: &[Seen], driven: &mut impl Driven) -> Verdict {
        self.granted.clear();
        // More for a lease is asked for by whoever holds it.
        let asked = match event {
            Event::Grow { of, more } => self.growth(*of, more).map(Event::Submit),
            _ => None,
        };
        let event = asked.as_ref().unwrap_or(event);
        let until = match event {
            Event::Stall(time) | Event::Sleep(time) => self.clock + time,
            _ => self.clock,
        };
        self.belongs |= matches!(event, Event::Submit(arrival) if !arrival.is_nobodys());
        self.note(event);
        for seen in seen {
            self.judge_seen(event, seen).map_err(|wrong| format!("{seen:?}: {wrong}"))?;
            self.tally.see(seen);
        }
        if let Some(last) = &self.last {
            self.tally.compare_turns(&last.order, &last.standing, seen);
        }
        self.clock = until;
        if self.late && matches!(event, Event::Submit(_) | Event::Cancel(_)) {
            self.tally.count(Case::LateRelease);
        }
        let view = driven.view()?;
        self.judge_books(event, &view, driven)?;
        self.judge_standing(&view)?;
        self.judge_bounds()?;
        self.judge_asked(&view)?;
        if view.due > self.clock && !self.late {
            self.judge_quiet(&view, driven)?;
        }
        self.last = Some(view);
        Ok(())
    }

    /// What the owners did.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Release { id, late } => {
                if self.held.contains_key(id) {
                    self.note_end(*id);
                }
                // What belongs to somebody is never late.
                let nobodys = self.owners.remove(id).is_some_and(|(tag, _)| tag == Tag::NOBODY);
                self.late |= self.held.remove(id).is_some() && *late && nobodys;
            }
            Event::Submit(Arrival { tag, most: Some(most), .. }) => {
                self.bounds.insert(tag.activity, most.clone());
            }
            Event::Merge { id, other } => self.merge(*id, *other),
            Event::Register { number, quotas, .. } if !self.closed => {
                self.modules.insert(*number, quotas.iter().copied().collect());
            }
            Event::Deregister(number) => {
                let gone = self.modules.remove(number).is_some();
                self.tally.count_times(Case::ModuleGone, gone.into());
            }
            Event::Outside { activity, begins } => {
                let times = self.outside.entry(*activity).or_default();
                *times = if *begins { *times + 1 } else { times.saturating_sub(1) };
            }
            Event::Shrink { id, by } => {
                if let Some(held) = self.held.get_mut(id) {
                    *held = rest_of(held, &part_of(held, by));
                }
            }
            Event::Split { id, by, into } => {
                if let Some(held) = self.held.get_mut(id) {
                    let part = part_of(held, by);
                    *held = rest_of(held, &part);
                    if !part.is_empty() {
                        self.held.insert(*into, part);
                        let (tag, level) = self.owners[id];
                        self.owners.insert(*into, (tag_of_part(tag), level));
                        if let Some(until) = self.asked.get(id).copied() {
                            self.asked.insert(*into, until);
                        }
                    }
                }
            }
            Event::Enter => self.late = false,
            Event::Cancel(id) => self.note_cancel(*id),
            Event::Capacity(id, units) if !self.closed => drop(self.capacities.insert(*id, *units)),
            Event::Rate(id, per_second, burst) if !self.closed => {
                let clock = self.clock;
                if let Some(flow) = self.flows.get_mut(id) {
                    flow.bring(clock);
                    (flow.per_second, flow.burst) = (*per_second, *burst);
                }
            }
            Event::Close => self.closed = true,
            _ => {}
        }
    }

    fn note_cancel(&mut self, id: u32) {
        let Some(wait) = self.waits.remove(&id) else { return };
        self.note_end(id);
        match wait.state {
            State::Waiting => {}
            State::Offered { .. } => {
                self.undone(&wait.ask);
                self.tally.count(Case::OfferedAndCancelled);
            }
            State::Dormant => self.tally.count(Case::DormantAndCancelled),
            State::Ended => self.tally.count(Case::EndedAndCancelled),
        }
    }

    fn judge_seen(&mut self, event: &Event, seen: &Seen) -> Verdict {
        match (seen, event) {
            (Seen::Granted(_, grant), Event::Submit(arrival)) => self.judge_immediate(arrival, grant),
            (Seen::Waits(_), Event::Submit(arrival)) => self.judge_waits(arrival),
            (Seen::Waits(id), Event::Poll(_)) => match self.waits.get_mut(id) {
                Some(wait) if wait.state == State::Dormant => {
                    wait.state = State::Waiting;
                    self.tally.count(Case::Reactivated);
                    Ok(())
                }
                other => Err(format!("asks again: {other:?}")),
            },
            (Seen::Refused(_, why), Event::Submit(arrival)) => self.judge_refused(arrival, why),
            (Seen::Offered { id, budget, .. }, _) => self.judge_offered(*id, *budget),
            (Seen::Expired(id), _) => self.judge_expired(*id),
            (Seen::Ended { id, why, .. }, _) => self.judge_ended(event, *id, *why),
            (Seen::Accepted(id, grant), Event::Poll(_)) => self.judge_accepted(*id, grant),
            (Seen::Regained(id, grant), Event::Poll(_)) => self.judge_regained(*id, grant),
            (Seen::Collected { id, .. }, Event::Poll(_)) => match self.waits.remove(id) {
                Some(Wait { state: State::Ended, .. }) => Ok(()),
                other => Err(format!("collected from {other:?}")),
            },
            (Seen::Cancelled(_), Event::Cancel(_)) => Ok(()),
            (Seen::Turned(at), Event::Sleep(_)) => {
                self.clock = self.clock.max(*at);
                Ok(())
            }
            (Seen::LookAhead, _) => Ok(()),
            (Seen::Alert { activity, budget, holder }, _) => self.judge_alert(*activity, *budget, *holder),
            (Seen::Revoked(id, level), _) => self.judge_revoked(*id, *level),
            (Seen::Overdue(id), Event::Sleep(_) | Event::Early) => self.judge_overdue(*id),
            (Seen::Registered(number, done), Event::Register { .. }) => {
                if done.is_err() {
                    self.modules.remove(number);
                }
                Ok(())
            }
            _ => Err("nothing that this event can lead to".into()),
        }
    }

    fn judge_immediate(&mut self, arrival: &Arrival, grant: &Grant) -> Verdict {
        if self.closed {
            return Err("granted after the close".into());
        }
        let wait = self.wait_of(arrival);
        if arrival.past && !self.active().any(|other| arrival.ask.budgets().any(|id| other.ask.names(id))) {
            self.tally.count(Case::PastEngine);
        }
        self.immediate[arrival.level as usize] += 1;
        self.judge_cap(arrival.tag, grant)?;
        self.judge_grant(arrival.id, &wait, grant)
    }

    fn judge_waits(&mut self, arrival: &Arrival) -> Verdict {
        if let Some(above) = self.never_fits(&arrival.ask, arrival.tag) {
            return Err(format!("may wait for ever for {above}"));
        }
        let wait = self.wait_of(arrival);
        self.arrivals += 1;
        self.waits.insert(arrival.id, wait);
        Ok(())
    }

    fn judge_refused(&mut self, arrival: &Arrival, why: &Refused) -> Verdict {
        let known = |id: &BudgetId| self.capacities.contains_key(id) || self.flows.contains_key(id);
        let justified = match why {
            Refused::Closed => self.closed,
            Refused::UnknownBudget(id) => arrival.ask.budgets().find(|id| !known(id)) == Some(*id),
            Refused::NeverFits(short) => {
                self.never_fits(&arrival.ask, arrival.tag) == Some(short.budget) || self.has_no_room(arrival.tag, short)
            }
            Refused::NotNow(_) => !arrival.wait,
            Refused::Late(_) => arrival.deadline == Some(0),
            Refused::Full(waiting, _) => {
                let full = *waiting >= self.config.max_waiters && arrival.seniority.is_none();
                full && *waiting == self.active().count()
            }
        };
        if justified { Ok(()) } else { Err("refused without that reason".into()) }
    }

    fn judge_offered(&mut self, id: u32, budget: BudgetId) -> Verdict {
        let Some(wait) = self.waits.get(&id).filter(|wait| wait.state == State::Waiting).cloned() else {
            return Err("offered to nobody who waits".into());
        };
        if wait.deadline.is_some_and(|deadline| deadline <= self.clock) {
            return Err("offered after its deadline".into());
        }
        if !wait.ask.names(budget) {
            return Err("found where it does not ask for anything".into());
        }
        if self.flows.contains_key(&budget) {
            self.tally.count(Case::RateBlocked);
        }
        let until = self.clock + ((self.config.offer_expiry.as_nanos() as u64) << wait.expiries.min(16));
        if !wait.ask.is_flexible() {
            self.granted.push((wait.rank, wait.ask.alternatives[0].wants.clone()));
        }
        self.charge_offer(&wait.ask);
        self.waits.insert(id, Wait { state: State::Offered { until }, ..wait });
        Ok(())
    }

    fn judge_expired(&mut self, id: u32) -> Verdict {
        let Some(wait) = self.waits.get(&id).cloned() else { return Err("nobody's".into()) };
        match wait.state {
            State::Offered { until } if until <= self.clock => {}
            other => return Err(format!("expired at {} while {other:?}", self.clock)),
        }
        if !self.active().any(|other| wait.ask.budgets().any(|id| other.ask.names(id))) {
            return Err("expired though nobody else wants any of it".into());
        }
        self.undone(&wait.ask);
        self.note_end(id);
        self.waits.insert(id, Wait { state: State::Dormant, expiries: wait.expiries + 1, ..wait });
        Ok(())
    }

    fn judge_ended(&mut self, event: &Event, id: u32, why: Why) -> Verdict {
        let Some(wait) = self.waits.get(&id).cloned() else {
            // It was cancelled in the turn that ended it.
            return Ok(());
        };
        let justified = match (wait.state, why) {
            (State::Waiting | State::Dormant, Why::Late) => wait.deadline.is_some_and(|at| at <= self.clock),
            (State::Waiting | State::Dormant, Why::NeverFits) => self.never_fits(&wait.ask, wait.tag).is_some(),
            (State::Waiting | State::Dormant, Why::Closed) => self.closed,
            (State::Waiting, Why::RollBack | Why::Split) => !is_implied(wait.tag) && self.may_hold(wait.tag.activity),
            (State::Dormant, Why::RollBack | Why::Split) | (State::Offered { .. } | State::Ended, _) => false,
        };
        if !justified {
            return Err(format!("{wait:?} ended at {} without that reason", self.clock));
        }
        if why == Why::NeverFits && !matches!(event, Event::Capacity(..) | Event::Rate(..)) {
            self.tally.count(Case::NeverFitsAfterOffer);
        }
        self.waits.insert(id, Wait { state: State::Ended, ..wait });
        Ok(())
    }

    fn judge_accepted(&mut self, id: u32, grant: &Grant) -> Verdict {
        match self.waits.remove(&id) {
            Some(wait @ Wait { state: State::Offered { .. }, .. }) => {
                self.settle_offer(&wait.ask, grant)?;
                self.hold(id, &wait, grant);
                if self.closed {
                    self.tally.count(Case::AcceptedAfterClose);
                }
                Ok(())
            }
            other => Err(format!("taken up by {other:?}")),
        }
    }

    fn judge_regained(&mut self, id: u32, grant: &Grant) -> Verdict {
        let Some(wait) = self.waits.remove(&id).filter(|wait| wait.state == State::Dormant) else {
            return Err("regained by nobody dormant".into());
        };
        self.judge_grant(id, &wait, grant)
    }

    fn wait_of(&self, arrival: &Arrival) -> Wait {
        let deadline = arrival.deadline.map(|within| self.clock.saturating_add(within));
        let arrived = arrival.seniority.map_or(self.clock, |before| before.min(self.clock));
        let order = deadline.unwrap_or(arrived + self.config.edf_horizon.as_nanos() as u64);
        Wait {
            rank: (arrival.level, order, self.arrivals),
            ask: arrival.ask.clone(),
            ripe_at: self.clock.saturating_add(arrival.ask.patience),
            deadline,
            tag: arrival.tag,
            grows: arrival.grows,
            state: State::Waiting,
            expiries: 0,
        }
    }

    /// Whether ranks do not change while somebody waits, and can be told from outside.
    fn knows_ranks(&self) -> bool {
        !self.belongs && self.config.aging_step.is_none() && self.config.order == Order::Deadline
    }
}
