//! What must hold whenever the engine has settled.

#[cfg(debug_assertions)]
use crate::ledger::Books;
use crate::model::BudgetId;

use super::Engine;
use super::queue::State;

/// Up to so many waiters the whole queue is checked after every call; above, only on demand.
#[cfg(debug_assertions)]
const WHOLE_QUEUE: usize = 256;

impl Engine {
    #[cfg(debug_assertions)]
    pub(super) fn assert_sound(&self, books: &Books) {
        if self.queue.len() <= WHOLE_QUEUE
            && let Err((id, found)) = books.verify().and_then(|()| self.verify(books.shut()))
        {
            panic!("budget {id}: {found}");
        }
    }

    /// Checks that counts, filings and the flags `shut` of the books (R1) agree with the waiters. The books check
    /// themselves.
    ///
    /// # Errors
    /// The budget and the figures that do not fit.
    pub fn verify(&self, shut: u64) -> Result<(), (BudgetId, String)> {
        let mut naming = [0u32; BudgetId::LIMIT];
        let mut waiting = 0;
        for (slot, waiter) in self.queue.iter() {
            let active = waiter.state == State::Waiting;
            if active {
                waiting += 1;
                BudgetId::in_set(self.queue.set(slot)).for_each(|id| naming[id.index()] += 1);
            }
            if active != (waiter.filed != 0) || waiter.filed & !self.queue.set(slot) != 0 {
                let found = format!("slot {slot} is {:?} and filed under {:#x}", waiter.state, waiter.filed);
                return Err((BudgetId::first_of(self.queue.set(slot)).unwrap_or(BudgetId::GPU), found));
            }
        }
        for id in (0..BudgetId::LIMIT).filter_map(BudgetId::from_index) {
            let counted = self.naming[id.index()];
            if counted != naming[id.index()] || (counted > 0) != (shut & id.bit() != 0) {
                let found = format!("{counted} waiters counted, {} there, flags {shut:#x}", naming[id.index()]);
                return Err((id, found));
            }
        }
        if waiting != self.waiting {
            return Err((BudgetId::GPU, format!("{} active waiters counted, {waiting} there", self.waiting)));
        }
        Ok(())
    }
}
