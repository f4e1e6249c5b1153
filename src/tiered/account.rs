//! The account of one lease: what it reserved and what it has allocated, in every space.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use super::block::Held;
use super::error::AllocateError;
use super::lock;
use super::over_use::OverUse;
use super::shared::{Entry, Shared};
use super::usage::{LeaseUsage, Level};
use crate::memory::{BlockSize, SpaceError, Stream};
use crate::model::{Amounts, LeaseError, Priority, TryReserveError};
use crate::scheduler::Lease;

/// A lease as blocks may use it that grow it when they need to. An async mutex, because the scheduler may wake somebody
/// while the lease grows; not tokio's, which tokio-console would list for every lease.
pub(super) type Growable = futures::lock::Mutex<Lease>;

/// Shared by a lease and its blocks, and alive as long as one of them is.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) shared: Arc<Shared>,
    pub(super) over_use: OverUse,
    level: Priority,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// By place in the table of spaces.
    holdings: Box<[Holding]>,
    /// The lease has ended for its owner; what blocks use is kept in `rest`, except while somebody splits it.
    closed: bool,
    rest: Option<Lease>,
}

/// In bytes. While no call is under way `covered == max(0, charged - reserved)`.
#[derive(Debug, Clone, Default)]
struct Holding {
    reserved: u64,
    /// For blocks and for allocations that are under way.
    charged: u64,
    /// The part of it that is charged outside of the lease.
    covered: u64,
    /// For blocks.
    allocated: Level,
    in_flight: u64,
}

/// So many bytes of one space, charged to an account until this drops.
#[derive(Debug)]
pub(super) struct Charge {
    account: Arc<Account>,
    at: usize,
    units: u64,
    stream: Stream,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    UnderWay,
    Allocated,
    InFlight,
}

impl Account {
    pub(super) fn new(shared: Arc<Shared>, reserved: &Amounts, over_use: OverUse, level: Priority) -> Self {
        let holding = |entry: &Entry| Holding { reserved: reserved.get(entry.budget), ..Holding::default() };
        let holdings = shared.entries.iter().map(holding).collect();
        Account { shared, over_use, level, state: Mutex::new(State { holdings, closed: false, rest: None }) }
    }

    pub(super) fn level(&self) -> Priority {
        self.level
    }

    pub(super) fn usage(&self, at: usize) -> LeaseUsage {
        let state = lock(&self.state);
        let holding = &state.holdings[at];
        LeaseUsage {
            reserved: holding.reserved,
            allocated: holding.allocated.now,
            in_flight: holding.in_flight,
            over: holding.covered,
            peak: holding.allocated.peak,
        }
    }

    pub(super) fn reset_peaks(&self) {
        lock(&self.state).holdings.iter_mut().for_each(|holding| holding.allocated.peak = holding.allocated.now);
    }

    /// Allocates a block; with relief, if there is somebody who gives it.
    pub(super) async fn allocate(
        self: &Arc<Self>,
        lease: Option<&Growable>,
        at: usize,
        stream: Option<Stream>,
        bytes: u64,
    ) -> Result<Held, AllocateError> {
        let refused = match self.attempt(lease, at, stream, bytes).await {
            Err(refused) if refused.is_shortage() => refused,
            settled => return settled.inspect_err(|_| self.shared.entries[at].counters.refused()),
        };
        let relieved = match &self.shared.relief {
            Some(relief) if relief.relieve(&refused).await => self.attempt(lease, at, stream, bytes).await,
            _ => Err(refused),
        };
        relieved.inspect_err(|_| self.shared.entries[at].counters.refused())
    }

    async fn attempt(
        self: &Arc<Self>,
        lease: Option<&Growable>,
        at: usize,
        stream: Option<Stream>,
        bytes: u64,
    ) -> Result<Held, AllocateError> {
        let entry = &self.shared.entries[at];
        if bytes == 0 {
            return Err(AllocateError::Space { source: SpaceError::Zero { space: entry.id }, holders: Vec::new() });
        }
        let stream = stream.unwrap_or_else(|| entry.any_stream());
        let units = entry.space.footprint(bytes);
        self.charge(lease, at, bytes, units).await?;
        let mut charge = Charge { account: Arc::clone(self), at, units, stream, stage: Stage::UnderWay };
        let id = entry.space.allocate_on(stream, bytes).await.map_err(|source| self.refused(at, source))?;
        // It is nobody else's yet, so it is there.
        let size = entry.space.size(id).unwrap_or(BlockSize { len: bytes, capacity: units });
        charge.allocated(size.capacity);
        Ok(Held::new(id, size.len, stream, charge))
    }

    /// Charges so many bytes, or says why not.
    async fn charge(&self, lease: Option<&Growable>, at: usize, asked: u64, units: u64) -> Result<(), AllocateError> {
        let charged = loop {
            let short = match self.take(at, 0, units) {
                Ok(()) => break Ok(()),
                Err(short) => short,
            };
            match (self.over_use, lease) {
                (OverUse::Fail, _) => break Err(self.over_reserved(at, asked, units)),
                (OverUse::Grow, Some(lease)) => {
                    if let Err(refused) = self.grow(&mut *lease.lock().await, at, asked, units) {
                        break Err(refused);
                    }
                }
                (OverUse::Ignore, _) | (OverUse::Grow, None) => {
                    let entry = &self.shared.entries[at];
                    if let Err(source) = entry.outside.charge(&self.shared.scheduler, short, self.level) {
                        break Err(self.no_room(at, asked, short, source));
                    }
                    if self.take(at, short, units).is_ok() {
                        break Ok(());
                    }
                }
            }
        };
        // Others may have freed while this one saw to what was missing.
        self.settle();
        charged
    }

    /// Grows the lease for so many bytes, if they are still too many when its turn has come.
    fn grow(&self, lease: &mut Lease, at: usize, asked: u64, units: u64) -> Result<(), AllocateError> {
        let entry = &self.shared.entries[at];
        let short = lock(&self.state).holdings[at].short_of(units);
        if short == 0 {
            return Ok(());
        }
        let [more, least] = OverUse::growth(short);
        let amounts = |units| Amounts::of(entry.budget, units);
        let grown = match lease.try_grow(&amounts(more)) {
            Ok(()) => Ok(more),
            Err(_) => lease.try_grow(&amounts(least)).map(|()| least),
        };
        let grown = grown.map_err(|source| self.no_room(at, asked, short, source))?;
        lock(&self.state).holdings[at].reserved += grown;
        entry.counters.grew();
        Ok(())
    }

    /// Charges so many bytes if they are within what is reserved or covered, with what has just been charged outside;
    /// else says how many are missing.
    fn take(&self, at: usize, covered: u64, units: u64) -> Result<(), u64> {
        let mut state = lock(&self.state);
        let holding = &mut state.holdings[at];
        holding.covered += covered;
        match holding.short_of(units) {
            0 => {
                holding.charged += units;
                Ok(())
            }
            short => Err(short),
        }
    }

    fn give(&self, at: usize, units: u64) {
        lock(&self.state).holdings[at].charged -= units;
        self.settle();
    }

    /// The lease holds more than before.
    pub(super) fn grown(&self, by: &Amounts) {
        for (holding, entry) in lock(&self.state).holdings.iter_mut().zip(&self.shared.entries) {
            holding.reserved += by.get(entry.budget);
        }
        self.settle();
    }

    /// Takes a part out of what the lease reserved, so that it can be given away; only if no block needs it.
    ///
    /// # Errors
    /// [`LeaseError::HoldsLess`], of what is unused; nothing is taken out.
    pub(super) fn withdraw(&self, part: &Amounts) -> Result<(), LeaseError> {
        let mut state = lock(&self.state);
        for (holding, entry) in state.holdings.iter().zip(&self.shared.entries) {
            let (budget, held, asked) = (entry.budget, holding.unused(), part.get(entry.budget));
            if asked > held {
                return Err(LeaseError::HoldsLess { budget, held, asked });
            }
        }
        for (holding, entry) in state.holdings.iter_mut().zip(&self.shared.entries) {
            holding.reserved -= part.get(entry.budget);
        }
        Ok(())
    }

    /// What no block needs of what is reserved. Taken out, to be given away.
    pub(super) fn withdraw_unused(&self) -> Amounts {
        let mut state = lock(&self.state);
        let unused = self.amounts(&state, Holding::unused);
        state.holdings.iter_mut().for_each(|holding| holding.reserved -= holding.unused());
        unused
    }

    /// A figure of every space, where it is not zero.
    fn amounts(&self, state: &State, figure: impl Fn(&Holding) -> u64) -> Amounts {
        let all = state.holdings.iter().zip(&self.shared.entries);
        all.map(|(holding, entry)| (entry.budget, figure(holding))).filter(|&(_, units)| units > 0).collect()
    }

    /// The lease ends for its owner, who is told what blocks use of it and has to [leave](Account::keep) here.
    pub(super) fn close(&self) -> Amounts {
        let mut state = lock(&self.state);
        state.closed = true;
        state.holdings.iter_mut().for_each(|holding| holding.reserved -= holding.unused());
        self.amounts(&state, |holding| holding.reserved)
    }

    /// What blocks use of a lease that ended.
    pub(super) fn keep(&self, used: Option<Lease>) {
        lock(&self.state).rest = used;
        self.settle();
    }

    /// Brings what is charged outside, and what is left of a lease that ended, in line with what is charged.
    fn settle(&self) {
        let mut state = lock(&self.state);
        for at in 0..state.holdings.len() {
            let surplus = state.holdings[at].surplus();
            if surplus > 0 {
                state.holdings[at].covered -= surplus;
                drop(state);
                self.shared.entries[at].outside.discharge(surplus);
                state = lock(&self.state);
            }
        }
        let closed = state.closed;
        drop(state);
        if closed {
            self.settle_rest();
        }
    }

    /// Gives back what the blocks of a lease that ended do not use.
    fn settle_rest(&self) {
        loop {
            let mut state = lock(&self.state);
            // Whoever has it out looks again.
            let Some(mut rest) = state.rest.take() else { return };
            state.holdings.iter_mut().for_each(|holding| holding.reserved -= holding.unused());
            let keep = self.amounts(&state, |holding| holding.reserved);
            drop(state);
            if keep.is_empty() {
                return drop(rest);
            }
            let mut surplus = rest.amounts();
            let known = surplus.take(&keep).is_ok();
            if known && !surplus.is_empty() {
                drop(rest.split(&surplus));
            }
            let mut state = lock(&self.state);
            state.rest = Some(rest);
            if state.holdings.iter().all(|holding| holding.unused() == 0) {
                return;
            }
        }
    }

    fn over_reserved(&self, at: usize, asked: u64, footprint: u64) -> AllocateError {
        let state = lock(&self.state);
        let Holding { charged: allocated, in_flight, reserved, .. } = state.holdings[at];
        let space = self.shared.entries[at].id;
        AllocateError::OverReserved { space, asked, footprint, allocated, in_flight, reserved }
    }

    /// The space refused, or failed: says who has it, if it is full.
    fn refused(&self, at: usize, source: SpaceError) -> AllocateError {
        let full = matches!(source, SpaceError::OutOfMemory { .. } | SpaceError::DiskFull { .. });
        let holders = if full { self.holders(at) } else { Vec::new() };
        AllocateError::Space { source, holders }
    }

    /// The scheduler refused.
    fn no_room(&self, at: usize, asked: u64, short: u64, source: TryReserveError) -> AllocateError {
        let holders = self.holders(at);
        AllocateError::NoRoom { space: self.shared.entries[at].id, asked, short, source: Box::new(source), holders }
    }

    /// Who holds the most of a space, by label.
    fn holders(&self, at: usize) -> Vec<(Cow<'static, str>, u64)> {
        let budget = self.shared.entries[at].budget;
        let holders = self.shared.scheduler.holders(budget).into_iter().take(3);
        holders.map(|holder| (holder.label, holder.amounts.get(budget))).collect()
    }
}

impl Holding {
    /// By how much another so many bytes are too many.
    fn short_of(&self, units: u64) -> u64 {
        self.charged.saturating_add(units).saturating_sub(self.reserved).saturating_sub(self.covered)
    }

    fn unused(&self) -> u64 {
        self.reserved.saturating_sub(self.charged)
    }

    /// How much is covered outside although it need not be.
    fn surplus(&self) -> u64 {
        self.covered.saturating_sub(self.charged.saturating_sub(self.reserved))
    }
}

impl Charge {
    pub(super) fn units(&self) -> u64 {
        self.units
    }

    pub(super) fn entry(&self) -> &Entry {
        &self.account.shared.entries[self.at]
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.account.shared
    }

    pub(super) fn level(&self) -> Priority {
        self.account.level
    }

    /// The block is there and takes so much. A piece that was left over may be smaller than what was charged; if it is
    /// larger, that is the space's own affair.
    fn allocated(&mut self, capacity: u64) {
        let spare = self.units.saturating_sub(capacity);
        if spare > 0 {
            self.units -= spare;
            self.account.give(self.at, spare);
        }
        self.stage = Stage::Allocated;
        lock(&self.account.state).holdings[self.at].allocated.rise(self.units);
        self.entry().allocated(self.stream, self.units);
    }

    /// The block waits for work to pass.
    pub(super) fn in_flight(&mut self) {
        if self.stage == Stage::Allocated {
            self.stage = Stage::InFlight;
            lock(&self.account.state).holdings[self.at].in_flight += self.units;
            self.entry().in_flight(self.units);
        }
    }

    /// Moves the charge out.
    pub(super) fn take(&mut self) -> Charge {
        let units = std::mem::take(&mut self.units);
        Charge { account: Arc::clone(&self.account), units, ..*self }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.units == 0 {
            return;
        }
        if self.stage != Stage::UnderWay {
            let in_flight = self.stage == Stage::InFlight;
            self.entry().freed(self.stream, self.units, in_flight);
            let mut state = lock(&self.account.state);
            let holding = &mut state.holdings[self.at];
            holding.allocated.fall(self.units);
            holding.in_flight -= if in_flight { self.units } else { 0 };
        }
        self.account.give(self.at, self.units);
    }
}
