//! What a run came to, as tables or as JSON.

use std::path::PathBuf;

use bursar::{Bytes, Unit};
use serde::Serialize;

use crate::execution::{Figures, Plan};
use crate::options::Options;
use crate::tally::LevelFigures;
use crate::text::{ms, table, thousands};
use crate::usage::BudgetFigures;

/// Everything that is reported. As JSON the object has these fields; times are nanoseconds where the name says so.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The trace; none when the requests were generated.
    pub trace: Option<PathBuf>,
    pub seed: Option<u64>,
    pub speed: f64,
    pub requests: usize,
    /// Bytes of the simulated device.
    pub device_bytes: u64,
    /// Bytes of keys and values that a token reserves.
    pub reserved_bytes_per_token: u64,
    /// Bytes of them that are really moved.
    pub moved_bytes_per_token: u64,
    pub scheduler: Figures,
    /// Units that were still leased after the end.
    pub leased_at_end: u64,
    /// The same requests through chained semaphores.
    pub semaphores: Option<Figures>,
    pub comparison: Option<String>,
}

impl Report {
    /// The report of a run of the scheduler alone.
    pub fn new(options: &Options, plan: &Plan, scheduler: Figures, leased_at_end: u64) -> Self {
        let sizing = &plan.sizing;
        Report {
            trace: options.trace.clone(),
            seed: options.trace.is_none().then_some(options.seed),
            speed: options.speed,
            requests: plan.works.len(),
            device_bytes: sizing.device,
            reserved_bytes_per_token: sizing.moved_per_token.saturating_mul(sizing.reserved_per_moved),
            moved_bytes_per_token: sizing.moved_per_token,
            scheduler,
            leased_at_end,
            semaphores: None,
            comparison: None,
        }
    }

    /// The report as tables.
    pub fn text(&self) -> String {
        let mut text = self.heading();
        text.push_str(
            "\nWaits are from asking to the lease, in milliseconds of the run, of the requests that were served.\n\n",
        );
        text.push_str(&levels(&self.scheduler));
        if let Some(why) = &self.scheduler.first_refusal {
            text.push_str(&format!("\nThe first that was refused: {why}\n"));
        }
        text.push('\n');
        text.push_str(&budgets(&self.scheduler.budgets));
        text.push('\n');
        text.push_str(&self.ending());
        if let (Some(semaphores), Some(comparison)) = (&self.semaphores, &self.comparison) {
            text.push_str(
                "\nThe same requests through chained semaphores of tokio: one a loan, taken in a fixed order, with a\n\
                 timeout for a deadline. I/O is left out there, which favours them.\n\n",
            );
            text.push_str(&side_by_side(&self.scheduler, semaphores));
            text.push('\n');
            let loans: Vec<_> = semaphores.budgets.iter().filter(|budget| !budget.rate).cloned().collect();
            text.push_str(&budgets(&loans));
            text.push('\n');
            text.push_str(comparison);
            text.push('\n');
        }
        text
    }

    fn heading(&self) -> String {
        let of = match (&self.trace, self.seed) {
            (Some(trace), _) => format!("of {}", trace.display()),
            (None, seed) => format!("generated from seed {}", seed.unwrap_or_default()),
        };
        let (reserved, moved) = (self.reserved_bytes_per_token, self.moved_bytes_per_token);
        let scale = if reserved == moved {
            format!("A token reserves {} of it, and every reserved byte is moved.", Bytes(reserved))
        } else {
            format!(
                "It is a model: a token reserves {} and moves {}, one byte of {}.",
                Bytes(reserved),
                Bytes(moved),
                reserved / moved.max(1)
            )
        };
        format!(
            "{} requests {of}, {} times as fast. The GPU is simulated by {} of host memory.\n{scale}\n",
            thousands(self.requests as u64),
            self.speed,
            Bytes(self.device_bytes),
        )
    }

    fn ending(&self) -> String {
        let figures = &self.scheduler;
        let sum = |of: fn(&LevelFigures) -> u64| thousands(figures.levels.iter().map(of).sum());
        let mut text = format!(
            "{} requests: {} served, {} late, {} refused, {} cancelled, {} not started.\n\
             {} moved in, changed, read back and checked in {:.1} s. {} units leased at the end.\n",
            sum(|level| level.requests),
            sum(|level| level.served),
            sum(|level| level.late),
            sum(|level| level.refused),
            sum(|level| level.cancelled),
            sum(|level| level.not_started),
            Bytes(figures.moved_bytes),
            figures.seconds,
            thousands(self.leased_at_end),
        );
        if figures.interrupted {
            text.push_str(
                "Stopped by Ctrl-C: what ran was finished, what waited was cancelled, the rest was not started.\n",
            );
        }
        text
    }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn levels(figures: &Figures) -> String {
    let mut rows = vec![row([
        "priority", "module", "requests", "served", "deadline", "late", "refused", "wait p50", "p99", "p99.9",
        "longest",
    ])];
    for level in &figures.levels {
        let deadline = level.deadline_ns.map_or("-".to_owned(), ms);
        let [requests, served, late, refused] =
            [level.requests, level.served, level.late, level.refused].map(thousands);
        let counts = [requests, served, deadline, late, refused];
        let waits = waits(level, [level.wait_ns.p50, level.wait_ns.p99, level.wait_ns.p999, level.wait_ns.max]);
        let names = [level.priority.to_owned(), level.module.to_owned()];
        rows.push(names.into_iter().chain(counts).chain(waits).collect());
    }
    table(2, &rows)
}

/// Waits as text, or dashes where nobody was served.
fn waits<const N: usize>(level: &LevelFigures, nanos: [u64; N]) -> [String; N] {
    nanos.map(|nanos| if level.served == 0 { "-".to_owned() } else { ms(nanos) })
}

fn budgets(budgets: &[BudgetFigures]) -> String {
    let mut rows = vec![row(["budget", "capacity", "mean use", "", "peak use", ""])];
    for budget in budgets {
        let show = |units: u64| match (budget.unit, budget.rate) {
            (unit, true) => format!("{}/s", unit.show(units)),
            (Unit::Share, false) => format!("{:.1} %", units as f64 / 1e4),
            (unit, false) => unit.show(units),
        };
        let percent = |units: u64| format!("{:.0} %", units as f64 * 100.0 / budget.capacity as f64);
        let peak = budget.peak.map_or([String::new(), String::new()], |peak| [show(peak), percent(peak)]);
        let [mean, share] = [show(budget.mean), percent(budget.mean)];
        let [peak, peak_share] = peak;
        rows.push(vec![budget.name.clone(), show(budget.capacity), mean, share, peak, peak_share]);
    }
    table(1, &rows)
}

fn side_by_side(scheduler: &Figures, semaphores: &Figures) -> String {
    let mut rows = vec![
        row(["", "", "scheduler", "", "", "", "semaphores", "", "", ""]),
        row(["priority", "module", "served", "late", "wait p50", "p99", "served", "late", "wait p50", "p99"]),
    ];
    let cells = |level: &LevelFigures| {
        let counts = [level.served, level.late].map(thousands);
        counts.into_iter().chain(waits(level, [level.wait_ns.p50, level.wait_ns.p99])).collect::<Vec<_>>()
    };
    for (ours, theirs) in scheduler.levels.iter().zip(&semaphores.levels) {
        let names = vec![ours.priority.to_owned(), ours.module.to_owned()];
        rows.push([names, cells(ours), cells(theirs)].concat());
    }
    table(2, &rows)
}
