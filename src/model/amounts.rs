//! A bundle: how much of which budgets, ascending by budget.

use std::fmt;

use super::amount::MAX_AMOUNT;
use super::budget::BudgetId;

/// How many amounts a bundle holds without an allocation.
const INLINE: usize = 8;

/// How much of each of several budgets. Every amount is above zero and at most 2⁶³ − 1.
///
/// Up to eight amounts are kept inline, so that making, cloning and dropping a usual bundle allocates nothing.
///
/// ```
/// use bursar::{Amounts, BudgetId};
///
/// let mut amounts = Amounts::new();
/// assert!(amounts.add(BudgetId::HOST, 64));
/// assert!(amounts.add(BudgetId::GPU, 7));
/// assert!(amounts.add(BudgetId::GPU, 1));
/// assert_eq!(amounts.get(BudgetId::GPU), 8);
/// let listed: Vec<_> = amounts.iter().collect();
/// assert_eq!(listed, [(BudgetId::GPU, 8), (BudgetId::HOST, 64)]);
/// ```
#[derive(Clone, Default)]
pub struct Amounts {
    set: u64,
    /// The first eight amounts; what stands in unused places means nothing.
    units: [u64; INLINE],
    /// The rest, present exactly when there are more than eight.
    more: Option<Box<[u64]>>,
}

impl Amounts {
    /// An empty bundle.
    #[inline]
    pub const fn new() -> Self {
        Amounts { set: 0, units: [0; INLINE], more: None }
    }

    /// A bundle of one amount; empty when `units` is zero or above 2⁶³ − 1.
    pub fn of(id: BudgetId, units: u64) -> Self {
        let mut amounts = Amounts::new();
        // A refused amount leaves the bundle empty, as documented.
        let _ = amounts.add(id, units);
        amounts
    }

    /// Adds `units` to the amount of `id`. Returns `false`, and changes nothing, when the sum would be zero or above
    /// 2⁶³ − 1.
    #[must_use = "a refused amount is not in the bundle"]
    #[inline(always)]
    pub fn add(&mut self, id: BudgetId, units: u64) -> bool {
        // Named in ascending order, as is usual, and with constant ids, this is one store.
        let (len, last) = (self.len(), self.set >> id.index() == 0);
        if last && units.wrapping_sub(1) < MAX_AMOUNT {
            // Indices that the compiler sees keep a request that is being built in registers; with a computed one it
            // is built in memory and copied at every step, which costs more than all the rest of a reservation.
            match len {
                0 => self.units[0] = units,
                1 => self.units[1] = units,
                2 => self.units[2] = units,
                3 => self.units[3] = units,
                4 => self.units[4] = units,
                5 => self.units[5] = units,
                6 => self.units[6] = units,
                7 => self.units[7] = units,
                _ => return self.add_anywhere(id, units),
            }
            self.set |= id.bit();
            return true;
        }
        self.add_anywhere(id, units)
    }

    #[cold]
    #[inline(never)]
    fn add_anywhere(&mut self, id: BudgetId, units: u64) -> bool {
        let held = self.get(id);
        match held.checked_add(units) {
            Some(sum) if sum > 0 && sum <= MAX_AMOUNT => self.put(id, sum),
            _ => return false,
        }
        true
    }

    /// Takes every amount of `other` out of this bundle. Returns the first budget that holds less than that, and changes
    /// nothing, when there is one.
    pub fn take(&mut self, other: &Amounts) -> Result<(), BudgetId> {
        if let Some((short, _)) = other.iter().find(|&(id, units)| self.get(id) < units) {
            return Err(short);
        }
        let rest = self.iter().map(|(id, units)| (id, units - other.get(id)));
        *self = Amounts::from_ascending(rest.filter(|&(_, units)| units > 0).collect());
        Ok(())
    }

    /// Adds every amount of `other`. Returns the first budget where that would overflow, and changes nothing, when there
    /// is one.
    pub fn put_all(&mut self, other: &Amounts) -> Result<(), BudgetId> {
        let mut sum = self.clone();
        for (id, units) in other.iter() {
            if !sum.add(id, units) {
                return Err(id);
            }
        }
        *self = sum;
        Ok(())
    }

    /// The amount of `id`; zero when the bundle does not name it.
    #[inline]
    pub fn get(&self, id: BudgetId) -> u64 {
        if self.set & id.bit() == 0 { 0 } else { self.at(self.rank(id)) }
    }

    /// The amounts, ascending by budget.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (BudgetId, u64)> + '_ {
        BudgetId::in_set(self.set).enumerate().map(|(at, id)| (id, self.at(at)))
    }

    /// Number of budgets named.
    pub const fn len(&self) -> usize {
        self.set.count_ones() as usize
    }

    /// Whether no budget is named.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.set == 0
    }

    /// The budgets named, as a set.
    #[inline]
    pub(crate) const fn set(&self) -> u64 {
        self.set
    }

    /// The amounts of a bundle of at most eight, in the order of its set; `None` for a larger one.
    #[inline(always)]
    pub(crate) const fn inline_units(&self) -> Option<&[u64; INLINE]> {
        if self.more.is_none() { Some(&self.units) } else { None }
    }

    /// What is left without the budgets of `set`.
    pub(crate) fn without(&self, set: u64) -> Amounts {
        Amounts::from_ascending(self.iter().filter(|(id, _)| set & id.bit() == 0).collect())
    }

    /// Overwrites the bundle with at most eight amounts, as [`Amounts::inline_units`] gives them.
    #[inline(always)]
    pub(crate) fn write_inline(&mut self, set: u64, units: &[u64; INLINE]) {
        self.set = set;
        let mut rest = set;
        for (to, &units) in self.units.iter_mut().zip(units) {
            if rest == 0 {
                break;
            }
            *to = units;
            rest &= rest - 1;
        }
    }

    /// The amount at a position, which is below [`Amounts::len`].
    #[inline]
    fn at(&self, at: usize) -> u64 {
        match self.units.get(at) {
            Some(&units) => units,
            None => self.more.as_ref().and_then(|more| more.get(at - INLINE)).copied().unwrap_or(0),
        }
    }

    /// How many budgets below `id` are named: the position of `id`.
    #[inline]
    fn rank(&self, id: BudgetId) -> usize {
        (self.set & (id.bit() - 1)).count_ones() as usize
    }

    fn put(&mut self, id: BudgetId, units: u64) {
        let (at, len) = (self.rank(id), self.len());
        let known = self.set & id.bit() != 0;
        if known && at < INLINE {
            self.units[at] = units;
        } else if !known && len < INLINE {
            self.units.copy_within(at..len, at + 1);
            self.units[at] = units;
            self.set |= id.bit();
        } else {
            let mut all: Vec<_> = self.iter().filter(|&(other, _)| other != id).collect();
            all.insert(at, (id, units));
            *self = Amounts::from_ascending(all);
        }
    }

    fn from_ascending(all: Vec<(BudgetId, u64)>) -> Self {
        let mut amounts = Amounts::new();
        for (at, &(id, units)) in all.iter().enumerate().take(INLINE) {
            amounts.set |= id.bit();
            amounts.units[at] = units;
        }
        if let Some(rest) = all.get(INLINE..).filter(|rest| !rest.is_empty()) {
            amounts.set |= rest.iter().fold(0, |set, (id, _)| set | id.bit());
            amounts.more = Some(rest.iter().map(|&(_, units)| units).collect());
        }
        amounts
    }
}

impl PartialEq for Amounts {
    fn eq(&self, other: &Self) -> bool {
        self.set == other.set && self.iter().eq(other.iter())
    }
}

impl Eq for Amounts {}

impl fmt::Debug for Amounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(id, units)| (id.to_string(), units))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_of_any_size_keeps_its_amounts_in_ascending_order() {
        let mut amounts = Amounts::new();
        for step in 0..BudgetId::LIMIT {
            // 37 is coprime to 64, so this visits every budget once, out of order.
            let id = BudgetId::from_index(step * 37 % BudgetId::LIMIT).unwrap();
            assert!(amounts.add(id, id.index() as u64 + 1));
            assert_eq!(amounts.len(), step + 1);
        }
        let listed: Vec<_> = amounts.iter().map(|(id, units)| (id.index() as u64 + 1, units)).collect();
        assert!(listed.iter().all(|(id, units)| id == units));
        assert!(listed.is_sorted());
        let half = Amounts::from_ascending(amounts.iter().filter(|(id, _)| id.index() % 2 == 0).collect());
        amounts.take(&half).unwrap();
        assert_eq!(amounts.len(), 32);
        amounts.put_all(&half).unwrap();
        assert_eq!(amounts.len(), 64);
    }

    #[test]
    fn taking_more_than_is_there_changes_nothing() {
        let mut amounts = Amounts::of(BudgetId::GPU, 5);
        let mut more = Amounts::of(BudgetId::GPU, 1);
        assert!(more.add(BudgetId::HOST, 1));
        assert_eq!(amounts.take(&more), Err(BudgetId::HOST));
        assert_eq!(amounts, Amounts::of(BudgetId::GPU, 5));
    }

    #[test]
    fn zero_and_overflow_are_refused() {
        let mut amounts = Amounts::of(BudgetId::GPU, MAX_AMOUNT);
        assert!(!amounts.add(BudgetId::HOST, 0));
        assert!(!amounts.add(BudgetId::GPU, 1));
        assert!(!amounts.add(BudgetId::GPU, u64::MAX));
        assert_eq!(amounts, Amounts::of(BudgetId::GPU, MAX_AMOUNT));
    }
}
