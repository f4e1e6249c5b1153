//! What handles, leases and blocks of one [`Tiers`](super::Tiers) share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::error::AllocateError;
use super::figures::Counters;
use super::lock;
use super::outside::Outside;
use super::relief::Relief;
use super::usage::{Level, SpaceUsage, StreamUsage};
use crate::memory::{Space, Stream, StreamPool};
use crate::model::{BudgetId, SpaceId};
use crate::scheduler::Scheduler;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) scheduler: Scheduler,
    pub(super) entries: Box<[Entry]>,
    pub(super) relief: Option<Arc<dyn Relief>>,
}

/// One space.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: SpaceId,
    pub(super) budget: BudgetId,
    pub(super) space: Arc<dyn Space>,
    pub(super) streams: StreamPool,
    pub(super) outside: Outside,
    pub(super) counters: Counters,
    /// What its budget lends unless others use the device too.
    pub(super) limit: u64,
    /// What it lent after the last look at the device.
    pub(super) lent: Mutex<u64>,
    next_stream: AtomicUsize,
    totals: Mutex<Totals>,
}

#[derive(Debug, Default)]
struct Totals {
    level: Level,
    in_flight: u64,
    blocks: u64,
    streams: BTreeMap<Stream, Level>,
}

impl Shared {
    /// Where in the table a space is.
    pub(super) fn find(&self, space: SpaceId) -> Result<usize, AllocateError> {
        let found = self.entries.iter().position(|entry| entry.id == space);
        found.ok_or_else(|| {
            let known = self.entries.iter().map(|entry| entry.id.to_string()).collect::<Vec<_>>().join(", ");
            AllocateError::UnknownSpace { space, known }
        })
    }
}

impl Entry {
    pub(super) fn new(space: Arc<dyn Space>, budget: BudgetId, limit: u64, streams: StreamPool) -> Self {
        Entry {
            id: space.id(),
            budget,
            outside: Outside::new(budget, space.capacity() - limit),
            space,
            streams,
            limit,
            lent: Mutex::new(limit),
            counters: Counters::default(),
            next_stream: AtomicUsize::new(0),
            totals: Mutex::default(),
        }
    }

    /// A stream for a block that nobody chose one for. They take turns, so that copies of two blocks seldom wait for
    /// each other.
    pub(super) fn any_stream(&self) -> Stream {
        let next = self.next_stream.fetch_add(1, Ordering::Relaxed);
        // Below the count, which is a `u8`.
        Stream((next % usize::from(self.streams.count())) as u8)
    }

    pub(super) fn allocated(&self, stream: Stream, bytes: u64) {
        let mut totals = lock(&self.totals);
        totals.level.rise(bytes);
        totals.blocks += 1;
        totals.streams.entry(stream).or_default().rise(bytes);
    }

    pub(super) fn in_flight(&self, bytes: u64) {
        lock(&self.totals).in_flight += bytes;
    }

    pub(super) fn freed(&self, stream: Stream, bytes: u64, in_flight: bool) {
        let mut totals = lock(&self.totals);
        totals.level.fall(bytes);
        totals.blocks -= 1;
        totals.streams.entry(stream).or_default().fall(bytes);
        totals.in_flight -= if in_flight { bytes } else { 0 };
    }

    /// What is allocated, how much of that is in flight, and in how many blocks.
    pub(super) fn allocations(&self) -> (Level, u64, u64) {
        let totals = lock(&self.totals);
        (totals.level, totals.in_flight, totals.blocks)
    }

    /// Lets the peaks begin again with what there is now.
    pub(super) fn reset_peaks(&self) {
        let mut totals = lock(&self.totals);
        totals.level.peak = totals.level.now;
        totals.streams.values_mut().for_each(|stream| stream.peak = stream.now);
    }

    pub(super) fn usage(&self, scheduler: &Scheduler) -> SpaceUsage {
        let (outside, borrowed) = self.outside.used();
        let stats = scheduler.stats();
        let (limit, granted) = stats.budget(self.budget).map_or((0, 0), |budget| (budget.capacity, budget.granted));
        // Below only while a call is under way between the two.
        let reserved = granted.saturating_sub(borrowed);
        let totals = lock(&self.totals);
        let stream =
            |(&stream, level): (&Stream, &Level)| (stream, StreamUsage { allocated: level.now, peak: level.peak });
        SpaceUsage {
            capacity: self.space.capacity(),
            limit,
            reserved,
            outside,
            total: reserved + outside,
            allocated: totals.level.now,
            in_flight: totals.in_flight,
            blocks: totals.blocks,
            peak_allocated: totals.level.peak,
            streams: totals.streams.iter().map(stream).collect(),
        }
    }
}
