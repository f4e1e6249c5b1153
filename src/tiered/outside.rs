//! What is allocated of a space beside what leases reserved.

use std::sync::Mutex;

use super::lock;
use crate::model::{Amounts, BudgetId, Priority, Request, TryReserveError};
use crate::scheduler::{Lease, Scheduler};

/// Charges of one space: first against its headroom, which nobody can reserve, and then against its budget, of which
/// as much is leased as is needed for that: `borrowed == max(0, used - headroom)` while no call is under way.
#[derive(Debug)]
pub(super) struct Outside {
    budget: BudgetId,
    headroom: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    /// What the pieces hold together, including one that is out to be split.
    borrowed: u64,
    pieces: Vec<(u64, Lease)>,
}

impl Outside {
    pub(super) fn new(budget: BudgetId, headroom: u64) -> Self {
        Outside { budget, headroom, state: Mutex::default() }
    }

    /// What is charged, and what of it is leased from the budget.
    pub(super) fn used(&self) -> (u64, u64) {
        let state = lock(&self.state);
        (state.used, state.borrowed)
    }

    /// Charges so many bytes, all or nothing. Passes nobody who waits for the budget at this level.
    pub(super) fn charge(&self, scheduler: &Scheduler, units: u64, level: Priority) -> Result<(), TryReserveError> {
        loop {
            let short = {
                let mut state = lock(&self.state);
                let used = state.used.saturating_add(units);
                let short = self.needed(used).saturating_sub(state.borrowed);
                if short == 0 {
                    state.used = used;
                    return Ok(());
                }
                short
            };
            // Not under the lock, because the scheduler may wake somebody meanwhile.
            match scheduler.try_reserve(Request::new().amount(self.budget, short).priority(level)) {
                Ok(piece) => {
                    let mut state = lock(&self.state);
                    state.borrowed += short;
                    state.pieces.push((short, piece));
                }
                Err(refused) => {
                    // Another may have needed less than was leased for both.
                    self.settle();
                    return Err(refused);
                }
            }
        }
    }

    /// Takes a charge back.
    pub(super) fn discharge(&self, units: u64) {
        lock(&self.state).used -= units;
        self.settle();
    }

    fn needed(&self, used: u64) -> u64 {
        used.saturating_sub(self.headroom)
    }

    /// Gives back to the budget what is not needed of it.
    fn settle(&self) {
        loop {
            let mut state = lock(&self.state);
            let surplus = state.borrowed - self.needed(state.used);
            if surplus == 0 {
                return;
            }
            // If there is none, it is out to be split, and whoever has it looks again.
            let Some((units, mut piece)) = state.pieces.pop() else { return };
            if units <= surplus {
                state.borrowed -= units;
                drop(state);
                drop(piece);
                continue;
            }
            drop(state);
            let part = piece.split(&Amounts::of(self.budget, surplus));
            let mut state = lock(&self.state);
            let split = part.as_ref().map_or(0, |_| surplus);
            state.pieces.push((units - split, piece));
            match part {
                // The last in is the first out.
                Ok(part) => state.pieces.push((split, part)),
                // It holds that much; if it did not, nothing would be lost.
                Err(_) => return,
            }
        }
    }
}
