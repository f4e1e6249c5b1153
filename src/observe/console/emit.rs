//! Every span and event for the console: one function, and so one callsite, for each kind.
//!
//! The console ignores a span that lacks a text where it expects one, and takes the last value of an attribute event
//! for all there is: so each function takes options, of which those that are `None` are not recorded, and an attribute
//! event has one value. Targets begin with `runtime`, so that the filter which the console's documentation names lets
//! the spans pass.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Once;

use tracing::level_filters::LevelFilter;
#[cfg(not(tokio_unstable))]
use tracing::span::Entered;
use tracing::subscriber::NoSubscriber;
use tracing::{Level, Span, trace, trace_span};

/// Whether any subscriber might take what is emitted here: one relaxed load.
#[inline]
pub(super) fn is_heard() -> bool {
    LevelFilter::current() >= Level::TRACE
}

/// Whether this thread has a subscriber. Without one a span may count as enabled all the same, if another thread has.
pub(super) fn is_heard_here() -> bool {
    is_heard() && !tracing::dispatcher::get_default(|dispatch| dispatch.is::<NoSubscriber>())
}

/// Runs code of the subscriber. If it panics, the panic hook has said so, and nobody else has to know.
pub(super) fn contain<R>(emit: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(emit)).ok()
}

/// The longest label, and the longest name of a task, that is emitted, in bytes. The console keeps them as long as the
/// rows, and its first message has all of them.
const LONGEST: usize = 64;

/// The beginning of a text of a caller's, which may be as long as he likes.
pub(super) fn short(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(LONGEST)]))
}

/// A span that may be entered and closed wherever that is called for, a panicking thread included.
#[derive(Debug)]
pub(super) struct Row(Option<Span>);

impl Row {
    pub(super) fn new(span: Span) -> Self {
        Row(Some(span))
    }

    pub(super) fn is_disabled(&self) -> bool {
        self.0.as_ref().is_none_or(Span::is_disabled)
    }

    pub(super) fn within<R>(&self, emit: impl FnOnce() -> R) -> Option<R> {
        let span = self.0.as_ref()?;
        contain(|| span.in_scope(emit))
    }

    #[cfg(not(tokio_unstable))]
    pub(super) fn enter(&self) -> Option<Entered<'_>> {
        let span = self.0.as_ref()?;
        contain(|| span.enter())
    }

    #[cfg(not(tokio_unstable))]
    pub(super) fn number(&self) -> Option<u64> {
        self.0.as_ref()?.id().map(|id| id.into_u64())
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        let span = self.0.take();
        contain(|| drop(span));
    }
}

/// One attribute: exactly one of them is `Some`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attribute<'a> {
    pub capacity: Option<&'a str>,
    pub in_use: Option<&'a str>,
    pub waiting: Option<u64>,
    pub listed: Option<u64>,
}

/// A budget. `parent: None`, or the task that happens to open it would be shown as alive for as long as the budget is.
pub(super) fn budget(type_name: Option<&str>, kind: &str, at: &'static Location<'static>) -> Span {
    trace_span!(
        target: "runtime::bursar",
        parent: None,
        "runtime.resource",
        concrete_type = type_name,
        kind = kind,
        loc.file = at.file(),
        loc.line = at.line(),
        loc.col = at.column(),
    )
}

/// An attribute of the budget that is entered.
pub(super) fn attribute(attribute: Attribute<'_>) {
    trace!(
        target: "runtime::resource::state_update",
        capacity = attribute.capacity,
        in_use = attribute.in_use,
        waiting = attribute.waiting,
        listed = attribute.listed,
        value.op = "override",
    );
}

/// A wait at the budget that is entered.
pub(super) fn wait(source: Option<&str>) -> Span {
    trace_span!(
        target: "runtime::bursar",
        "runtime.resource.async_op",
        source = source,
        inherits_child_attrs = false,
    )
}

/// One attribute of a wait: exactly one of them is `Some`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WaitAttribute<'a> {
    pub amount: Option<&'a str>,
    pub label: Option<&'a str>,
    pub priority: Option<&'a str>,
    pub waited_before: Option<&'a str>,
}

/// An attribute of the wait that is entered.
pub(super) fn wait_attribute(attribute: WaitAttribute<'_>) {
    trace!(
        target: "runtime::resource::async_op::state_update",
        amount = attribute.amount,
        label = attribute.label,
        priority = attribute.priority,
        waited_before = attribute.waited_before,
        value.op = "override",
    );
}

/// The wait that is entered was polled by the task that is.
pub(super) fn polled(operation: Option<&str>, ready: bool) {
    trace!(target: "runtime::resource::poll_op", op_name = operation, is_ready = ready);
}

/// A task. Nothing that it lacks would make the console ignore it, so it cannot be warmed up: the first is made while
/// all others wait.
#[cfg(not(tokio_unstable))]
pub(super) fn task(name: &str, at: &'static Location<'static>) -> Span {
    static FIRST: Once = Once::new();
    let make = || {
        trace_span!(
            target: "tokio::task",
            parent: None,
            "runtime.spawn",
            kind = "task",
            task.name = name,
            loc.file = at.file(),
            loc.line = at.line(),
            loc.col = at.column(),
        )
    };
    let mut first = None;
    FIRST.call_once(|| first = contain(make));
    first.unwrap_or_else(make)
}

/// Something was done with the waker of a task.
#[cfg(not(tokio_unstable))]
pub(super) fn waker(operation: Option<&str>, task: Option<u64>) {
    trace!(target: "tokio::task::waker", op = operation, task.id = task);
}

/// Registers every callsite. While one thread registers a callsite, another that passes it is told that it is enabled,
/// but the console does not know it yet and ignores the span for good.
pub(super) fn warm_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let nowhere = Location::caller();
        contain(|| drop(budget(None, "loan", nowhere)));
        contain(|| drop(wait(None)));
        contain(|| attribute(Attribute::default()));
        contain(|| wait_attribute(WaitAttribute::default()));
        contain(|| polled(None, false));
        #[cfg(not(tokio_unstable))]
        contain(|| waker(None, None));
    });
}
