//! Runs a plan: makes every request when it arrives, has it admitted, served and counted.

use std::sync::Arc;

use anyhow::{Context, ensure};
use bursar::memory::{SimulatedDevice, Space};
use bursar::{SpaceId, Tier};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::admission::{Admission, Denied};
use crate::console;
use crate::payload;
use crate::progress::Progress;
use crate::sizing::{Sizing, Work};
use crate::tally::{Ended, LevelFigures, Tally};
use crate::usage::{BudgetFigures, Usage};

/// Requests, ascending by arrival, and the sizes of everything.
#[derive(Debug)]
pub struct Plan {
    pub sizing: Sizing,
    pub works: Vec<Work>,
}

/// Becomes true when no more requests are to be made, and those that wait are to give up.
pub type Stop = watch::Receiver<bool>;

/// What came of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// From the start until the last request ended.
    pub seconds: f64,
    /// Bytes moved into the device, changed, read back and checked.
    pub moved_bytes: u64,
    pub interrupted: bool,
    pub levels: Vec<LevelFigures>,
    pub budgets: Vec<BudgetFigures>,
    pub first_refusal: Option<String>,
}

/// What every request of a run shares.
struct Shared<A> {
    plan: Arc<Plan>,
    admission: Arc<A>,
    device: SimulatedDevice,
    usage: Arc<Usage>,
    progress: Arc<Progress>,
    stop: Stop,
}

/// Runs a plan to its end, or until it is told to stop. Fails when bytes come back wrong, and when a request gets lost.
pub async fn execute<A: Admission>(
    plan: &Arc<Plan>,
    admission: Arc<A>,
    progress: Arc<Progress>,
    stop: Stop,
) -> anyhow::Result<Figures> {
    let shared = Arc::new(Shared {
        plan: Arc::clone(plan),
        admission,
        device: SimulatedDevice::new(SpaceId { tier: Tier::Gpu, index: 0 }, plan.sizing.device),
        usage: Usage::new(&plan.sizing.config),
        progress,
        stop: stop.clone(),
    });
    tracing::info!(requests = plan.works.len(), "running");
    let start = Instant::now();
    let (tally, interrupted) = all_requests(&shared, start, stop).await?;
    let left = shared.device.used();
    ensure!(left == 0, "{left} bytes of the device are still allocated at the end");
    Ok(Figures {
        seconds: start.elapsed().as_secs_f64(),
        moved_bytes: tally.moved,
        interrupted,
        levels: tally.figures()?,
        budgets: shared.usage.figures(),
        first_refusal: tally.first_refusal,
    })
}

/// Makes the requests when they arrive, and counts them when they end.
async fn all_requests<A: Admission>(
    shared: &Arc<Shared<A>>,
    start: Instant,
    mut stop: Stop,
) -> anyhow::Result<(Tally, bool)> {
    let works = &shared.plan.works;
    let mut tally = Tally::new(works.iter().map(|work| &work.job)).context("the histogram of waits")?;
    let mut tasks = JoinSet::new();
    let (mut next, mut stopped) = (0, false);
    loop {
        let arrival = works.get(next).filter(|_| !stopped).map(|work| start + work.job.at);
        if arrival.is_none() && tasks.is_empty() {
            break;
        }
        tokio::select! {
            biased;
            () = told(&mut stop), if !stopped => stopped = true,
            () = tokio::time::sleep_until(arrival.unwrap_or(start)), if arrival.is_some() => {
                let name = works[next].job.module().name;
                console::spawn(&mut tasks, name, one_request(Arc::clone(shared), next)).context("a task")?;
                next += 1;
            }
            Some(done) = tasks.join_next() => {
                let (number, ended) = done.context("a request panicked")??;
                tally.count(&works[number].job, ended);
            }
        }
    }
    works[next..].iter().for_each(|work| tally.count(&work.job, Ended::NotStarted));
    Ok((tally, stopped))
}

/// Ends when the run is to stop; never when nobody can say so any more.
async fn told(stop: &mut Stop) {
    if stop.wait_for(|&stop| stop).await.is_err() {
        std::future::pending().await
    }
}

/// One request from asking to the end.
async fn one_request<A: Admission>(shared: Arc<Shared<A>>, at: usize) -> anyhow::Result<(usize, Ended)> {
    let work = &shared.plan.works[at];
    let module = work.job.module;
    let asked = Instant::now();
    shared.progress.asks(module);
    let mut stop = shared.stop.clone();
    let admitted = tokio::select! {
        biased;
        admitted = shared.admission.admit(work) => admitted.map_err(|denied| match denied {
            Denied::Late => Ended::Late,
            Denied::Refused(why) => Ended::Refused(why),
        }),
        () = told(&mut stop) => Err(Ended::Cancelled),
    };
    let guard = match admitted {
        Ok(guard) => guard,
        Err(ended) => {
            shared.progress.gone(module);
            return Ok((at, ended));
        }
    };
    let waited = asked.elapsed();
    let held = shared.usage.hold(work.request.amounts());
    shared.progress.runs(module);
    payload::serve(&shared.device, work).await?;
    drop(held);
    drop(guard);
    shared.progress.served(module);
    Ok((at, Ended::Served { waited, moved: work.moved }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bursar::{Budget, BudgetId, Config, KIB, Scheduler};

    use super::*;
    use crate::admission::Chain;
    use crate::generator::generate;
    use crate::progress::Screen;
    use crate::workload::deal;

    /// Generated requests on a device so small that moving its bytes takes no time to speak of.
    fn plan(count: usize) -> Arc<Plan> {
        let jobs = deal(&generate(2, count), 10.0);
        let config = Config::new()
            .with(Budget::loan(BudgetId::GPU, 4_096 * KIB))
            .with(Budget::loan(BudgetId::HOST, 65_536 * KIB))
            .with(Budget::loan(BudgetId::ATTENTION, 1_000_000))
            .with(Budget::rate(BudgetId::IO, 64_000_000));
        let sizing = Sizing::new(&jobs, Some(config)).unwrap();
        let works = jobs.into_iter().map(|job| sizing.work(job)).collect();
        Arc::new(Plan { sizing, works })
    }

    fn hidden() -> Arc<Progress> {
        Screen::new(true).bars("", [0; 5])
    }

    fn scheduler(plan: &Plan) -> Arc<Scheduler> {
        Arc::new(Scheduler::builder().config(plan.sizing.config.clone()).spawn().unwrap())
    }

    fn p99(figures: &Figures, priority: &str) -> u64 {
        figures.levels.iter().find(|level| level.priority == priority).unwrap().wait_ns.p99
    }

    fn sum(figures: &Figures, of: fn(&LevelFigures) -> u64) -> u64 {
        figures.levels.iter().map(of).sum()
    }

    #[tokio::test(start_paused = true)]
    async fn urgent_requests_wait_less_with_the_scheduler_and_alike_with_semaphores() {
        let plan = plan(1_500);
        let (_tell, stop) = watch::channel(false);
        let scheduler = scheduler(&plan);
        let ours = execute(&plan, Arc::clone(&scheduler), hidden(), stop.clone()).await.unwrap();
        let stats = scheduler.shutdown().await.unwrap();
        assert!(stats.budgets.iter().all(|budget| budget.rate || budget.granted == 0));
        assert_eq!(stats.leases, 0);
        let chain = execute(&plan, Arc::new(Chain::new(&plan.sizing.config)), hidden(), stop).await.unwrap();
        for figures in [&ours, &chain] {
            assert_eq!(sum(figures, |level| level.served + level.late), 1_500);
            // Over-committed: the device was full at some time.
            let gpu = &figures.budgets[0];
            assert!(gpu.peak.unwrap() > gpu.capacity / 10 * 9, "{gpu:?}");
        }
        assert_eq!(stats.grants(), sum(&ours, |level| level.served));
        assert!(p99(&ours, "HIGH") * 5 < p99(&ours, "LOW"), "{ours:?}");
        assert!(p99(&ours, "CRITICAL") * 20 < p99(&ours, "LOW"), "{ours:?}");
        let alike = p99(&chain, "CRITICAL") as f64 / p99(&chain, "LOW") as f64;
        assert!((0.5..2.0).contains(&alike), "{chain:?}");
        assert!(sum(&ours, |level| level.late) < sum(&chain, |level| level.late), "{ours:?} {chain:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_is_told_to_stop_finishes_what_runs_and_cancels_what_waits() {
        let plan = plan(1_500);
        let (tell, stop) = watch::channel(false);
        let scheduler = scheduler(&plan);
        let last = plan.works[1_499].job.at;
        let told = async {
            tokio::time::sleep(last / 2).await;
            tell.send(true).unwrap();
        };
        let (figures, ()) = tokio::join!(execute(&plan, Arc::clone(&scheduler), hidden(), stop), told);
        let figures = figures.unwrap();
        assert!(figures.interrupted);
        assert!(sum(&figures, |level| level.served) > 0, "{figures:?}");
        assert!(sum(&figures, |level| level.cancelled) > 0, "{figures:?}");
        assert!(sum(&figures, |level| level.not_started) > 0, "{figures:?}");
        // No longer than what ran held its leases.
        let longest = plan.works.iter().map(|work| work.job.hold).max().unwrap();
        assert!(figures.seconds < (last / 2 + longest + Duration::from_millis(100)).as_secs_f64());
        assert_eq!(scheduler.shutdown().await.unwrap().leases, 0);
    }
}
