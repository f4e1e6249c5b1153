//! All of a scheduler at one moment, for people and for what shows it to them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::amount::Unit;
use super::budget::BudgetId;
use super::explain::Explanation;
use super::holder::Holder;
use super::stats::Stats;

/// Figures of some other part of the service that are to be shown beside the scheduler's own: hits and misses of a
/// pool, say. See [`Scheduler::publish`](crate::Scheduler::publish).
pub trait Figures: Send + Sync + 'static {
    /// The figures as they are now. Called from whatever thread asks, with no lock of the scheduler held.
    fn figures(&self) -> Vec<Figure>;

    /// Whether what the figures are of is no more: they are then shown no longer, and the source is dropped. Called
    /// before every [`figures`](Figures::figures), and when something else is published.
    fn is_gone(&self) -> bool {
        false
    }
}

impl<F: Fn() -> Vec<Figure> + Send + Sync + 'static> Figures for F {
    fn figures(&self) -> Vec<Figure> {
        self()
    }
}

/// Whether a figure only rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum FigureKind {
    /// It counts what happened, and never falls.
    Counter,
    /// It is what is now.
    Gauge,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Figure {
    /// Its name: lower case, words joined by `_`.
    pub name: Cow<'static, str>,
    /// Whether it only rises.
    pub kind: FigureKind,
    /// Its value.
    pub value: u64,
    /// What it counts.
    pub unit: Unit,
}

impl Figure {
    /// What happened so far.
    pub fn counter(name: impl Into<Cow<'static, str>>, value: u64, unit: Unit) -> Self {
        Figure { name: name.into(), kind: FigureKind::Counter, value, unit }
    }

    /// What is now, and what happened so far, in numbers.
    pub(crate) fn counts(now: &[(&'static str, u64)], so_far: &[(&'static str, u64)]) -> Vec<Figure> {
        let now = now.iter().map(|&(name, value)| Figure::gauge(name, value, Unit::Count));
        now.chain(so_far.iter().map(|&(name, value)| Figure::counter(name, value, Unit::Count))).collect()
    }

    /// What is now.
    pub fn gauge(name: impl Into<Cow<'static, str>>, value: u64, unit: Unit) -> Self {
        Figure { name: name.into(), kind: FigureKind::Gauge, value, unit }
    }
}

/// The figures of one part of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Section {
    /// The name it was published under.
    #[cfg_attr(feature = "serde", serde(serialize_with = "super::written::text"))]
    pub name: Arc<str>,
    /// Its figures.
    pub figures: Vec<Figure>,
}

/// What a module has of one budget, and may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ModuleShare {
    /// The budget.
    pub budget: BudgetId,
    /// What it has.
    pub used: u64,
    /// What it can always get.
    pub minimum: u64,
    /// The most that it may have; `None` for no limit.
    pub cap: Option<u64>,
}

/// A registered module.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ModuleStats {
    /// Its name.
    pub name: String,
    /// Its weight.
    pub weight: u32,
    /// Its reservations that wait.
    pub waiting: u64,
    /// The ways in which those could be served that its cap keeps back.
    pub parked: u64,
    /// The budgets it has a minimum or a cap of.
    pub shares: Vec<ModuleShare>,
}

/// All of a scheduler: figures, who waits for what, who holds what, modules, and the figures that other parts publish.
///
/// Each part is consistent in itself; between them some time passes. `Display` is the report to read when nothing
/// moves.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The figures.
    pub stats: Stats,
    /// Those that wait, in order of rank; as many as were asked for.
    pub waiting: Vec<Explanation>,
    /// The labelled leases, oldest first; as many as were asked for.
    pub holders: Vec<Holder>,
    /// How many labelled leases there are.
    pub labelled: u64,
    /// The registered modules, by name.
    pub modules: Vec<ModuleStats>,
    /// What other parts publish, by name.
    pub sections: Vec<Section>,
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.stats)?;
        if !self.waiting.is_empty() {
            // Some may have come since they were counted.
            let all = (self.stats.waiting + self.stats.dormant).max(self.waiting.len() as u64);
            writeln!(f, "\nfirst of {all} that wait or are dormant:")?;
            self.waiting.iter().try_for_each(|waiting| writeln!(f, "  {waiting}"))?;
        }
        if !self.holders.is_empty() {
            writeln!(f, "\noldest of {} labelled leases:", self.labelled)?;
            for holder in &self.holders {
                write!(f, "  {holder}:")?;
                for (id, units) in holder.amounts.iter() {
                    let budget = self.stats.budget(id);
                    let unit = budget.map_or(Unit::Count, |budget| budget.unit);
                    write!(
                        f,
                        " {} {}",
                        unit.show(units),
                        budget.map_or_else(|| id.to_string(), |b| b.name.to_string())
                    )?;
                }
                writeln!(f)?;
            }
        }
        for module in &self.modules {
            writeln!(f, "module {}: weight {}, {} waiting", module.name, module.weight, module.waiting)?;
        }
        for Section { name, figures } in &self.sections {
            write!(f, "{name}:")?;
            // What has never happened is left out.
            let shown = figures.iter().filter(|figure| figure.kind == FigureKind::Gauge || figure.value > 0);
            let texts: Vec<_> =
                shown.map(|figure| format!(" {} {}", figure.name, figure.unit.show(figure.value))).collect();
            writeln!(f, "{}", texts.join(","))?;
        }
        Ok(())
    }
}
