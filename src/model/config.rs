//! What a scheduler is made from, as plain data.

use std::time::Duration;

use super::amount::{Bytes, GIB, MAX_AMOUNT, Share, Unit};
use super::budget::{BudgetId, SpaceId, Tier};
use super::error::ConfigError;
use super::order::Order;
use super::placement::Topology;

/// How much of a GPU's memory can be reserved.
const LENT_OF_A_GPU: Share = Share::percent(85);

/// How a budget comes by its units: a loan or a rate, nothing else. Either may get more figures in a later version, so
/// outside this crate they are made by [`loan`](Supply::loan) and [`rate`](Supply::rate) and matched with `..`:
///
/// ```
/// use bursar::{Budget, BudgetId, Supply};
///
/// let budget = Budget::rate(BudgetId::IO, 500).burst(100);
/// let most = match budget.supply {
///     Supply::Loan { capacity, .. } => capacity,
///     Supply::Rate { burst, max_debt, .. } => burst + max_debt,
/// };
/// assert_eq!(most, 100);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supply {
    /// Space: units are lent and come back when the lease drops.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    Loan {
        /// How many there are.
        capacity: u64,
    },
    /// Time: units are spent when granted and come back with the clock.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    Rate {
        /// Units that come back per second.
        per_second: u64,
        /// The most that can pile up while nobody asks.
        burst: u64,
        /// How far one grant may overdraw: a request of more than `burst` is granted when the bucket is full, and the
        /// rest is debt. More than `burst + max_debt` never fits.
        max_debt: u64,
    },
}

impl Supply {
    /// `capacity` units to lend.
    pub const fn loan(capacity: u64) -> Self {
        Supply::Loan { capacity }
    }

    /// `per_second` units a second, with a burst of one second's worth and no debt.
    pub const fn rate(per_second: u64) -> Self {
        Supply::Rate { per_second, burst: per_second, max_debt: 0 }
    }

    /// The first figure that cannot be, with its name: zero where nothing would ever be granted, or more than can be
    /// counted. The one rule for configurations and for live changes.
    pub(crate) fn fault(&self) -> Option<(&'static str, u64)> {
        let (figures, sum) = match *self {
            Supply::Loan { capacity } => ([("capacity", capacity); 2], None),
            Supply::Rate { per_second, burst, max_debt } => {
                ([("rate", per_second), ("burst", burst)], Some(("burst + max_debt", burst.saturating_add(max_debt))))
            }
        };
        let bad = figures.into_iter().find(|&(_, value)| value == 0 || value > MAX_AMOUNT);
        bad.or(sum.filter(|&(_, value)| value > MAX_AMOUNT))
    }
}

/// One budget: a named capacity. Made by [`loan`](Budget::loan) or [`rate`](Budget::rate); later versions may add
/// fields.
///
/// ```
/// use bursar::{Budget, BudgetId, GIB, MIB};
///
/// let memory = Budget::loan(BudgetId::GPU, 40 * GIB);
/// assert_eq!(memory.name, "gpu0.memory");
/// let io = Budget::rate(BudgetId::IO, 500 * MIB).burst(100 * MIB);
/// let tokens = Budget::loan(BudgetId::custom(0).unwrap(), 8_192).named("tokens");
/// # let _ = (io, tokens);
/// ```
///
/// A literal would not compile with the next version, so it does not with this one:
///
/// ```compile_fail,E0639
/// # use bursar::{Budget, BudgetId, Supply, Unit};
/// Budget { id: BudgetId::GPU, name: "gpu".into(), unit: Unit::Bytes, supply: Supply::loan(1) };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budget {
    /// Which budget this is.
    pub id: BudgetId,
    /// Its name in errors, logs and reports. Unique.
    pub name: String,
    /// What it counts, for people.
    pub unit: Unit,
    /// How it comes by its units.
    pub supply: Supply,
    /// Units of a loan that new requests leave for leases that [grow](crate::Lease::grow), as long as anything of the
    /// budget is held: holders that find a little more can end and give back what they hold. With a reserve, every
    /// request for the budget goes to the scheduler's desk.
    pub growth_reserve: u64,
}

impl Budget {
    /// `capacity` units to lend, with the usual name and unit of `id`.
    pub fn loan(id: BudgetId, capacity: u64) -> Self {
        let (name, unit) = usual(id);
        Budget { id, name, unit, supply: Supply::loan(capacity), growth_reserve: 0 }
    }

    /// `per_second` units a second, with a burst of one second's worth and no debt.
    pub fn rate(id: BudgetId, per_second: u64) -> Self {
        let (name, unit) = usual(id);
        Budget { id, name, unit, supply: Supply::rate(per_second), growth_reserve: 0 }
    }

    /// Another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// See [`Budget::growth_reserve`].
    #[must_use]
    pub fn growth_reserve(mut self, units: u64) -> Self {
        self.growth_reserve = units;
        self
    }

    /// Lends no more than so much of the capacity that it was made with, rounded down; the rest is for what is
    /// allocated beyond or without a lease. Nothing for a rate.
    ///
    /// ```
    /// use bursar::{Budget, BudgetId, GIB, Share, Supply};
    ///
    /// let gpu = Budget::loan(BudgetId::GPU, 80 * GIB).reservation_limit(Share::from_fraction(0.85)?);
    /// assert_eq!(gpu.supply, Supply::loan(68 * GIB));
    /// # Ok::<(), bursar::AmountError>(())
    /// ```
    #[must_use]
    pub fn reservation_limit(mut self, share: Share) -> Self {
        if let Supply::Loan { capacity, .. } = &mut self.supply {
            let part = u128::from(*capacity) * u128::from(share.millionths()) / u128::from(Share::WHOLE.millionths());
            // A part of a `u64` is one.
            *capacity = part as u64;
        }
        self
    }

    /// Another unit.
    #[must_use]
    pub fn counted_in(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    /// Another burst. Nothing for a loan.
    #[must_use]
    pub fn burst(mut self, units: u64) -> Self {
        if let Supply::Rate { burst, .. } = &mut self.supply {
            *burst = units;
        }
        self
    }

    /// Another largest debt. Nothing for a loan.
    #[must_use]
    pub fn max_debt(mut self, units: u64) -> Self {
        if let Supply::Rate { max_debt, .. } = &mut self.supply {
            *max_debt = units;
        }
        self
    }

    fn check(&self) -> Result<(), ConfigError> {
        let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(ok) {
            return Err(ConfigError::BadName { name: self.name.clone() });
        }
        match self.supply.fault() {
            None => Ok(()),
            Some((what, 0)) => Err(ConfigError::Zero { name: self.name.clone(), what }),
            Some((what, value)) => Err(ConfigError::TooLarge { name: self.name.clone(), what, value }),
        }
    }
}

/// What a scheduler is made from. Plain data; with the feature `serde` it can be kept in a TOML file.
///
/// Every version may add settings, so it is made by [`Config::new`] and changed field by field or with the `with_*`
/// methods, of which there is one for every field. (With the feature `test-util`, which semver does not cover,
/// simulations may write it out.)
///
/// ```
/// use bursar::{Budget, BudgetId, Config, GIB};
///
/// let config = Config::new()
///     .with(Budget::loan(BudgetId::GPU, 40 * GIB))
///     .with(Budget::loan(BudgetId::ATTENTION, 1_000_000));
/// assert!(config.check().is_ok());
/// assert!(Config::new().check().is_err());
///
/// let mut patient = config.clone().with_look_ahead(16);
/// patient.max_waiters = 1_000;
/// # assert_eq!((patient.look_ahead, patient.budgets), (16, config.budgets));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(not(feature = "test-util"), non_exhaustive)]
pub struct Config {
    /// The budgets.
    pub budgets: Vec<Budget>,
    /// How long a granted reservation may stay unpolled while others could use what it was given; doubles each time
    /// this happens to the same reservation.
    pub offer_expiry: Duration,
    /// How many waiters one turn may examine in vain before the rest is left to the next turn.
    pub look_ahead: usize,
    /// The deadline, for order only, of a request that has none: so long after its arrival.
    pub edf_horizon: Duration,
    /// How many later or less urgent grants may pass a waiter that they leave short; then its claim is hard, and nobody
    /// takes what it needs. Zero is strict head-of-line order.
    pub bypass_limit: u32,
    /// How long a waiter may be passed, counted from the first time.
    pub bypass_time: Duration,
    /// A waiter gains one level each time it has waited so long, up to [`Priority::High`](crate::Priority::High); never
    /// when `None`.
    pub aging_step: Option<Duration>,
    /// Whether waiters of [`Priority::Idle`](crate::Priority::Idle) age too. If not, they may wait for ever.
    pub age_idle: bool,
    /// Who goes first among waiters of one level.
    pub order: Order,
    /// How long all holders of something that is awaited have to wait themselves before one of them is told to roll
    /// back or to split. A deadlock lasts; what only looks like one is over sooner.
    pub verdict_after: Duration,
    /// How long a preemptible lease has to end once it was asked to. After that it is overdue, and others may be asked.
    pub grace: Duration,
    /// How often an activity is told to roll back before it is told to split.
    pub roll_backs: u32,
    /// How many reservations may wait. The next one that would have to is [shed](crate::ReserveError::Shed).
    ///
    /// What counts are those that wait actively, whatever they ask for: polled, neither granted nor ended. Those whose
    /// grant lies ready for the next poll do not count, nor do those whose grant expired because nobody polled them.
    /// When one of the latter is polled it waits again whether the queue is full or not, so for a while more may wait
    /// than this; and so may those that come back with a [seniority](crate::Request::seniority).
    pub max_waiters: usize,
    /// How far spaces are from each other, for [placements](crate::Placement).
    pub topology: Topology,
    /// How often the scheduler task checks the books; never when `None`.
    pub verify_every: Option<Duration>,
    /// How often the scheduler task takes a sample of what is in use, for [`Usage`](crate::Usage); never when `None`.
    /// Whoever asks for `stats` takes one too.
    pub sample_every: Option<Duration>,
    /// When nothing was granted for so long while something waits, the scheduler task says so in the log, with who
    /// waits for what and who holds it; never when `None`. It says it again after twice the time, four times, and so
    /// on.
    pub stuck_after: Option<Duration>,
}

impl Config {
    /// No budgets and the usual settings.
    pub fn new() -> Self {
        Config {
            budgets: Vec::new(),
            // A future that is awaited is polled within microseconds; a tenth of a second is a stalled task.
            offer_expiry: Duration::from_millis(100),
            // A refused examination costs some 50 ns, so a turn wastes at most about 3 us.
            look_ahead: 64,
            edf_horizon: Duration::from_secs(1),
            // A stream of small requests gets sixteen grants, or a tenth of a second, out of one blocked large one.
            bypass_limit: 16,
            bypass_time: Duration::from_millis(100),
            aging_step: None,
            verdict_after: Duration::from_millis(10),
            roll_backs: 3,
            // A task gets to its next await point in far less; to save its work it may need some.
            grace: Duration::from_millis(100),
            age_idle: false,
            order: Order::Deadline,
            // About 1 GiB of waiters: more is no queue but a leak.
            max_waiters: 1 << 22,
            topology: Topology::new(),
            verify_every: None,
            sample_every: None,
            stuck_after: None,
        }
    }

    /// One more budget.
    #[must_use]
    pub fn with(mut self, budget: Budget) -> Self {
        self.budgets.push(budget);
        self
    }

    /// These budgets instead of those it has. See [`Config::budgets`].
    #[must_use]
    pub fn with_budgets(mut self, budgets: impl IntoIterator<Item = Budget>) -> Self {
        self.budgets = budgets.into_iter().collect();
        self
    }

    /// See [`Config::offer_expiry`].
    #[must_use]
    pub fn with_offer_expiry(mut self, time: Duration) -> Self {
        self.offer_expiry = time;
        self
    }

    /// See [`Config::look_ahead`].
    #[must_use]
    pub fn with_look_ahead(mut self, waiters: usize) -> Self {
        self.look_ahead = waiters;
        self
    }

    /// See [`Config::edf_horizon`].
    #[must_use]
    pub fn with_edf_horizon(mut self, time: Duration) -> Self {
        self.edf_horizon = time;
        self
    }

    /// See [`Config::max_waiters`].
    #[must_use]
    pub fn with_max_waiters(mut self, waiters: usize) -> Self {
        self.max_waiters = waiters;
        self
    }

    /// See [`Config::bypass_limit`].
    #[must_use]
    pub fn with_bypass_limit(mut self, grants: u32) -> Self {
        self.bypass_limit = grants;
        self
    }

    /// See [`Config::bypass_time`].
    #[must_use]
    pub fn with_bypass_time(mut self, time: Duration) -> Self {
        self.bypass_time = time;
        self
    }

    /// See [`Config::aging_step`].
    #[must_use]
    pub fn with_aging_step(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.aging_step = time.into();
        self
    }

    /// See [`Config::age_idle`].
    #[must_use]
    pub fn with_age_idle(mut self, ages: bool) -> Self {
        self.age_idle = ages;
        self
    }

    /// See [`Config::order`].
    #[must_use]
    pub fn with_order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// See [`Config::verdict_after`].
    #[must_use]
    pub fn with_verdict_after(mut self, time: Duration) -> Self {
        self.verdict_after = time;
        self
    }

    /// See [`Config::grace`].
    #[must_use]
    pub fn with_grace(mut self, time: Duration) -> Self {
        self.grace = time;
        self
    }

    /// See [`Config::roll_backs`].
    #[must_use]
    pub fn with_roll_backs(mut self, times: u32) -> Self {
        self.roll_backs = times;
        self
    }

    /// See [`Config::topology`].
    #[must_use]
    pub fn with_topology(mut self, topology: Topology) -> Self {
        self.topology = topology;
        self
    }

    /// See [`Config::verify_every`].
    #[must_use]
    pub fn with_verify_every(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.verify_every = time.into();
        self
    }

    /// See [`Config::sample_every`].
    #[must_use]
    pub fn with_sample_every(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.sample_every = time.into();
        self
    }

    /// See [`Config::stuck_after`].
    #[must_use]
    pub fn with_stuck_after(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.stuck_after = time.into();
        self
    }

    /// The five kinds of the RROS resource manager with its default capacities: 100 computational units, 1 MiB of
    /// memory, the whole of attention, and 100 units each of I/O and network, which RROS lends rather than meters.
    pub fn rros() -> Self {
        Config::new()
            .with(Budget::loan(BudgetId::COMPUTE, 100).named("computational"))
            .with(Budget::loan(BudgetId::HOST, 1_048_576).named("memory"))
            .with(Budget::loan(BudgetId::ATTENTION, u64::from(Share::WHOLE.millionths())))
            .with(Budget::loan(BudgetId::IO, 100).counted_in(Unit::Count))
            .with(Budget::loan(BudgetId::NETWORK, 100).counted_in(Unit::Count))
    }

    /// The budget with this id.
    pub fn budget(&self, id: BudgetId) -> Option<&Budget> {
        self.budgets.iter().find(|budget| budget.id == id)
    }

    /// Whether a scheduler can be made from it.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.budgets.is_empty() {
            return Err(ConfigError::NoBudgets);
        }
        for (at, budget) in self.budgets.iter().enumerate() {
            budget.check()?;
            for earlier in &self.budgets[..at] {
                if earlier.name == budget.name {
                    return Err(ConfigError::DuplicateName { name: budget.name.clone() });
                }
                if earlier.id == budget.id {
                    return Err(ConfigError::DuplicateBudget {
                        budget: budget.id,
                        first: earlier.name.clone(),
                        second: budget.name.clone(),
                    });
                }
            }
        }
        let whole_ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let settings = [
            ("offer_expiry", whole_ms(self.offer_expiry), "at least 1 ms"),
            ("edf_horizon", whole_ms(self.edf_horizon), "at least 1 ms"),
            ("look_ahead", self.look_ahead as u64, "at least 1"),
            ("aging_step", self.aging_step.map_or(1, whole_ms), "at least 1 ms"),
            ("max_waiters", self.max_waiters as u64, "between 1 and 2^28"),
            ("verify_every", self.verify_every.map_or(1, whole_ms), "at least 1 ms"),
            ("sample_every", self.sample_every.map_or(1, whole_ms), "at least 1 ms"),
            ("stuck_after", self.stuck_after.map_or(1, whole_ms), "at least 1 ms"),
        ];
        for (setting, value, must) in settings {
            if value == 0 || (setting == "max_waiters" && value > 1 << 28) {
                return Err(ConfigError::Setting { setting, value, must });
            }
        }
        let ends = self.topology.distances.iter().flat_map(|each| [each.from, each.to]);
        match ends.into_iter().find(|space| space.budget().is_none()) {
            Some(none) => {
                let value = u64::from(none.index);
                Err(ConfigError::Setting { setting: "topology", value, must: "an index that the tier can have" })
            }
            None => Ok(()),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config::new()
    }
}

/// The usual name and unit of a budget.
pub(crate) fn usual(id: BudgetId) -> (String, Unit) {
    use super::budget::BudgetKind as Kind;
    match id.kind() {
        Kind::Space(space) => (usual_space(space), Unit::Bytes),
        Kind::Io | Kind::Network => (id.to_string(), Unit::Bytes),
        Kind::Attention => (id.to_string(), Unit::Share),
        Kind::Compute | Kind::Custom(_) => (id.to_string(), Unit::Count),
    }
}

/// Disks are named after themselves, memories after what they are.
fn usual_space(space: SpaceId) -> String {
    if space.tier == Tier::Disk { space.to_string() } else { format!("{space}.memory") }
}

/// What a machine has, as far as a program can see: input of [`Config::for_machine`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Machine {
    /// Bytes of host memory that can be used without swapping, the control group's limit counted in.
    pub host_memory: Bytes,
    /// Processors that threads of this process may run on.
    pub cores: u64,
    /// The memory of every GPU, by its number; `None` when nobody looked for GPUs.
    pub gpus: Option<Vec<Bytes>>,
}

impl Machine {
    /// A machine with so much memory and so many cores, whose GPUs nobody looked for.
    pub fn new(host_memory: impl Into<Bytes>, cores: u64) -> Self {
        Machine { host_memory: host_memory.into(), cores, gpus: None }
    }

    /// The memory of every GPU, by its number; nothing for a machine without any.
    #[must_use]
    pub fn with_gpus(mut self, memories: impl IntoIterator<Item = Bytes>) -> Self {
        self.gpus = Some(memories.into_iter().collect());
        self
    }
}

impl Config {
    /// Budgets for a machine: its GPUs, its host memory, its cores as compute slots, and the whole of attention.
    ///
    /// A GPU's budget has its number and lends 85 % of its memory: the rest is for contexts, for what is allocated
    /// without a lease, and for other programs. GPUs beyond the sixteenth, and those without memory, have none. When
    /// nobody looked for GPUs there is one that is simulated, of a quarter of the host memory and at most 16 GiB.
    ///
    /// ```
    /// use bursar::{Budget, BudgetId, Bytes, Config, GIB, Machine, Supply};
    ///
    /// let config = Config::for_machine(Machine::new(64 * GIB, 16).with_gpus([Bytes(80 * GIB), Bytes(80 * GIB)]));
    /// let second = config.budget(BudgetId::gpu(1).unwrap()).unwrap();
    /// assert_eq!(second.supply, Supply::loan(68 * GIB));
    /// ```
    pub fn for_machine(machine: Machine) -> Self {
        let host = machine.host_memory.0.clamp(1, MAX_AMOUNT);
        let simulated = || vec![Budget::loan(BudgetId::GPU, (host / 4).clamp(1, 16 * GIB))];
        let budgets = machine.gpus.map_or_else(simulated, |memories| budgets_of_gpus(&memories));
        Config::new()
            .with_budgets(budgets)
            .with(Budget::loan(BudgetId::HOST, host))
            .with(Budget::loan(BudgetId::COMPUTE, machine.cores.max(1)))
            .with(Budget::loan(BudgetId::ATTENTION, u64::from(Share::WHOLE.millionths())))
    }
}

fn budgets_of_gpus(memories: &[Bytes]) -> Vec<Budget> {
    let ids = (0..=u8::MAX).map_while(BudgetId::gpu);
    let whole = ids.zip(memories).map(|(id, memory)| Budget::loan(id, memory.0.min(MAX_AMOUNT)));
    let lent = whole.map(|budget| budget.reservation_limit(LENT_OF_A_GPU));
    // A GPU without memory has nothing to lend.
    lent.filter(|budget| budget.check().is_ok()).collect()
}
