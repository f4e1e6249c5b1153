//! Budgets as resources, and their attributes.

use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::{BudgetId, Bytes, GIB, KIB, MIB, TIB, Unit};

use super::Figures;
use super::emit::{self, Attribute, Row};

/// A budget that the console shows.
#[derive(Debug)]
struct Budget {
    figures: Figures,
    row: Row,
    /// Waits that are listed at it.
    listed: AtomicU64,
}

/// The budgets of one scheduler.
#[derive(Debug)]
pub(super) struct Budgets(Vec<Budget>);

impl Budgets {
    /// Opens them, all or none. `None` when no subscriber wants them.
    pub(super) fn open(all: &[Figures], at: &'static Location<'static>) -> Option<Self> {
        if !emit::is_heard_here() {
            return None;
        }
        emit::warm_up();
        let open = |figures: &Figures| {
            let name = format!("Budget<{}>", figures.name);
            let kind = if figures.rate { "rate" } else { "loan" };
            let row = Row::new(emit::contain(|| emit::budget(Some(&name), kind, at))?);
            (!row.is_disabled()).then(|| Budget { figures: figures.clone(), row, listed: AtomicU64::new(0) })
        };
        all.iter().map(open).collect::<Option<Vec<_>>>().filter(|opened| !opened.is_empty()).map(Budgets)
    }

    /// How they look at first.
    pub(super) fn shown(&self) -> Vec<Shown> {
        vec![Shown::default(); self.0.len()]
    }

    /// Emits what has changed since `shown`.
    pub(super) fn show(&self, now: &[Figures], shown: &mut [Shown]) {
        for ((budget, now), shown) in self.0.iter().zip(now).zip(shown) {
            let next = Shown {
                capacity: Some(now.capacity),
                in_use: Some(now.in_use),
                waiting: Some(now.waiting),
                listed: Some(budget.listed.load(Ordering::Relaxed)),
            };
            if next != *shown {
                budget.row.within(|| next.emit_changes(shown, now.unit));
                *shown = next;
            }
        }
    }

    fn of(&self, id: BudgetId) -> Option<&Budget> {
        self.0.iter().find(|budget| budget.figures.id == id)
    }

    /// Runs `emit` with a budget entered.
    pub(super) fn within<R>(&self, id: BudgetId, emit: impl FnOnce() -> R) -> Option<R> {
        self.of(id)?.row.within(emit)
    }

    pub(super) fn note_listed(&self, id: BudgetId) {
        self.of(id).into_iter().for_each(|budget| _ = budget.listed.fetch_add(1, Ordering::Relaxed));
    }

    pub(super) fn note_ended(&self, id: BudgetId) {
        self.of(id).into_iter().for_each(|budget| _ = budget.listed.fetch_sub(1, Ordering::Relaxed));
    }
}

/// The attributes of a budget as they were emitted last; nothing was at first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shown {
    capacity: Option<u64>,
    in_use: Option<u64>,
    waiting: Option<u64>,
    listed: Option<u64>,
}

impl Shown {
    fn emit_changes(&self, before: &Shown, unit: Unit) {
        let none = Attribute::default();
        if let Some(capacity) = self.capacity.filter(|_| self.capacity != before.capacity) {
            emit::attribute(Attribute { capacity: Some(&exact(unit, capacity)), ..none });
        }
        if let Some(in_use) = self.in_use.filter(|_| self.in_use != before.in_use) {
            emit::attribute(Attribute { in_use: Some(&exact(unit, in_use)), ..none });
        }
        if self.waiting != before.waiting {
            emit::attribute(Attribute { waiting: self.waiting, ..none });
        }
        if self.listed != before.listed {
            emit::attribute(Attribute { listed: self.listed, ..none });
        }
    }
}

/// An amount, exactly: in the largest unit that divides it, or else in bytes beside what is easier to read.
pub(super) fn exact(unit: Unit, amount: u64) -> String {
    match unit {
        Unit::Bytes => {
            let units = [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
            let whole = units.iter().find(|(factor, _)| amount > 0 && amount.is_multiple_of(*factor));
            match whole {
                Some((factor, name)) => format!("{} {name}", amount / factor),
                None if amount < KIB => format!("{amount} B"),
                None => format!("{} ({amount} B)", Bytes(amount)),
            }
        }
        Unit::Share => {
            let decimals = format!("{:04}", amount % 10_000);
            match decimals.trim_end_matches('0') {
                "" => format!("{} %", amount / 10_000),
                decimals => format!("{}.{decimals} %", amount / 10_000),
            }
        }
        Unit::Count => amount.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_written_exactly_and_as_short_as_that_allows() {
        let bytes = |amount| exact(Unit::Bytes, amount);
        assert_eq!([bytes(0), bytes(1), bytes(40 * GIB)], ["0 B", "1 B", "40 GiB"]);
        assert_eq!([bytes(2304 * MIB), bytes(1023), bytes(1025)], ["2304 MiB", "1023 B", "1.0 KiB (1025 B)"]);
        let share = |amount| exact(Unit::Share, amount);
        assert_eq!([share(0), share(1), share(125_000), share(1_000_000)], ["0 %", "0.0001 %", "12.5 %", "100 %"]);
        assert_eq!(exact(Unit::Count, u64::MAX), u64::MAX.to_string());
    }
}
