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
//! | `bursar_budget_capacity`, `_free`, `_granted`, `_offered`, `_deficit`, `_peak` | gauge | `budget` | see below |
//! | `bursar_budget_waiting` | gauge | `budget` | reservations that wait and name it |
//! | `bursar_budget_spent_total` | counter | `budget` | what was spent of a rate |
//! | `bursar_waiting`, `bursar_leases`, `bursar_leases_forgotten` | gauge | | |
//! | `bursar_offers_expired_total`, `bursar_inherited_total`, `bursar_alerts_total` | counter | | |
//! | `bursar_leases_revoked_total`, `bursar_leases_overdue_total` | counter | `priority` | preemption |
//! | `bursar_module_waiting`, `bursar_module_used` | gauge | `module`, `budget` | |
//! | `bursar_<section>_<figure>` | as published | | counters end in `_total` |
//!
//! What is counted in bytes has `_bytes` in its name, before `_total`; shares of a whole are fractions, with `_ratio`.
//! Outcomes are the fields of [`LevelStats`](crate::LevelStats); the budget of a wait is the one that was short last;
//! sections are what other parts of the service [publish](crate::Scheduler::publish).

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::{Label, SharedString, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::model::{BudgetStats, FigureKind, LevelStats, ModuleStats, Priority, Section, Share, Stats, Unit};
use crate::scheduler::{Period, Scheduler};

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
    /// What was handed on of the counters that are not the scheduler's own, by name and budget.
    handed_on: BTreeMap<(String, String), u64>,
}

impl MetricsExporter {
    /// An exporter that has handed on nothing yet, and describes what it will. Install the recorder first.
    pub fn new(scheduler: &Scheduler) -> Self {
        describe();
        MetricsExporter {
            scheduler: scheduler.clone(),
            period: scheduler.period_from_start(),
            handed_on: BTreeMap::new(),
        }
    }

    /// Hands on how things are now, and what happened since the last time.
    pub fn publish(&mut self) {
        let stats = self.period.next_with(|budget, level, waits| {
            let labels = [Label::new("priority", level.to_string()), budget_label(budget)];
            let seconds = histogram!("bursar_reservation_wait_seconds", labels.to_vec());
            for step in waits.iter_recorded() {
                let count = usize::try_from(step.count_at_value()).unwrap_or(usize::MAX);
                seconds.record_many(step.value_iterated_to() as f64 / 1e9, count);
            }
        });
        Priority::ALL.into_iter().zip(&stats.levels).for_each(|(level, counted)| publish_level(level, counted));
        stats.budgets.iter().for_each(|budget| self.publish_budget(budget));
        publish_totals(&stats);
        let snapshot = self.scheduler.snapshot(0);
        snapshot.modules.iter().for_each(|module| publish_module(module, &stats));
        snapshot.sections.iter().for_each(|section| self.publish_section(section));
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
        let label = || vec![budget_label(&budget.name)];
        gauge!("bursar_budget_waiting", label()).set(budget.waiting as f64);
        let set = |what: &str, units: u64| {
            gauge!(named("budget", what, budget.unit, ""), label()).set(in_base_units(budget.unit, units));
        };
        set("capacity", budget.capacity);
        set("free", budget.free);
        if budget.rate {
            let name = named("budget", "spent", budget.unit, "_total");
            let more = self.risen(&name, &budget.name, budget.granted);
            counter!(name, label()).increment(more);
            return;
        }
        set("granted", budget.granted);
        set("offered", budget.offered);
        set("deficit", budget.deficit);
        set("peak", budget.peak);
    }

    fn publish_section(&mut self, section: &Section) {
        for figure in &section.figures {
            let what = clean(&figure.name);
            match figure.kind {
                FigureKind::Gauge => {
                    let name = named(&clean(&section.name), &what, figure.unit, "");
                    gauge!(name).set(in_base_units(figure.unit, figure.value));
                }
                FigureKind::Counter => {
                    let name = named(&clean(&section.name), &what, figure.unit, "_total");
                    let more = self.more(&name, "", figure.value);
                    counter!(name).increment(more);
                }
            }
        }
    }

    /// How much more was spent than ever before: what an offer had spent comes back when nobody takes it.
    fn risen(&mut self, name: &str, budget: &str, now: u64) -> u64 {
        let most = self.handed_on.entry((name.to_owned(), budget.to_owned())).or_insert(0);
        let more = now.saturating_sub(*most);
        *most += more;
        more
    }

    /// How much a counter has risen since it was handed on. One that has fallen was replaced and begins anew.
    fn more(&mut self, name: &str, budget: &str, now: u64) -> u64 {
        let before = self.handed_on.insert((name.to_owned(), budget.to_owned()), now).unwrap_or(0);
        if now < before { now } else { now - before }
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
    for (outcome, count) in outcomes {
        counter!("bursar_reservations_total", "priority" => level.to_string(), "outcome" => outcome).increment(count);
    }
    counter!("bursar_leases_revoked_total", "priority" => level.to_string()).increment(counted.revoked);
    counter!("bursar_leases_overdue_total", "priority" => level.to_string()).increment(counted.overdue);
}

fn publish_totals(stats: &Stats) {
    counter!("bursar_offers_expired_total").increment(stats.expired_offers);
    counter!("bursar_inherited_total").increment(stats.inherited);
    counter!("bursar_alerts_total").increment(stats.alerts);
    gauge!("bursar_waiting").set(stats.waiting as f64);
    gauge!("bursar_leases").set(stats.leases as f64);
    gauge!("bursar_leases_forgotten").set(stats.forgotten as f64);
}

fn publish_module(module: &ModuleStats, stats: &Stats) {
    gauge!("bursar_module_waiting", "module" => module.name.clone()).set(module.waiting as f64);
    for share in &module.shares {
        let Some(budget) = stats.budget(share.budget) else { continue };
        let labels = vec![Label::new("module", module.name.clone()), budget_label(&budget.name)];
        gauge!(named("module", "used", budget.unit, ""), labels).set(in_base_units(budget.unit, share.used));
    }
}

fn describe() {
    describe_counter!("bursar_reservations_total", "Reservations, by what became of them");
    describe_histogram!(
        "bursar_reservation_wait_seconds",
        metrics::Unit::Seconds,
        "Waits that ended in a grant, by the budget that was short last"
    );
    describe_gauge!("bursar_budget_waiting", "Reservations that wait and name this budget");
    describe_gauge!("bursar_waiting", "Reservations that wait");
    describe_gauge!("bursar_leases", "Leases that are out");
    describe_gauge!("bursar_leases_forgotten", "Leases that were given up, whose units never come back");
    describe_counter!("bursar_offers_expired_total", "Grants that passed on because nobody polled them");
    describe_counter!("bursar_leases_revoked_total", "Leases that were asked to end for a higher level");
    describe_counter!("bursar_leases_overdue_total", "Leases that had not ended when the grace for it was over");
    describe_counter!("bursar_inherited_total", "Waits that took over the rank of somebody who waits for their holder");
    describe_counter!("bursar_alerts_total", "Holders that were found waiting for each other and were only told so");
    describe_gauge!("bursar_module_waiting", "Reservations of a module that wait");
    let units = [(Unit::Bytes, Some(metrics::Unit::Bytes)), (Unit::Share, None), (Unit::Count, None)];
    let gauges = [
        ("budget", "capacity", "The most that can be granted"),
        ("budget", "free", "What can be granted now"),
        ("budget", "granted", "What leases and offers have"),
        ("budget", "offered", "What lies in grants that nobody has taken up yet"),
        ("budget", "deficit", "By how much it is overdrawn after a shrink"),
        ("budget", "peak", "The most that was granted at once"),
        ("module", "used", "What a module has"),
    ];
    for (unit, base) in units {
        for (of, what, text) in gauges {
            match base {
                Some(base) => describe_gauge!(named(of, what, unit, ""), base, text),
                None => describe_gauge!(named(of, what, unit, ""), text),
            }
        }
        describe_counter!(named("budget", "spent", unit, "_total"), "What was spent of a rate");
    }
}

fn budget_label(name: &str) -> Label {
    Label::new("budget", SharedString::from(name.to_owned()))
}

/// A name with its unit behind, as is the custom with Prometheus.
fn named(of: &str, what: &str, unit: Unit, end: &str) -> String {
    let unit = match unit {
        Unit::Bytes => "_bytes",
        // A counter is a whole number.
        Unit::Share if end == "_total" => "_millionths",
        Unit::Share => "_ratio",
        Unit::Count => "",
    };
    format!("bursar_{of}_{what}{unit}{end}")
}

/// Shares of a whole as fractions, all else as it is.
fn in_base_units(unit: Unit, units: u64) -> f64 {
    match unit {
        Unit::Share => units as f64 / f64::from(Share::WHOLE.millionths()),
        Unit::Bytes | Unit::Count => units as f64,
    }
}

/// A name of a caller's as one of a metric: lower case letters, digits and `_`.
fn clean(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    name.chars().map(allowed).collect()
}
