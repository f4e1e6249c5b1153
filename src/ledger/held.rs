//! What a lease holds, in one word.
//!
//! A lease is moved about by its owner, and every move of a larger value costs more than a plain instruction: the
//! processor cannot forward what was just written in parts to a load of the whole. So a lease is two words, its core
//! and this one. An amount of one budget fits into it; anything larger stays with the books, in a place that the word
//! names.

use std::collections::BTreeMap;

use crate::model::{Amounts, BudgetId, Path, Priority, Request, Tag};

/// The loans that a lease holds, and the level it was granted at.
///
/// From the lowest bit: level (3), budget (6) and units (53) of one loan, or, with `STORED`, a place in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held(u64);

const LEVEL: u64 = 0b111;
const BUDGET: u32 = 3;
const UNITS: u32 = 9;
/// Amounts from here on go to the store: 2^53, a thousand times the memory of any machine.
const LARGE: u64 = 1 << 53;
/// The holder is in the table of known holders, under its place.
const KNOWN: u64 = 1 << 62;
const STORED: u64 = 1 << 63;
/// It belongs to a module or an activity; only what is in the store can.
const TAGGED: u64 = 1 << 61;
/// The place of a lease that holds nothing: rates only, or all was split off.
const NOWHERE: u32 = (1 << 30) - 1;

impl Held {
    #[inline(always)]
    fn one(budget: usize, units: u64, level: Priority) -> Self {
        Held(units << UNITS | (budget as u64) << BUDGET | level.index() as u64)
    }

    fn stored(place: u32, level: Priority) -> Self {
        Held(STORED | u64::from(place) << UNITS | level.index() as u64)
    }

    /// What a granted bundle holds that was offered at this place of the board.
    pub fn offered(amounts: &Amounts, rates: u64, place: u32, level: Priority) -> Self {
        match single(amounts.set() & !rates) {
            None if amounts.set() & !rates == 0 => Held::stored(NOWHERE, level),
            Some(only) if amounts.get(only) < LARGE => Held::one(only.index(), amounts.get(only), level),
            _ => Held::stored(place, level),
        }
    }

    /// What a request was granted that was offered at this place.
    pub fn taken_up(request: &Request, rates: u64, place: u32) -> Self {
        let level = request.urgency();
        if request.is_flexible() {
            let held = Held::placed(place, level);
            return if request.tag() == Tag::NOBODY { held } else { held.note_tagged() };
        }
        Held::offered(request.amounts(), rates, place, level)
    }

    /// What lies at this place; what a flexible request was granted always does.
    pub fn placed(place: u32, level: Priority) -> Self {
        Held::stored(place, level)
    }

    /// The same, noted to belong to somebody: the engine has to hear when it ends.
    pub fn note_tagged(self) -> Self {
        Held(self.0 | TAGGED)
    }

    /// Whether the engine has to hear when it ends.
    #[inline(always)]
    pub fn is_tagged(self) -> bool {
        self.0 & (STORED | TAGGED) == STORED | TAGGED
    }

    /// Whether more is to be done at its end than to give it back.
    #[inline(always)]
    pub(crate) fn is_special(self) -> bool {
        self.0 & (STORED | KNOWN | TAGGED) > STORED
    }

    /// The place in the store, if it has one.
    pub fn place(self) -> Option<u32> {
        // Places are indices of a vector that is far shorter than 2^30; the cast keeps them and none of the marks.
        let place = (self.0 >> UNITS) as u32;
        (self.0 & STORED != 0 && place != NOWHERE).then_some(place)
    }

    /// The level it was granted at.
    pub fn level(self) -> Priority {
        Priority::ALL[(self.0 & LEVEL) as usize % Priority::COUNT]
    }

    /// Budget and units, when it is not in the store.
    #[inline(always)]
    pub(super) fn inline(self) -> Option<(usize, u64)> {
        let budget = (self.0 >> BUDGET & 63) as usize;
        (self.0 & STORED == 0).then_some((budget, self.0 >> UNITS))
    }

    /// Its place, when it is in the table of known holders.
    #[inline(always)]
    pub(crate) fn known(self) -> Option<u32> {
        if self.0 & KNOWN == 0 { None } else { self.place() }
    }

    /// The same, noted to be in the table of known holders. Only what is in the store can be.
    pub(crate) fn note_known(self) -> Self {
        debug_assert!(self.0 & STORED != 0);
        Held(self.0 | KNOWN)
    }
}

/// The only budget of a set.
fn single(set: u64) -> Option<BudgetId> {
    if set.is_power_of_two() { BudgetId::first_of(set) } else { None }
}

/// The places of bundles that are held.
#[derive(Debug, Default)]
pub(super) struct Store {
    places: Vec<Amounts>,
    free: Vec<u32>,
    /// How those were chosen that had a choice and did not get the first.
    paths: BTreeMap<u32, Path>,
    /// Whom those belong to that belong to somebody.
    tags: BTreeMap<u32, Tag>,
}

impl Store {
    /// Holds one amount.
    #[inline(always)]
    pub(super) fn hold_one(&mut self, budget: usize, units: u64, level: Priority) -> Held {
        if units < LARGE { Held::one(budget, units, level) } else { self.hold_large(budget, units, level) }
    }

    #[cold]
    fn hold_large(&mut self, budget: usize, units: u64, level: Priority) -> Held {
        let amounts = BudgetId::from_index(budget).map(|id| Amounts::of(id, units));
        self.keep(amounts.unwrap_or_default(), level)
    }

    /// Holds two to eight amounts.
    #[inline(always)]
    pub(super) fn hold_inline(&mut self, set: u64, units: &[u64; 8], level: Priority) -> Held {
        let place = self.free.pop().unwrap_or_else(|| self.grow());
        if let Some(kept) = self.places.get_mut(place as usize) {
            kept.write_inline(set, units);
        }
        Held::stored(place, level)
    }

    /// Holds any bundle.
    pub(super) fn hold(&mut self, amounts: Amounts, level: Priority) -> Held {
        match single(amounts.set()) {
            Some(only) => self.hold_one(only.index(), amounts.get(only), level),
            None if amounts.is_empty() => Held::stored(NOWHERE, level),
            None => self.keep(amounts, level),
        }
    }

    /// Holds a bundle that was chosen among several.
    pub(super) fn keep_chosen(&mut self, amounts: Amounts, path: Path, level: Priority) -> Held {
        let held = self.keep(amounts, level);
        self.set_path(held, path);
        held
    }

    /// Notes how it was chosen.
    pub(super) fn set_path(&mut self, held: Held, path: Path) {
        if let Some(place) = held.place().filter(|_| path != Path::default()) {
            self.paths.insert(place, path);
        }
    }

    /// Whom what is held belongs to.
    pub(super) fn tag(&self, held: Held) -> Tag {
        held.place().and_then(|place| self.tags.get(&place)).copied().unwrap_or_default()
    }

    /// Notes whom it belongs to.
    pub(super) fn set_tag(&mut self, held: Held, tag: Tag) {
        if let Some(place) = held.place().filter(|_| tag != Tag::NOBODY) {
            self.tags.insert(place, tag);
        }
    }

    /// How what is held was chosen.
    pub(super) fn path(&self, held: Held) -> Path {
        held.place().and_then(|place| self.paths.get(&place)).copied().unwrap_or_default()
    }

    /// Holds any bundle in the store.
    pub(super) fn keep(&mut self, amounts: Amounts, level: Priority) -> Held {
        let place = self.free.pop().unwrap_or_else(|| self.grow());
        self.places[place as usize] = amounts;
        Held::stored(place, level)
    }

    /// One more place, while none is free, and room to free them all without an allocation.
    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> u32 {
        self.places.push(Amounts::new());
        self.free.reserve(self.places.capacity());
        self.places.len() as u32 - 1
    }

    /// The bundle at a place.
    #[inline(always)]
    pub(super) fn get(&self, place: u32) -> Option<&Amounts> {
        self.places.get(place as usize)
    }

    /// What is held, wherever it is.
    pub(super) fn amounts(&self, held: Held) -> Amounts {
        match (held.inline(), held.place()) {
            (Some((budget, units)), _) => {
                BudgetId::from_index(budget).map(|id| Amounts::of(id, units)).unwrap_or_default()
            }
            (None, place) => place.and_then(|place| self.get(place)).cloned().unwrap_or_default(),
        }
    }

    /// Replaces what is kept at a place.
    pub(super) fn replace(&mut self, place: u32, amounts: Amounts) {
        self.places[place as usize] = amounts;
    }

    /// Frees a place.
    #[inline(always)]
    pub(super) fn free(&mut self, place: u32) {
        if let Some(kept) = self.places.get_mut(place as usize)
            && kept.inline_units().is_none()
        {
            *kept = Amounts::new();
        }
        if !self.paths.is_empty() {
            self.paths.remove(&place);
        }
        if !self.tags.is_empty() {
            self.tags.remove(&place);
        }
        self.free.push(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_of_a_lease_is_read_back_and_nothing_else() {
        let notes = |held: Held| (held.known().is_some(), held.is_tagged(), held.is_special());
        for place in [0, 1, 1 << 29] {
            let plain = Held::placed(place, Priority::Idle);
            let (known, tagged, both) =
                (plain.note_known(), plain.note_tagged(), plain.note_known().note_tagged().note_known());
            assert_eq!(
                [plain, known, tagged, both].map(notes),
                [(false, false, false), (true, false, true), (false, true, true), (true, true, true)]
            );
            for held in [plain, known, tagged, both] {
                assert_eq!((held.place(), held.level(), held.inline()), (Some(place), Priority::Idle, None));
            }
        }
    }

    #[test]
    fn an_amount_that_reaches_up_to_the_marks_is_not_taken_for_one() {
        let held = Held::one(63, LARGE - 1, Priority::Low);
        assert_eq!((held.inline(), held.place(), held.level()), (Some((63, LARGE - 1)), None, Priority::Low));
        assert!(!held.is_tagged() && !held.is_special() && held.known().is_none());
    }
}
