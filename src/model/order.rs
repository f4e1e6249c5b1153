//! Who goes first among waiters of one level.

/// The order inside a level. Levels themselves are strict, apart from aging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Order {
    /// Earliest deadline first; without a deadline, in order of arrival, as if it were due one
    /// [`edf_horizon`](crate::Config::edf_horizon) after it (Liu and Layland, 1973).
    #[default]
    Deadline,
    /// Modules share each level in proportion to their weights, by start-time fair queuing (Goyal, Vin and Cheng,
    /// 1996). A request costs its dominant share: the largest fraction of a budget that it wants. A module that was
    /// idle starts where the others are, so it neither lost its turn nor saved it up. Modules are told apart by name,
    /// registered or not, and each new name starts now: name parts of the service, not sessions, or an endless row of
    /// new names goes before the second request of an old one until that has aged.
    Shares,
}
