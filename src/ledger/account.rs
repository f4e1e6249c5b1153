//! One loan: what is free of it and what was.

/// One loan. R6 holds at every moment: `free + granted == capacity + deficit`, where the balance is the free units when
/// it is positive and the deficit, after a shrink below what is granted, when it is negative.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Account {
    balance: i64,
    /// The lowest balance since the capacity last changed: the peak, without a second counter on the fast path.
    low: i64,
    capacity: u64,
    /// The peak under earlier capacities.
    peak: u64,
    /// What is granted, counted on its own, to check the balance against.
    #[cfg(any(debug_assertions, feature = "test-util"))]
    granted: u64,
}

impl Account {
    /// An account of which everything is free.
    pub(super) fn new(capacity: u64) -> Self {
        // A capacity is at most 2^63 - 1, so the cast keeps it.
        let balance = capacity as i64;
        Account { balance, low: balance, capacity, ..Account::default() }
    }

    /// Free units, or, negative, the deficit.
    #[inline(always)]
    pub(super) fn balance(&self) -> i64 {
        self.balance
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    #[inline(always)]
    pub(super) fn take(&mut self, units: u64) {
        self.balance -= units as i64;
        self.low = self.low.min(self.balance);
        #[cfg(any(debug_assertions, feature = "test-util"))]
        {
            self.granted += units;
        }
    }

    #[inline(always)]
    pub(super) fn give(&mut self, units: u64) {
        self.balance += units as i64;
        #[cfg(any(debug_assertions, feature = "test-util"))]
        {
            self.granted -= units;
        }
    }

    pub(super) fn granted(&self) -> u64 {
        (self.capacity as i64 - self.balance) as u64
    }

    pub(super) fn peak(&self) -> u64 {
        self.peak.max((self.capacity as i64 - self.low) as u64)
    }

    pub(super) fn set_capacity(&mut self, capacity: u64) {
        self.peak = self.peak();
        self.balance = capacity as i64 - self.granted() as i64;
        self.capacity = capacity;
        self.low = self.balance;
    }

    pub(super) fn verify(&self) -> Result<(), String> {
        let (free, deficit) = (self.balance.max(0) as u64, self.balance.min(0).unsigned_abs());
        #[cfg(any(debug_assertions, feature = "test-util"))]
        let granted = self.granted;
        #[cfg(not(any(debug_assertions, feature = "test-util")))]
        let granted = self.granted();
        let sides = free.checked_add(granted).zip(self.capacity.checked_add(deficit));
        if sides.is_some_and(|(left, right)| left == right) && self.peak() >= granted {
            return Ok(());
        }
        Err(format!("{self:?}: free {free} + granted {granted} is not capacity + deficit {deficit}"))
    }
}

// Where what is granted is counted on its own.
#[cfg(all(test, any(debug_assertions, feature = "test-util")))]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_does_not_balance_says_so() {
        let mut account = Account::new(10);
        account.take(4);
        account.verify().unwrap();
        assert!(Account { balance: 5, ..account }.verify().is_err());
        assert!(Account { capacity: 11, ..account }.verify().is_err());
        assert!(Account { low: 7, ..account }.verify().is_err(), "a peak below what is granted");
        account.set_capacity(3);
        account.verify().unwrap();
        assert!(Account { balance: 0, ..account }.verify().is_err(), "a deficit that was forgotten");
    }
}
