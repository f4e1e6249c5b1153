//! The engine, its books and its board, turned as the shell turns them: an event, then `settle` until it is done, and a
//! turn of the driver whenever something is due. One thread, a clock of its own, no shell.

mod preempt;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bursar::internals::{
    Asked, Board, Books, Bucket, Effect, Ended, Engine, Held, Posted, Refusal, Settled, Short, Submitted, Turn, Verdict,
};
use bursar::{Amounts, BudgetId, CloseReason, Config, Order, Path, Quota, Request, Tag, Terms};

use crate::ask::{Alternative, Asks, part_of};
use crate::driven::Driven;
use crate::event::{
    Arrival, Event, Figures, Grant, OF_ONE_LEASE, Refused, Seen, Shelf, Standing, View, Why, party, tag_of_part,
};

/// More turns than this without the time going on, and the driver is said to spin.
const SPIN: usize = 10_000;

/// The id of what a lease shrinks by, for as long as it is a lease of its own.
const PART: u32 = u32::MAX;

/// A reservation, as its owner has it.
#[derive(Debug)]
struct Reserved {
    slot: u32,
    request: Request,
    tag: Tag,
    nobodys: bool,
    /// Its offer expired, and it was not polled since.
    dormant: bool,
}

/// The engine and everything around it.
#[derive(Debug)]
pub struct World {
    engine: Engine,
    books: Books,
    board: Board,
    budgets: Vec<BudgetId>,
    reserved: BTreeMap<u32, Reserved>,
    /// What the leases hold, as the books know it.
    held: BTreeMap<u32, Held>,
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
        let kept = config.budgets.iter().any(|budget| budget.growth_reserve > 0);
        if config.order == Order::Shares || kept {
            books.gate(u64::MAX);
        }
        budgets.sort();
        World {
            engine: Engine::new(config),
            books,
            board: Board::default(),
            budgets,
            reserved: BTreeMap::new(),
            held: BTreeMap::new(),
            slots: BTreeMap::new(),
            late: Vec::new(),
            clock,
            lag: 0,
            breaths: 0,
            seen: Vec::new(),
        }
    }

    fn submit(&mut self, arrival: &Arrival) {
        let id = arrival.id;
        let request = request(arrival);
        if arrival.past && !arrival.ask.is_flexible() && arrival.is_nobodys() {
            let generation = self.books.generation();
            if let Some(held) = self.books.take_past_engine(generation, request.amounts(), arrival.level) {
                let grant = self.hold(id, held);
                return self.seen.push(Seen::Granted(id, grant));
            }
        }
        let asked = Asked { terms: terms(arrival), ..Asked::of(&request) };
        let submitted = self.enter(|engine, turn| match arrival.wait {
            true => engine.submit(turn, asked),
            false => engine.try_submit(turn, asked).map_or_else(Submitted::Refused, Submitted::Granted),
        });
        match submitted {
            Submitted::Granted(held) => {
                let grant = self.hold(id, held);
                self.seen.push(Seen::Granted(id, grant));
            }
            Submitted::Waiting(slot) => {
                self.slots.insert(slot, id);
                let (tag, nobodys) = (arrival.tag, arrival.is_nobodys());
                self.reserved.insert(id, Reserved { slot, request, tag, nobodys, dormant: false });
                self.seen.push(Seen::Waits(id));
            }
            Submitted::Refused(refusal) => self.seen.push(Seen::Refused(id, refused(*refusal))),
        }
        self.settle();
    }

    fn poll(&mut self, id: u32) {
        let Some(Reserved { slot, request, tag, nobodys, .. }) = self.reserved.get(&id) else { return };
        let slot = *slot;
        match self.board.look(slot) {
            Posted::Accepted { place } => {
                let held = match *tag == Tag::NOBODY {
                    true if *nobodys => Held::taken_up(request, self.books.rates(), place),
                    true => Held::placed(place, request.urgency()),
                    false => Held::placed(place, request.urgency()).note_tagged(),
                };
                let grant = self.hold(id, held);
                return self.seen.push(Seen::Accepted(id, grant));
            }
            Posted::Ended => {
                if let Some(Ended { why, waited, short }) = self.enter(|engine, _| engine.collect(slot)) {
                    self.reserved.remove(&id);
                    self.seen.push(Seen::Collected { id, why: reason(why), waited, short: figures(short) });
                }
            }
            Posted::Nothing => {
                if let Some(held) = self.enter(|engine, turn| engine.reactivate(turn, slot)) {
                    let grant = self.hold(id, held);
                    self.seen.push(Seen::Regained(id, grant));
                } else if let Some(Reserved { dormant, .. }) = self.reserved.get_mut(&id)
                    && std::mem::take(dormant)
                {
                    self.seen.push(Seen::Waits(id));
                }
            }
        }
        self.settle();
    }

    fn cancel(&mut self, id: u32) {
        let Some(Reserved { slot, .. }) = self.reserved.remove(&id) else { return };
        self.enter(|engine, turn| engine.cancel(turn, slot));
        self.settle();
    }

    /// The owner has a lease now.
    fn hold(&mut self, id: u32, held: Held) -> Grant {
        self.reserved.remove(&id);
        self.held.insert(id, held);
        let Path { alternative, rung } = self.books.path(held);
        Grant { alternative, rung, loans: self.books.amounts(held).iter().collect() }
    }

    fn release(&mut self, id: u32, late: bool) {
        if let Some(held) = self.held.remove(&id) {
            self.end(held, late);
        }
    }

    /// A lease ends.
    fn end(&mut self, held: Held, late: bool) {
        if held.is_tagged() {
            self.enter(|engine, turn| engine.ended(turn, held));
            self.settle();
        } else {
            let flagged = self.books.give(held);
            self.gave(flagged, late);
        }
    }

    fn shrink(&mut self, id: u32, by: &Asks) {
        if self.take_part(id, by, PART) {
            self.release(PART, false);
        }
    }

    fn split(&mut self, id: u32, by: &Asks, into: u32) {
        self.take_part(id, by, into);
    }

    /// Whether there is such a part; it is a lease of its own then.
    fn take_part(&mut self, id: u32, by: &Asks, into: u32) -> bool {
        let Some(held) = self.held.get_mut(&id) else { return false };
        let part = amounts(&part_of(&self.books.amounts(*held).iter().collect(), by));
        if part.is_empty() {
            return false;
        }
        let split = self.books.split(held, &part).expect("a part of what is held");
        let held = *held;
        if !held.is_tagged() {
            self.held.insert(into, split);
            return true;
        }
        let tag = self.books.tag(held);
        let split = self.books.tagged(split, tag_of_part(tag));
        self.held.insert(into, split);
        self.enter(|engine, turn| {
            engine.handed_over(turn, &part, tag, tag_of_part(tag));
            engine.split_off(tag_of_part(tag));
            engine.lend_part(turn, held, split);
        });
        self.settle();
        true
    }

    fn merge(&mut self, id: u32, other: u32) {
        if id == other || !self.held.contains_key(&id) || !self.held.contains_key(&other) {
            return;
        }
        let (mut to, mut from) = (self.held[&id], self.held[&other]);
        let (tag, old) = (self.books.tag(to), self.books.tag(from));
        let amounts = self.books.amounts(from);
        assert!(self.books.merge(&mut to, &mut from), "what is held together is no more than there is");
        self.held.insert(id, to);
        self.held.remove(&other);
        if to.is_tagged() || from.is_tagged() {
            self.enter(|engine, turn| engine.handed_over(turn, &amounts, old, tag));
            self.settle();
        }
        self.end(from, false);
    }

    /// As the shell does it: the lease becomes an activity of its own, then more is asked for.
    fn grow(&mut self, of: u32, more: &Arrival) {
        let Some(&held) = self.held.get(&of) else { return };
        let mut tag = self.books.tag(held);
        if tag.activity == 0 {
            let own = Tag { activity: OF_ONE_LEASE | u64::from(more.id), ..tag };
            let held = self.books.tagged(held, own);
            self.held.insert(of, held);
            let amounts = self.books.amounts(held);
            self.enter(|engine, turn| engine.handed_over(turn, &amounts, tag, own));
            self.settle();
            tag = own;
        }
        self.submit(&Arrival { tag, level: held.level(), ..more.clone() });
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

    fn register(&mut self, number: u64, name: u8, weight: u32, quotas: &[(BudgetId, Quota)]) {
        if self.engine.closed().is_none() {
            let quotas = quotas.iter().copied().collect();
            let name = format!("m{name}");
            let done = self.enter(|engine, turn| engine.register(turn, number, &name, weight, &quotas));
            self.seen.push(Seen::Registered(number, done));
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
        let mut turns = 0;
        let settled = loop {
            turns += 1;
            assert!(turns < SPIN, "a turn has no end");
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
                    Seen::Offered { id: self.slots[&slot], level, budget, waited }
                }
                Effect::End { slot, level, why } => {
                    self.set_dormant(self.slots[&slot], false);
                    Seen::Ended { id: self.slots[&slot], level, why: reason(why) }
                }
                Effect::Expired { slot } => {
                    self.set_dormant(self.slots[&slot], true);
                    Seen::Expired(self.slots[&slot])
                }
                Effect::Cancelled { level } => Seen::Cancelled(level),
                Effect::Alert { slot, activity, budget, holder } => {
                    assert_eq!(party(self.reserved[&self.slots[&slot]].tag), activity, "one of its own waits");
                    Seen::Alert { activity, budget, holder }
                }
                Effect::Revoke { place, level, .. } => Seen::Revoked(self.owner_of(place), level),
                Effect::Overdue { place, .. } => Seen::Overdue(self.owner_of(place)),
                // Seen by the owner, who polled.
                Effect::Regained { .. } => continue,
            };
            self.seen.push(seen);
        }
    }

    fn set_dormant(&mut self, id: u32, now: bool) {
        if let Some(Reserved { dormant, .. }) = self.reserved.get_mut(&id) {
            *dormant = now;
        }
    }

    fn due(&mut self) -> u64 {
        self.engine.poll_timeout(&mut self.books)
    }

    /// A rate as it is by now.
    fn bucket(&self, id: BudgetId) -> Option<Bucket> {
        let mut bucket = self.books.bucket(id)?.clone();
        bucket.refill(self.clock);
        Some(bucket)
    }

    fn order(&self) -> Vec<u32> {
        let mut peeks = self.engine.peek();
        peeks.sort_by_key(|peek| peek.rank);
        peeks.iter().map(|peek| self.slots[&peek.slot]).collect()
    }

    fn standing(&self) -> Vec<Standing> {
        let stands = |peek: bursar::internals::Peek| Standing {
            id: self.slots[&peek.slot],
            passes: peek.passes,
            spent: peek.spent,
            hard: peek.hard,
            level: peek.rank.level(),
            filed: peek.filed,
            parked: peek.parked,
            claims: peek.claims,
        };
        let mut standing: Vec<_> = self.engine.peek().into_iter().map(stands).collect();
        standing.sort_by_key(|standing| standing.id);
        standing
    }
}

impl Driven for World {
    fn new(config: &Config, clock: u64) -> World {
        World::new(config, clock)
    }

    fn apply(&mut self, event: &Event) -> Vec<Seen> {
        match event {
            Event::Submit(arrival) => self.submit(arrival),
            Event::Poll(id) => self.poll(*id),
            Event::Cancel(id) => self.cancel(*id),
            Event::Release { id, late } => self.release(*id, *late),
            Event::Shrink { id, by } => self.shrink(*id, by),
            Event::Split { id, by, into } => self.split(*id, by, *into),
            Event::Merge { id, other } => self.merge(*id, *other),
            Event::Grow { of, more } => self.grow(*of, more),
            Event::Register { number, name, weight, quotas } => self.register(*number, *name, *weight, quotas),
            Event::Deregister(number) => {
                self.enter(|engine, turn| engine.deregister(turn, *number));
                self.settle();
            }
            Event::Outside { activity, begins } => {
                self.enter(|engine, turn| engine.wait_outside(turn, *activity, *begins));
                self.settle();
            }
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

    /// Checks the engine's own books and indexes on the way.
    fn view(&mut self) -> Result<View, String> {
        self.books
            .verify()
            .and_then(|()| self.engine.verify(self.books.shut()))
            .map_err(|(id, found)| format!("verify: budget {id}: {found}"))?;
        if self.late.is_empty() {
            let held_back = self.engine.verify_held_back(&mut self.books);
            held_back.map_err(|(id, found)| format!("held back: budget {id}: {found}"))?;
        }
        let due = self.due();
        let mut offered: BTreeMap<BudgetId, u64> = BTreeMap::new();
        let offers = self.engine.offered(&self.board, |id, units| *offered.entry(id).or_default() += units);
        let shelf = |&budget: &BudgetId| Shelf {
            budget,
            free: self.bucket(budget).map_or_else(|| self.books.free(budget), |bucket| bucket.free()),
            limit: self.books.limit(budget),
            granted: self.books.granted(budget),
            peak: self.books.peak(budget),
            deficit: self.books.deficit(budget),
            offered: offered.get(&budget).copied().unwrap_or(0),
            naming: self.engine.naming(budget),
        };
        Ok(View {
            shelves: self.budgets.iter().map(shelf).collect(),
            waiting: self.engine.waiting(),
            offers,
            leases: self.books.leases(),
            immediate: self.books.immediate(),
            due,
            inherited: self.engine.inheritances(),
            asked: self.asked(),
            order: self.order(),
            standing: self.standing(),
        })
    }

    fn rate_serves(&self, id: BudgetId, units: u64) -> Option<bool> {
        self.bucket(id).map(|bucket| bucket.eligible(units, 0))
    }

    fn spent(&self, id: BudgetId) -> Option<u64> {
        self.books.bucket(id).map(|bucket| bucket.spent())
    }

    /// Slots in use once those that were taken up are swept.
    fn residue(&mut self) -> usize {
        self.enter(|engine, turn| engine.sweep_all(turn));
        self.engine.slots()
    }

    fn describe(&self) -> String {
        let reserved = self.reserved.iter().map(|(id, reserved)| format!("  {id}: {reserved:?}\n"));
        format!("{}  at {}, {:?}", reserved.collect::<String>(), self.clock, self.books)
    }
}

/// The request of an arrival, as a user would write it.
fn request(arrival: &Arrival) -> Request {
    let ask = &arrival.ask;
    let mut alternatives = ask.alternatives.iter().map(bundle);
    let first = alternatives.next().expect("a request asks for something");
    let mut request = alternatives.fold(first, Request::or).priority(arrival.level);
    if let Some(within) = arrival.deadline {
        request = request.deadline(Duration::from_nanos(within));
    }
    if ask.is_flexible() {
        request = request.ladder(f64::from(ask.factor) / 1e6).patience(Duration::from_nanos(ask.patience));
    }
    if let Some(hold) = arrival.hold {
        request = request.expected_hold(Duration::from_nanos(hold));
    }
    match ask.module {
        Some(module) => request.module(format!("m{module}")),
        None => request,
    }
}

/// What the engine is told beside the bundle of an arrival, as the shell does.
fn terms(arrival: &Arrival) -> Option<Arc<Terms>> {
    let Arrival { ask, tag, grows, most, .. } = arrival;
    let each = |alternative: &Alternative| {
        bursar::Alternative::elastic(amounts(&alternative.wants), &amounts(&alternative.floors))
    };
    (!arrival.is_nobodys() || ask.is_flexible()).then(|| {
        Arc::new(Terms {
            alternatives: ask.alternatives.iter().map(each).collect(),
            factor: ask.factor,
            patience: ask.patience,
            tag: *tag,
            grows: *grows,
            most: most.as_ref().map(|most| Arc::new(amounts(most))),
            arrived: arrival.seniority.unwrap_or(0),
            waits_since: 0,
        })
    })
}

fn bundle(alternative: &Alternative) -> Request {
    let whole = alternative.wants.iter().fold(Request::new(), |request, (id, units)| request.amount(*id, *units));
    alternative.floors.iter().fold(whole, |request, (id, floor)| request.down_to(*id, *floor))
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
        Verdict::RollBack => Why::RollBack,
        Verdict::Split => Why::Split,
        Verdict::Closed(_) => Why::Closed,
    }
}
