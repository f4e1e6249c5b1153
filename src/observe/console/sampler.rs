//! What the scheduler task does for the console, every tick while it listens.

use std::panic::Location;
use std::sync::Arc;

use super::Figures;
use super::budgets::{Budgets, Shown};
use super::waits::Waits;

/// Nanoseconds between two looks at the books: two a second, where the console publishes once. Not more often, because
/// tokio itself tells the console of every sleep, the scheduler task's too, and the console keeps that for an hour.
pub(super) const TICK: u64 = 500_000_000;

/// Shows the budgets of one scheduler. Owned by its task: there is one emitter, so attributes keep their order.
#[derive(Debug)]
pub(crate) struct Sampler {
    /// Where the scheduler was made.
    location: &'static Location<'static>,
    open: Option<Open>,
    /// The next tick.
    at: u64,
}

#[derive(Debug)]
struct Open {
    budgets: Arc<Budgets>,
    shown: Vec<Shown>,
}

impl Sampler {
    pub(crate) fn new(location: &'static Location<'static>) -> Self {
        Sampler { location, open: None, at: 0 }
    }

    /// Whether a look at the books is due.
    #[inline]
    pub(crate) fn is_due(&self, waits: &Waits, now: u64) -> bool {
        match self.open {
            Some(_) => now >= self.at,
            None => waits.is_missed(now),
        }
    }

    /// When the next look is due; `u64::MAX` while nobody listens.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        if self.open.is_some() { self.at } else { u64::MAX }
    }

    /// Whether the console shows the scheduler.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Shows what has changed. The waits that are to be polled, because their turn has come to be listed.
    pub(crate) fn show(&mut self, waits: &Waits, now: u64, figures: &[Figures]) -> Vec<u32> {
        if self.open.is_none() {
            self.open(waits, now, figures);
        }
        let Some(open) = &mut self.open else { return Vec::new() };
        open.budgets.show(figures, &mut open.shown);
        self.at = now.saturating_add(TICK);
        waits.choose(now)
    }

    #[cold]
    fn open(&mut self, waits: &Waits, now: u64, figures: &[Figures]) {
        match Budgets::open(figures, self.location).map(Arc::new) {
            Some(budgets) => {
                waits.switch_on(&budgets);
                let shown = budgets.shown();
                self.open = Some(Open { budgets, shown });
            }
            None => waits.look_later(now),
        }
    }

    /// The scheduler grants nothing any more: its budgets are shown as they are, and as gone.
    pub(crate) fn close(&mut self, waits: &Waits, figures: impl FnOnce() -> Vec<Figures>) {
        if let Some(mut open) = self.open.take() {
            open.budgets.show(&figures(), &mut open.shown);
        }
        waits.switch_off();
    }
}
