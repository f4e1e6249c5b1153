//! What must hold whatever the scheduler decides, judged from what the owners did and saw: no model of its decisions, and no
//! look inside beyond the books that everybody can read.

mod judge;

use std::collections::{BTreeMap, BTreeSet};

use bursar::{BudgetId, Config, Priority, Supply};

use crate::event::{Arrival, Asks, Event, Refused, Seen, Why, part_of, rest_of};
use crate::tally::{Case, Tally};
use crate::world::World;
use judge::shares;

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
    rank: Rank,
    asks: Asks,
    deadline: Option<u64>,
    state: State,
    expiries: u32,
    /// What was short, or asked for by a higher rank, when it began to wait.
    blocked: BTreeSet<BudgetId>,
}

/// The flow through a rate, in units and billionths of units.
#[derive(Debug)]
struct Flow {
    per_second: u64,
    burst: u64,
    max_debt: u64,
    charged: u128,
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
    capacities: BTreeMap<BudgetId, u64>,
    peaks: BTreeMap<BudgetId, u64>,
    flows: BTreeMap<BudgetId, Flow>,
    arrivals: u64,
    immediate: [u64; Priority::COUNT],
    closed: bool,
    clock: u64,
    /// Whether everything that can be granted is granted.
    settled: bool,
    offer_expiry: u64,
    edf_horizon: u64,
    max_waiters: usize,
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
                    let inflow = u128::from(burst) * BILLION;
                    let flow = Flow { per_second, burst, max_debt, charged: 0, undone: 0, inflow, since: clock };
                    flows.insert(budget.id, flow);
                }
            }
        }
        Oracle {
            waits: BTreeMap::new(),
            held: BTreeMap::new(),
            peaks: BTreeMap::new(),
            capacities,
            flows,
            arrivals: 0,
            immediate: [0; Priority::COUNT],
            closed: false,
            clock,
            settled: true,
            offer_expiry: config.offer_expiry.as_nanos() as u64,
            edf_horizon: config.edf_horizon.as_nanos() as u64,
            max_waiters: config.max_waiters,
            tally: Tally::default(),
        }
    }

    /// Judges one event: what it did, what was seen, and what is left.
    pub fn judge(&mut self, event: &Event, seen: &[Seen], world: &mut World) -> Verdict {
        let in_deficit = self.in_deficit();
        self.note(event);
        for seen in seen {
            self.judge_seen(event, seen).map_err(|wrong| format!("{seen:?}: {wrong}"))?;
        }
        self.clock = world.clock();
        if matches!(event, Event::Release { .. } | Event::Shrink { .. }) && in_deficit > self.in_deficit() {
            self.tally.count(Case::DeficitDrained);
        }
        if world.is_late() && matches!(event, Event::Submit(_) | Event::Cancel(_)) {
            self.tally.count(Case::LateRelease);
        }
        self.judge_books(world)?;
        let quiet = world.view()?.due > self.clock && !world.is_late();
        self.settled = quiet;
        if quiet { self.judge_quiet(world) } else { Ok(()) }
    }

    /// What the owners did.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Release { id, .. } => drop(self.held.remove(id)),
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
                    }
                }
            }
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
        match wait.state {
            State::Waiting => {}
            State::Offered { .. } => {
                self.undone(&wait.asks);
                self.tally.count(Case::OfferedAndCancelled);
            }
            State::Dormant => self.tally.count(Case::DormantAndCancelled),
            State::Ended => self.tally.count(Case::EndedAndCancelled),
        }
    }

    fn judge_seen(&mut self, event: &Event, seen: &Seen) -> Verdict {
        match (seen, event) {
            (Seen::Granted(_), Event::Submit(arrival)) => self.judge_immediate(arrival),
            (Seen::Waits(_), Event::Submit(arrival)) => self.judge_waits(arrival),
            (Seen::Waits(id), Event::Poll(_)) => self.judge_waits_again(*id),
            (Seen::Refused(_, why), Event::Submit(arrival)) => self.judge_refused(arrival, why),
            (Seen::Offered { id, budget, .. }, _) => self.judge_offered(*id, *budget),
            (Seen::Expired(id), _) => self.judge_expired(*id),
            (Seen::Ended { id, why, .. }, _) => self.judge_ended(event, *id, *why),
            (Seen::Accepted(id), Event::Poll(_)) => self.judge_accepted(*id),
            (Seen::Regained(id), Event::Poll(_)) => self.judge_regained(*id),
            (Seen::Collected { id, .. }, Event::Poll(_)) => match self.waits.remove(id) {
                Some(Wait { state: State::Ended, .. }) => Ok(()),
                other => Err(format!("collected from {other:?}")),
            },
            (Seen::Cancelled(_), Event::Cancel(_)) => Ok(()),
            (Seen::Turned(at), Event::Sleep(_)) => {
                self.clock = self.clock.max(*at);
                Ok(())
            }
            (Seen::LookAhead, _) => {
                self.tally.count(Case::LookAhead);
                self.settled = false;
                Ok(())
            }
            _ => Err("nothing that this event can lead to".into()),
        }
    }

    fn judge_immediate(&mut self, arrival: &Arrival) -> Verdict {
        if self.closed {
            return Err("granted after the close".into());
        }
        if arrival.past && !self.waits.values().any(|w| w.state == State::Waiting && shares(&w.asks, &arrival.asks)) {
            self.tally.count(Case::PastEngine);
        }
        let rank = self.rank_of(arrival);
        self.judge_grant(&arrival.asks, rank)?;
        self.immediate[arrival.level as usize] += 1;
        self.held.insert(arrival.id, self.loans(&arrival.asks));
        self.charge(&arrival.asks);
        Ok(())
    }

    fn judge_waits(&mut self, arrival: &Arrival) -> Verdict {
        let rank = self.rank_of(arrival);
        if let Some(above) = self.above_limit(&arrival.asks) {
            return Err(format!("may wait for ever for {above}"));
        }
        let blocked = self.blocking(&arrival.asks, rank);
        let rates = arrival.asks.iter().any(|(id, _)| self.flows.contains_key(id));
        if blocked.is_empty() && !rates {
            return Err("waits though it fits and nobody of higher rank wants any of it".into());
        }
        self.tally.count(Case::Blocked);
        if blocked.len() > 1 {
            self.tally.count(Case::BlockedTwice);
        }
        self.arrivals += 1;
        let deadline = arrival.deadline.map(|within| self.clock.saturating_add(within));
        let asks = arrival.asks.clone();
        self.waits.insert(arrival.id, Wait { rank, asks, deadline, state: State::Waiting, expiries: 0, blocked });
        Ok(())
    }

    fn judge_waits_again(&mut self, id: u32) -> Verdict {
        let Some(wait) = self.waits.get(&id).filter(|wait| wait.state == State::Dormant).cloned() else {
            return Err("asks again though it is not dormant".into());
        };
        let blocked = self.blocking(&wait.asks, wait.rank);
        if blocked.is_empty() && self.loans(&wait.asks).len() == wait.asks.len() {
            return Err("waits though it fits and nobody of higher rank wants any of it".into());
        }
        self.tally.count(Case::Reactivated);
        self.waits.insert(id, Wait { state: State::Waiting, blocked, ..wait });
        Ok(())
    }

    fn judge_refused(&mut self, arrival: &Arrival, why: &Refused) -> Verdict {
        let known = |id: &BudgetId| self.capacities.contains_key(id) || self.flows.contains_key(id);
        let justified = match why {
            Refused::Closed => self.closed,
            Refused::UnknownBudget(id) => !known(id) && arrival.asks.iter().any(|(asked, _)| asked == id),
            Refused::NeverFits(short) => self.above_limit(&arrival.asks) == Some(short.budget),
            Refused::NotNow(_) => {
                self.tally.count(Case::NotNow);
                !arrival.wait
            }
            Refused::Late(_) => arrival.deadline == Some(0),
            Refused::Full(waiting, _) => {
                self.tally.count(Case::Full);
                *waiting >= self.max_waiters && *waiting == self.active().count()
            }
        };
        if !justified {
            return Err("refused without that reason".into());
        }
        if let Refused::NotNow(short) | Refused::Late(short) | Refused::Full(_, short) = why
            && !self.flows.contains_key(&short.budget)
            && !self.blocking(&arrival.asks, self.rank_of(arrival)).contains(&short.budget)
        {
            return Err("refused for a budget that has enough and that nobody of higher rank wants".into());
        }
        Ok(())
    }

    fn judge_offered(&mut self, id: u32, budget: BudgetId) -> Verdict {
        let Some(wait) = self.waits.get(&id).filter(|wait| wait.state == State::Waiting).cloned() else {
            return Err("offered to nobody who waits".into());
        };
        if wait.deadline.is_some_and(|deadline| deadline <= self.clock) {
            return Err("offered after its deadline".into());
        }
        self.judge_grant(&wait.asks, wait.rank)?;
        if self.flows.contains_key(&budget) {
            self.tally.count(Case::RateBlocked);
        } else if !wait.blocked.contains(&budget) {
            self.tally.count(Case::Refiled);
        }
        let until = self.clock + (self.offer_expiry << wait.expiries.min(16));
        self.waits.insert(id, Wait { state: State::Offered { until }, ..wait.clone() });
        self.charge(&wait.asks);
        self.tally.count(Case::Offered);
        Ok(())
    }

    fn judge_expired(&mut self, id: u32) -> Verdict {
        let Some(wait) = self.waits.get(&id).cloned() else { return Err("nobody's".into()) };
        match wait.state {
            State::Offered { until } if until <= self.clock => {}
            other => return Err(format!("expired at {} while {other:?}", self.clock)),
        }
        if !self.active().any(|other| shares(&other.asks, &wait.asks)) {
            return Err("expired though nobody else wants any of it".into());
        }
        self.undone(&wait.asks);
        self.waits.insert(id, Wait { state: State::Dormant, expiries: wait.expiries + 1, ..wait });
        self.tally.count(Case::Expired);
        Ok(())
    }

    fn judge_ended(&mut self, event: &Event, id: u32, why: Why) -> Verdict {
        let Some(wait) = self.waits.get(&id).cloned() else {
            // It was cancelled in the turn that ended it.
            return Ok(());
        };
        let justified = match (wait.state, why) {
            (State::Waiting | State::Dormant, Why::Late) => wait.deadline.is_some_and(|at| at <= self.clock),
            (State::Waiting | State::Dormant, Why::NeverFits) => self.above_limit(&wait.asks).is_some(),
            (State::Waiting | State::Dormant, Why::Closed) => self.closed,
            (State::Offered { .. } | State::Ended, _) => false,
        };
        if !justified {
            return Err(format!("{wait:?} ended at {} without that reason", self.clock));
        }
        let shrunk = matches!(event, Event::Capacity(..) | Event::Rate(..));
        self.tally.count(match why {
            Why::Late => Case::Late,
            Why::Closed => Case::EndedByClose,
            Why::NeverFits if shrunk => Case::NeverFits,
            Why::NeverFits => Case::NeverFitsAfterOffer,
        });
        self.waits.insert(id, Wait { state: State::Ended, ..wait });
        Ok(())
    }

    fn judge_accepted(&mut self, id: u32) -> Verdict {
        match self.waits.remove(&id) {
            Some(Wait { state: State::Offered { .. }, asks, .. }) => {
                self.held.insert(id, self.loans(&asks));
                self.tally.count(if self.closed { Case::AcceptedAfterClose } else { Case::Accepted });
                Ok(())
            }
            other => Err(format!("taken up by {other:?}")),
        }
    }

    fn judge_regained(&mut self, id: u32) -> Verdict {
        let Some(wait) = self.waits.remove(&id).filter(|wait| wait.state == State::Dormant) else {
            return Err("regained by nobody dormant".into());
        };
        self.judge_grant(&wait.asks, wait.rank)?;
        self.held.insert(id, self.loans(&wait.asks));
        self.charge(&wait.asks);
        self.tally.count(Case::Regained);
        Ok(())
    }
}
