//! tokio-console's server and a client that reads all it sends, on a thread of their own.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use console_api::field::Value;
use console_api::instrument::instrument_client::InstrumentClient;
use console_api::instrument::{InstrumentRequest, Update};
use console_subscriber::{ConsoleLayer, Server, ServerParts};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tonic::transport::server::TcpIncoming;
use tracing::Dispatch;
use tracing::dispatcher::{DefaultGuard, set_default};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;

use super::EVERY;

/// Whether console-subscriber starts: it wants one of these.
pub const STARTS: bool = cfg!(any(tokio_unstable, console_without_tokio_unstable));

/// What the client was told.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The last `in_use` of any budget.
    pub in_use: String,
    /// Waits that were listed so far.
    pub ops: usize,
    /// Events that the server had no room for.
    pub lost: u64,
}

/// A console that is attached until it is dropped.
pub struct Console {
    /// The subscriber of whoever is to be watched.
    pub dispatch: Dispatch,
    seen: Arc<Mutex<Seen>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Console {
    /// Starts a server, connects to it, and returns once it is ready.
    pub fn attach() -> Self {
        let (layer, server) = ConsoleLayer::builder().publish_interval(EVERY).build();
        // What console-subscriber itself lets pass.
        let told = filter_fn(|metadata| match metadata.is_event() {
            true => metadata.target().starts_with("runtime") || metadata.target().starts_with("tokio"),
            false => metadata.name().starts_with("runtime.") || metadata.target().starts_with("tokio"),
        });
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer.with_filter(told)));
        let seen = Arc::<Mutex<Seen>>::default();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let client = {
            let seen = Arc::clone(&seen);
            move || {
                let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    tokio::select! {
                        () = watch(server, ready, &seen) => {}
                        _ = stopped => {}
                    }
                });
            }
        };
        let thread = thread::spawn(client);
        is_ready.recv().expect("the console is attached");
        Console { dispatch, seen, stop: Some(stop), thread: Some(thread) }
    }

    /// What the client knows once `known` is so.
    ///
    /// # Panics
    /// If that takes longer than a minute.
    pub fn until(&self, known: impl Fn(&Seen) -> bool) -> Seen {
        for _ in 0..6_000 {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if known(&seen) {
                return seen;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the console never came to know what it should");
    }
}

/// A runtime of one thread that a console watches.
pub fn watched_runtime(console: &Console) -> Runtime {
    thread_local! {
        static GUARD: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
    }
    let dispatch = console.dispatch.clone();
    let mut builder = Builder::new_multi_thread();
    builder.on_thread_start(move || GUARD.set(Some(set_default(&dispatch)))).on_thread_stop(|| GUARD.set(None));
    builder.worker_threads(1).enable_all().build().expect("a runtime")
}

impl Drop for Console {
    fn drop(&mut self) {
        self.stop = None;
        self.thread.take().map(JoinHandle::join);
    }
}

async fn watch(server: Server, ready: std::sync::mpsc::Sender<()>, seen: &Mutex<Seen>) {
    let ServerParts { instrument_server, aggregator, .. } = server.into_parts();
    tokio::spawn(aggregator.run());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let server = tonic::transport::Server::builder().add_service(instrument_server);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let client = InstrumentClient::connect(address).await.expect("the server");
    let mut client = client.max_decoding_message_size(1 << 30);
    let mut updates = client.watch_updates(InstrumentRequest {}).await.expect("updates").into_inner();
    while let Ok(Some(update)) = updates.message().await {
        seen.lock().unwrap_or_else(PoisonError::into_inner).take_in(update);
        // There is nobody any more who would want to know, if this fails.
        let _ = ready.send(());
    }
}

impl Seen {
    fn take_in(&mut self, update: Update) {
        let resources = update.resource_update.unwrap_or_default();
        let ops = update.async_op_update.unwrap_or_default();
        let tasks = update.task_update.unwrap_or_default();
        self.lost += resources.dropped_events + ops.dropped_events + tasks.dropped_events;
        self.ops += ops.new_async_ops.len();
        let attributes = resources.stats_update.into_values().flat_map(|stats| stats.attributes);
        for field in attributes.filter_map(|attribute| attribute.field) {
            let is_use = matches!(&field.name, Some(console_api::field::Name::StrName(name)) if name == "in_use");
            if let (true, Some(Value::StrVal(value) | Value::DebugVal(value))) = (is_use, field.value) {
                self.in_use = value;
            }
        }
    }
}
