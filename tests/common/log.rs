//! Log lines and spans, as tests hear them.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::{self, ThreadId};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber, span};

/// Takes log lines and spans down for the whole process. One for all tests, because a subscriber that comes late may
/// miss a place in the code that another thread has just found unwanted.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    lines: Vec<Line>,
    /// The first has the id 1.
    spans: Vec<(ThreadId, Seen)>,
}

/// Thread, target, level and message with all fields.
type Line = (ThreadId, &'static str, Level, String);

/// A span of this thread.
#[derive(Clone, Debug)]
pub struct Seen {
    pub name: &'static str,
    pub level: Level,
    /// The name of the span that was current when it was made.
    pub parent: Option<&'static str>,
    /// All fields, those that were recorded later last.
    pub fields: String,
    /// The lines that were written in it.
    pub lines: Vec<String>,
    pub closed: bool,
    target: &'static str,
    handles: usize,
}

thread_local! {
    /// The spans that are entered on this thread, innermost last.
    static ENTERED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}

/// Whether the subscriber is that of the process yet. A thread that passes a place in the code for the first time after
/// `tracing` knows of it and before it is in force would switch that place off for good. So it wants nothing until
/// then.
static IN_FORCE: AtomicBool = AtomicBool::new(false);

fn place(id: &span::Id) -> usize {
    id.into_u64() as usize - 1
}

fn innermost() -> Option<usize> {
    ENTERED.with_borrow(|entered| entered.last().copied())
}

impl Subscriber for Lines {
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(if IN_FORCE.load(Ordering::SeqCst) { LevelFilter::DEBUG } else { LevelFilter::OFF })
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("bursar") && *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut fields = String::new();
        attributes.record(&mut Text(&mut fields));
        let mut heard = self.0.lock().unwrap();
        let parent = innermost().filter(|_| attributes.is_contextual()).map(|place| heard.spans[place].1.name);
        let metadata = attributes.metadata();
        let (name, target, level) = (metadata.name(), metadata.target(), *metadata.level());
        let seen = Seen { name, target, level, parent, fields, lines: Vec::new(), closed: false, handles: 1 };
        heard.spans.push((thread::current().id(), seen));
        span::Id::from_u64(heard.spans.len() as u64)
    }

    fn record(&self, id: &span::Id, values: &span::Record<'_>) {
        values.record(&mut Text(&mut self.0.lock().unwrap().spans[place(id)].1.fields));
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut Text(&mut text));
        let metadata = event.metadata();
        let mut heard = self.0.lock().unwrap();
        if let Some(place) = innermost() {
            heard.spans[place].1.lines.push(text.clone());
        }
        heard.lines.push((thread::current().id(), metadata.target(), *metadata.level(), text));
    }

    fn enter(&self, id: &span::Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(place(id)));
    }

    fn exit(&self, id: &span::Id) {
        let left = ENTERED.with_borrow_mut(Vec::pop);
        assert_eq!(left, Some(place(id)), "spans are left in the order in which they are entered");
    }

    fn clone_span(&self, id: &span::Id) -> span::Id {
        self.0.lock().unwrap().spans[place(id)].1.handles += 1;
        id.clone()
    }

    fn try_close(&self, id: span::Id) -> bool {
        let seen = &mut self.0.lock().unwrap().spans[place(&id)].1;
        seen.handles -= 1;
        seen.closed = seen.handles == 0;
        seen.closed
    }
}

impl Lines {
    pub fn get() -> &'static Lines {
        static LINES: LazyLock<Lines> = LazyLock::new(|| {
            let lines = Lines::default();
            tracing::subscriber::set_global_default(lines.clone()).expect("the first of this process");
            IN_FORCE.store(true, Ordering::SeqCst);
            tracing::callsite::rebuild_interest_cache();
            lines
        });
        &LINES
    }

    /// The lines of this thread, which is this test's alone.
    pub fn of(&self, target: &str) -> Vec<(Level, String)> {
        let heard = self.0.lock().unwrap();
        let own = heard.lines.iter().filter(|line| line.0 == thread::current().id() && line.1 == target);
        own.map(|line| (line.2, line.3.clone())).collect()
    }

    /// The spans of this thread.
    pub fn spans(&self, target: &str) -> Vec<Seen> {
        let heard = self.0.lock().unwrap();
        let own = heard.spans.iter().filter(|span| span.0 == thread::current().id() && span.1.target == target);
        own.map(|span| span.1.clone()).collect()
    }
}
