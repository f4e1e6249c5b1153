//! A bundle: how much of which budgets, ascending by budget.

use std::fmt;

use super::amount::MAX_AMOUNT;
use super::budget::BudgetId;

/// How many amounts a bundle holds without an allocation.
const INLINE: usize = 8;

/// Unrolls a statement over the inline places.
macro_rules! each_place {
    (|$place:ident| $($then:tt)*) => {
        each_place!(@ [0 1 2 3 4 5 6 7] $place ($($then)*))
    };
    (@ [$($at:literal)*] $place:ident $then:tt) => { $( each_place!(# $at $place $then); )* };
    (# $at:literal $place:ident ($($then:tt)*)) => {{
        const $place: usize = $at;
        $($then)*
    }};
}

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
    /// The amounts in the order of the set, unless there are more than eight. What stands in unused places means
    /// nothing.
    units: [u64; INLINE],
    /// All amounts, when there are more than eight.
    many: Many,
}

/// A box of a vector is one word, of a slice two, and there is one in every request.
type Many = Option<Box<Vec<u64>>>;

impl Amounts {
    /// An empty bundle.
    #[inline(always)]
    pub const fn new() -> Self {
        Amounts { set: 0, units: [0; INLINE], many: None }
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
        // Written so that nothing here takes the address of the bundle and every index is a constant: a request that is
        // built from constants then stays in registers. Built in memory and copied at every step, it costs more than
        // all the rest of a reservation.
        if units.wrapping_sub(1) >= MAX_AMOUNT {
            return false;
        }
        let at = self.rank(id);
        if self.many.is_some() || (self.len() == INLINE && self.set & id.bit() == 0) {
            let (many, added) = more(self.set, self.units, self.many.take(), id, units);
            self.many = many;
            if !added {
                return false;
            }
        } else if self.set & id.bit() != 0 {
            let mut sum = units;
            each_place!(|PLACE| if at == PLACE {
                sum += self.units[PLACE];
            });
            if sum > MAX_AMOUNT {
                return false;
            }
            each_place!(|PLACE| if at == PLACE {
                self.units[PLACE] = sum;
            });
        } else {
            // Ripples what comes after one place up.
            let mut carried = units;
            each_place!(|PLACE| if at < PLACE + 1 {
                carried = std::mem::replace(&mut self.units[PLACE], carried);
            });
            let _ = carried;
        }
        self.set |= id.bit();
        true
    }

    /// Takes every amount of `other` out of this bundle. Returns the first budget that holds less than that, and
    /// changes nothing, when there is one.
    ///
    /// # Errors
    /// The budget.
    pub fn take(&mut self, other: &Amounts) -> Result<(), BudgetId> {
        if let Some((short, _)) = other.iter().find(|&(id, units)| self.get(id) < units) {
            return Err(short);
        }
        let rest = self.iter().map(|(id, units)| (id, units - other.get(id)));
        *self = rest.filter(|&(_, units)| units > 0).collect();
        Ok(())
    }

    /// Adds every amount of `other`. Returns the first budget where that would overflow, and changes nothing, when
    /// there is one.
    ///
    /// # Errors
    /// The budget.
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
    pub fn get(&self, id: BudgetId) -> u64 {
        if self.set & id.bit() == 0 { 0 } else { self.at(self.rank(id)) }
    }

    /// The amounts, ascending by budget.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (BudgetId, u64)> + '_ {
        BudgetId::in_set(self.set).enumerate().map(|(at, id)| (id, self.at(at)))
    }

    /// Number of budgets named.
    #[inline(always)]
    pub const fn len(&self) -> usize {
        self.set.count_ones() as usize
    }

    /// Whether no budget is named.
    #[inline(always)]
    pub const fn is_empty(&self) -> bool {
        self.set == 0
    }

    /// The budgets named, as a set.
    #[inline(always)]
    pub(crate) const fn set(&self) -> u64 {
        self.set
    }

    /// The amounts of a bundle of at most eight, in the order of its set; `None` for a larger one.
    #[inline(always)]
    pub(crate) const fn inline_units(&self) -> Option<&[u64; INLINE]> {
        if self.many.is_none() { Some(&self.units) } else { None }
    }

    /// What is left without the budgets of `set`.
    pub(crate) fn without(&self, set: u64) -> Amounts {
        self.iter().filter(|(id, _)| set & id.bit() == 0).collect()
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
        match &self.many {
            None => self.units[at & (INLINE - 1)],
            Some(many) => many.get(at).copied().unwrap_or(0),
        }
    }

    /// How many budgets below `id` are named: the position of `id`.
    #[inline(always)]
    const fn rank(&self, id: BudgetId) -> usize {
        (self.set & (id.bit() - 1)).count_ones() as usize
    }
}

/// The amounts of a bundle of more than eight, with one more or a larger one among them; unchanged, and `false`, when
/// that would overflow.
///
/// `extern "C"` because such a function cannot unwind: then there is no path on which the bundle of the caller would
/// have to be dropped half-way, for which it would have to be in memory.
#[cold]
#[inline(never)]
#[expect(improper_ctypes_definitions, reason = "only ever called from Rust")]
extern "C" fn more(set: u64, units: [u64; INLINE], many: Many, id: BudgetId, added: u64) -> (Many, bool) {
    let mut all = many.unwrap_or_else(|| Box::new(units.to_vec()));
    let at = (set & (id.bit() - 1)).count_ones() as usize;
    let fits = set & id.bit() == 0 || all[at] + added <= MAX_AMOUNT;
    if set & id.bit() == 0 {
        all.insert(at, added);
    } else if fits {
        all[at] += added;
    }
    (Some(all), fits)
}

impl FromIterator<(BudgetId, u64)> for Amounts {
    /// Amounts that cannot be added are left out.
    fn from_iter<I: IntoIterator<Item = (BudgetId, u64)>>(all: I) -> Self {
        let mut amounts = Amounts::new();
        for (id, units) in all {
            let _ = amounts.add(id, units);
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
        let half: Amounts = amounts.iter().filter(|(id, _)| id.index() % 2 == 0).collect();
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
    fn an_overflow_of_a_large_bundle_loses_nothing() {
        let ids = || (0..12).filter_map(BudgetId::from_index);
        let mut amounts: Amounts = ids().map(|id| (id, MAX_AMOUNT)).collect();
        assert!(ids().all(|id| !amounts.add(id, 1)));
        assert!(ids().all(|id| amounts.get(id) == MAX_AMOUNT));
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
