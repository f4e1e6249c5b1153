//! The figures of a scheduler for the `metrics` facade, and through it for Prometheus and the like.
//!
//! An [`MetricsExporter`] hands everything to whatever recorder the program has installed, each time it is told to
//! [`publish`](MetricsExporter::publish) or on its own every so often ([`run`](MetricsExporter::run)). Nothing is
//! recorded while a reservation is made or ends: counters and histograms are those the scheduler keeps anyway, and what
//! was added since the last time is handed on. So the fast path costs the same with and without it, and nothing is lost
//! in between.
//!
//! | name | kind | labels | |
//! |---|---|---|---|
//! | `bursar_reservations_total` | counter | `priority`, `outcome` | what became of them |
//! | `bursar_reservation_wait_seconds` | histogram | `priority`, `budget` | waits for a grant, within 1 % |
//! | `bursar_lease_hold_seconds` | histogram | | how long labelled leases were held that have ended |
//! | `bursar_budget_capacity`, `_free`, `_granted`, `_offered`, `_deficit`, `_peak` | gauge | `budget` | see below |
//! | `bursar_budget_mean`, `_trend` | gauge | `budget` | use over time, see [`Usage`](crate::Usage) |
//! | `bursar_budget_utilisation_ratio`, `_mean_utilisation_ratio` | gauge | `budget` | parts of the whole |
//! | `bursar_budget_waiting` | gauge | `budget` | reservations that wait and name it |
//! | `bursar_budget_spent_total` | counter | `budget` | what was spent of a rate |
//! | `bursar_budget_refill_per_second` | gauge | `budget` | the speed of a rate |
//! | `bursar_waiting`, `bursar_dormant`, `bursar_leases`, `bursar_leases_forgotten` | gauge | | |
//! | `bursar_offers_expired_total`, `bursar_inherited_total`, `bursar_alerts_total` | counter | | |
//! | `bursar_leases_revoked_total`, `bursar_leases_overdue_total` | counter | `priority` | preemption |
//! | `bursar_module_waiting`, `bursar_module_used` | gauge | `module`, `budget` | |
//! | `bursar_<section>_<figure>` | as published | `section` | counters end in `_total` |
//!
//! What is counted in bytes has `_bytes` in its name, before `_total` and `_per_second`, which is behind mean and trend
//! of a rate; shares of a whole are fractions, with `_ratio`. Outcomes are the fields of
//! [`LevelStats`](crate::LevelStats); the budget of a wait is the one that was short last.
//!
//! Sections are what other parts of the service [publish](crate::Scheduler::publish). In names of metrics there are
//! only letters, digits and `_`, so two sections may have the same there; the label has the name as it was given. Of
//! two such figures of one section the last is seen.
//!
//! The facade cannot take a metric back. When a module or a section is gone, its gauges are set to zero, once, and its
//! counters stay where they are. One that comes back goes on where it was; after a thousand others have gone meanwhile
//! it may be counted from its beginning again.

mod handed_on;
mod names;

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::model::{BudgetStats, Figure, FigureKind, LevelStats, ModuleStats, Priority, Section, Stats};
use crate::scheduler::{Period, Scheduler, Timed};

use handed_on::HandedOn;
use names::{HOLDS, PER_SECOND, WAITS, clean, fraction, in_base_units, label, named};

/// Hands the figures of a scheduler to the recorder of the `metrics` facade.
///
/// It keeps the scheduler open, as every handle does.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use bursar::{GIB, MetricsExporter, Scheduler};
///
/// let scheduler = Scheduler::builder().gpu(40 * GIB).spawn()?;
/// tokio::spawn(MetricsExporter::new(&scheduler).run(Duration::from_secs(5)));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct MetricsExporter {
    scheduler: Scheduler,
    period: Period,
    handed_on: HandedOn,
}

impl MetricsExporter {
    /// An exporter that has handed on nothing yet, and describes what it will. Install the recorder first.
    pub fn new(scheduler: &Scheduler) -> Self {
        names::describe();
        MetricsExporter {
            scheduler: scheduler.clone(),
            period: scheduler.period_from_start(),
            handed_on: HandedOn::default(),
        }
    }

    /// Hands on how things are now, and what happened since the last time.
    pub fn publish(&mut self) {
        let stats = self.period.next_with(|timed, times| {
            let seconds = match timed {
                Timed::Wait(budget, level) => {
                    histogram!(WAITS, vec![label("priority", level.name()), label("budget", budget)])
                }
                Timed::Hold => histogram!(HOLDS),
            };
            for step in times.iter_recorded() {
                let count = usize::try_from(step.count_at_value()).unwrap_or(usize::MAX);
                seconds.record_many(step.value_iterated_to() as f64 / 1e9, count);
            }
        });
        Priority::ALL.into_iter().zip(&stats.levels).for_each(|(level, counted)| publish_level(level, counted));
        stats.budgets.iter().for_each(|budget| self.publish_budget(budget));
        publish_totals(&stats);
        let snapshot = self.scheduler.snapshot(0);
        snapshot.modules.iter().for_each(|module| self.publish_module(module, &stats));
        snapshot.sections.iter().for_each(|section| self.publish_section(section));
        self.handed_on.end_round();
    }

    /// Publishes at once and then every so often, until the scheduler is closed; and once more then.
    ///
    /// # Cancel safety
    /// Dropping the future stops it between two publications.
    pub async fn run(mut self, every: Duration) {
        // Tokio's interval panics for no time at all.
        let mut ticks = tokio::time::interval(every.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let closed = self.scheduler.closed().is_some();
            self.publish();
            if closed {
                return;
            }
        }
    }

    fn publish_budget(&mut self, budget: &BudgetStats) {
        let labels = || vec![label("budget", &budget.name)];
        let set = |what: &str, end: &str, units: f64| {
            gauge!(named("budget", what, budget.unit, end), labels()).set(in_base_units(budget.unit, units));
        };
        gauge!("bursar_budget_waiting", labels()).set(budget.waiting as f64);
        gauge!("bursar_budget_utilisation_ratio", labels()).set(fraction(budget.utilisation()));
        gauge!("bursar_budget_mean_utilisation_ratio", labels()).set(fraction(budget.mean_utilisation()));
        set("capacity", "", budget.capacity as f64);
        set("free", "", budget.free as f64);
        let speed = if budget.rate { PER_SECOND } else { "" };
        set("mean", speed, budget.usage.mean as f64);
        set("trend", speed, budget.usage.trend as f64);
        if budget.rate {
            set("refill", PER_SECOND, budget.per_second as f64);
            // What an offer had spent comes back when nobody takes it.
            self.handed_on.count_most(named("budget", "spent", budget.unit, "_total"), labels(), budget.granted);
            return;
        }
        set("granted", "", budget.granted as f64);
        set("offered", "", budget.offered as f64);
        set("deficit", "", budget.deficit as f64);
        set("peak", "", budget.peak as f64);
    }

    fn publish_module(&mut self, module: &ModuleStats, stats: &Stats) {
        let name = || label("module", &module.name);
        self.handed_on.set("bursar_module_waiting".into(), vec![name()], module.waiting as f64);
        for share in &module.shares {
            let Some(budget) = stats.budget(share.budget) else { continue };
            let used = in_base_units(budget.unit, share.used as f64);
            let labels = vec![name(), label("budget", &budget.name)];
            self.handed_on.set(named("module", "used", budget.unit, ""), labels, used);
        }
    }

    fn publish_section(&mut self, section: &Section) {
        let of = clean(&section.name);
        let name = |figure: &Figure| {
            let end = if figure.kind == FigureKind::Counter { "_total" } else { "" };
            named(&of, &clean(&figure.name), figure.unit, end)
        };
        // One of each name: handed on in turn, two counters would be taken for one that begins anew all the time.
        let last: BTreeMap<String, &Figure> = section.figures.iter().map(|figure| (name(figure), figure)).collect();
        for (name, figure) in last {
            let labels = vec![label("section", &section.name)];
            match figure.kind {
                FigureKind::Gauge => {
                    self.handed_on.set(name, labels, in_base_units(figure.unit, figure.value as f64));
                }
                FigureKind::Counter => self.handed_on.count(name, labels, figure.value),
            }
        }
    }
}

fn publish_level(level: Priority, counted: &LevelStats) {
    let outcomes = [
        ("immediate", counted.immediate),
        ("waited", counted.waited),
        ("late", counted.late),
        ("cancelled", counted.cancelled),
        ("never_fits", counted.never_fits),
        ("rolled_back", counted.rolled_back),
        ("split", counted.split),
        ("shed", counted.shed),
        ("not_now", counted.not_now),
        ("closed", counted.closed),
        ("malformed", counted.malformed),
    ];
    let level = level.name();
    for (outcome, count) in outcomes {
        counter!("bursar_reservations_total", "priority" => level, "outcome" => outcome).increment(count);
    }
    counter!("bursar_leases_revoked_total", "priority" => level).increment(counted.revoked);
    counter!("bursar_leases_overdue_total", "priority" => level).increment(counted.overdue);
}

fn publish_totals(stats: &Stats) {
    counter!("bursar_offers_expired_total").increment(stats.expired_offers);
    counter!("bursar_inherited_total").increment(stats.inherited);
    counter!("bursar_alerts_total").increment(stats.alerts);
    gauge!("bursar_waiting").set(stats.waiting as f64);
    gauge!("bursar_dormant").set(stats.dormant as f64);
    gauge!("bursar_leases").set(stats.leases as f64);
    gauge!("bursar_leases_forgotten").set(stats.forgotten as f64);
}
