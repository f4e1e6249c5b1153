//! The inspection page of a small service, at http://127.0.0.1:9500/bursar until Ctrl-C. Other addresses of the
//! machine do not answer: the page has no login.
//!
//! `cargo run --example inspect --features inspect`

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use bursar::tasks::{Task, TaskContext};
use bursar::{BudgetId, Figure, GIB, MIB, Module, Priority, Request, Scheduler, Unit};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scheduler = Scheduler::builder()
        .gpu(40 * GIB)
        .host(64 * GIB)
        .attention()
        .io(500 * MIB)
        .sample_every(Duration::from_millis(500))
        .spawn()?;
    let answered = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&answered);
    scheduler.publish("answers", move || vec![Figure::counter("answered", shown.load(Ordering::Relaxed), Unit::Count)]);
    let vision = scheduler.module("vision").weight(2).minimum(BudgetId::GPU, 4 * GIB).cap(BudgetId::GPU, 16 * GIB);
    let vision = Arc::new(vision.register()?);
    for worker in 0..12 {
        tokio::spawn(work(worker, scheduler.clone(), Arc::clone(&vision), Arc::clone(&answered)));
    }

    tokio::spawn(thumbnails(scheduler.clone()));

    let page = Router::new().nest("/bursar", bursar::inspect::router(&scheduler));
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 9500))).await?;
    println!("http://{}/bursar", listener.local_addr()?);
    axum::serve(listener, page).await?;
    Ok(())
}

/// Asks, holds and gives back, for ever.
async fn work(worker: u64, scheduler: Scheduler, vision: Arc<Module>, answered: Arc<AtomicU64>) {
    for round in worker.. {
        let request = Request::new().gpu((2 + round % 5) * GIB).host(512 * MIB).attention(0.05);
        let request = match worker % 3 {
            0 => request.label(format!("chat {worker}")).priority(Priority::High).io(20 * MIB),
            1 => request.label(format!("frames {worker}")).of(&vision),
            _ => request.label(format!("batch {worker}")).priority(Priority::Low).io(90 * MIB),
        };
        if let Ok(lease) = scheduler.reserve(request).await {
            tokio::time::sleep(Duration::from_millis(400 + 150 * (round % 7))).await;
            drop(lease);
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Submits a task every so often, each as soon as there is room for it.
async fn thumbnails(scheduler: Scheduler) {
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    loop {
        ticks.tick().await;
        let work = |context: TaskContext| async move {
            tokio::time::sleep(Duration::from_millis(600)).await;
            drop(context);
        };
        // Detached: the page tells what becomes of it.
        drop(scheduler.submit(Task::new("thumbnail", Request::new().host(64 * MIB), work).priority(Priority::Idle)));
    }
}
