//! The server of tokio-console on a thread of its own, its client, and what the client was told.

use std::collections::BTreeMap;
use std::future::Future;
use std::thread;
use std::time::Duration;

use console_api::instrument::instrument_client::InstrumentClient;
use console_api::instrument::{InstrumentRequest, Update};
use console_api::{Attribute, Field, field};
use console_subscriber::{ConsoleLayer, Server, ServerParts};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;

/// How long a test waits for one thing, on machines that others use too.
const LIMIT: Duration = Duration::from_secs(300);

/// Between two updates.
const PAUSE: Duration = Duration::from_millis(20);

/// A budget, or something of tokio's.
#[derive(Debug, Clone, Default)]
pub struct Resource {
    pub name: String,
    pub location: String,
    pub parent: Option<u64>,
    pub attributes: BTreeMap<String, String>,
    pub dropped: bool,
}

impl Resource {
    pub fn is_budget(&self) -> bool {
        self.name.starts_with("Budget<")
    }
}

#[derive(Debug, Clone, Default)]
pub struct Op {
    pub resource: u64,
    pub source: String,
    pub task: Option<u64>,
    pub attributes: BTreeMap<String, String>,
    pub dropped: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Task {
    pub name: String,
    wakers: i64,
}

impl Task {
    /// What the console warns of: nobody has a waker of it.
    pub fn is_lost(&self) -> bool {
        self.wakers <= 0
    }
}

/// Everything that the client knows.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub resources: BTreeMap<u64, Resource>,
    pub ops: BTreeMap<u64, Op>,
    pub tasks: BTreeMap<u64, Task>,
    /// Events that the server had no room for.
    pub lost: u64,
}

impl Model {
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources.values().find(|row| row.name == name)
    }

    pub fn ops_of(&self, name: &str) -> Vec<&Op> {
        let named = |op: &&Op| self.resources.get(&op.resource).is_some_and(|row| row.name == name);
        self.ops.values().filter(named).collect()
    }

    pub fn task_name(&self, task: u64) -> Option<&str> {
        self.tasks.get(&task).map(|task| task.name.as_str())
    }

    fn fold(&mut self, update: Update) {
        let id = |id: Option<console_api::Id>| id.map(|id| id.id);
        let resources = update.resource_update.unwrap_or_default();
        for new in resources.new_resources {
            let row = self.resources.entry(id(new.id).expect("an id")).or_default();
            let location = new.location.and_then(|location| location.file).unwrap_or_default();
            (row.name, row.location, row.parent) = (new.concrete_type, location, id(new.parent_resource_id));
        }
        for (id, stats) in resources.stats_update {
            let row = self.resources.entry(id).or_default();
            (row.attributes, row.dropped) = (texts(stats.attributes), stats.dropped_at.is_some());
        }
        let ops = update.async_op_update.unwrap_or_default();
        for new in ops.new_async_ops {
            let op = self.ops.entry(id(new.id).expect("an id")).or_default();
            (op.resource, op.source) = (id(new.resource_id).expect("a resource"), new.source);
        }
        for (of, stats) in ops.stats_update {
            let op = self.ops.entry(of).or_default();
            (op.attributes, op.task) = (texts(stats.attributes), id(stats.task_id));
            op.dropped = stats.dropped_at.is_some();
        }
        let tasks = update.task_update.unwrap_or_default();
        for new in tasks.new_tasks {
            let task = self.tasks.entry(id(new.id).expect("an id")).or_default();
            task.name = new.fields.iter().find_map(name_of).unwrap_or_default();
        }
        for (id, stats) in tasks.stats_update {
            self.tasks.entry(id).or_default().wakers = stats.waker_clones as i64 - stats.waker_drops as i64;
        }
        self.lost += resources.dropped_events + ops.dropped_events + tasks.dropped_events;
    }
}

fn text(field: &Field) -> Option<(String, String)> {
    let Some(field::Name::StrName(name)) = &field.name else { return None };
    let value = match field.value.as_ref()? {
        field::Value::U64Val(value) => value.to_string(),
        field::Value::StrVal(value) | field::Value::DebugVal(value) => value.clone(),
        other => format!("{other:?}"),
    };
    Some((name.clone(), value))
}

fn texts(attributes: Vec<Attribute>) -> BTreeMap<String, String> {
    attributes.iter().filter_map(|attribute| text(attribute.field.as_ref()?)).collect()
}

fn name_of(field: &Field) -> Option<String> {
    text(field).filter(|(name, _)| name == "task.name").map(|(_, value)| value)
}

/// A console that watches this process.
pub struct Console {
    model: watch::Receiver<Model>,
    dispatch: Dispatch,
}

impl Console {
    /// Runs `body` on a runtime of two threads that a console watches.
    pub fn watch<F: Future<Output = ()>>(body: impl FnOnce(Console) -> F) {
        let layer = ConsoleLayer::builder().publish_interval(PAUSE);
        let (layer, server) = layer.build();
        let told = |metadata: &Metadata<'_>| match metadata.is_event() {
            true => metadata.target().starts_with("runtime") || metadata.target().starts_with("tokio"),
            false => metadata.name().starts_with("runtime.") || metadata.target().starts_with("tokio"),
        };
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter_fn(told)));
        let dispatch = Dispatch::new(subscriber);
        // With one dispatcher in a process, `tracing` asks that of whichever thread passes a callsite first, and for
        // good: the thread of the client has none, and would switch off for all what tokio says of tasks.
        let _second = Dispatch::new(NoSubscriber::default());
        let (models, model) = watch::channel(Model::default());
        // This thread has no subscriber: the console does not watch itself.
        let client = thread::spawn(|| serve(server, models));
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let (worker, console) = (dispatch.clone(), Console { model, dispatch: dispatch.clone() });
        thread_local! {
            static GUARD: std::cell::RefCell<Option<tracing::dispatcher::DefaultGuard>> =
                const { std::cell::RefCell::new(None) };
        }
        builder.worker_threads(2).enable_all();
        builder.on_thread_start(move || GUARD.set(Some(tracing::dispatcher::set_default(&worker))));
        builder.on_thread_stop(|| GUARD.set(None));
        let runtime = builder.build().expect("a runtime");
        tracing::dispatcher::with_default(&dispatch, || {
            runtime.block_on(body(console));
            drop(runtime);
        });
        client.join().expect("the client ends when nobody looks any more");
    }

    /// Waits until the client knows something, and gives what it knows then.
    pub async fn until(&mut self, what: &str, known: impl Fn(&Model) -> bool) -> Model {
        let waited = tokio::time::timeout(LIMIT, self.model.wait_for(|model| known(model))).await;
        let found = waited.map(|model| model.expect("the client runs").clone());
        found.unwrap_or_else(|_| panic!("never seen: {what}; {:#?}", *self.model.borrow()))
    }

    /// Waits until something ends that the console only watches.
    pub async fn ends<T>(&self, what: &str, waited: impl Future<Output = T>) -> T {
        let ended = tokio::time::timeout(LIMIT, waited).await;
        ended.unwrap_or_else(|_| panic!("never ended: {what}; {:#?}", *self.model.borrow()))
    }

    /// Runs code on another thread that this console watches.
    pub fn thread<R: Send + 'static>(&self, code: impl FnOnce() -> R + Send + 'static) -> thread::JoinHandle<R> {
        let dispatch = self.dispatch.clone();
        thread::spawn(move || tracing::dispatcher::with_default(&dispatch, code))
    }
}

/// Runs the server and a client that keeps `models` up to date, until nobody looks at them.
///
/// The clock here goes on only when everybody waits for it, so the server makes an update when the client has read the
/// one before. By the clock of the machine it makes so many a second, behind which a client without a processor of its
/// own falls further and further: what it is told then is old, and older at the next wait.
fn serve(server: Server, models: watch::Sender<Model>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let ServerParts { instrument_server, aggregator, .. } = server.into_parts();
        tokio::spawn(aggregator.run());
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let incoming = futures::stream::iter([Ok::<_, std::io::Error>(theirs)]);
        let server = tonic::transport::Server::builder().add_service(instrument_server);
        tokio::spawn(server.serve_with_incoming(incoming));
        let mut ours = Some(TokioIo::new(ours));
        let connect = tower::service_fn(move |_| {
            let ours = ours.take().ok_or_else(|| std::io::Error::other("there is one connection"));
            async { ours }
        });
        let endpoint = Endpoint::from_static("http://console");
        let channel = endpoint.connect_with_connector(connect).await.expect("connected");
        let mut client = InstrumentClient::new(channel).max_decoding_message_size(1 << 30);
        let mut updates = client.watch_updates(InstrumentRequest {}).await.expect("updates").into_inner();
        while let (false, Ok(Some(update))) = (models.is_closed(), updates.message().await) {
            models.send_modify(|model| model.fold(update));
            // Nothing else runs on this thread.
            thread::sleep(PAUSE);
        }
    });
}

/// Spawns a task under a name.
#[cfg(tokio_unstable)]
pub fn spawn<F: Future<Output: Send> + Send + 'static>(name: &'static str, task: F) -> JoinHandle<F::Output> {
    tokio::task::Builder::new().name(name).spawn(task).expect("a runtime")
}

/// Spawns a task under a name.
#[cfg(not(tokio_unstable))]
pub fn spawn<F: Future<Output: Send> + Send + 'static>(name: &'static str, task: F) -> JoinHandle<F::Output> {
    use tracing::Instrument;
    let span =
        tracing::trace_span!(target: "tokio::task", parent: None, "runtime.spawn", kind = "task", task.name = name);
    tokio::spawn(task.instrument(span))
}
