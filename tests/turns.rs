//! What a turn of the engine costs those around it: it lets others at the books in between and looks at few in vain
//! (R11), and slots are used again.
#![cfg(feature = "test-util")]

use std::collections::BTreeMap;
use std::sync::Arc;

use bursar::internals::{Asked, Board, Books, Effect, Engine, Held, Settled, Submitted, Turn};
use bursar::{Alternative, Amounts, Budget, BudgetId, Config, Order, Quota, Request, Tag, Terms};

/// How many one turn looks at in vain.
const LOOK_AHEAD: usize = 16;

/// An engine with a thousand units each of two loans, on the table.
struct Table {
    engine: Engine,
    books: Books,
    board: Board,
}

impl Table {
    fn new(order: Order) -> Self {
        let loans = [BudgetId::GPU, BudgetId::HOST].map(|id| Budget::loan(id, 1_000));
        let config = Config { order, look_ahead: LOOK_AHEAD, ..Config::new().with_budgets(loans) };
        let mut books = Books::new();
        books.open(&config.budgets, 0);
        Table { engine: Engine::new(&config), books, board: Board::default() }
    }

    fn enter<R>(&mut self, event: impl FnOnce(&mut Engine, &mut Turn<'_>) -> R) -> R {
        event(&mut self.engine, &mut Turn { books: &mut self.books, board: &self.board, now: 0 })
    }

    /// All of a loan is lent.
    #[track_caller]
    fn fill(&mut self, id: BudgetId) -> Held {
        let all = Request::new().amount(id, 1_000);
        match self.enter(|engine, turn| engine.submit(turn, Asked::of(&all))) {
            Submitted::Granted(held) => held,
            other => panic!("did not get it: {other:?}"),
        }
    }

    #[track_caller]
    fn queue(&mut self, asked: Asked<'_>) -> u32 {
        match self.enter(|engine, turn| engine.submit(turn, asked)) {
            Submitted::Waiting(slot) => slot,
            other => panic!("did not wait: {other:?}"),
        }
    }

    fn release(&mut self, held: Held) {
        let flagged = self.books.give(held).expect("somebody waits");
        self.enter(|engine, turn| engine.released(turn, flagged));
    }

    /// How many are granted by each of the turns that it takes to settle.
    fn settle(&mut self) -> Vec<usize> {
        let mut grants = Vec::new();
        loop {
            let settled = self.enter(Engine::settle);
            grants.push(self.engine.effects().filter(|effect| matches!(effect, Effect::Offer { .. })).count());
            if settled != Settled::Breath {
                return grants;
            }
        }
    }
}

#[test]
fn r11_a_turn_that_grants_many_lets_others_at_the_books_in_between() {
    let one = Request::new().gpu(1u64);
    let both = one.clone().host(1u64);
    for (order, request) in [
        (Order::Deadline, &one),
        (Order::Deadline, &both),
        (Order::Shares, &both),
        (Order::ResponseRatio, &one),
        (Order::ResponseRatio, &both),
    ] {
        let mut table = Table::new(order);
        let held = table.fill(BudgetId::GPU);
        (0..200).for_each(|_| _ = table.queue(Asked::of(request)));
        table.release(held);
        let turns = table.settle();
        assert_eq!(turns.iter().sum::<usize>(), 200, "{order:?}");
        assert!(turns.iter().all(|&granted| granted < 64 + LOOK_AHEAD), "{order:?}: {turns:?}");
    }
}

/// One of a module that may have one unit is granted; the others are looked at in vain.
#[test]
fn r11_whom_a_cap_keeps_is_looked_at_in_vain_under_every_order() {
    for order in [Order::Deadline, Order::Shares, Order::ResponseRatio] {
        let mut table = Table::new(order);
        let quotas = BTreeMap::from([(BudgetId::GPU, Quota { minimum: 0, cap: 1 })]);
        table.enter(|engine, turn| engine.register(turn, 1, "vision", 1, &quotas)).unwrap();
        let held = table.fill(BudgetId::GPU);
        let unit = Request::new().gpu(1u64);
        let terms = Terms {
            alternatives: vec![Alternative::rigid(Amounts::of(BudgetId::GPU, 1))],
            factor: 0,
            patience: 0,
            tag: Tag { module: 1, ..Tag::NOBODY },
            grows: false,
            most: None,
            arrived: 0,
            waits_since: 0,
        };
        let terms = Arc::new(terms);
        (0..99).for_each(|_| _ = table.queue(Asked { terms: Some(Arc::clone(&terms)), ..Asked::of(&unit) }));
        // As it is when they arrive.
        assert_eq!(table.enter(Engine::settle), Settled::Done);
        table.release(held);
        assert_eq!(table.enter(Engine::settle), Settled::LookAhead, "{order:?}");
        let module = &table.engine.module_stats()[0];
        assert_eq!((module.shares[0].used, module.parked), (1, LOOK_AHEAD as u64), "{order:?}");
    }
}

/// Two wait: the first can go without anybody's being looked at; with the last go the flags of the budget.
#[test]
fn a_cancel_that_concerns_nobody_else_needs_neither_the_books_nor_the_time() {
    let mut table = Table::new(Order::Deadline);
    let _held = table.fill(BudgetId::GPU);
    let unit = Request::new().gpu(1u64);
    let [first, last] = [0, 1].map(|_| table.queue(Asked::of(&unit)));
    assert!(table.engine.cancel_quietly(first));
    assert!(!table.engine.cancel_quietly(last));
    assert_eq!((table.engine.waiting(), table.engine.slots()), (1, 1));
}

#[test]
fn slots_are_used_again_however_many_were_left_at_once() {
    let mut table = Table::new(Order::Deadline);
    let _held = table.fill(BudgetId::GPU);
    let unit = Request::new().gpu(1u64);
    for _ in 0..3 {
        let mut slots: Vec<u32> = (0..9).map(|_| table.queue(Asked::of(&unit))).collect();
        slots.iter().for_each(|&slot| table.enter(|engine, turn| engine.cancel(turn, slot)));
        slots.sort_unstable();
        assert_eq!(slots, (0..9).collect::<Vec<_>>());
    }
}
