//! Progress bars: one a priority, on the standard error stream, and only if that is a terminal.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

use crate::workload::MODULES;

const STYLE: &str = "{prefix:<20} {bar:30.cyan/dim} {pos:>6}/{len:<6} {msg}";

/// Where bars and log lines are drawn without disturbing each other.
#[derive(Debug, Clone)]
pub struct Screen(MultiProgress);

impl Screen {
    /// A screen; a hidden one draws no bars.
    pub fn new(hidden: bool) -> Screen {
        let visible = !hidden && std::io::stderr().is_terminal();
        Screen(MultiProgress::with_draw_target(if visible {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        }))
    }

    /// Bars for a run in which each module makes so many requests.
    pub fn bars(&self, title: &'static str, requests: [u64; MODULES.len()]) -> Arc<Progress> {
        // A template that does not parse costs the looks of a bar, no more.
        let style = ProgressStyle::with_template(STYLE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let line = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        let heading = self.0.add(ProgressBar::new_spinner().with_style(line).with_message(title));
        heading.tick();
        let counters = std::array::from_fn(|module| {
            let bar = self.0.add(ProgressBar::new(requests[module]).with_style(style.clone()));
            bar.set_prefix(format!("{:<8} {}", MODULES[module].priority.name(), MODULES[module].name));
            Counter { bar, waiting: AtomicU64::new(0), running: AtomicU64::new(0) }
        });
        Arc::new(Progress { heading, counters })
    }
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine(self.0.clone())
    }
}

/// Writes log lines above the bars.
#[derive(Debug)]
pub struct LogLine(MultiProgress);

impl std::io::Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.suspend(|| std::io::stderr().write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// The bars of one run.
#[derive(Debug)]
pub struct Progress {
    heading: ProgressBar,
    counters: [Counter; MODULES.len()],
}

#[derive(Debug)]
struct Counter {
    bar: ProgressBar,
    waiting: AtomicU64,
    running: AtomicU64,
}

impl Progress {
    /// A request of a module asks.
    pub fn asks(&self, module: usize) {
        let counter = &self.counters[module];
        counter.waiting.fetch_add(1, Ordering::Relaxed);
        counter.show();
    }

    /// A request of a module was granted.
    pub fn runs(&self, module: usize) {
        let counter = &self.counters[module];
        counter.waiting.fetch_sub(1, Ordering::Relaxed);
        counter.running.fetch_add(1, Ordering::Relaxed);
        counter.show();
    }

    /// A request of a module is served.
    pub fn served(&self, module: usize) {
        let counter = &self.counters[module];
        counter.running.fetch_sub(1, Ordering::Relaxed);
        counter.bar.inc(1);
        counter.show();
    }

    /// A request of a module ended without being granted.
    pub fn gone(&self, module: usize) {
        let counter = &self.counters[module];
        counter.waiting.fetch_sub(1, Ordering::Relaxed);
        counter.bar.inc(1);
        counter.show();
    }
}

impl Counter {
    fn show(&self) {
        if !self.bar.is_hidden() {
            let [waiting, running] = [&self.waiting, &self.running].map(|count| count.load(Ordering::Relaxed));
            self.bar.set_message(format!("{waiting:>5} wait {running:>5} run"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.heading.finish_and_clear();
        self.counters.iter().for_each(|counter| counter.bar.finish_and_clear());
    }
}
