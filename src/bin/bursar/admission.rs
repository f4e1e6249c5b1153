//! Who decides when a request may run: a scheduler, or a chain of semaphores beside which it is seen.

use std::future::Future;
use std::sync::Arc;

use bursar::{BudgetId, Config, Lease, ReserveError, Scheduler, Supply};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sizing::Work;

/// Why a request was not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Its deadline passed first.
    Late,
    /// It can never be admitted, or not here; the text says why.
    Refused(String),
}

/// Something that admits requests and takes back what it granted when the guard drops.
pub trait Admission: Send + Sync + 'static {
    /// Holds what was granted.
    type Guard: Send;

    /// Waits until the work may run. Dropping the future gives up.
    fn admit(&self, work: &Work) -> impl Future<Output = Result<Self::Guard, Denied>> + Send;
}

impl Admission for Scheduler {
    type Guard = Lease;

    async fn admit(&self, work: &Work) -> Result<Lease, Denied> {
        self.reserve(work.request.clone()).await.map_err(|error| match error {
            ReserveError::Late { .. } => Denied::Late,
            other => Denied::Refused(other.to_string()),
        })
    }
}

/// One of tokio's semaphores a loan, taken one after the other in the order of their budgets, which is what a service
/// does that has nothing better. The fixed order keeps them free of deadlocks; a deadline is a timeout around the
/// whole.
///
/// Rates are left out: a request passes them freely, which favours the chain.
#[derive(Debug)]
pub struct Chain(Vec<Link>);

#[derive(Debug)]
struct Link {
    budget: BudgetId,
    semaphore: Arc<Semaphore>,
    permits: u32,
    /// Units of the budget that one permit stands for: a semaphore counts at most 2³² - 1 at once.
    units_per_permit: u64,
}

impl Chain {
    /// A semaphore for each loan of a configuration.
    pub fn new(config: &Config) -> Self {
        let mut links: Vec<Link> =
            config.budgets.iter().filter_map(|budget| Link::new(budget.id, budget.supply)).collect();
        links.sort_by_key(|link| link.budget);
        Chain(links)
    }

    async fn acquire(&self, asked: &[(&Link, u32)]) -> Result<Vec<OwnedSemaphorePermit>, Denied> {
        let mut permits = Vec::with_capacity(asked.len());
        for &(link, count) in asked {
            let acquired = Arc::clone(&link.semaphore).acquire_many_owned(count).await;
            permits.push(acquired.map_err(|closed| Denied::Refused(closed.to_string()))?);
        }
        Ok(permits)
    }
}

impl Link {
    fn new(budget: BudgetId, supply: Supply) -> Option<Link> {
        let Supply::Loan { capacity, .. } = supply else { return None };
        let units_per_permit = capacity.div_ceil(u64::from(u32::MAX));
        let permits = u32::try_from(capacity / units_per_permit).unwrap_or(u32::MAX);
        Some(Link { budget, semaphore: Arc::new(Semaphore::new(permits as usize)), permits, units_per_permit })
    }

    /// The permits for so many units, rounded up. More than there are would be waited for for ever, so that is refused.
    fn permits(&self, units: u64) -> Result<u32, Denied> {
        let count = u32::try_from(units.div_ceil(self.units_per_permit)).ok().filter(|&count| count <= self.permits);
        count.ok_or_else(|| Denied::Refused(format!("asked {units} of {}, which never has as much", self.budget)))
    }
}

impl Admission for Chain {
    type Guard = Vec<OwnedSemaphorePermit>;

    async fn admit(&self, work: &Work) -> Result<Self::Guard, Denied> {
        let amounts = work.request.amounts();
        let asked = self.0.iter().filter(|link| amounts.get(link.budget) > 0);
        let asked: Vec<_> =
            asked.map(|link| Ok((link, link.permits(amounts.get(link.budget))?))).collect::<Result<_, Denied>>()?;
        match work.request.time_limit() {
            Some(limit) => tokio::time::timeout(limit, self.acquire(&asked)).await.unwrap_or(Err(Denied::Late)),
            None => self.acquire(&asked).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bursar::{Budget, GIB, Request};

    use super::*;
    use crate::workload::Job;

    fn work(request: Request) -> Work {
        let job = Job { number: 0, module: 0, at: Duration::ZERO, deadline: None, hold: Duration::ZERO, tokens: 1 };
        Work { job, request, moved: 8, staging: 8 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_chain_lends_what_there_is_once_and_takes_it_back() {
        let config = Config::new()
            .with(Budget::loan(BudgetId::HOST, 10))
            // More than a semaphore can count at once.
            .with(Budget::loan(BudgetId::GPU, 80 * GIB))
            .with(Budget::rate(BudgetId::IO, 1));
        let chain = Chain::new(&config);
        let most = Request::new().gpu(79 * GIB).host(10u64).io(1u64 << 40);
        let guard = chain.admit(&work(most.clone())).await.unwrap();
        let limited = work(most.clone().deadline(Duration::from_secs(1)));
        assert_eq!(chain.admit(&limited).await.unwrap_err(), Denied::Late);
        drop(guard);
        // What the late one had already is back too.
        chain.admit(&limited).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_never_fit_is_refused_by_both() {
        let config = Config::new().with(Budget::loan(BudgetId::GPU, 10));
        let scheduler = Scheduler::builder().config(config.clone()).spawn().unwrap();
        let never = work(Request::new().gpu(11u64));
        for denied in [scheduler.admit(&never).await.unwrap_err(), Chain::new(&config).admit(&never).await.unwrap_err()]
        {
            assert!(matches!(&denied, Denied::Refused(why) if why.contains("gpu0")), "{denied:?}");
        }
    }
}
