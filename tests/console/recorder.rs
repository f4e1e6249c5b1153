//! A subscriber that links spans and events as console-subscriber does: spans by name, events by target, and both to
//! the innermost entered span of a kind on the thread. It is as strict, too: what should be text and is not is ignored.
//!
//! One subscriber serves the process, and each test has its own records: while several subscribers come and go, a
//! callsite may be told that nobody is interested.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, ThreadId};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

/// A value, with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(u64),
    Bool(bool),
    /// What the console ignores where it expects one of the above.
    Other(String),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Value::Number(number)
    }
}

pub type Fields = BTreeMap<String, Value>;

/// A span that the console shows as a row.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: u64,
    pub name: &'static str,
    pub target: &'static str,
    pub fields: Fields,
    pub attributes: Fields,
    /// The span that the registry takes for its parent.
    pub parent: Option<u64>,
    /// The resource it was opened in.
    pub resource: Option<u64>,
    /// The task in whose context the console heard of a poll.
    pub task: Option<u64>,
    pub polls: u32,
    pub closed: bool,
    handles: usize,
}

impl Row {
    #[track_caller]
    pub fn text(&self, field: &str) -> &str {
        match self.fields.get(field) {
            Some(Value::Text(text)) => text,
            other => panic!("`{field}` is {other:?} in {self:#?}"),
        }
    }

    #[track_caller]
    pub fn attribute(&self, name: &str) -> &Value {
        self.attributes.get(name).unwrap_or_else(|| panic!("no `{name}` in {self:#?}"))
    }
}

#[derive(Debug, Default)]
pub struct State {
    pub rows: BTreeMap<u64, Row>,
    /// Uses of wakers by name.
    pub wakers: BTreeMap<String, u32>,
    /// Everything that was emitted, opened or closed.
    pub heard: u64,
    /// What the console would have put into its queue.
    pub queued: u64,
    /// Panics as soon as anything is emitted or closed.
    pub panics: bool,
    entered: HashMap<ThreadId, Vec<u64>>,
}

/// The kinds of spans and events that the console looks for.
pub fn kind(metadata: &Metadata<'_>) -> Option<&'static str> {
    let kinds = ["runtime.spawn", "runtime.resource", "runtime.resource.async_op"];
    let targets = ["tokio::task::waker", "runtime::resource::poll_op", "runtime::resource::state_update"];
    let more = ["runtime::resource::async_op::state_update"];
    match metadata.is_span() {
        true => kinds.into_iter().find(|kind| *kind == metadata.name()),
        false => targets.into_iter().chain(more).find(|target| *target == metadata.target()),
    }
}

/// The records of one test.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<State>>);

thread_local! {
    /// Who listens on this thread.
    static HERE: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

/// Whose a span is.
static OWNERS: Mutex<BTreeMap<u64, Recorder>> = Mutex::new(BTreeMap::new());

/// The callsites of the crate that the console would know, and their kinds.
static CALLSITES: Mutex<Vec<(Identifier, &'static str)>> = Mutex::new(Vec::new());

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kinds of callsites that were registered, one for each.
pub fn registered() -> Vec<&'static str> {
    locked(&CALLSITES).iter().map(|(_, kind)| *kind).collect()
}

impl Recorder {
    pub fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.0)
    }

    /// Runs `body`, and records what is emitted on this thread meanwhile.
    pub fn listen<R>(&self, body: impl FnOnce() -> R) -> R {
        start();
        struct Back(Option<Recorder>);
        impl Drop for Back {
            fn drop(&mut self) {
                HERE.set(self.0.take());
            }
        }
        let _back = Back(HERE.replace(Some(self.clone())));
        body()
    }

    fn rows(&self, name: &str) -> Vec<Row> {
        self.state().rows.values().filter(|row| row.name == name).cloned().collect()
    }

    pub fn resources(&self) -> Vec<Row> {
        self.rows("runtime.resource")
    }

    pub fn ops(&self) -> Vec<Row> {
        self.rows("runtime.resource.async_op")
    }

    pub fn tasks(&self) -> Vec<Row> {
        self.rows("runtime.spawn")
    }

    /// The open resource of this type.
    #[track_caller]
    pub fn resource(&self, type_name: &str) -> Row {
        let found = self.resources().into_iter().filter(|row| !row.closed && row.text("concrete_type") == type_name);
        let found: Vec<_> = found.collect();
        assert_eq!(found.len(), 1, "{type_name}: {found:#?}");
        found.into_iter().next().expect("there is one")
    }

    pub fn open_ops(&self) -> Vec<Row> {
        self.ops().into_iter().filter(|row| !row.closed).collect()
    }
}

impl State {
    fn hear(&mut self, metadata: &Metadata<'_>) {
        assert!(!(self.panics && kind(metadata).is_some()), "a subscriber that panics");
        self.heard += u64::from(kind(metadata).is_some());
    }

    /// The innermost entered row of a kind on this thread.
    fn innermost(&self, name: &str) -> Option<u64> {
        let stack = self.entered.get(&thread::current().id())?;
        stack.iter().rev().copied().find(|id| self.rows.get(id).is_some_and(|row| row.name == name))
    }

    fn update(&mut self, id: Option<u64>, fields: Fields) {
        let plain = |name: &str| !name.ends_with(".op") && !name.ends_with(".unit");
        let values: Vec<_> = fields.iter().filter(|(name, _)| plain(name)).collect();
        let Some(row) = id.and_then(|id| self.rows.get_mut(&id)) else { return };
        // The console takes the last of several, so there has to be one.
        assert!(values.len() <= 1, "several values in one event: {values:?}");
        for (name, value) in values {
            assert!(!matches!(value, Value::Other(_)), "{name}: {value:?}");
            let before = row.attributes.insert(name.clone(), value.clone());
            if let Value::Number(_) = value {
                assert_eq!(fields.get("value.op"), Some(&"override".into()), "a number without it is kept as it was");
            }
            let same = before.is_none_or(|before| std::mem::discriminant(&before) == std::mem::discriminant(value));
            assert!(same, "{name} has changed its type, which the console ignores");
        }
    }
}

/// Makes the subscriber of the process.
pub fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Router).expect("the first"));
}

/// Takes what is emitted to the records that it belongs into.
struct Router;

fn here() -> Option<Recorder> {
    HERE.with_borrow(Clone::clone)
}

fn owner(id: &Id) -> Option<Recorder> {
    locked(&OWNERS).get(&id.into_u64()).cloned()
}

impl Subscriber for Router {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        let ours = metadata.module_path().is_some_and(|path| path.starts_with("bursar"));
        let mut known = locked(&CALLSITES);
        if let Some(kind) = kind(metadata).filter(|_| ours && known.iter().all(|(id, _)| *id != metadata.callsite())) {
            known.push((metadata.callsite(), kind));
        }
        Interest::sometimes()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // With `tokio_unstable` tokio has a lot to say of itself.
        here().is_some() && !metadata.module_path().is_some_and(|path| path.starts_with("tokio"))
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let recorder = here().expect("it was asked whether anybody listens");
        let mut state = recorder.state();
        state.hear(span.metadata());
        let mut fields = Fields::new();
        span.record(&mut Read(&mut fields));
        let contextual = || state.entered.get(&thread::current().id()).and_then(|stack| stack.last().copied());
        let parent = if span.is_contextual() { contextual() } else { span.parent().map(Id::into_u64) };
        let (resource, name) = (state.innermost("runtime.resource"), span.metadata().name());
        let needed: &[&str] = match name {
            "runtime.resource" => &["concrete_type", "kind"],
            "runtime.resource.async_op" => &["source"],
            _ => &[],
        };
        let shown = needed.iter().all(|field| matches!(fields.get(*field), Some(Value::Text(_))));
        state.queued += u64::from(shown && kind(span.metadata()).is_some());
        let (target, name) = (span.metadata().target(), if shown { name } else { "ignored" });
        let row = Row {
            id,
            name,
            target,
            fields,
            attributes: Fields::new(),
            parent,
            resource,
            task: None,
            polls: 0,
            closed: false,
            handles: 1,
        };
        state.rows.insert(id, row);
        locked(&OWNERS).insert(id, recorder.clone());
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Read(&mut fields));
        let recorder = here().expect("it was asked whether anybody listens");
        let mut state = recorder.state();
        state.hear(event.metadata());
        let (resource, op) = (state.innermost("runtime.resource"), state.innermost("runtime.resource.async_op"));
        match event.metadata().target() {
            "runtime::resource::state_update" => state.update(resource, fields),
            "runtime::resource::async_op::state_update" => state.update(op, fields),
            "runtime::resource::poll_op" if resource.is_some() && fields.contains_key("op_name") => {
                state.queued += 1;
                let task = state.innermost("runtime.spawn");
                op.and_then(|op| state.rows.get_mut(&op)).into_iter().for_each(|op| op.task = task);
            }
            "tokio::task::waker" => {
                if let (Some(Value::Text(op)), Some(Value::Number(_))) = (fields.get("op"), fields.get("task.id")) {
                    *state.wakers.entry(op.clone()).or_default() += 1;
                }
            }
            _ => {}
        }
    }

    fn enter(&self, id: &Id) {
        let Some(recorder) = owner(id) else { return };
        let mut state = recorder.state();
        state.entered.entry(thread::current().id()).or_default().push(id.into_u64());
        state.rows.get_mut(&id.into_u64()).into_iter().for_each(|row| row.polls += 1);
    }

    fn exit(&self, id: &Id) {
        let Some(recorder) = owner(id) else { return };
        let mut state = recorder.state();
        let stack = state.entered.entry(thread::current().id()).or_default();
        assert_eq!(stack.pop(), Some(id.into_u64()), "left in another order than entered");
    }

    fn clone_span(&self, id: &Id) -> Id {
        let Some(recorder) = owner(id) else { return id.clone() };
        recorder.state().rows.get_mut(&id.into_u64()).into_iter().for_each(|row| row.handles += 1);
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let Some(recorder) = owner(&id) else { return false };
        let mut state = recorder.state();
        let panics = state.panics;
        let Some(row) = state.rows.get_mut(&id.into_u64()) else { return false };
        row.handles -= 1;
        row.closed = row.handles == 0;
        let (closed, ours) = (row.closed, row.name.starts_with("runtime."));
        state.heard += u64::from(closed && ours);
        drop(state);
        assert!(!(panics && ours), "a subscriber that panics");
        closed
    }
}

/// Reads fields with their types.
struct Read<'a>(&'a mut Fields);

impl Visit for Read<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), Value::Bool(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), Value::Other(format!("{value:?}")));
    }
}
