//! What is done to a scheduler, and what is seen of it: the common language of the engine's driver and the reference
//! model.

use bursar::{BudgetId, ModuleError, Priority, Quota, Tag};

use crate::ask::{Ask, Asks};

/// A request that arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    pub id: u32,
    pub ask: Ask,
    pub level: Priority,
    /// Nanoseconds from the arrival.
    pub deadline: Option<u64>,
    pub wait: bool,
    /// Whether the way past the engine is tried first.
    pub past: bool,
    /// The registered module and the activity that ask.
    pub tag: Tag,
    /// It is more for a lease that is held already.
    pub grows: bool,
    /// How long it says it will hold what it gets, in nanoseconds.
    pub hold: Option<u64>,
    /// The most that its activity says it will ever hold.
    pub most: Option<Asks>,
    /// When its work first arrived, if that was before.
    pub seniority: Option<u64>,
}

impl Arrival {
    /// One that waits, has no deadline and belongs to nobody.
    pub fn plain(id: u32, ask: Ask, level: Priority) -> Arrival {
        Arrival {
            id,
            ask,
            level,
            deadline: None,
            wait: true,
            past: true,
            tag: Tag::NOBODY,
            grows: false,
            hold: None,
            most: None,
            seniority: None,
        }
    }

    /// Whether nothing sets it apart from any other of its level, so that the engine need not hear of it.
    pub fn is_nobodys(&self) -> bool {
        self.tag == Tag::NOBODY && self.seniority.is_none()
    }
}

/// Set in the numbers of activities that are one lease each.
pub const OF_ONE_LEASE: u64 = 1 << 63;

/// Set in the numbers of activities where only the scope of a task says that something belongs to them.
pub const IMPLIED: u64 = 1 << 62;

/// The number of the activity itself.
pub fn party(tag: Tag) -> u64 {
    tag.activity & !IMPLIED
}

pub fn is_implied(tag: Tag) -> bool {
    tag.activity & IMPLIED != 0
}

/// Whom the rest and the part belong to when a lease is split: an activity of one lease keeps the rest only.
pub fn tag_of_part(tag: Tag) -> Tag {
    if tag.activity & OF_ONE_LEASE == 0 { tag } else { Tag { activity: 0, ..tag } }
}

/// One thing that is done. Owners are named by the id of their request; an event that finds nobody in the right state
/// does nothing, so that any part of a trace is a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Submit(Arrival),
    /// The owner polls its reservation: takes an offer up, collects a verdict, or asks again.
    Poll(u32),
    /// The owner drops its reservation.
    Cancel(u32),
    /// The owner drops its lease. `late`: the units are back at once, but the thread enters the engine only with
    /// `Enter`.
    Release {
        id: u32,
        late: bool,
    },
    /// A part of a lease is given back.
    Shrink {
        id: u32,
        by: Asks,
    },
    /// A part of a lease becomes a lease of its own.
    Split {
        id: u32,
        by: Asks,
        into: u32,
    },
    /// The owner of a lease takes another one in.
    Merge {
        id: u32,
        other: u32,
    },
    /// The owner of a lease asks for more, which becomes another lease of the same activity: its own, if it is in none.
    /// The tag and the level are those of the lease.
    Grow {
        of: u32,
        more: Arrival,
    },
    /// A module with a number that none had before.
    Register {
        number: u64,
        name: u8,
        weight: u32,
        quotas: Vec<(BudgetId, Quota)>,
    },
    /// A module is gone.
    Deregister(u64),
    /// An activity begins, or ends, a wait outside the scheduler.
    Outside {
        activity: u64,
        begins: bool,
    },
    /// The threads of late releases enter the engine.
    Enter,
    Capacity(BudgetId, u64),
    /// Budget, units per second, burst.
    Rate(BudgetId, u64, u64),
    /// The clock goes on while the driver is kept from running.
    Stall(u64),
    /// The clock goes on, and the driver turns whenever something is due.
    Sleep(u64),
    /// The driver turns although nothing may be due.
    Early,
    /// From now on, until the next sleep, threads bring a clock reading that is so much too old.
    Lag(u64),
    Close,
}

/// What was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub alternative: u8,
    pub rung: u8,
    /// The loans of the bundle.
    pub loans: Asks,
}

/// The figures of a shortage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    pub budget: BudgetId,
    pub asked: u64,
    pub free: u64,
    pub limit: u64,
    pub waiting: u64,
}

/// Why a request was turned away when it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    UnknownBudget(BudgetId),
    NeverFits(Figures),
    NotNow(Figures),
    Late(Figures),
    Full(usize, Figures),
    Closed,
}

/// Why a wait ended without a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    Late,
    NeverFits,
    Closed,
    RollBack,
    Split,
}

/// One thing that is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Granted when it arrived.
    Granted(u32, Grant),
    /// Queued: when it arrived, or again when it was polled after its offer had expired.
    Waits(u32),
    Refused(u32, Refused),
    /// A waiter was granted; it was found at `budget`.
    Offered {
        id: u32,
        level: Priority,
        budget: BudgetId,
        waited: u64,
    },
    /// An offer was taken back.
    Expired(u32),
    Ended {
        id: u32,
        level: Priority,
        why: Why,
    },
    Cancelled(Priority),
    /// An activity waits for others that wait themselves, if what scopes imply is right: for what, and who holds it.
    Alert {
        activity: u64,
        budget: BudgetId,
        holder: u64,
    },
    /// The owner took the offer up.
    Accepted(u32, Grant),
    /// A dormant waiter was polled and granted at once.
    Regained(u32, Grant),
    /// The owner was told why its wait ended.
    Collected {
        id: u32,
        why: Why,
        waited: u64,
        short: Figures,
    },
    /// A module was to be registered.
    Registered(u64, Result<(), ModuleError>),
    /// A lease, or an offer, of this level was asked to end.
    Revoked(u32, Priority),
    /// One that was asked has not ended within its grace.
    Overdue(u32),
    /// The driver turned at this time.
    Turned(u64),
    /// A turn ended before all was examined.
    LookAhead,
}

/// One budget between two events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shelf {
    pub budget: BudgetId,
    pub free: u64,
    pub limit: u64,
    /// Of a loan: units that leases and offers have, and the most they ever had.
    pub granted: u64,
    pub peak: u64,
    pub deficit: u64,
    /// Units of offers that lie there.
    pub offered: u64,
    /// Active waiters that name it.
    pub naming: u64,
}

/// An active waiter between two events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub id: u32,
    pub passes: u32,
    /// It may be passed no more.
    pub spent: bool,
    pub hard: bool,
    /// Its level with what it gained by aging, inheritance or a minimum.
    pub level: Priority,
    /// Each alternative that is filed, and where.
    pub filed: Vec<(u8, BudgetId)>,
    /// The alternatives that the cap of its module keeps out of the lines.
    pub parked: Vec<u8>,
    /// What of which budget it claims hard.
    pub claims: Asks,
}

/// Everything that can be told between two events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub shelves: Vec<Shelf>,
    pub waiting: usize,
    pub offers: usize,
    pub leases: u64,
    pub immediate: [u64; Priority::COUNT],
    /// When the driver has to turn next.
    pub due: u64,
    /// How often a waiter took over a rank.
    pub inherited: u64,
    /// Who was asked to end and has not: for which level, until when, and when its request arrived.
    pub asked: Vec<(u32, Priority, u64, u64)>,
    /// The active waiters in order of rank.
    pub order: Vec<u32>,
    /// The active waiters, ascending by id.
    pub standing: Vec<Standing>,
}
