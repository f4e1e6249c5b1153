//! What modules have beyond their minima (R9): lent to them, and to be asked back.

use std::collections::BTreeMap;

use crate::model::{Amounts, BudgetId, Tag};

use super::module::Modules;

/// What is lent to each module, if leases end one after the other. So the last of them give back what is lent, and what
/// is left of a module is never less than its minimum.
pub(super) struct Borrowed<'a> {
    modules: &'a Modules,
    given_back: BTreeMap<(u64, BudgetId), u64>,
}

impl<'a> Borrowed<'a> {
    pub(super) fn new(modules: &'a Modules) -> Self {
        Borrowed { modules, given_back: BTreeMap::new() }
    }

    /// Whether whoever it is still has more than its minimum. Who is of no module has none.
    pub(super) fn is_any(&self, tag: Tag, id: BudgetId) -> bool {
        self.modules.borrowed(tag, id) > self.given_back.get(&(tag.module, id)).copied().unwrap_or(0)
    }

    /// A lease ends.
    pub(super) fn give_back(&mut self, tag: Tag, amounts: &Amounts) {
        for (id, units) in amounts.iter() {
            let given_back = self.given_back.entry((tag.module, id)).or_default();
            *given_back = given_back.saturating_add(units);
        }
    }
}
