//! What a scheduler shows of itself: figures, holders, and everything at once. Changes nothing.

use std::sync::Arc;

use crate::ledger::Books;
use crate::model::{BudgetId, BudgetStats, Holder, Priority, Snapshot, Stats, Unit};
use crate::observe::{Gauge, summary};

use super::core::{Core, Desk};
use super::{Scheduler, explain};

impl Scheduler {
    /// A consistent snapshot of everything that is counted.
    ///
    /// The quantiles of waits are read after that, one histogram at a time, so that nobody has to wait for them: what
    /// happens meanwhile may be in them and not in the counters.
    pub fn stats(&self) -> Stats {
        stats(self.core)
    }

    /// The labelled leases that hold a budget, largest first, then oldest. Leases without a label are counted by
    /// [`stats`](Scheduler::stats) only.
    pub fn holders(&self, id: BudgetId) -> Vec<Holder> {
        self.core.known.of(id, self.core.now())
    }

    /// Everything at once, to be shown or written to a log: the figures, the first `limit` that wait with what each
    /// waits for, the `limit` oldest labelled leases, modules, and what other parts [publish](Scheduler::publish).
    ///
    /// Takes the scheduler's lock several times, for a few microseconds each, and once to explain `limit` waits.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use bursar::{GIB, Request, Scheduler};
    ///
    /// let scheduler = Scheduler::builder().gpu(40 * GIB).spawn()?;
    /// let lease = scheduler.reserve(Request::new().gpu(2 * GIB).label("chat")).await?;
    /// let snapshot = scheduler.snapshot(10);
    /// assert_eq!(snapshot.holders[0].label, "chat");
    /// println!("{snapshot}");
    /// # drop(lease); Ok(()) }
    /// ```
    pub fn snapshot(&self, limit: usize) -> Snapshot {
        snapshot(self.core, limit)
    }
}

/// See [`Scheduler::stats`].
fn stats(core: &'static Core) -> Stats {
    // Brings rates and expiries up to now, so that the figures are those of this moment.
    core.turn(|desk, turn, _| desk.engine.refresh(turn));
    let now = core.now();
    let mut stats = core.count(now);
    for budget in &mut stats.budgets {
        for (summed, level) in budget.waits.iter_mut().zip(Priority::ALL) {
            // Copied under the lock in a few microseconds, gone through without it.
            let copy = core.desk.lock().sink.waits(budget.id, level);
            *summed = copy.as_ref().map(summary).unwrap_or_default();
        }
    }
    stats.holds = core.known.holds();
    stats
}

/// See [`Scheduler::snapshot`].
fn snapshot(core: &'static Core, limit: usize) -> Snapshot {
    Snapshot { sections: core.sections.read(), ..stuck_report(core, limit) }
}

/// The same without what other parts publish, so that it runs no code of theirs.
pub(super) fn stuck_report(core: &'static Core, limit: usize) -> Snapshot {
    let (holders, labelled) = core.known.oldest(limit, core.now());
    Snapshot {
        stats: stats(core),
        waiting: explain::all(core, limit),
        holders,
        labelled,
        modules: core.look(|desk, _| desk.engine.module_stats()),
        sections: Vec::new(),
    }
}

impl Core {
    /// Everything that is counted, and a sample of what is in use; the histograms are left out.
    fn count(&'static self, now: u64) -> Stats {
        let mut offered = [0u64; BudgetId::LIMIT];
        let desk = &mut *self.desk.lock();
        let offers = desk.engine.offered(&self.board, |id, units| offered[id.index()] += units) as u64;
        let (immediate, leases, mut budgets) = {
            let books = self.books.lock();
            desk.sample(&books, now);
            let budgets: Vec<BudgetStats> =
                desk.names.all().map(|name| budget_stats(desk, &books, name, &offered)).collect();
            (books.immediate(), books.leases(), budgets)
        };
        for budget in &mut budgets {
            budget.usage = desk.sink.usages.of(budget.id, budget.rate);
        }
        let mut levels = desk.sink.levels();
        for (level, immediate) in levels.iter_mut().zip(immediate) {
            level.immediate = immediate;
        }
        Stats {
            budgets,
            levels,
            waiting: desk.engine.waiting() as u64,
            dormant: desk.engine.dormant() as u64,
            waiting_at: desk.engine.waiting_at(),
            offered: offers,
            leases: leases.saturating_sub(offers),
            forgotten: desk.sink.forgotten(),
            expired_offers: desk.sink.expired(),
            holds: Default::default(),
            inherited: desk.engine.inheritances(),
            alerts: desk.sink.alerts(),
            closed: desk.engine.closed(),
        }
    }

    /// Takes a sample of what is in use.
    pub(super) fn sample(&'static self) {
        let now = self.now();
        let mut desk = self.desk.lock();
        let books = self.books.lock();
        desk.sample(&books, now);
    }

    /// A request to this scheduler was refused for what it is.
    #[cold]
    pub(super) fn note_malformed(&'static self, generation: u32, level: Priority) {
        let mut desk = self.desk.lock();
        if self.books.lock().generation() == generation {
            desk.sink.malformed(level);
        }
    }
}

impl Desk {
    fn sample(&mut self, books: &Books, now: u64) {
        for &(id, ..) in self.names.all() {
            let gauge = match books.bucket(id) {
                Some(bucket) => Gauge::Spent(bucket.spent()),
                None => Gauge::Granted(books.granted(id)),
            };
            self.sink.usages.sample(id, gauge, now);
        }
    }
}

fn budget_stats(
    desk: &Desk,
    books: &Books,
    (id, name, unit): &(BudgetId, Arc<str>, Unit),
    offered: &[u64; BudgetId::LIMIT],
) -> BudgetStats {
    let bucket = books.bucket(*id);
    BudgetStats {
        id: *id,
        name: Arc::clone(name),
        unit: *unit,
        rate: bucket.is_some(),
        capacity: bucket.map_or_else(|| books.capacity(*id), |bucket| bucket.burst()),
        free: books.free(*id),
        granted: bucket.map_or_else(|| books.granted(*id), |bucket| bucket.spent()),
        offered: offered[id.index()],
        deficit: if bucket.is_some() { 0 } else { books.deficit(*id) },
        peak: books.peak(*id),
        waiting: desk.engine.naming(*id),
        waits: Default::default(),
        per_second: bucket.map_or(0, |bucket| bucket.per_second()),
        usage: Default::default(),
    }
}
