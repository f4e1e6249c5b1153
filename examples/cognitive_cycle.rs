//! A kernel on top of the scheduler, in the manner of RROS: perception, attention, memory and reasoning take turns in a
//! cycle, and each reserves a part of the computational, memory, attention, I/O and network budgets before it runs.
//!
//! 10,000 cycles, 24 at a time, ask for more than there is of all five, while a background consolidation of IDLE
//! priority wants everything that is left. Every 500th cycle a CRITICAL reflex needs all of the compute at once. The
//! scheduler then asks for what it lacks: reasoning, which is LOW, and the consolidation said that they can end early,
//! give back what they hold, and go on later from what they saved. Nobody in here tells them to.
//!
//! ```text
//! cargo run --release --example cognitive_cycle           # or another number of cycles: `-- 500`
//! ```

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bursar::tasks::{Task, TaskContext, TaskError, TaskHandle};
use bursar::{Config, Module, Priority, Request, Scheduler};
use futures::stream::{self, StreamExt};
use tokio::time::Instant;

const CYCLES: u64 = 10_000;
const AT_ONCE: usize = 24;
const REFLEX_EVERY: u64 = 500;

/// One of the parts that take turns.
struct Part {
    module: Module,
    request: Request,
    preemptible: bool,
    waits: Mutex<Vec<Duration>>,
    preemptions: AtomicU64,
    misses: AtomicU64,
}

impl Part {
    fn new(scheduler: &Scheduler, name: &'static str, request: Request) -> Result<Self, Box<dyn Error>> {
        let module = scheduler.module(name).register()?;
        let request = request.of(&module);
        let (preemptions, misses) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Part { module, request, preemptible: false, waits: Mutex::default(), preemptions, misses })
    }

    /// It gives way to a higher level.
    fn preemptible(self) -> Self {
        Part { preemptible: true, ..self }
    }

    /// Asks for all that its turn of a cycle needs.
    fn begin(&self, scheduler: &Scheduler) -> TaskHandle<Duration> {
        let submitted = Instant::now();
        let task = Task::new(self.module.name(), self.request.clone(), move |context| think(context, submitted));
        scheduler.submit(if self.preemptible { task.preemptible().preemptions(u32::MAX) } else { task })
    }

    /// Waits for its turn to be over; it misses it when its resources come too late.
    async fn finish(&self, mut turn: TaskHandle<Duration>) -> Result<(), TaskError> {
        let ended = (&mut turn).await;
        self.preemptions.fetch_add(turn.explain().preemptions.into(), Ordering::Relaxed);
        match ended {
            Ok(waited) => self.note(waited),
            Err(error) if error.is_missed_time() => _ = self.misses.fetch_add(1, Ordering::Relaxed),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn note(&self, waited: Duration) {
        self.waits.lock().expect("nobody panics with it").push(waited);
    }

    fn report(&self) {
        let mut waits = self.waits.lock().expect("nobody panics with it");
        waits.sort_unstable();
        let quantile = |percent: usize| waits.get(waits.len().saturating_sub(1) * percent / 100).copied();
        let micros = |wait: Option<Duration>| wait.unwrap_or_default().as_micros();
        let (preemptions, misses) = (self.preemptions.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed));
        // Whoever was preempted was granted what it needs once more.
        let (name, grants) = (self.module.name(), waits.len() as u64 + preemptions);
        let (half, most) = (micros(quantile(50)), micros(quantile(99)));
        println!("{name:<14} {grants:>7} {half:>10} us {most:>8} us {preemptions:>12} {misses:>7}");
    }
}

/// What stands for thinking: it holds what it was granted while others run, in three steps that are not done again
/// after a preemption. Gives how long it first waited.
async fn think(context: TaskContext, submitted: Instant) -> Duration {
    let (waited, done) = context.saved().unwrap_or_else(|| (submitted.elapsed(), 0));
    for step in done..3 {
        context.save((waited, step));
        context.checkpoint().await;
        tokio::task::yield_now().await;
    }
    waited
}

/// Works in the background on whatever is left until it is to stop, and never loses what it has done.
fn consolidation(scheduler: &Scheduler, stop: &Arc<AtomicBool>) -> TaskHandle<u64> {
    let stop = Arc::clone(stop);
    let request = Request::new().compute(20).host(300_000u64).attention(0.05).label("consolidation");
    let task = Task::new("consolidation", request, move |context| {
        let stop = Arc::clone(&stop);
        async move {
            let mut steps = context.saved::<u64>().unwrap_or(0);
            while !stop.load(Ordering::Relaxed) {
                steps += 1;
                context.save(steps);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            steps
        }
    });
    scheduler.submit(task.priority(Priority::Idle).preemptible().preemptions(u32::MAX))
}

fn parts(scheduler: &Scheduler) -> Result<[Part; 4], Box<dyn Error>> {
    let request = |compute, memory: u64, attention, io: u64, network: u64| {
        Request::new().compute(compute).host(memory).attention(attention).io(io).network(network)
    };
    let soon = Duration::from_millis(20);
    Ok([
        Part::new(scheduler, "perception", request(20, 100_000, 0.10, 30, 20).priority(Priority::High).deadline(soon))?,
        Part::new(scheduler, "attention", request(10, 50_000, 0.30, 5, 5).priority(Priority::High))?,
        Part::new(scheduler, "memory", request(15, 250_000, 0.10, 40, 10))?,
        Part::new(scheduler, "reasoning", request(30, 200_000, 0.20, 5, 30).priority(Priority::Low))?.preemptible(),
    ])
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let scheduler = Scheduler::builder().config(Config::rros()).spawn()?;
    let number = |text: String| text.parse::<u64>();
    let all = std::env::args().nth(1).map(number).transpose()?.unwrap_or(CYCLES);
    let parts = parts(&scheduler)?;
    let reflex = Part::new(&scheduler, "reflex", Request::new().compute(100).priority(Priority::Critical))?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut background = consolidation(&scheduler, &stop);

    let start = Instant::now();
    let cycle = async |number: u64| {
        for part in &parts {
            part.finish(part.begin(&scheduler)).await?;
        }
        if number.is_multiple_of(REFLEX_EVERY) {
            reflex.finish(reflex.begin(&scheduler)).await?;
        }
        Ok::<(), TaskError>(())
    };
    let cycles = stream::iter(1..=all).map(cycle).buffer_unordered(AT_ONCE);
    let failed = cycles.filter_map(async |result| result.err()).count().await;
    let took = start.elapsed();

    stop.store(true, Ordering::Relaxed);
    let steps = (&mut background).await?;
    let preemptions = background.explain().preemptions;
    println!("{all} cycles in {took:.2?}, {failed} failed\n");
    println!(
        "{:<14} {:>7} {:>13} {:>11} {:>12} {:>7}",
        "module", "grants", "p50 wait", "p99 wait", "preemptions", "misses"
    );
    parts.iter().chain([&reflex]).for_each(Part::report);
    println!(
        "{:<14} {:>7} {:>13} {:>11} {preemptions:>12} {:>7}   {steps} steps",
        "consolidation",
        preemptions + 1,
        "",
        "",
        0
    );
    println!("tasks: {}", scheduler.task_stats());

    drop((parts, reflex));
    let stats = scheduler.shutdown().await?;
    for budget in &stats.budgets {
        println!("{:<14} peak {} of {}, residue {}", budget.name, budget.peak, budget.capacity, budget.granted);
    }
    let residue: u64 = stats.budgets.iter().map(|budget| budget.granted).sum();
    if residue > 0 || stats.leases > 0 || scheduler.task_stats().live > 0 || failed > 0 {
        return Err("something is left behind".into());
    }
    Ok(())
}
