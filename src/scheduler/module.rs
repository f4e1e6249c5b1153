//! Modules inside the shell: registration, for as long as the handle lives.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::{BudgetId, ModuleError, Quota, Request};

use super::Scheduler;

/// Numbers never come twice in a process, so a request never finds another module by an old number; zero is none.
fn next_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// A module about to be registered: what [`Scheduler::module`] returns.
#[derive(Debug)]
#[must_use = "a module counts once it is registered"]
pub struct ModuleBuilder {
    scheduler: Scheduler,
    name: Arc<str>,
    weight: u32,
    quotas: BTreeMap<BudgetId, Quota>,
}

impl ModuleBuilder {
    /// Its part of each level under [`Order::Shares`](crate::Order::Shares), relative to the other modules that ask for
    /// something: 1 to 1,000, one if not said.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// What it can always get of a loan. Lent to others while the module does not use it; a request that is wholly
    /// inside what it has not used goes before all below `Critical`, and what others give back gathers for it.
    pub fn minimum(mut self, id: BudgetId, units: u64) -> Self {
        self.quotas.entry(id).or_default().minimum = units;
        self
    }

    /// The most that it may have of a loan.
    pub fn cap(mut self, id: BudgetId, units: u64) -> Self {
        self.quotas.entry(id).or_default().cap = units;
        self
    }

    /// Registers it, until the handle drops.
    ///
    /// # Errors
    /// [`ModuleError`]; nothing is registered.
    pub fn register(self) -> Result<Module, ModuleError> {
        let ModuleBuilder { scheduler, name, weight, quotas } = self;
        let number = next_number();
        scheduler.core.turn(|desk, turn, _| match desk.engine.closed() {
            Some(_) => Err(ModuleError::Closed),
            None => desk.engine.register(turn, number, &name, weight, &quotas),
        })?;
        Ok(Module { scheduler, number, name })
    }
}

/// A registered part of the service, with a weight and quotas. It is registered until this drops; its leases and
/// waiting reservations then go on as those of no module.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bursar::{BudgetId, GIB, Request, Scheduler};
///
/// let scheduler = Scheduler::builder().gpu(40 * GIB).spawn()?;
/// let vision = scheduler.module("vision").minimum(BudgetId::GPU, 8 * GIB).cap(BudgetId::GPU, 20 * GIB).register()?;
/// let lease = scheduler.reserve(Request::new().gpu(2 * GIB).of(&vision)).await?;
/// # drop(lease); Ok(()) }
/// ```
pub struct Module {
    scheduler: Scheduler,
    number: u64,
    name: Arc<str>,
}

impl Module {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        self.scheduler.core.turn(|desk, turn, _| desk.engine.deregister(turn, self.number));
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Module").field(&self.name).finish()
    }
}

impl Scheduler {
    /// A module of the service, to be given a weight and quotas and then registered.
    pub fn module(&self, name: impl Into<Arc<str>>) -> ModuleBuilder {
        ModuleBuilder { scheduler: self.clone(), name: name.into(), weight: 1, quotas: BTreeMap::new() }
    }
}

impl Request {
    /// The registered module that asks: its quotas and its weight count. Such a lease takes a turn at the
    /// scheduler's desk when it is granted and one when it ends, whether anybody waits or not. With a module of another
    /// scheduler, or one that is gone, the request is of no module.
    pub fn of(self, module: &Module) -> Self {
        self.of_module(module.number, &module.name)
    }
}
