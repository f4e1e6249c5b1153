//! What must hold whenever the engine has settled, and a look at the queue for models.

use crate::ledger::Books;
use crate::model::{BudgetId, Priority};
#[cfg(any(feature = "test-util", bursar_loom))]
use crate::policy::Rank;

use super::Engine;
use super::activity::Sure;
#[cfg(any(feature = "test-util", bursar_loom))]
use super::lines::Filing;
use super::queue::State;

/// Up to so many waiters the whole queue is checked after every call; above, only on demand.
#[cfg(debug_assertions)]
const WHOLE_QUEUE: usize = 256;

#[cfg(any(feature = "test-util", bursar_loom))]
/// A waiter as the engine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peek {
    /// Its slot.
    pub slot: u32,
    /// How often it was passed.
    pub passes: u32,
    /// Whether it may be passed no more.
    pub spent: bool,
    /// Whether its claim is hard.
    pub hard: bool,
    /// Its rank, with what it gained by waiting, inheritance or a minimum.
    pub rank: Rank,
    /// Its alternatives that stand in line, and where.
    pub filed: Vec<(u8, BudgetId)>,
    /// Its alternatives that the cap of its module keeps out of the lines.
    pub parked: Vec<u8>,
    /// What it claims.
    pub claims: Vec<(BudgetId, u64)>,
}

impl Engine {
    #[cfg(debug_assertions)]
    pub(super) fn assert_sound(&self, books: &Books) {
        if self.queue.len() <= WHOLE_QUEUE {
            let shut = books.shut();
            let found = books.verify().and_then(|()| self.verify(shut)).and_then(|()| self.verify_parties(books));
            if let Err((id, found)) = found {
                panic!("budget {id}: {found}");
            }
        }
    }

    #[cfg(any(feature = "test-util", bursar_loom))]
    /// Active waiters, by slot.
    pub fn peek(&self) -> Vec<Peek> {
        let active = self.queue.iter().filter(|(_, waiter)| waiter.state == State::Waiting);
        let look = |(slot, waiter): (u32, &super::queue::Waiter)| Peek {
            slot,
            passes: waiter.passes,
            spent: waiter.spent,
            hard: waiter.hard,
            rank: waiter.rank,
            filed: self.queue.filings(slot).map(|(filing, id)| (filing.alternative(), id)).collect(),
            parked: self.parked(slot),
            claims: self.claims_of(slot).collect(),
        };
        active.map(look).collect()
    }

    #[cfg(any(feature = "test-util", bursar_loom))]
    fn parked(&self, slot: u32) -> Vec<u8> {
        let all = 0..self.queue.alternatives(slot);
        all.filter(|&alternative| self.keeper(Filing::new(slot, alternative)).is_some()).collect()
    }

    fn claims_of(&self, slot: u32) -> impl Iterator<Item = (BudgetId, u64)> {
        let rank = self.queue.get(slot).rank;
        BudgetId::in_set(self.queue.set(slot)).filter_map(move |id| Some((id, self.claims.of(id, rank)?)))
    }

    /// Checks that counts, filings and the flags `shut` of the books (R1) agree with the waiters. The books check
    /// themselves.
    ///
    /// # Errors
    /// The budget and the figures that do not fit.
    pub fn verify(&self, shut: u64) -> Result<(), (BudgetId, String)> {
        let mut naming = [0u32; BudgetId::LIMIT];
        let (mut waiting, mut dormant, mut waiting_at) = (0, 0, [0; Priority::COUNT]);
        let mut noted = 0;
        for (slot, waiter) in self.queue.iter() {
            let active = waiter.state == State::Waiting;
            dormant += usize::from(waiter.state == State::Dormant);
            if active {
                waiting += 1;
                waiting_at[waiter.base.index()] += 1;
                BudgetId::in_set(self.queue.set(slot)).for_each(|id| naming[id.index()] += 1);
            }
            let filed = self.queue.filings(slot).fold(0, |set, (_, id)| set | id.bit());
            if active != self.is_somewhere(slot) || filed & !self.queue.set(slot) != 0 {
                let found = format!("slot {slot} is {:?} and stands at {filed:#x}", waiter.state);
                return Err((BudgetId::first_of(self.queue.set(slot)).unwrap_or(BudgetId::GPU), found));
            }
            self.verify_claim(slot, filed != 0 && waiter.hard)?;
            let at = BudgetId::first_of(self.queue.set(slot)).unwrap_or(BudgetId::GPU);
            noted += self.noted_by_caps(slot).map_err(|found| (at, found))?;
        }
        if noted != self.modules.noted() {
            let found = format!("caps know of {} filings in line elsewhere, {noted} there", self.modules.noted());
            return Err((BudgetId::GPU, found));
        }
        for id in (0..BudgetId::LIMIT).filter_map(BudgetId::from_index) {
            let counted = self.naming[id.index()];
            if counted != naming[id.index()] || (counted > 0) != (shut & id.bit() != 0) {
                let found = format!("{counted} waiters counted, {} there, flags {shut:#x}", naming[id.index()]);
                return Err((id, found));
            }
        }
        if (waiting, dormant) != (self.waiting, self.dormant) || waiting_at != self.waiting_at {
            let found = format!(
                "{} active waiters counted, {waiting} there; {:?} by level, {waiting_at:?} there; {} dormant ones \
                 counted, {dormant} there",
                self.waiting, self.waiting_at, self.dormant
            );
            return Err((BudgetId::GPU, found));
        }
        Ok(())
    }

    /// Checks that what is known of activities agrees with the waiters and with the books.
    ///
    /// # Errors
    /// The budget and the figures that do not fit.
    pub fn verify_parties(&self, books: &Books) -> Result<(), (BudgetId, String)> {
        let at = |slot: u32| BudgetId::first_of(self.queue.set(slot)).unwrap_or(BudgetId::GPU);
        let mut known = 0;
        let engaged = self.parties.engaged().count();
        let there = self.parties.iter().filter(|(_, party)| party.is_engaged() || self.inherits(party)).count();
        let implied = self.parties.iter().any(|(_, party)| party.is_implied());
        if engaged < there || implied != self.parties.are_implied() {
            return Err((
                BudgetId::GPU,
                format!("{engaged} activities are looked at, {there} hold; implied: {implied}"),
            ));
        }
        for (activity, party) in self.parties.iter() {
            for slot in party.waiters(Sure::Implied) {
                known += 1;
                if self.queue.get(slot).state != State::Waiting || self.tag(slot).party() != activity {
                    return Err((at(slot), format!("slot {slot} is no waiter of activity {activity}")));
                }
            }
            if party.is_gone() {
                return Err((BudgetId::GPU, format!("activity {activity} is gone and not forgotten")));
            }
        }
        let theirs = |slot: &u32| self.queue.get(*slot).state == State::Waiting && self.tag(*slot).activity != 0;
        let there = self.queue.iter().filter(|(slot, _)| theirs(slot)).count();
        if known != there {
            return Err((BudgetId::GPU, format!("{known} waiters of activities counted, {there} there")));
        }
        if !self.are_guards_known() {
            return Err((BudgetId::GPU, "it is not known who lets nobody begin".to_owned()));
        }
        for (filing, place, rank) in self.held_back.iter() {
            let waiter = self.queue.get(filing.slot());
            if waiter.rank != rank {
                return Err((place, format!("{filing:?} is held back there with another rank than it has")));
            }
            let stands = self.queue.place(filing) == Some(place) && !waiter.hard;
            if !stands && self.dirty.is_clean() {
                return Err((place, format!("{filing:?} is held back there, and is not there or claims something")));
            }
        }
        for id in BudgetId::in_set(books.budgets() & !books.rates()) {
            let parts = self.parties.iter().flat_map(|(_, party)| party.parts(Sure::Implied));
            let held: u128 = parts.map(|part| u128::from(part.held.get(id))).sum();
            if held > u128::from(books.granted(id)) {
                return Err((id, format!("activities hold {held}, and {} are granted", books.granted(id))));
            }
        }
        Ok(())
    }

    /// Checks that who of bounded activities stands in the line of a loan that does not block it is held back, and is
    /// not safe, and that nobody is held back who lacks units. That need not be so before the engine was told of all
    /// that was given back, and has looked at all whom that concerns.
    ///
    /// # Errors
    /// The loan, and whoever stands there.
    #[cfg(any(feature = "test-util", bursar_loom))]
    pub fn verify_held_back(&self, books: &mut Books) -> Result<(), (BudgetId, String)> {
        let bounded = self.queue.iter().map(|(slot, _)| slot).filter(|&slot| self.bound_of(self.tag(slot)).is_some());
        let filed = bounded.flat_map(|slot| self.queue.filings(slot));
        let loans = books.budgets() & !books.rates();
        for (filing, place) in filed.filter(|(_, place)| self.dirty.is_clean() && loans & place.bit() != 0) {
            let (slot, asks) = (filing.slot(), self.queue.asks(filing.slot(), filing.alternative()).bundle());
            let is_held_back = self.held_back.place(filing).is_some();
            let open = !self.blocks(books, place, asks.get(place), self.claimant(slot));
            let lacks = asks.without(books.rates()).iter().any(|(id, units)| units > books.loan_free(id));
            let could_go = self.blocking_filing(books, filing).is_none() && !self.filing_endangers(books, filing);
            if open && !is_held_back || is_held_back && (lacks || could_go) {
                let found = format!("open: {open}, held back: {is_held_back}, lacks: {lacks}, could go: {could_go}");
                return Err((place, format!("{filing:?}: {found}")));
            }
        }
        Ok(())
    }

    /// A hard waiter that stands in line claims something, and nobody else does.
    fn verify_claim(&self, slot: u32, hard: bool) -> Result<(), (BudgetId, String)> {
        let claimed = self.claims_of(slot).next().map(|(id, _)| id);
        let insists = self.queue.flexible(slot).is_some_and(|flexible| !flexible.ripe);
        if hard != claimed.is_some() && !(hard && insists) {
            let found = format!("slot {slot} is hard: {hard}, and claims at {claimed:?}");
            return Err((claimed.unwrap_or(BudgetId::GPU), found));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::lines::Filing;
    use crate::engine::{Asked, Settled, Submitted, Turn};
    use crate::ledger::Board;
    use crate::model::{Activity, Amounts, Budget, Config, Request};

    use super::*;

    fn queued(engine: &mut Engine, turn: &mut Turn<'_>, request: &Request) -> u32 {
        let Submitted::Waiting(slot) = engine.submit(turn, Asked::of(request)) else { panic!("it has to wait") };
        slot
    }

    fn settle(engine: &mut Engine, turn: &mut Turn<'_>) {
        while engine.settle(turn) == Settled::Breath {}
    }

    #[test]
    fn the_end_of_a_turn_looks_at_no_activity_that_only_waits() {
        let config = Config::new().with(Budget::loan(BudgetId::GPU, 10));
        let (mut engine, mut books, board) = (Engine::new(&config), Books::new(), Board::default());
        books.open(&config.budgets, 0);
        let turn = &mut Turn { books: &mut books, board: &board, now: 0 };
        let (all, one) = (Request::new().gpu(9u64), Request::new().gpu(1u64).activity(&Activity::new("holder")));
        let Submitted::Granted(_hog) = engine.submit(turn, Asked::of(&all)) else { panic!("nobody is there") };
        let Submitted::Granted(held) = engine.submit(turn, Asked::of(&one)) else { panic!("it fits") };
        let own = |request: &Request| request.clone().priority(Priority::Critical).activity(&Activity::new("waiter"));
        let slots: Vec<u32> = (0..100).map(|_| queued(&mut engine, turn, &own(&all))).collect();
        settle(&mut engine, turn);
        assert_eq!(engine.parties.engaged().count(), 1, "one holds something");
        let nested = queued(&mut engine, turn, &one);
        settle(&mut engine, turn);
        assert_ne!(engine.own_rank(nested), engine.queue.get(nested).rank, "others wait for what it holds");
        engine.ended(turn, held);
        settle(&mut engine, turn);
        assert_eq!(engine.parties.engaged().count(), 1, "the nested request has it, and nobody else came");
        slots.into_iter().for_each(|slot| engine.cancel(turn, slot));
        engine.verify_parties(turn.books).unwrap();
    }

    /// Ten units of GPU memory that somebody has, and a waiter for some in an activity of its own. Something is broken,
    /// and found out or not.
    fn is_found_out(break_it: impl FnOnce(&mut Engine, u32)) -> bool {
        let config = Config::new().with(Budget::loan(BudgetId::GPU, 10));
        let (mut engine, mut books, board) = (Engine::new(&config), Books::new(), Board::default());
        books.open(&config.budgets, 0);
        let turn = &mut Turn { books: &mut books, board: &board, now: 0 };
        let _ = engine.submit(turn, Asked::of(&Request::new().gpu(10u64)));
        let request = Request::new().gpu(1u64).activity(&Activity::new("its own"));
        let Submitted::Waiting(slot) = engine.submit(turn, Asked::of(&request)) else { panic!("it has to wait") };
        while engine.settle(turn) == Settled::Breath {}
        break_it(&mut engine, slot);
        let found = engine.verify(turn.books.shut()).and_then(|()| engine.verify_parties(turn.books));
        #[cfg(debug_assertions)]
        {
            let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.assert_sound(turn.books)));
            assert_eq!(settled.is_err(), found.is_err(), "{found:?}");
        }
        found.is_err()
    }

    #[test]
    fn what_is_whole_is_no_defect() {
        assert!(!is_found_out(|_, _| {}));
    }

    #[test]
    fn a_waiter_that_is_known_to_the_wrong_activity_is_a_defect() {
        assert!(is_found_out(|engine, slot| {
            let own = engine.tag(slot).party();
            engine.parties.change(own, |party| party.part_mut(Sure::Declared).waiters.clear());
            engine.parties.change(own + 1, |party| _ = party.part_mut(Sure::Declared).waiters.insert(slot));
        }));
    }

    #[test]
    fn an_activity_that_holds_more_of_a_loan_than_is_granted_is_a_defect() {
        assert!(is_found_out(|engine, slot| {
            let held = Amounts::of(BudgetId::GPU, 11);
            engine.parties.change(engine.tag(slot).party(), |party| party.part_mut(Sure::Declared).held = held);
        }));
    }

    #[test]
    fn a_waiter_that_stands_in_no_line_is_a_defect() {
        assert!(is_found_out(|engine, slot| engine.queue.leave(Filing::new(slot, 0))));
    }

    #[test]
    fn a_hard_waiter_that_claims_nothing_is_a_defect() {
        assert!(is_found_out(|engine, slot| engine.queue.get_mut(slot).hard = true));
    }

    #[test]
    fn waiters_that_are_miscounted_in_all_by_level_or_by_budget_are_a_defect() {
        assert!(is_found_out(|engine, _| engine.waiting += 1));
        assert!(is_found_out(|engine, _| engine.dormant += 1));
        assert!(is_found_out(|engine, _| engine.naming[BudgetId::GPU.index()] += 1));
        assert!(is_found_out(|engine, _| engine.waiting_at.swap(0, Priority::Normal.index())));
    }
}
