//! Log lines, as tests hear them.

use std::sync::{Arc, LazyLock, Mutex};
use std::thread::{self, ThreadId};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// Takes log lines down for the whole process: thread, target, level and message with all fields. One for all tests,
/// because a subscriber that comes late may miss a place in the code that another thread has just found unwanted.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<Line>>>);

type Line = (ThreadId, &'static str, Level, String);

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("bursar") && *metadata.level() <= Level::DEBUG
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut Text(&mut text));
        let metadata = event.metadata();
        self.0.lock().unwrap().push((thread::current().id(), metadata.target(), *metadata.level(), text));
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

impl Lines {
    pub fn get() -> &'static Lines {
        static LINES: LazyLock<Lines> = LazyLock::new(|| {
            let lines = Lines::default();
            tracing::subscriber::set_global_default(lines.clone()).expect("the first of this process");
            lines
        });
        &LINES
    }

    /// The lines of this thread, which is this test's alone.
    pub fn of(&self, target: &str) -> Vec<(Level, String)> {
        let lines = self.0.lock().unwrap();
        let own = lines.iter().filter(|line| line.0 == thread::current().id() && line.1 == target);
        own.map(|line| (line.2, line.3.clone())).collect()
    }
}
