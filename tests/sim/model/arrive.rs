//! Requests that arrive, and dormant waiters that ask again.

use bursar::BudgetId;

use crate::ask::Asks;
use crate::event::{Arrival, Grant, Refused, Seen};

use super::ratio::USUAL_HOLD;
use super::{LATEST, Model, Path, Rank, State, Waiter};

impl Model {
    pub(super) fn submit(&mut self, arrival: &Arrival) {
        if arrival.past && !self.settings.shares && self.past_engine(arrival) {
            return;
        }
        let answer = self.arrive(arrival);
        self.forget_bounds();
        self.seen.push(answer);
        self.settle();
    }

    /// While nobody waits for any of it, a plain bundle that fits is granted without a turn (R1).
    fn past_engine(&mut self, arrival: &Arrival) -> bool {
        let wants = &arrival.ask.alternatives[0].wants;
        let known = wants.iter().all(|(id, _)| self.stocks.contains_key(id));
        let fits = |&(id, units): &(BudgetId, u64)| {
            let stock = &self.stocks[&id];
            units <= stock.limit() && stock.serves(units, 0, self.clock)
        };
        // What is kept for growth is the engine's business.
        let known = known && arrival.is_nobodys() && self.reserves.values().all(|kept| *kept == 0);
        let loans = known && wants.iter().all(|(id, _)| !self.stocks[id].is_rate());
        let plain = loans && !arrival.ask.is_flexible();
        let open = plain && !self.closed && !self.named(wants) && wants.iter().all(fits);
        if open {
            self.take(wants, self.clock);
            self.immediate[arrival.level as usize] += 1;
            self.hold_past_engine(arrival, wants.clone());
            let grant = Grant { alternative: 0, rung: 0, loans: wants.clone() };
            self.seen.push(Seen::Granted(arrival.id, grant));
        }
        open
    }

    fn arrive(&mut self, arrival: &Arrival) -> Seen {
        let id = arrival.id;
        let refused = |why| Seen::Refused(id, why);
        if self.closed {
            return refused(Refused::Closed);
        }
        self.advance();
        if let Some(unknown) = arrival.ask.budgets().find(|id| !self.stocks.contains_key(id)) {
            return refused(Refused::UnknownBudget(unknown));
        }
        self.note_bound(arrival.tag, &arrival.most);
        let (waiter, _) = self.newcomer(arrival);
        // A bounded activity may ask for what it has left.
        let left = |id| self.limit(arrival.tag, id).min(self.room(arrival.tag, id));
        let possible = |ladder: &Vec<Asks>| {
            let least = ladder.last().expect("a ladder has a rung");
            least.iter().all(|(id, units)| *units <= left(*id))
        };
        if !waiter.ladders.iter().any(possible) {
            return refused(Refused::NeverFits(self.above(&waiter, left)));
        }
        // What an earlier turn left undone goes first (R11).
        self.resume();
        // With whatever that granted, the virtual time went on; and of who has nothing yet nothing is kept.
        self.note_bound(arrival.tag, &arrival.most);
        let (waiter, finish) = self.newcomer(arrival);
        let module = (waiter.level, self.share_of(arrival));
        if let Some(path) = self.admit(&waiter) {
            self.finish.insert(module, finish);
            self.immediate[arrival.level as usize] += 1;
            return Seen::Granted(id, self.grant_at_once(&waiter, path));
        }
        let short = self.short_of(&waiter);
        if !arrival.wait {
            return refused(Refused::NotNow(short));
        }
        if arrival.deadline == Some(0) {
            return refused(Refused::Late(short));
        }
        if self.active() >= self.settings.max_waiters && arrival.seniority.is_none() {
            return refused(Refused::Full(self.active(), short));
        }
        // A request that was refused leaves no trace: neither in the numbers of arrivals, nor in the shares.
        self.finish.insert(module, finish);
        self.arrivals += 1;
        self.waiters.push(waiter);
        self.activate(self.waiters.len() - 1);
        Seen::Waits(id)
    }

    /// A waiter that is not in the queue yet, and the finish tag of its module once it is.
    fn newcomer(&self, arrival: &Arrival) -> (Waiter, u64) {
        let now = self.now;
        let deadline = arrival.deadline.map(|within| now.saturating_add(within));
        let arrived = arrival.seniority.map_or(now, |before| before.min(now));
        let orders = deadline.filter(|_| !self.settings.by_ratio);
        let mut order = orders.unwrap_or(arrived + self.settings.edf_horizon);
        let (start, finish) = self.tags(arrival);
        if self.settings.shares {
            order = start;
        }
        if arrival.grows {
            // Growth goes before admission of its level (C7).
            order = 0;
        }
        let ladders = arrival.ask.ladders();
        let outside: Rank = (arrival.level, order.min(LATEST), self.arrivals);
        let guaranteed = self.is_inside_minimum(arrival.tag, &ladders[0][0]).then_some(outside);
        let rank = guaranteed.map_or(outside, |_| Model::guaranteed_rank(self.arrivals));
        let waiter = Waiter {
            id: arrival.id,
            level: arrival.level,
            rank,
            own: rank,
            inherited: None,
            hold: arrival.hold.unwrap_or(USUAL_HOLD),
            tag: arrival.tag,
            grows: arrival.grows,
            guaranteed,
            ask: arrival.ask.clone(),
            filed: vec![None; ladders.len()],
            held_back: vec![None; ladders.len()],
            parked: vec![None; ladders.len()],
            ladders,
            deadline,
            state: State::Waiting,
            since: now,
            arrived,
            ripe_at: now.saturating_add(arrival.ask.patience),
            entered: now,
            expiries: 0,
            passes: 0,
            first_pass: 0,
            spent: false,
            hard: false,
            claiming: None,
        };
        (waiter, finish)
    }

    /// Whose share is charged: that of the module that is named, or whose the lease is that grows.
    fn share_of(&self, arrival: &Arrival) -> Option<u8> {
        let registered = self.modules.get(&arrival.tag.module).map(|module| module.name);
        arrival.ask.module.or(registered)
    }

    /// Start and finish under `Order::Shares`: the dominant share of the first possible alternative, at most the whole,
    /// in millionths of a millionth of what a module of weight 1 may have.
    fn tags(&self, arrival: &Arrival) -> (u64, u64) {
        let share =
            |&(id, want): &(BudgetId, u64)| u128::from(want) * 1_000_000 / u128::from(self.stocks[&id].limit().max(1));
        let fits = |ladder: &Vec<Asks>| {
            let least = ladder.last().expect("a ladder has a rung");
            least.iter().all(|(id, units)| *units <= self.limit(arrival.tag, *id))
        };
        let ladders = arrival.ask.ladders();
        let possible = ladders.iter().find(|ladder| fits(ladder)).unwrap_or(&ladders[0]);
        let cost = possible[0].iter().map(share).max().unwrap_or(1).clamp(1, 1_000_000);
        let finished = self.finish.get(&(arrival.level, self.share_of(arrival))).copied().unwrap_or(0);
        let start = finished.max(self.virtual_time[arrival.level as usize]);
        let weight = self.modules.get(&arrival.tag.module).map_or(1, |module| module.weight);
        let finish = (u128::from(start) + cost * 1_000 / u128::from(weight)).min(LATEST.into()) as u64;
        (start, finish)
    }

    /// Grants what nothing blocks to one that is filed nowhere: the first alternative that can be. Those whose turn it
    /// would be claim hard first, and may be what blocks it then.
    fn admit(&mut self, waiter: &Waiter) -> Option<Path> {
        loop {
            let path = (0..waiter.ladders.len()).find_map(|alternative| self.path(waiter, alternative))?;
            let bundle = &waiter.ladders[path.0][path.1];
            if !self.harden_due(bundle, waiter) && !self.preempt_before(waiter, bundle) {
                return Some(path);
            }
        }
    }

    fn grant_at_once(&mut self, waiter: &Waiter, path: Path) -> Grant {
        let bundle = &waiter.ladders[path.0][path.1];
        let kept: Vec<u32> = self.ids(&self.passed_by_entry(waiter, bundle));
        self.take_fairly(waiter, path);
        let grant = self.hold(waiter, path);
        self.granted(bundle, waiter.rank, &kept);
        grant
    }

    /// A dormant waiter was polled.
    pub(super) fn ask_again(&mut self, at: usize) {
        self.renew_guarantee(at);
        while self.raise_due(&self.waiters[at]).is_some_and(|due| due <= self.now) {
            self.raise(at);
        }
        let waiter = self.waiters[at].clone();
        if let Some(path) = self.admit(&waiter) {
            self.waiters.remove(at);
            let grant = self.grant_at_once(&waiter, path);
            self.forget_bounds();
            self.seen.push(Seen::Regained(waiter.id, grant));
        } else {
            self.activate(at);
            self.seen.push(Seen::Waits(waiter.id));
        }
    }

    /// From now on a waiter counts: each alternative is filed where it is blocked.
    fn activate(&mut self, at: usize) {
        self.waiters[at].state = State::Waiting;
        for alternative in 0..self.waiters[at].ladders.len() {
            let waiter = &self.waiters[at];
            if !self.possible(waiter, alternative) {
                continue;
            }
            if let Some(cap) = self.exceeds(waiter.tag, self.low(waiter, alternative)) {
                self.waiters[at].parked[alternative] = Some(cap);
            } else {
                let place = self.witness(self.low(waiter, alternative), &self.who(waiter));
                let place = place.or_else(|| self.unsafe_place(at, alternative));
                self.file(at, alternative, place.expect("what nothing blocks was granted"));
            }
        }
        self.claim_again(at);
    }
}
