//! The engine, its books and its board, turned as the shell turns them: an event, then `settle` until it is done, and a
//! turn of the driver whenever something is due. One thread, a clock of its own, no shell.

use std::collections::BTreeMap;

use bursar::internals::{
    Asked, Board, Books, Effect, Ended, Engine, Held, Posted, Refusal, Settled, Short, Submitted, Turn, Verdict,
};
use bursar::{Amounts, BudgetId, CloseReason, Config, Priority};

use crate::event::{Arrival, Asks, Event, Figures, Refused, Seen, Shelf, View, Why, part_of, rest_of};

/// More turns than this without the time going on, and the driver is said to spin.
const SPIN: usize = 100_000;

/// What an owner has.
#[derive(Debug, Clone)]
pub enum Owner {
    /// A reservation. `woken`: it has reason to poll. `dormant`: its offer expired, and it was not polled since.
    Queued { slot: u32, asks: Asks, woken: bool, dormant: bool },
    /// A lease.
    Holding(Asks),
}

/// The engine and everything around it.
#[derive(Debug)]
pub struct World {
    engine: Engine,
    books: Books,
    board: Board,
    budgets: Vec<BudgetId>,
    owners: BTreeMap<u32, Owner>,
    /// What the leases hold, as the books know it.
    held: BTreeMap<u32, Held>,
    levels: BTreeMap<u32, Priority>,
    /// Who has which slot.
    slots: BTreeMap<u32, u32>,
    /// Sets of budgets whose releasing threads have not entered yet.
    late: Vec<u64>,
    clock: u64,
    lag: u64,
    /// How often a turn let go of the books for a moment.
    pub breaths: u64,
    seen: Vec<Seen>,
}

impl World {
    pub fn new(config: &Config, clock: u64) -> World {
        let mut books = Books::new();
        books.open(&config.budgets, clock);
        let mut budgets: Vec<_> = config.budgets.iter().map(|budget| budget.id).collect();
        budgets.sort();
        World {
            engine: Engine::new(config),
            books,
            board: Board::default(),
            budgets,
            owners: BTreeMap::new(),
            held: BTreeMap::new(),
            levels: BTreeMap::new(),
            slots: BTreeMap::new(),
            late: Vec::new(),
            clock,
            lag: 0,
            breaths: 0,
            seen: Vec::new(),
        }
    }

    /// Does what `event` says, and tells what is seen.
    pub fn apply(&mut self, event: &Event) -> Vec<Seen> {
        match event {
            Event::Submit(arrival) => self.submit(arrival),
            Event::Poll(id) => self.poll(*id),
            Event::Cancel(id) => self.cancel(*id),
            Event::Release { id, late } => self.release(*id, *late),
            Event::Shrink { id, by } => self.shrink(*id, by),
            Event::Split { id, by, into } => self.split(*id, by, *into),
            Event::Enter => std::mem::take(&mut self.late).into_iter().for_each(|set| self.released(set)),
            Event::Capacity(id, units) => self.change(|engine, turn| engine.set_capacity(turn, *id, *units)),
            Event::Rate(id, per_second, burst) => {
                self.change(|engine, turn| engine.set_rate(turn, *id, *per_second, *burst));
            }
            Event::Stall(time) => self.clock += time,
            Event::Sleep(time) => self.sleep(*time),
            Event::Early => self.drive(),
            Event::Lag(time) => self.lag = *time,
            Event::Close => {
                self.enter(|engine, turn| engine.close(turn, CloseReason::Closed));
                self.settle();
            }
        }
        std::mem::take(&mut self.seen)
    }

    fn submit(&mut self, arrival: &Arrival) {
        let amounts = amounts(&arrival.asks);
        if arrival.past {
            let generation = self.books.generation();
            let taken = self.books.take_past_engine(generation, &amounts, arrival.level);
            if let Some(held) = taken {
                return self.grant(arrival.id, &arrival.asks, held, Seen::Granted(arrival.id));
            }
        }
        let deadline = arrival.deadline.unwrap_or(u64::MAX);
        let asked = Asked { amounts: &amounts, level: arrival.level, deadline, terms: None, module: None };
        self.levels.insert(arrival.id, arrival.level);
        let submitted = self.enter(|engine, turn| match arrival.wait {
            true => engine.submit(turn, asked),
            false => engine.try_submit(turn, asked).map_or_else(Submitted::Refused, Submitted::Granted),
        });
        match submitted {
            Submitted::Granted(held) => self.grant(arrival.id, &arrival.asks, held, Seen::Granted(arrival.id)),
            Submitted::Waiting(slot) => {
                self.slots.insert(slot, arrival.id);
                let asks = arrival.asks.clone();
                self.owners.insert(arrival.id, Owner::Queued { slot, asks, woken: false, dormant: false });
                self.seen.push(Seen::Waits(arrival.id));
            }
            Submitted::Refused(refusal) => self.seen.push(Seen::Refused(arrival.id, refused(*refusal))),
        }
        self.settle();
    }

    fn poll(&mut self, id: u32) {
        let Some(Owner::Queued { slot, asks, .. }) = self.owners.get(&id).cloned() else { return };
        match self.board.look(slot) {
            Posted::Accepted { place } => {
                let held = Held::offered(&amounts(&asks), self.books.rates(), place, self.levels[&id]);
                return self.grant(id, &asks, held, Seen::Accepted(id));
            }
            Posted::Ended => {
                if let Some(Ended { why, waited, short }) = self.enter(|engine, _| engine.collect(slot)) {
                    self.owners.remove(&id);
                    self.seen.push(Seen::Collected { id, why: reason(why), waited, short: figures(short) });
                }
            }
            Posted::Nothing => {
                self.set_woken(id, false);
                if let Some(held) = self.enter(|engine, turn| engine.reactivate(turn, slot)) {
                    self.grant(id, &asks, held, Seen::Regained(id));
                } else if let Some(Owner::Queued { dormant, .. }) = self.owners.get_mut(&id)
                    && std::mem::take(dormant)
                {
                    self.seen.push(Seen::Waits(id));
                }
            }
        }
        self.settle();
    }

    fn cancel(&mut self, id: u32) {
        let Some(Owner::Queued { slot, .. }) = self.owners.get(&id).cloned() else { return };
        self.owners.remove(&id);
        self.enter(|engine, turn| engine.cancel(turn, slot));
        self.settle();
    }

    fn grant(&mut self, id: u32, asks: &Asks, held: Held, seen: Seen) {
        self.held.insert(id, held);
        let rates = self.books.rates();
        let loans = asks.iter().copied().filter(|(id, _)| rates & 1 << id.index() == 0);
        self.owners.insert(id, Owner::Holding(loans.collect()));
        self.seen.push(seen);
    }

    fn release(&mut self, id: u32, late: bool) {
        let Some(Owner::Holding(asks)) = self.owners.get(&id).cloned() else { return };
        self.owners.remove(&id);
        if let Some(held) = self.held.remove(&id) {
            assert_eq!(self.books.amounts(held), amounts(&asks), "the books and the owner agree on what {id} holds");
            let flagged = self.books.give(held);
            self.gave(flagged, late);
        }
    }

    fn shrink(&mut self, id: u32, by: &Asks) {
        if let Some(part) = self.take_part(id, by) {
            let flagged = self.books.give(part.1);
            self.gave(flagged, false);
        }
    }

    fn split(&mut self, id: u32, by: &Asks, into: u32) {
        if let Some((part, held)) = self.take_part(id, by) {
            self.owners.insert(into, Owner::Holding(part));
            self.held.insert(into, held);
        }
    }

    fn take_part(&mut self, id: u32, by: &Asks) -> Option<(Asks, Held)> {
        let Some(Owner::Holding(asks)) = self.owners.get(&id) else { return None };
        let part = part_of(asks, by);
        if part.is_empty() {
            return None;
        }
        let rest = rest_of(asks, &part);
        self.owners.insert(id, Owner::Holding(rest));
        let held = self.books.split(self.held.get_mut(&id)?, &amounts(&part));
        Some((part, held.expect("a part of what is held")))
    }

    fn gave(&mut self, flagged: Option<u64>, late: bool) {
        match (flagged, late) {
            (Some(set), true) => self.late.push(set),
            (Some(set), false) => self.released(set),
            (None, _) => {}
        }
    }

    fn released(&mut self, set: u64) {
        self.enter(|engine, turn| engine.released(turn, set));
        self.settle();
    }

    fn change(&mut self, change: impl FnOnce(&mut Engine, &mut Turn<'_>)) {
        if self.engine.closed().is_none() {
            self.enter(change);
            self.settle();
        }
    }

    fn sleep(&mut self, time: u64) {
        self.lag = 0;
        let until = self.clock + time;
        let mut turns = 0;
        while self.due() <= until {
            let due = self.due();
            turns = if due > self.clock { 0 } else { turns + 1 };
            assert!(turns < SPIN, "the driver spins at {due}");
            self.clock = self.clock.max(due);
            self.seen.push(Seen::Turned(self.clock));
            self.drive();
        }
        self.clock = until;
    }

    fn drive(&mut self) {
        self.enter(Engine::handle_timeout);
        self.settle();
    }

    /// One call of the engine; its effects so far are noted.
    fn enter<R>(&mut self, event: impl FnOnce(&mut Engine, &mut Turn<'_>) -> R) -> R {
        let now = self.clock - self.lag;
        let result = event(&mut self.engine, &mut Turn { books: &mut self.books, board: &self.board, now });
        self.note_effects();
        result
    }

    fn settle(&mut self) {
        let settled = loop {
            match self.enter(Engine::settle) {
                Settled::Breath => self.breaths += 1,
                settled => break settled,
            }
        };
        if settled == Settled::LookAhead {
            self.seen.push(Seen::LookAhead);
        }
    }

    fn note_effects(&mut self) {
        let effects: Vec<_> = self.engine.effects().collect();
        for effect in effects {
            let seen = match effect {
                Effect::Offer { slot, level, budget, waited } => {
                    self.set_woken(self.slots[&slot], true);
                    Seen::Offered { id: self.slots[&slot], level, budget, waited }
                }
                Effect::End { slot, level, why } => {
                    self.set_woken(self.slots[&slot], true);
                    self.set_dormant(self.slots[&slot], false);
                    Seen::Ended { id: self.slots[&slot], level, why: reason(why) }
                }
                Effect::Expired { slot } => {
                    self.set_dormant(self.slots[&slot], true);
                    Seen::Expired(self.slots[&slot])
                }
                Effect::Cancelled { level } => Seen::Cancelled(level),
                // Seen by the owner, who polled.
                Effect::Regained { .. } => continue,
            };
            self.seen.push(seen);
        }
    }

    fn set_woken(&mut self, id: u32, now: bool) {
        if let Some(Owner::Queued { woken, .. }) = self.owners.get_mut(&id) {
            *woken = now;
        }
    }

    fn set_dormant(&mut self, id: u32, now: bool) {
        if let Some(Owner::Queued { dormant, .. }) = self.owners.get_mut(&id) {
            *dormant = now;
        }
    }

    pub fn clock(&self) -> u64 {
        self.clock
    }

    fn due(&mut self) -> u64 {
        self.engine.poll_timeout(&mut self.books)
    }

    /// Owners of reservations, and of leases.
    pub fn owners(&self) -> impl Iterator<Item = (u32, &Owner)> {
        self.owners.iter().map(|(id, owner)| (*id, owner))
    }

    /// Whether a release has not reached the engine yet.
    pub fn is_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// Whether `units` of a rate are eligible now.
    pub fn rate_serves(&self, id: BudgetId, units: u64) -> Option<bool> {
        let mut bucket = self.books.bucket(id)?.clone();
        bucket.refill(self.clock);
        Some(bucket.eligible(units, 0))
    }

    /// Units of a rate that were charged and not refunded.
    pub fn spent(&self, id: BudgetId) -> Option<u64> {
        self.books.bucket(id).map(|bucket| bucket.spent())
    }

    /// Slots in use once those that were taken up are swept.
    pub fn slots_in_use(&mut self) -> usize {
        self.enter(|engine, turn| engine.sweep_all(turn));
        self.engine.slots()
    }

    pub fn describe(&self) -> String {
        let owners = self.owners.iter().map(|(id, owner)| format!("  {id}: {owner:?}\n"));
        format!("{}  at {}, {:?}", owners.collect::<String>(), self.clock, self.books)
    }

    /// What can be told between two events; checks the engine's own books and indexes on the way.
    pub fn view(&mut self) -> Result<View, String> {
        self.books
            .verify()
            .and_then(|()| self.engine.verify(self.books.shut()))
            .map_err(|(id, found)| format!("verify: budget {id}: {found}"))?;
        let due = self.due();
        let mut offered: BTreeMap<BudgetId, u64> = BTreeMap::new();
        let offers = self.engine.offered(&self.board, |id, units| *offered.entry(id).or_default() += units);
        let shelf = |&budget: &BudgetId| {
            let bucket = self.books.bucket(budget).cloned().map(|mut bucket| {
                bucket.refill(self.clock);
                bucket
            });
            Shelf {
                budget,
                free: bucket.map_or_else(|| self.books.free(budget), |bucket| bucket.free()),
                limit: self.books.limit(budget),
                granted: self.books.granted(budget),
                peak: self.books.peak(budget),
                deficit: self.books.deficit(budget),
                offered: offered.get(&budget).copied().unwrap_or(0),
                naming: self.engine.naming(budget),
            }
        };
        Ok(View {
            shelves: self.budgets.iter().map(shelf).collect(),
            waiting: self.engine.waiting(),
            offers,
            leases: self.books.leases(),
            immediate: self.books.immediate(),
            due,
        })
    }
}

fn amounts(asks: &Asks) -> Amounts {
    let mut amounts = Amounts::new();
    for (id, units) in asks {
        assert!(amounts.add(*id, *units), "a trace asks for more than zero and no more than can be counted");
    }
    amounts
}

fn figures(short: Short) -> Figures {
    let Short { budget, asked, free, limit, waiting } = short;
    Figures { budget, asked, free, limit, waiting }
}

fn refused(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::UnknownBudget(id) => Refused::UnknownBudget(id),
        Refusal::NeverFits(short) => Refused::NeverFits(figures(short)),
        Refusal::NotNow(short) => Refused::NotNow(figures(short)),
        Refusal::Late(short) => Refused::Late(figures(short)),
        Refusal::Full(waiting, short) => Refused::Full(waiting, figures(short)),
        Refusal::Closed(..) => Refused::Closed,
    }
}

fn reason(why: Verdict) -> Why {
    match why {
        Verdict::Late => Why::Late,
        Verdict::NeverFits => Why::NeverFits,
        Verdict::Closed(_) => Why::Closed,
    }
}
