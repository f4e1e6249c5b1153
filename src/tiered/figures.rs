//! What a space shows of itself beside the scheduler.

use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use super::shared::{Entry, Shared};
use crate::model::{Figure, Figures, Unit};

/// What happened in a space so far. Counted where it happens, which is never the hot path of a block.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Bytes copied into its blocks, out of them, and the part of the latter that went to a slower tier.
    copied_in: AtomicU64,
    copied_out: AtomicU64,
    spilled: AtomicU64,
    /// Leases that were grown for a block, and allocations that were refused.
    grown: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    pub(super) fn grew(&self) {
        self.grown.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts bytes that were copied from one space to another, or inside of one.
pub(super) fn note_copied(from: &Entry, to: &Entry, bytes: u64) {
    from.counters.copied_out.fetch_add(bytes, Ordering::Relaxed);
    to.counters.copied_in.fetch_add(bytes, Ordering::Relaxed);
    if is_spill(from, to) {
        from.counters.spilled.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Whether a copy leaves for a slower tier.
pub(super) fn is_spill(from: &Entry, to: &Entry) -> bool {
    to.id.tier > from.id.tier
}

/// The figures of one space, until the last handle, lease and block of its tiers are gone.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) shared: Weak<Shared>,
    /// Where in the table the space is.
    pub(super) at: usize,
}

impl Figures for Shown {
    fn figures(&self) -> Vec<Figure> {
        self.shared.upgrade().map(|shared| of(&shared.entries[self.at])).unwrap_or_default()
    }

    fn is_gone(&self) -> bool {
        self.shared.strong_count() == 0
    }
}

fn of(entry: &Entry) -> Vec<Figure> {
    let (level, in_flight, blocks) = entry.allocations();
    let counted = |name, counter: &AtomicU64, unit| Figure::counter(name, counter.load(Ordering::Relaxed), unit);
    let Counters { copied_in, copied_out, spilled, grown, refused } = &entry.counters;
    let mut figures = vec![
        Figure::gauge("allocated", level.now, Unit::Bytes),
        Figure::gauge("peak_allocated", level.peak, Unit::Bytes),
        Figure::gauge("in_flight", in_flight, Unit::Bytes),
        Figure::gauge("outside_of_leases", entry.outside.used().0, Unit::Bytes),
        Figure::gauge("blocks", blocks, Unit::Count),
        counted("copied_in", copied_in, Unit::Bytes),
        counted("copied_out", copied_out, Unit::Bytes),
        counted("spilled", spilled, Unit::Bytes),
        counted("leases_grown", grown, Unit::Count),
        counted("refused", refused, Unit::Count),
    ];
    figures.extend(entry.space.figures());
    figures
}
