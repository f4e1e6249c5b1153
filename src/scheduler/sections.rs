//! What other parts of the service show of themselves beside the scheduler.

use std::fmt;
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::model::{Figure, Figures, Section};

use super::{Scheduler, trace};

/// Where figures come from, by the name they are shown under.
#[derive(Default)]
pub(super) struct Sections(DashMap<Arc<str>, Arc<dyn Figures>>);

impl Sections {
    /// The figures as they are now, by name.
    pub(super) fn read(&self) -> Vec<Section> {
        self.sweep();
        let mut sources: Vec<_> =
            self.0.iter().map(|entry| (Arc::clone(entry.key()), Arc::clone(entry.value()))).collect();
        sources.sort_by(|(a, _), (b, _)| a.cmp(b));
        // Without a lock of the table: a source may publish or withdraw.
        sources.into_iter().map(|(name, source)| Section { figures: figures_of(&name, &*source), name }).collect()
    }

    /// Enters a source under this name, or under a number behind it if another has the name.
    fn enter(&self, name: &str, source: Arc<dyn Figures>) {
        self.sweep();
        for number in 1u64.. {
            let numbered = if number == 1 { name.into() } else { format!("{name} {number}").into() };
            if let Entry::Vacant(vacant) = self.0.entry(numbered) {
                vacant.insert(source);
                return;
            }
        }
    }

    /// Drops the sources that are gone, without a lock of the table.
    fn sweep(&self) {
        let all: Vec<_> = self.0.iter().map(|entry| (Arc::clone(entry.key()), Arc::clone(entry.value()))).collect();
        for (name, source) in all {
            if is_gone(&*source) {
                // Unless somebody else has the name by now.
                self.0.remove_if(&name, |_, known| Arc::ptr_eq(known, &source));
            }
        }
    }

    /// Drops all sources, without a lock of the table. It is the last lease or handle that does so, and its thread may
    /// panic already, so a source that panics keeps that to itself.
    pub(super) fn clear(&self) {
        let names: Vec<_> = self.0.iter().map(|entry| Arc::clone(entry.key())).collect();
        for (name, source) in names.iter().filter_map(|name| self.0.remove(name)) {
            if trace::contain(|| drop(source)).is_none() {
                say_panicked(&name);
            }
        }
    }
}

/// The figures of one source; none if it panics, which is nobody else's business.
fn figures_of(name: &str, source: &dyn Figures) -> Vec<Figure> {
    trace::contain(|| source.figures()).unwrap_or_else(|| {
        say_panicked(name);
        Vec::new()
    })
}

fn say_panicked(name: &str) {
    trace::contain(|| tracing::error!(target: "bursar::publish", name, "what publishes figures panicked"));
}

/// Whether a source is gone; not if it panics.
fn is_gone(source: &dyn Figures) -> bool {
    trace::contain(|| source.is_gone()).unwrap_or(false)
}

impl fmt::Debug for Sections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|entry| Arc::clone(entry.key()))).finish()
    }
}

impl Scheduler {
    /// Shows the figures of another part of the service beside the scheduler's own, under this name: in snapshots, on
    /// the inspection page, among the metrics. What had the name before is shown no more. What is published is shown
    /// until the scheduler is gone, it is [withdrawn](Scheduler::withdraw), or it says that it is
    /// [gone](Figures::is_gone). Submitted tasks (`tasks`), dispatchers (`dispatcher NAME`) and the spaces of
    /// [`Tiers`](crate::tiered::Tiers) (`memory gpu0`) publish themselves. A source that owns a handle or a lease of
    /// this scheduler keeps it from ever going: let it own a [`Weak`](std::sync::Weak), or a
    /// [`WeakScheduler`](crate::WeakScheduler).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use bursar::{Figure, GIB, Scheduler, Unit};
    ///
    /// let scheduler = Scheduler::builder().gpu(40 * GIB).spawn()?;
    /// let hits = Arc::new(AtomicU64::new(0));
    /// let shown = hits.clone();
    /// scheduler.publish("prefix_cache", move || {
    ///     vec![Figure::counter("hits", shown.load(Ordering::Relaxed), Unit::Count)]
    /// });
    /// hits.fetch_add(3, Ordering::Relaxed);
    /// assert_eq!(scheduler.snapshot(0).sections[0].figures[0].value, 3);
    /// # Ok(()) }
    /// ```
    pub fn publish(&self, name: impl Into<Arc<str>>, figures: impl Figures) {
        self.core.sections.0.insert(name.into(), Arc::new(figures));
    }

    /// Shows the figures of a part of this crate until that is gone. Of several of one name each is shown, the later
    /// ones with a number.
    pub(crate) fn publish_part(&self, name: &str, figures: impl Figures) {
        self.core.sections.enter(name, Arc::new(figures));
    }

    /// Shows the figures of this name no more.
    pub fn withdraw(&self, name: &str) {
        self.core.sections.0.remove(name);
    }
}
