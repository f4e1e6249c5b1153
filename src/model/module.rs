//! What a module of the service may have.

use std::borrow::Cow;
use std::sync::Arc;

use thiserror::Error;

use super::budget::BudgetId;

/// What a module may have of one budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// It can always get so much, sooner than anybody below `Critical`; lent to others while it does not use it.
    pub minimum: u64,
    /// It never has more than this.
    pub cap: u64,
}

impl Default for Quota {
    /// Nothing guaranteed, and no limit.
    fn default() -> Self {
        Quota { minimum: 0, cap: u64::MAX }
    }
}

/// The name of the module that asks, shared by all its requests.
#[derive(Debug, Clone)]
pub(crate) enum ModuleName {
    Static(&'static str),
    Shared(Arc<str>),
}

impl ModuleName {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            ModuleName::Static(name) => name,
            ModuleName::Shared(name) => name,
        }
    }

    /// The name, to keep.
    pub(crate) fn shared(&self) -> Arc<str> {
        match self {
            ModuleName::Static(name) => Arc::from(*name),
            ModuleName::Shared(name) => Arc::clone(name),
        }
    }
}

impl From<Cow<'static, str>> for ModuleName {
    fn from(name: Cow<'static, str>) -> Self {
        match name {
            Cow::Borrowed(name) => ModuleName::Static(name),
            Cow::Owned(name) => ModuleName::Shared(name.into()),
        }
    }
}

/// Why a module cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// Another module has this name.
    #[error("there is a module `{name}` already; drop it first, or take another name")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A weight outside 1 to 1,000.
    #[error("a weight of {weight}; it has to be between 1 and 1,000")]
    Weight {
        /// What was given.
        weight: u32,
    },
    /// A quota of something that is not lent: unknown here, or a rate.
    #[error("budget {budget} is unknown here, or a rate; quotas are for loans")]
    NoLoan {
        /// The budget.
        budget: BudgetId,
    },
    /// A cap of zero, or below the minimum.
    #[error(
        "a cap of {cap} of budget {budget} with a minimum of {minimum}; it has to be at least that, and above zero"
    )]
    Cap {
        /// The budget.
        budget: BudgetId,
        /// The minimum.
        minimum: u64,
        /// The cap.
        cap: u64,
    },
    /// More is guaranteed than there is.
    #[error(
        "a minimum of {minimum} of budget {budget}: with {promised} guaranteed to others that is more than its \
         capacity of {capacity}"
    )]
    Minimum {
        /// The budget.
        budget: BudgetId,
        /// The minimum.
        minimum: u64,
        /// What other modules are guaranteed.
        promised: u64,
        /// The capacity.
        capacity: u64,
    },
    /// The scheduler is closed.
    #[error("the scheduler is closed")]
    Closed,
}
