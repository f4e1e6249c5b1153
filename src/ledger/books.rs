//! The books: what is free, what is granted, and which budgets somebody waits for.
//!
//! Plain integers without a lock of their own. The shell keeps them under one short lock, the simulation owns them outright.

use crate::model::{Amounts, Budget, BudgetId, MAX_AMOUNT, Priority, Supply};

use super::rate::Bucket;

/// One loan. R6 holds at every moment: `free + granted == capacity + deficit`, where the balance is the free units when it is
/// positive and the deficit, after a shrink below what is granted, when it is negative.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    balance: i64,
    granted: u64,
    peak: u64,
    capacity: u64,
}

/// What a take found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Everything was taken.
    Yes,
    /// Nothing was taken: the way past the engine is shut for a budget of the bundle, or too little is free.
    No,
}

/// The books of one scheduler.
#[derive(Debug)]
pub struct Books {
    /// Budgets that an active waiter names (R1). Nobody takes from them without asking the engine.
    shut: u64,
    /// Set once the scheduler grants nothing any more: every take and give goes to the engine.
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
            shut: 0,
            closed: true,
            generation: 0,
            leases: 0,
            immediate: [0; Priority::COUNT],
            loans: 0,
            rates: 0,
            accounts: [Account::default(); BudgetId::LIMIT],
            buckets: Vec::new(),
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
                    let balance = capacity.min(MAX_AMOUNT) as i64;
                    self.accounts[budget.id.index()] = Account { balance, capacity, ..Account::default() };
                }
                Supply::Rate { per_second, burst, max_debt } => {
                    self.rates |= budget.id.bit();
                    self.buckets.push(Bucket::new(per_second, burst, max_debt, now));
                }
            }
        }
    }

    /// Takes a bundle without asking the engine, if nobody waits for any budget of it. Reads no clock for loans; a bundle
    /// with rates in it needs `now`.
    #[inline]
    pub fn take_past_engine(
        &mut self,
        generation: u32,
        amounts: &Amounts,
        level: Priority,
        now: impl FnOnce() -> Option<u64>,
    ) -> Taken {
        let set = amounts.set();
        if self.closed || generation != self.generation || self.shut & set != 0 {
            return Taken::No;
        }
        if set & !self.loans != 0 {
            match now() {
                Some(now) if self.short(amounts, now) == 0 => {}
                _ => return Taken::No,
            }
        } else if !self.covers(amounts) {
            return Taken::No;
        }
        self.take(amounts);
        self.immediate[level.index()] += 1;
        Taken::Yes
    }

    /// Whether every loan of the bundle has that much free.
    #[inline]
    fn covers(&self, amounts: &Amounts) -> bool {
        // An amount is at most 2^63 - 1, so the cast keeps it.
        amounts.iter().all(|(id, units)| self.accounts[id.index()].balance >= units as i64)
    }

    /// The budgets that cannot give what the bundle asks. Rates are tested last: while a loan is short, no rate is (R7).
    pub fn short(&mut self, amounts: &Amounts, now: u64) -> u64 {
        let mut short = 0;
        for (id, units) in amounts.iter() {
            if self.rates & id.bit() == 0 && self.accounts[id.index()].balance < units as i64 {
                short |= id.bit();
            }
        }
        if short == 0 && amounts.set() & self.rates != 0 {
            for (id, units) in amounts.iter() {
                let Some(bucket) = self.bucket_mut(id) else { continue };
                bucket.refill(now);
                if !bucket.eligible(units) {
                    short |= id.bit();
                }
            }
        }
        short
    }

    /// Takes a bundle that is not short of anything.
    #[inline]
    pub fn take(&mut self, amounts: &Amounts) {
        for (id, units) in amounts.iter() {
            if self.rates & id.bit() != 0 {
                if let Some(bucket) = self.bucket_mut(id) {
                    bucket.charge(units);
                }
                continue;
            }
            let account = &mut self.accounts[id.index()];
            account.balance -= units as i64;
            account.granted += units;
            account.peak = account.peak.max(account.granted);
        }
        self.leases += 1;
    }

    /// Gives the loans of an ended lease back. Says whether the engine must hear of it: the flag is learnt from the operation
    /// that adds the units (R1).
    #[inline]
    #[must_use = "a flagged give must enter the engine"]
    pub fn give(&mut self, amounts: &Amounts) -> bool {
        self.leases -= 1;
        self.give_part(amounts)
    }

    /// Gives loans back while their lease goes on.
    #[inline]
    #[must_use = "a flagged give must enter the engine"]
    pub fn give_part(&mut self, amounts: &Amounts) -> bool {
        for (id, units) in amounts.iter() {
            if self.rates & id.bit() == 0 {
                let account = &mut self.accounts[id.index()];
                account.balance += units as i64;
                account.granted -= units;
            }
        }
        self.closed || self.shut & amounts.set() != 0
    }

    /// Undoes a grant that nobody took up: loans come back, rates are refunded (R7).
    pub fn undo(&mut self, amounts: &Amounts) {
        // The engine itself undoes; it regrants whatever the flag says.
        let _ = self.give(amounts);
        for (id, units) in amounts.iter() {
            if let Some(bucket) = self.bucket_mut(id) {
                bucket.refund(units);
            }
        }
    }

    /// A lease became two.
    pub fn lease_split(&mut self) {
        self.leases += 1;
    }

    /// Sets or clears the waiter flags of budgets.
    pub fn set_shut(&mut self, budgets: u64, shut: bool) {
        if shut {
            self.shut |= budgets;
        } else {
            self.shut &= !budgets;
        }
    }

    /// No scheduler uses these books any more.
    pub fn retire(&mut self) {
        let generation = self.generation.wrapping_add(1);
        *self = Books { generation, ..Books::new() };
    }

    /// From now on every take and give goes to the engine.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Another capacity of a loan. Less than what is granted is kept as a deficit, and nothing of it is granted until leases
    /// have brought it back.
    pub fn set_capacity(&mut self, id: BudgetId, capacity: u64) {
        let account = &mut self.accounts[id.index()];
        account.capacity = capacity;
        account.balance = capacity as i64 - account.granted as i64;
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

    /// What can be taken now: free units, or the level of a rate as of the last refill.
    pub fn free(&self, id: BudgetId) -> u64 {
        match self.bucket(id) {
            Some(bucket) => bucket.free(),
            None => self.accounts[id.index()].balance.max(0) as u64,
        }
    }

    /// The most one request can ask for.
    pub fn limit(&self, id: BudgetId) -> u64 {
        self.bucket(id).map_or(self.accounts[id.index()].capacity, Bucket::limit)
    }

    /// Units of a loan that leases and offers have.
    pub fn granted(&self, id: BudgetId) -> u64 {
        self.accounts[id.index()].granted
    }

    /// The most of a loan that was ever granted at once.
    pub fn peak(&self, id: BudgetId) -> u64 {
        self.accounts[id.index()].peak
    }

    /// By how much a loan is overdrawn after a shrink.
    pub fn deficit(&self, id: BudgetId) -> u64 {
        self.accounts[id.index()].balance.min(0).unsigned_abs()
    }

    /// The capacity of a loan.
    pub fn capacity(&self, id: BudgetId) -> u64 {
        self.accounts[id.index()].capacity
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

    /// Counts a grant that went through the engine but did not wait.
    pub fn count_immediate(&mut self, level: Priority) {
        self.immediate[level.index()] += 1;
    }

    /// Whether the books balance (R6); the budget and the figures if not.
    pub fn verify(&self) -> Result<(), (BudgetId, String)> {
        for id in BudgetId::in_set(self.loans) {
            let account = self.accounts[id.index()];
            let (free, deficit) = (self.free(id), self.deficit(id));
            let sides = free.checked_add(account.granted).zip(account.capacity.checked_add(deficit));
            if sides.is_none_or(|(left, right)| left != right) || account.peak < account.granted {
                return Err((id, format!("{account:?}: free {free} + granted is not capacity + deficit {deficit}")));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn books() -> Books {
        let mut books = Books::new();
        books.open(&[Budget::loan(BudgetId::GPU, 100), Budget::rate(BudgetId::IO, 10).max_debt(5)], 0);
        books
    }

    fn take(books: &mut Books, amounts: &Amounts) -> bool {
        let generation = books.generation();
        books.take_past_engine(generation, amounts, Priority::Normal, || Some(0)) == Taken::Yes
    }

    #[test]
    fn a_bundle_is_taken_whole_or_not_at_all() {
        let mut books = books();
        let mut bundle = Amounts::of(BudgetId::GPU, 60);
        assert!(bundle.add(BudgetId::IO, 6));
        assert!(take(&mut books, &bundle));
        assert!(!take(&mut books, &bundle));
        assert_eq!((books.free(BudgetId::GPU), books.free(BudgetId::IO)), (40, 4));
        books.verify().unwrap();
    }

    #[test]
    fn a_shrink_below_use_is_a_visible_deficit_that_returns_pay_off() {
        let mut books = books();
        let lease = Amounts::of(BudgetId::GPU, 80);
        assert!(take(&mut books, &lease));
        books.set_capacity(BudgetId::GPU, 50);
        assert_eq!((books.free(BudgetId::GPU), books.deficit(BudgetId::GPU)), (0, 30));
        books.verify().unwrap();
        let _ = books.give(&lease);
        assert_eq!((books.free(BudgetId::GPU), books.deficit(BudgetId::GPU)), (50, 0));
        assert_eq!(books.peak(BudgetId::GPU), 80);
        books.verify().unwrap();
    }

    #[test]
    fn a_flag_shuts_the_way_past_the_engine_and_is_learnt_by_the_give() {
        let mut books = books();
        let one = Amounts::of(BudgetId::GPU, 1);
        assert!(take(&mut books, &one));
        books.set_shut(BudgetId::GPU.bit(), true);
        assert!(!take(&mut books, &one));
        assert!(books.give(&one));
        books.set_shut(BudgetId::GPU.bit(), false);
        assert!(take(&mut books, &one));
        assert!(!books.give(&one));
    }

    #[test]
    fn a_rate_is_spent_by_a_lease_and_refunded_by_an_undone_offer() {
        let mut books = books();
        let io = Amounts::of(BudgetId::IO, 4);
        assert!(take(&mut books, &io));
        let _ = books.give(&io);
        assert_eq!(books.free(BudgetId::IO), 6);
        assert!(take(&mut books, &io));
        books.undo(&io);
        assert_eq!(books.free(BudgetId::IO), 6);
        books.verify().unwrap();
    }
}
