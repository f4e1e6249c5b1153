//! What is read of a snapshot.

use std::collections::BTreeMap;
use std::time::Duration;

use bursar::{Priority, Unit};
use serde::Deserialize;

use crate::text::thousands;

/// A snapshot, as the inspection page sends it.
#[derive(Debug, Clone, Deserialize)]
pub struct View {
    pub stats: Stats,
    /// Why each of those that wait does.
    pub explained: Vec<String>,
    pub holders: Vec<Holder>,
    pub labelled: u64,
    pub modules: Vec<Module>,
    pub sections: Vec<Section>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Stats {
    pub budgets: Vec<Budget>,
    pub levels: [Level; Priority::COUNT],
    pub waiting: u64,
    /// Older services do not say.
    #[serde(default)]
    pub dormant: u64,
    pub waiting_at: [u64; Priority::COUNT],
    pub leases: u64,
    pub alerts: u64,
    pub closed: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Budget {
    pub id: String,
    pub name: String,
    pub unit: Unit,
    pub rate: bool,
    pub capacity: u64,
    pub granted: u64,
    pub deficit: u64,
    pub waiting: u64,
    pub waits: [Waits; Priority::COUNT],
    pub per_second: u64,
    pub usage: Usage,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Waits {
    pub p99: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Usage {
    pub mean: u64,
    pub recent: Vec<u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Level {
    pub immediate: u64,
    pub waited: u64,
    pub late: u64,
    pub cancelled: u64,
    pub never_fits: u64,
    pub rolled_back: u64,
    pub split: u64,
    pub shed: u64,
    pub not_now: u64,
    pub closed: u64,
    pub malformed: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Holder {
    pub label: String,
    pub module: Option<String>,
    pub priority: Priority,
    /// From the id of a budget to units of it.
    pub amounts: BTreeMap<String, u64>,
    pub forgotten: bool,
    /// File and line.
    pub made_at: Option<String>,
    pub held_for: Duration,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Module {
    pub name: String,
    pub weight: u32,
    pub waiting: u64,
    pub parked: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Section {
    pub name: String,
    pub figures: Vec<Figure>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Figure {
    pub name: String,
    pub kind: Kind,
    pub value: u64,
    pub unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Counter,
    Gauge,
}

impl Figure {
    /// Whether it counts what has never happened.
    pub fn is_idle(&self) -> bool {
        self.kind == Kind::Counter && self.value == 0
    }
}

impl Budget {
    /// What is in use now: of a rate, what is spent a second.
    pub fn now(&self) -> u64 {
        if self.rate { self.usage.recent.last().copied().unwrap_or(0) } else { self.granted }
    }

    /// All there is: of a rate, a second's worth.
    pub fn whole(&self) -> u64 {
        if self.rate { self.per_second } else { self.capacity }
    }

    /// An amount of it.
    pub fn show(&self, units: u64) -> String {
        amount(self.unit, units) + if self.rate { "/s" } else { "" }
    }
}

/// An amount for people, who read no millionths.
pub fn amount(unit: Unit, units: u64) -> String {
    match unit {
        Unit::Share => format!("{:.1} %", units as f64 / 1e4),
        Unit::Count => thousands(units),
        _ => unit.show(units),
    }
}

impl Stats {
    /// All grants since the start.
    pub fn grants(&self) -> u64 {
        self.levels.iter().map(|level| level.immediate + level.waited).sum()
    }
}
