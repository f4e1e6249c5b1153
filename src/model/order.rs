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
    /// Highest response ratio next (Brinch Hansen, 1971): the largest (wait + hold) / hold goes first, where the hold
    /// is what [`expected_hold`](crate::Request::expected_hold) says. Short ones go before long ones, until these have
    /// waited long in proportion. Ratios change with time, so they are compared when something is given back, among the
    /// first [`look_ahead`](crate::Config::look_ahead) that may be able to use it, and exactly. Ranks stay those of
    /// arrival: who arrived first is passed at most [`bypass_limit`](crate::Config::bypass_limit) times, whatever the
    /// others say of themselves, and with a limit of zero the order is that of arrival. Deadlines end waits and do not
    /// order them.
    ResponseRatio,
}
