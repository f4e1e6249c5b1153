//! What tokio-console is shown: the books and the desk, read for [`observe`](crate::observe), which emits after
//! unlocking.

use crate::model::{BudgetId, Request};
use crate::observe::{Asking, Figures, Sampler};

use super::core::Core;
use super::wake::Wakes;

impl Core {
    /// Shows how things are, if that is due.
    pub(super) fn show_on_console(&'static self, sampler: &mut Sampler, now: u64) {
        if !sampler.is_due(&self.console, now) {
            return;
        }
        let was_open = sampler.is_open();
        let chosen = sampler.show(&self.console, now, &self.figures());
        if sampler.is_open() && !was_open {
            self.waiting_already().into_iter().for_each(|slot| self.console.begin(slot, now));
        }
        let mut wakes = Wakes::default();
        let mut desk = self.desk.lock();
        // Should a slot have passed to somebody else, it is polled once for nothing.
        chosen.iter().filter_map(|&slot| desk.wakers.get_mut(slot)?.take()).for_each(|waker| wakes.push(waker));
        drop(desk);
    }

    /// The budgets are shown no longer.
    pub(super) fn leave_console(&'static self, sampler: &mut Sampler) {
        sampler.close(&self.console, || self.figures());
    }

    /// What a reservation waits for. Without a line, which is so below a module's cap, that is what it asks for first.
    pub(super) fn asking(&'static self, slot: u32, request: &Request) -> Asking {
        self.look(|desk, turn| {
            let first = || request.amounts().iter().next().unwrap_or((BudgetId::GPU, 0));
            let (budget, units) = desk.engine.stands_at(slot).unwrap_or_else(first);
            Asking {
                budget,
                units,
                unit: desk.names.of(budget).1,
                priority: request.urgency(),
                label: request.name().map(str::to_owned),
                grows: request.grows(),
                now: turn.now,
            }
        })
    }

    fn figures(&'static self) -> Vec<Figures> {
        self.look(|desk, turn| {
            let each = desk.names.all().map(|(id, name, unit)| {
                let bucket = turn.books.bucket_mut(*id).map(|bucket| {
                    bucket.refill(turn.now);
                    (bucket.burst(), bucket.burst().saturating_sub(bucket.free()).saturating_add(bucket.debt()))
                });
                let loan = || (turn.books.capacity(*id), turn.books.granted(*id));
                let (capacity, in_use) = bucket.unwrap_or_else(loan);
                let waiting = desk.engine.naming(*id);
                Figures { id: *id, name: name.clone(), unit: *unit, rate: bucket.is_some(), capacity, in_use, waiting }
            });
            each.collect()
        })
    }

    /// Those that wait when the console comes, as far as it would list them.
    fn waiting_already(&'static self) -> Vec<u32> {
        const MOST: usize = 2_048;
        self.look(|desk, _| desk.engine.first_waiting(MOST))
    }
}
