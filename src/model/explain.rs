//! Why something waits: as data, and as one sentence for whoever has to find out at night.

use std::time::Duration;

use super::amount::Unit;
use super::budget::BudgetId;
use super::priority::Priority;
use super::request::Request;

/// Where a reservation is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum WaitState {
    /// It was not polled yet: it asks for nothing, and has no place in any line. What is said of its level and of what
    /// blocks it is how it would be if it were polled now.
    Unpolled,
    /// It waits.
    Waiting,
    /// It is granted; the lease lies ready for the next poll.
    Granted,
    /// It was granted, and nobody polled it, so the grant passed on. It asks again when it is polled.
    Dormant,
    /// The wait ended without a grant; the error lies ready for the next poll.
    Ended(Ending),
    /// It gave its result.
    Done,
}

/// Why a wait ended without a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Ending {
    /// The deadline passed.
    Late,
    /// A budget shrank below what is asked.
    NeverFits,
    /// The scheduler was closed.
    Closed,
    /// Holders waited for each other, and this one was told to give back what it holds.
    RolledBack,
    /// Holders waited for each other, and this one was told to ask for less at once.
    Split,
}

/// What keeps a budget from giving what is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Cause {
    /// Too little of it is free.
    Short,
    /// Enough is free, but not beyond what others of higher rank claim: they were passed as often as may be.
    Claimed,
    /// It was shrunk below what is in use: nothing is free before the difference has come back.
    Overdrawn,
    /// A rate has too little for now.
    Refilling,
    /// More is asked than it can give at once.
    TooLarge,
    /// The module has as much of it as its cap allows.
    Capped,
    /// There is enough, and granting it could lead to a deadlock with others that are
    /// [bounded](crate::Activity::at_most).
    Unsafe,
    /// There is enough, but another [bounded](crate::Activity::at_most) activity ranks before it, waits until it is
    /// safe to serve it, and was passed as often as may be: until it is served, none begins that may delay it.
    KeptOut,
}

/// How many are ahead of a waiter: counted up to [`Ahead::MOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Ahead {
    /// So many.
    pub count: u64,
    /// There are more of them than that.
    pub more: bool,
    /// How much those that were counted ask of the budget.
    pub asked: u64,
}

impl Ahead {
    /// Nobody counts further than this.
    pub const MOST: u64 = 1_000;
}

/// A labelled lease, as one that holds what somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Holding {
    /// Its label.
    pub label: String,
    /// How much of the budget it holds.
    pub units: u64,
}

impl Holding {
    pub(crate) fn new(label: impl Into<String>, units: u64) -> Self {
        Holding { label: label.into(), units }
    }
}

/// A budget that keeps an alternative from being served.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Blocker {
    /// Which alternative of the request, counted from zero.
    pub alternative: u8,
    /// Whether the alternative stands in the line of this budget. It does in that of one of the budgets that block it.
    pub in_line: bool,
    /// The budget.
    pub budget: BudgetId,
    /// Its name.
    pub name: String,
    /// What it counts.
    pub unit: Unit,
    /// What keeps it.
    pub cause: Cause,
    /// How much of it is wanted.
    pub wanted: u64,
    /// How much of it would do at this moment: less than is wanted once the patience of an elastic request is over.
    pub asked: u64,
    /// How much of it is free (for a rate: can be charged).
    pub free: u64,
    /// By how much it is overdrawn: after a shrink, or the debt of a rate.
    pub deficit: u64,
    /// What others of higher rank claim of it, so that nobody of lower rank takes it.
    pub claimed: u64,
    /// All there is of it; the burst of a rate.
    pub capacity: u64,
    /// How much more has to come back before it can give what is asked, those ahead not counted.
    pub missing: u64,
    /// When a rate will have enough, if nobody else is served: none when claims of others have to go first.
    pub ready_in: Option<Duration>,
    /// Who stands before it in the line of this budget.
    pub ahead: Ahead,
    /// Who holds most of it, largest first, at most three.
    pub holders: Vec<Holding>,
    /// What the other labelled leases hold together.
    pub other_holders: u64,
    /// What leases without a label hold together.
    pub unlabelled: u64,
    /// What is granted to reservations that have not taken it up yet.
    pub offered: u64,
}

/// Something that will happen to a reservation unless something else happens first.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Next {
    /// Nothing blocks it: the next turn, or the next poll, looks at it. It is granted then, unless it would pass
    /// somebody who may not be passed any more.
    Served {
        /// With this alternative.
        alternative: u8,
    },
    /// Polled, it would be refused.
    Refused {
        /// Because of this.
        why: String,
    },
    /// Grants to lower ranks may pass it so many times more, and for so long; then nobody passes any more.
    Passed {
        /// So many times.
        times: u32,
        /// For so long; none before the first time.
        within: Option<Duration>,
    },
    /// It rises to a level.
    Rises {
        /// The level.
        to: Priority,
        /// In so long.
        within: Duration,
    },
    /// It takes less than it wants.
    TakesLess {
        /// From then on.
        within: Duration,
    },
    /// Its deadline passes.
    EndsLate {
        /// In so long.
        within: Duration,
    },
    /// If somebody else can use what it was granted, that passes on.
    PassesOn {
        /// In so long, if it is not polled before.
        within: Duration,
    },
}

/// Why a reservation waits, who is in its way, and what happens next: a moment's view, that nothing waits for. Its
/// `Display` is one sentence.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bursar::{GIB, Request, Scheduler};
///
/// let scheduler = Scheduler::builder().gpu(40 * GIB).spawn()?;
/// let _train = scheduler.reserve(Request::new().gpu(36 * GIB).label("train")).await?;
///
/// let mut chat = scheduler.reserve(Request::new().gpu(8 * GIB).label("chat"));
/// assert!(futures::poll!(&mut chat).is_pending());
/// let why = chat.explain();
/// assert_eq!(why.blockers[0].holders[0].label, "train");
/// assert!(why.to_string().contains(
///     "8.0 GiB of gpu0.memory: 4.0 GiB of 40.0 GiB are free (held: `train` 36.0 GiB), 4.0 GiB more have to come back"
/// ));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Explanation {
    /// The label of the request.
    pub label: Option<String>,
    /// Its number among all that had to wait; none if it never had to.
    pub arrival: Option<u64>,
    /// Where it is in its life.
    pub state: WaitState,
    /// How long ago it began to wait.
    pub waited: Duration,
    /// The level of the request.
    pub base: Priority,
    /// The level it has risen to.
    pub level: Priority,
    /// How many alternatives it has.
    pub alternatives: u8,
    /// What blocks them now, in order of preference, for each alternative the budget first in whose line it stands.
    pub blockers: Vec<Blocker>,
    /// How many grants to lower ranks have passed it.
    pub passes: u32,
    /// How many may.
    pub bypass_limit: u32,
    /// Whether it may be passed no more: its claim is hard, so that nobody of lower rank takes what it needs; while
    /// nothing but safety keeps it, no [bounded](crate::Activity::at_most) activity of lower rank begins that may delay
    /// it.
    pub hard: bool,
    /// How many grants to it have passed on because nobody polled it.
    pub expiries: u8,
    /// What happens next.
    pub next: Vec<Next>,
}

impl Explanation {
    /// Of something of which nothing else is known.
    pub(crate) fn new(state: WaitState, base: Priority) -> Self {
        Explanation {
            label: None,
            arrival: None,
            state,
            waited: Duration::ZERO,
            base,
            level: base,
            alternatives: 1,
            blockers: Vec::new(),
            passes: 0,
            bypass_limit: 0,
            hard: false,
            expiries: 0,
            next: Vec::new(),
        }
    }

    /// The same, of this request.
    pub(crate) fn of(self, request: &Request) -> Self {
        Explanation { label: request.name().map(str::to_owned), ..self }
    }

    /// The budgets that block one alternative, that in whose line it stands first.
    pub fn blocking(&self, alternative: u8) -> impl Iterator<Item = &Blocker> {
        self.blockers.iter().filter(move |blocker| blocker.alternative == alternative)
    }
}
