//! What a lease holds, in two words.
//!
//! A lease of one budget carries its units itself. The units of a larger bundle stay with the books, in a place that the
//! lease names: a lease is moved about by its owner, and copying nine words at every move costs more than all the rest of a
//! reservation.

use crate::model::{Amounts, BudgetId};

/// The loans that a lease holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    set: u64,
    /// One budget: its units. More: the place in the store.
    word: u64,
}

impl Held {
    /// What a lease of rates only holds.
    pub const NOTHING: Held = Held { set: 0, word: 0 };

    #[inline(always)]
    pub(super) fn one(set: u64, units: u64) -> Self {
        Held { set, word: units }
    }

    /// What an offer of a bundle holds, from the rates of its books and its place on the board.
    pub fn offered(amounts: &Amounts, rates: u64, place: u32) -> Self {
        let set = amounts.set() & !rates;
        match BudgetId::first_of(set) {
            Some(only) if set.is_power_of_two() => Held { set, word: amounts.get(only) },
            _ => Held { set, word: u64::from(place) },
        }
    }

    /// The place of a bundle; 0 for anything less.
    pub(crate) fn place(self) -> u32 {
        // Places are indices of a vector that is far shorter than 2^30.
        if self.set & self.set.wrapping_sub(1) == 0 { 0 } else { self.word as u32 }
    }

    #[inline(always)]
    pub(super) fn is_one(self) -> bool {
        self.set.is_power_of_two()
    }

    #[inline(always)]
    pub(super) fn word(self) -> u64 {
        self.word
    }

    /// The budgets.
    #[inline(always)]
    pub(crate) fn set(self) -> u64 {
        self.set
    }
}

/// The places of bundles that are held.
#[derive(Debug)]
pub(super) struct Store {
    places: Vec<Amounts>,
    free: Vec<u32>,
    nothing: Amounts,
}

impl Default for Store {
    fn default() -> Self {
        Store { places: Vec::new(), free: Vec::new(), nothing: Amounts::new() }
    }
}

impl Store {
    /// Keeps a bundle of two to eight loans.
    #[inline(always)]
    pub(super) fn hold_inline(&mut self, set: u64, units: &[u64; 8]) -> Held {
        let place = self.free.pop().unwrap_or_else(|| self.grow());
        if let Some(kept) = self.places.get_mut(place as usize) {
            kept.write_inline(set, units);
        }
        Held { set, word: u64::from(place) }
    }

    /// Keeps any bundle.
    pub(super) fn hold(&mut self, amounts: &Amounts) -> Held {
        let set = amounts.set();
        match BudgetId::first_of(set) {
            None => Held::NOTHING,
            Some(only) if set.is_power_of_two() => Held::one(set, amounts.get(only)),
            Some(_) => {
                let place = self.free.pop().unwrap_or_else(|| self.grow());
                self.places[place as usize] = amounts.clone();
                Held { set, word: u64::from(place) }
            }
        }
    }

    /// One more place, and room to free them all without an allocation.
    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> u32 {
        self.places.push(Amounts::new());
        if self.free.capacity() < self.places.len() {
            self.free.reserve(self.places.capacity() - self.free.len());
        }
        self.places.len() as u32 - 1
    }

    /// The bundle of more than one budget at its place.
    #[inline(always)]
    pub(super) fn get(&self, held: Held) -> &Amounts {
        if held.set == 0 { &self.nothing } else { self.places.get(held.word as usize).unwrap_or(&self.nothing) }
    }

    /// What is held, whatever it is.
    pub(super) fn amounts(&self, held: Held) -> Amounts {
        match BudgetId::first_of(held.set) {
            Some(only) if held.is_one() => Amounts::of(only, held.word),
            _ => self.get(held).clone(),
        }
    }

    /// Frees the place, if there is one.
    #[inline(always)]
    pub(super) fn free(&mut self, held: Held) {
        if held.set & held.set.wrapping_sub(1) == 0 {
            return;
        }
        if self.places[held.word as usize].inline_units().is_none() {
            self.places[held.word as usize] = Amounts::new();
        }
        self.free.push(held.word as u32);
    }
}
