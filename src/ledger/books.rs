//! The books: what is free, what is granted, and which budgets somebody waits for.
//!
//! Plain integers without a lock of their own. The shell keeps them under one short lock, the simulation owns them
//! outright.

use crate::model::{Amounts, Budget, BudgetId, Path, Priority, Supply, Tag};

use super::account::Account;
use super::held::{Held, Store};
use super::rate::Bucket;

/// The books of one scheduler.
#[derive(Debug)]
pub struct Books {
    /// Loans that may be taken without asking the engine: no active waiter names them, and the scheduler is open.
    open: u64,
    /// Budgets that an active waiter names (R1).
    shut: u64,
    /// Budgets whose gives the engine must hear of: those, or all once the scheduler is closed.
    watched: u64,
    /// Budgets of which every take goes to the engine.
    gated: u64,
    /// Set once the scheduler grants nothing any more.
    closed: bool,
    /// Counts the schedulers that have used these books; a reservation of an earlier one is refused.
    generation: u32,
    /// Leases and offers that are out, the empty ones too.
    leases: u64,
    /// Grants that did not wait, per level.
    immediate: [u64; Priority::COUNT],
    loans: u64,
    rates: u64,
    accounts: [Account; BudgetId::LIMIT],
    /// The buckets, ascending by budget.
    buckets: Vec<Bucket>,
    /// What leases of more than one budget hold.
    store: Store,
}

impl Default for Books {
    fn default() -> Self {
        Books::new()
    }
}

impl Books {
    /// Books without a budget.
    pub fn new() -> Self {
        Books {
            open: 0,
            shut: 0,
            watched: u64::MAX,
            gated: 0,
            closed: true,
            generation: 0,
            leases: 0,
            immediate: [0; Priority::COUNT],
            loans: 0,
            rates: 0,
            accounts: [Account::default(); BudgetId::LIMIT],
            buckets: Vec::new(),
            store: Store::default(),
        }
    }

    /// Opens books for `budgets`, which a configuration check has passed.
    pub fn open(&mut self, budgets: &[Budget], now: u64) {
        let generation = self.generation.wrapping_add(1);
        *self = Books { closed: false, generation, ..Books::new() };
        let mut budgets: Vec<_> = budgets.iter().collect();
        budgets.sort_by_key(|budget| budget.id);
        for budget in budgets {
            match budget.supply {
                Supply::Loan { capacity } => {
                    self.loans |= budget.id.bit();
                    self.accounts[budget.id.index()] = Account::new(capacity);
                }
                Supply::Rate { per_second, burst, max_debt } => {
                    self.rates |= budget.id.bit();
                    self.buckets.push(Bucket::new(per_second, burst, max_debt, now));
                }
            }
        }
        self.derive();
    }

    /// Brings the two sets up to date that the fast path looks at.
    fn derive(&mut self) {
        let closed = if self.closed { u64::MAX } else { 0 };
        self.watched = self.shut | closed;
        self.open = self.loans & !self.watched & !self.gated;
    }

    /// From now on the engine is asked for these budgets whether anybody waits or not.
    pub fn gate(&mut self, budgets: u64) {
        self.gated |= budgets;
        self.derive();
    }

    /// Takes a bundle of loans without asking the engine, if nobody waits for any of them. Reads no clock, so a bundle
    /// with rates in it always goes to the engine.
    #[inline(always)]
    pub fn take_past_engine(&mut self, generation: u32, amounts: &Amounts, level: Priority) -> Option<Held> {
        let set = amounts.set();
        // One loan is the commonest bundle, and worth a way without loops or calls.
        if set & !self.open == 0
            && set.is_power_of_two()
            && generation == self.generation
            && let Some(&[units, ..]) = amounts.inline_units()
        {
            let account = &mut self.accounts[at(set)];
            // An amount is at most 2^63 - 1, so the cast keeps it.
            if account.balance() < units as i64 {
                return None;
            }
            account.take(units);
            self.leases += 1;
            self.immediate[level.index()] += 1;
            return Some(self.store.hold_one(at(set), units, level));
        }
        if set & self.shut != 0 { None } else { self.take_bundle(generation, amounts, level) }
    }

    #[inline(never)]
    fn take_bundle(&mut self, generation: u32, amounts: &Amounts, level: Priority) -> Option<Held> {
        let set = amounts.set();
        if generation != self.generation || set == 0 || set & !self.open != 0 {
            return None;
        }
        let held = match amounts.inline_units() {
            Some(units) => self.take_loans(set, units, level)?,
            None if amounts.iter().any(|(id, units)| self.loan_free(id) < units) => return None,
            None => self.take_all(amounts, level),
        };
        self.leases += 1;
        self.immediate[level.index()] += 1;
        Some(held)
    }

    /// Takes two to eight loans if every one of them has that much free.
    #[inline(always)]
    fn take_loans(&mut self, set: u64, units: &[u64; 8], level: Priority) -> Option<Held> {
        let mut rest = set;
        for &units in units {
            if self.accounts[at(rest)].balance() < units as i64 {
                return None;
            }
            rest &= rest - 1;
            if rest == 0 {
                break;
            }
        }
        let mut rest = set;
        for &units in units {
            self.accounts[at(rest)].take(units);
            rest &= rest - 1;
            if rest == 0 {
                break;
            }
        }
        Some(self.store.hold_inline(set, units, level))
    }

    /// Takes so much of one budget, which is not short of it.
    #[inline]
    pub fn take_one(&mut self, id: BudgetId, units: u64, level: Priority) -> Held {
        if self.rates & id.bit() != 0 {
            return self.take(&Amounts::of(id, units), level);
        }
        self.leases += 1;
        self.accounts[id.index()].take(units);
        self.store.hold_one(id.index(), units, level)
    }

    /// Takes a bundle of a flexible request, and keeps how it was chosen. It always has a place.
    pub fn take_flexibly(&mut self, amounts: &Amounts, path: Path, tag: Tag, level: Priority) -> Held {
        self.leases += 1;
        self.charge(amounts);
        let held = self.store.keep_chosen(amounts.without(self.rates), path, level);
        self.tagged(held, tag)
    }

    /// Notes whom a lease belongs to; it then has a place.
    pub fn tagged(&mut self, held: Held, tag: Tag) -> Held {
        if tag == Tag::NOBODY {
            return held;
        }
        let held = self.store(held);
        self.store.set_tag(held, tag);
        held.note_tagged()
    }

    /// Whom a lease belongs to.
    pub fn tag(&self, held: Held) -> Tag {
        self.store.tag(held)
    }

    /// How what a lease holds was chosen, if there was a choice.
    pub fn path(&self, held: Held) -> Path {
        self.store.path(held)
    }

    /// Takes a bundle that is not short of anything. What is held of it are the loans: rates are spent.
    pub fn take(&mut self, amounts: &Amounts, level: Priority) -> Held {
        self.leases += 1;
        self.take_all(amounts, level)
    }

    fn charge(&mut self, amounts: &Amounts) {
        for (id, units) in amounts.iter() {
            match self.bucket_mut(id) {
                Some(bucket) => bucket.charge(units),
                None => self.accounts[id.index()].take(units),
            }
        }
    }

    fn take_all(&mut self, amounts: &Amounts, level: Priority) -> Held {
        self.charge(amounts);
        let loans = if amounts.set() & self.rates == 0 { amounts.clone() } else { amounts.without(self.rates) };
        self.store.hold(loans, level)
    }

    /// Gives back what an ended lease held. The budgets that the engine must hear of, if any: the flag is learnt from
    /// the operation that adds the units (R1).
    #[inline(always)]
    #[must_use = "a flagged give must enter the engine"]
    pub fn give(&mut self, held: Held) -> Option<u64> {
        self.leases -= 1;
        match held.inline() {
            Some((budget, units)) => {
                self.accounts[budget].give(units);
                self.flagged(1 << budget)
            }
            None => self.give_stored(held),
        }
    }

    #[inline(never)]
    fn give_stored(&mut self, held: Held) -> Option<u64> {
        let Some((place, amounts)) = held.place().and_then(|place| Some((place, self.store.get(place)?))) else {
            return self.flagged(0);
        };
        let set = amounts.set();
        match amounts.inline_units() {
            Some(units) => {
                let mut rest = set;
                for &units in units {
                    if rest == 0 {
                        break;
                    }
                    self.accounts[at(rest)].give(units);
                    rest &= rest - 1;
                }
            }
            None => amounts.iter().for_each(|(id, units)| self.accounts[id.index()].give(units)),
        }
        self.store.free(place);
        self.flagged(set)
    }

    #[inline(always)]
    fn flagged(&self, set: u64) -> Option<u64> {
        // Once the scheduler is closed, the end of a lease that held nothing counts too: it may be the last.
        if self.watched & set != 0 || (set == 0 && self.closed) { Some(set) } else { None }
    }

    /// Undoes a grant that nobody took up: loans come back, rates are refunded (R7).
    pub fn undo(&mut self, amounts: &Amounts, held: Held) {
        // The engine itself undoes, and regrants whatever the flag says.
        let _ = self.give(held);
        for (id, units) in amounts.iter() {
            if let Some(bucket) = self.bucket_mut(id) {
                bucket.refund(units);
            }
        }
    }

    /// What a lease holds.
    pub fn amounts(&self, held: Held) -> Amounts {
        self.store.amounts(held)
    }

    /// The same without a copy, for a lease that has a place.
    pub fn placed(&self, held: Held) -> Option<&Amounts> {
        held.place().and_then(|place| self.store.get(place))
    }

    /// Moves what a lease holds into the store, where it has a place to be known by.
    pub fn store(&mut self, held: Held) -> Held {
        match held.place() {
            Some(_) => held,
            None => {
                let amounts = self.store.amounts(held);
                self.store.keep(amounts, held.level())
            }
        }
    }

    /// Splits `part` off what a lease holds; it belongs to nobody yet. The budget that holds less than that, and
    /// nothing changed, if there is one.
    ///
    /// # Errors
    /// The budget.
    pub fn split(&mut self, held: &mut Held, part: &Amounts) -> Result<Held, BudgetId> {
        let mut rest = self.store.amounts(*held);
        rest.take(part)?;
        self.put(held, rest);
        self.leases += 1;
        let mut part = self.store.hold(part.clone(), held.level());
        let path = self.store.path(*held);
        if path != Path::default() {
            part = self.store(part);
            self.store.set_path(part, path);
        }
        Ok(part)
    }

    /// Puts what one lease holds to what another holds; the one is left with nothing. `false`, and nothing changed,
    /// when the sum would be no valid amount.
    pub fn merge(&mut self, held: &mut Held, other: &mut Held) -> bool {
        let mut sum = self.store.amounts(*held);
        if sum.put_all(&self.store.amounts(*other)).is_err() {
            return false;
        }
        self.put(held, sum);
        self.put(other, Amounts::new());
        true
    }

    /// Changes what a lease holds. What has a place keeps it.
    fn put(&mut self, held: &mut Held, amounts: Amounts) {
        match held.place() {
            Some(place) => self.store.replace(place, amounts),
            None => *held = self.store.hold(amounts, held.level()),
        }
    }

    /// Sets or clears the waiter flags of budgets.
    pub fn set_shut(&mut self, budgets: u64, shut: bool) {
        if shut {
            self.shut |= budgets;
        } else {
            self.shut &= !budgets;
        }
        self.derive();
    }

    /// No scheduler uses these books any more.
    pub fn retire(&mut self) {
        let generation = self.generation.wrapping_add(1);
        *self = Books { generation, ..Books::new() };
    }

    /// From now on every take and give goes to the engine.
    pub fn close(&mut self) {
        self.closed = true;
        self.derive();
    }

    /// Another capacity of a loan. Less than what is granted is kept as a deficit, and nothing of it is granted until
    /// leases have brought it back.
    pub fn set_capacity(&mut self, id: BudgetId, capacity: u64) {
        self.accounts[id.index()].set_capacity(capacity);
    }

    /// The bucket of a rate.
    pub fn bucket_mut(&mut self, id: BudgetId) -> Option<&mut Bucket> {
        let at = self.bucket_at(id)?;
        self.buckets.get_mut(at)
    }

    /// The bucket of a rate.
    pub fn bucket(&self, id: BudgetId) -> Option<&Bucket> {
        self.buckets.get(self.bucket_at(id)?)
    }

    fn bucket_at(&self, id: BudgetId) -> Option<usize> {
        let bit = id.bit();
        (self.rates & bit != 0).then(|| (self.rates & (bit - 1)).count_ones() as usize)
    }

    /// What can be taken of a loan now.
    #[inline(always)]
    pub fn loan_free(&self, id: BudgetId) -> u64 {
        self.accounts[id.index()].balance().max(0) as u64
    }

    /// What can be taken now: free units, or the level of a rate as of the last refill.
    pub fn free(&self, id: BudgetId) -> u64 {
        match self.bucket(id) {
            Some(bucket) => bucket.free(),
            None => self.accounts[id.index()].balance().max(0) as u64,
        }
    }

    /// The most one request can ask for.
    pub fn limit(&self, id: BudgetId) -> u64 {
        self.bucket(id).map_or(self.accounts[id.index()].capacity(), Bucket::limit)
    }

    /// Units of a loan that leases and offers have.
    pub fn granted(&self, id: BudgetId) -> u64 {
        self.accounts[id.index()].granted()
    }

    /// The most of a loan that was ever granted at once.
    pub fn peak(&self, id: BudgetId) -> u64 {
        self.accounts[id.index()].peak()
    }

    /// By how much a loan is overdrawn after a shrink.
    pub fn deficit(&self, id: BudgetId) -> u64 {
        self.accounts[id.index()].balance().min(0).unsigned_abs()
    }

    /// The capacity of a loan.
    pub fn capacity(&self, id: BudgetId) -> u64 {
        self.accounts[id.index()].capacity()
    }

    /// All budgets.
    pub fn budgets(&self) -> u64 {
        self.loans | self.rates
    }

    /// The budgets that are rates.
    pub fn rates(&self) -> u64 {
        self.rates
    }

    /// The budgets whose waiter flag is set.
    pub fn shut(&self) -> u64 {
        self.shut
    }

    /// Whether nothing is granted any more.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Which scheduler uses these books.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Leases and offers that are out.
    pub fn leases(&self) -> u64 {
        self.leases
    }

    /// Grants that did not wait, per level.
    pub fn immediate(&self) -> [u64; Priority::COUNT] {
        self.immediate
    }

    /// The sum of them.
    pub fn granted_at_once(&self) -> u64 {
        self.immediate.iter().sum()
    }

    /// Counts a grant that went through the engine but did not wait.
    pub fn count_immediate(&mut self, level: Priority) {
        self.immediate[level.index()] += 1;
    }

    /// Whether the books balance (R6); the budget and the figures if not.
    pub fn verify(&self) -> Result<(), (BudgetId, String)> {
        for id in BudgetId::in_set(self.loans) {
            let account = self.accounts[id.index()];
            account.verify().map_err(|found| (id, found))?;
            if self.leases == 0 && account.granted() != 0 {
                return Err((id, format!("{account:?}: units are missing though no lease is out")));
            }
        }
        for id in BudgetId::in_set(self.rates) {
            if let Some(bucket) = self.bucket(id) {
                bucket.verify().map_err(|found| (id, found))?;
            }
        }
        Ok(())
    }
}

/// The position of the lowest budget of a set, which is not empty.
#[inline(always)]
fn at(set: u64) -> usize {
    (set.trailing_zeros() & 63) as usize
}

#[cfg(test)]
mod tests;
