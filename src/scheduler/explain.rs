//! Why somebody waits: the engine's account with names and holders put in, after unlocking.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::{Asked, Turn};
use crate::model::{Blocker, BudgetId, Explanation, Holding, Next, Request, WaitState};

use super::Scheduler;
use super::core::{Core, Desk, Names};

/// Holders that are named.
const HOLDERS: usize = 3;

/// What is read under the lock: accounts, and what is granted and offered of every budget.
struct Found {
    accounts: Vec<Explanation>,
    granted: [u64; BudgetId::LIMIT],
    offered: [u64; BudgetId::LIMIT],
    names: Arc<Names>,
}

impl Found {
    fn new(accounts: Vec<Explanation>, desk: &Desk, turn: &Turn<'_>) -> Self {
        let (mut granted, mut offered) = ([0u64; BudgetId::LIMIT], [0u64; BudgetId::LIMIT]);
        if !accounts.iter().all(|account| account.blockers.is_empty()) {
            desk.engine.offered(turn.board, |id, units| offered[id.index()] += units);
            for id in BudgetId::in_set(turn.books.budgets() & !turn.books.rates()) {
                granted[id.index()] = turn.books.granted(id);
            }
        }
        Found { accounts, granted, offered, names: Arc::clone(&desk.names) }
    }

    /// Puts in names, and who holds what.
    fn tell(mut self, core: &'static Core) -> Vec<Explanation> {
        // The table is gone through once a budget, however many wait for it.
        let mut known = BTreeMap::new();
        for blocker in self.accounts.iter_mut().flat_map(|account| &mut account.blockers) {
            let id = blocker.budget;
            let (name, unit) = self.names.of(id);
            (blocker.name, blocker.unit) = (name.to_string(), unit);
            let (holders, sum) = known.entry(id).or_insert_with(|| core.known.summary(id, HOLDERS));
            let all = (self.granted[id.index()], self.offered[id.index()]);
            put_holders(blocker, holders, *sum, all);
        }
        self.accounts
    }
}

/// The table of labelled leases is read later than the books, so what it says may be more than what they said.
fn put_holders(blocker: &mut Blocker, largest: &[(Arc<str>, u64)], labelled: u64, (granted, offered): (u64, u64)) {
    let named: u64 = largest.iter().map(|(_, units)| units).sum();
    blocker.holders = largest.iter().map(|(label, units)| Holding::new(&**label, *units)).collect();
    blocker.other_holders = labelled.saturating_sub(named);
    blocker.unlabelled = granted.saturating_sub(offered).saturating_sub(labelled);
    blocker.offered = offered;
}

fn told(core: &'static Core, look: impl FnOnce(&Desk, &mut Turn<'_>) -> Explanation) -> Option<Explanation> {
    let found = core.look(|desk, turn| {
        let account = look(desk, turn);
        Found::new(vec![account], desk, turn)
    });
    found.tell(core).pop()
}

/// Of a reservation that has a slot. It keeps the core, so names and holders are of its own scheduler.
pub(super) fn waiter(core: &'static Core, slot: u32, request: &Request) -> Explanation {
    let done = || Explanation::new(WaitState::Done, request.urgency());
    let found = told(core, |desk, turn| desk.engine.explain(turn, slot).unwrap_or_else(done));
    found.unwrap_or_else(done).of(request)
}

/// Of a reservation that was not polled yet.
pub(super) fn newcomer(core: &'static Core, generation: u32, request: &Request) -> Explanation {
    let refused = |why: String| {
        let mut refused = Explanation::new(WaitState::Unpolled, request.urgency()).of(request);
        refused.next.push(Next::Refused { why });
        refused
    };
    if let Err(fault) = request.check() {
        return refused(fault.to_string());
    }
    let gone = || refused("its scheduler is gone".to_owned());
    let found = told(core, |desk, turn| match turn.books.generation() == generation {
        true => desk.engine.explain_newcomer(turn, &Asked::of(request)),
        false => gone(),
    });
    // Nothing keeps its scheduler: what is known may be of the next one by now.
    let same = core.look(|_, turn| turn.books.generation() == generation);
    found.filter(|_| same).unwrap_or_else(gone).of(request)
}

impl Scheduler {
    /// Everything that waits here, in order of rank, the first `limit` of them: what blocks each, who holds that, and
    /// what happens next. Reservations whose grant passed on because nobody polled them are among them.
    ///
    /// Changes nothing. Takes the scheduler's lock to look at every waiter once, and to explain `limit` of them.
    pub fn explain_all(&self, limit: usize) -> Vec<Explanation> {
        all(self.core, limit)
    }
}

/// See [`Scheduler::explain_all`].
pub(super) fn all(core: &'static Core, limit: usize) -> Vec<Explanation> {
    let found = core.look(|desk, turn| {
        let slots = desk.engine.first_waiting(limit);
        let explain = |slot: u32| {
            let label = desk.labels.get(slot).and_then(|label| label.as_deref());
            let account = desk.engine.explain(turn, slot)?;
            Some(Explanation { label: label.map(str::to_owned), ..account })
        };
        let accounts = slots.into_iter().filter_map(explain).collect();
        Found::new(accounts, desk, turn)
    });
    found.tell(core)
}
