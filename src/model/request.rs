//! What is asked for.

use std::borrow::Cow;
use std::fmt;
use std::panic::Location;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::activity::{Activity, IMPLIED};
use super::amount::{Bytes, MAX_AMOUNT, Share};
use super::amounts::Amounts;
use super::budget::{BudgetId, SpaceId, Tier};
use super::error::RequestError;
use super::module::ModuleName;
use super::origin::Origin;
use super::preemption::Seniority;
use super::priority::Priority;
use super::terms::{Alternative, MOST_ALTERNATIVES, Tag, Terms, WHOLE};

/// What a piece of work needs before it may run: amounts of any number of budgets, and how urgent it is.
///
/// A request is plain data and says nothing of a particular scheduler; it can be made once and cloned. Up to eight
/// amounts and a static label need no allocation. Naming a budget twice adds up.
///
/// A bad value (zero, overflow, NaN, a device that cannot exist) is remembered and comes back as a
/// [`RequestError`] from [`check`](Request::check) and from every `reserve`.
///
/// ```
/// use std::time::Duration;
/// use bursar::{GIB, MIB, Priority, Request};
///
/// let request = Request::new()
///     .gpu(2 * GIB)
///     .host(256 * MIB)
///     .attention(0.10)
///     .io(50 * MIB)
///     .priority(Priority::High)
///     .deadline(Duration::from_millis(200))
///     .label("chat");
/// assert!(request.check().is_ok());
/// assert!(Request::new().gpu(0).check().is_err());
/// assert!(Request::new().attention(f64::NAN).check().is_err());
/// ```
#[derive(Clone)]
#[must_use = "a request does nothing until it is given to a scheduler"]
pub struct Request {
    amounts: Amounts,
    label: Option<&'static str>,
    /// Nanoseconds from the first poll; `u64::MAX` when there is none.
    deadline_ns: u64,
    /// Shared by clones, so that a request that is made once and cloned allocates nothing.
    rare: Option<Arc<Rare>>,
    /// The position of the priority, where it got its label, and `RARE` when there is a label or anything out of line.
    /// A whole word, because it is copied as one: a load of more than was just stored stalls.
    level: u64,
}

/// How long a request that does not say so is expected to hold what it gets: 100 ms.
const USUAL_HOLD_NS: u64 = 100_000_000;

/// Where the priority lies in its word.
const LEVEL: u64 = 0xFF;

/// There is more to a request than amounts, priority and deadline.
const RARE: u64 = 1 << 8;

/// What few requests have, out of line so that the others stay small.
#[derive(Clone, Default)]
struct Rare {
    label: Option<String>,
    module: Option<ModuleName>,
    fault: Option<RequestError>,
    /// How little of the amounts would do.
    floors: Amounts,
    others: Vec<Alternative>,
    /// The fraction of the next rung in millionths; zero for the usual half.
    factor: u32,
    patience_ns: u64,
    expected_hold_ns: Option<u64>,
    tag: Tag,
    grows: bool,
    /// The most that its activity will ever hold.
    most: Option<Arc<Amounts>>,
    /// When it first arrived, if it has before; zero if not.
    arrived: u64,
    /// Since when it has waited, if it goes on with that; zero if not.
    waits_since: u64,
    /// What the engine is told of it, once it was asked.
    terms: OnceLock<Arc<Terms>>,
}

impl Rare {
    /// Whether the engine has to know more than amounts, priority and deadline.
    fn is_flexible(&self) -> bool {
        !self.others.is_empty() || !self.floors.is_empty() || self.tag != Tag::NOBODY || self.arrived != 0
    }
}

impl Request {
    /// A request for nothing yet, at [`Priority::Normal`], without a deadline.
    #[inline(always)]
    pub const fn new() -> Self {
        Request {
            amounts: Amounts::new(),
            label: None,
            deadline_ns: u64::MAX,
            rare: None,
            level: Priority::Normal as u64,
        }
    }

    /// Memory of the first GPU.
    #[inline(always)]
    pub fn gpu(self, bytes: impl Into<Bytes>) -> Self {
        self.amount(BudgetId::GPU, bytes.into().0)
    }

    /// Host memory of the first NUMA node.
    #[inline(always)]
    pub fn host(self, bytes: impl Into<Bytes>) -> Self {
        self.amount(BudgetId::HOST, bytes.into().0)
    }

    /// Space on the first disk.
    #[inline(always)]
    pub fn disk(self, bytes: impl Into<Bytes>) -> Self {
        self.amount(BudgetId::DISK, bytes.into().0)
    }

    /// Memory of GPU `device`.
    pub fn gpu_on(self, device: u8, bytes: impl Into<Bytes>) -> Self {
        self.space(SpaceId { tier: Tier::Gpu, index: device }, bytes)
    }

    /// Memory in some space.
    pub fn space(self, space: SpaceId, bytes: impl Into<Bytes>) -> Self {
        match space.budget() {
            Some(id) => self.amount(id, bytes.into().0),
            None => self.fault(RequestError::NoSuchSpace { space }),
        }
    }

    /// Compute slots.
    #[inline(always)]
    pub fn compute(self, slots: u64) -> Self {
        self.amount(BudgetId::COMPUTE, slots)
    }

    /// A fraction of attention, between 0 and 1, rounded to the nearest millionth.
    pub fn attention(self, fraction: f64) -> Self {
        match Share::from_fraction(fraction) {
            Ok(share) => self.share(BudgetId::ATTENTION, share),
            Err(source) => self.fault(RequestError::Amount { budget: BudgetId::ATTENTION, source }),
        }
    }

    /// A share of a budget that is counted in millionths.
    #[inline(always)]
    pub fn share(self, id: BudgetId, share: Share) -> Self {
        self.amount(id, u64::from(share.millionths()))
    }

    /// I/O, in bytes. I/O is a rate: the amount is charged when the request is granted and comes back with time.
    #[inline(always)]
    pub fn io(self, bytes: impl Into<Bytes>) -> Self {
        self.amount(BudgetId::IO, bytes.into().0)
    }

    /// Network, in bytes. Network is a rate, like I/O.
    #[inline(always)]
    pub fn network(self, bytes: impl Into<Bytes>) -> Self {
        self.amount(BudgetId::NETWORK, bytes.into().0)
    }

    /// `units` of any budget.
    #[inline(always)]
    pub fn amount(mut self, id: BudgetId, units: u64) -> Self {
        if !self.amounts.add(id, units) {
            let rare = refuse(self.rare.take(), id, units);
            // Nothing, as it has been taken out; the code to drop it would cost every amount more than its addition.
            std::mem::forget(self.rare.replace(rare));
            self.level |= RARE;
        }
        self
    }

    /// How urgent it is.
    #[inline(always)]
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.level = self.level & !LEVEL | priority as u64;
        self
    }

    /// The latest time of the grant, counted from the first poll of the reservation. Among equal priorities, earlier
    /// deadlines go first.
    #[inline(always)]
    pub fn deadline(mut self, within: Duration) -> Self {
        // 584 years are as good as no deadline.
        self.deadline_ns = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        self
    }

    /// A name for errors, logs and reports. A labelled lease is listed among the holders of its budgets, which costs an
    /// entry in a sharded table per lease; that also says where in the code this was called.
    #[inline(always)]
    #[track_caller]
    pub fn label(mut self, label: impl Into<Cow<'static, str>>) -> Self {
        match label.into() {
            Cow::Borrowed(label) => self.label = Some(label),
            Cow::Owned(label) => self.rare().label = Some(label),
        }
        let origin = Origin::of(Location::caller());
        self.level = self.level & ((1 << Origin::SHIFT) - 1) | RARE | origin.bits();
        self
    }

    /// Where it got its label.
    pub(crate) fn origin(&self) -> Option<&'static Location<'static>> {
        Origin::from_bits(self.level).place()
    }

    /// The name of the module that asks: listed beside the label among the holders, and the one whose share is charged
    /// under [`Order::Shares`](crate::Order::Shares). Quotas are for those that ask as a registered module.
    pub fn module(mut self, module: impl Into<Cow<'static, str>>) -> Self {
        self.rare().module = Some(module.into().into());
        self
    }

    /// Another way to serve the request, if what was said so far cannot be had: the amounts of `other`, with its floors
    /// and its own alternatives. Nothing else of `other` counts. The reservation waits for all of them at once and
    /// takes the first that can be had, the earlier named one if two can.
    ///
    /// ```
    /// use bursar::{GIB, Request};
    ///
    /// // The first GPU, or the second, or memory of the host.
    /// let request = Request::new()
    ///     .gpu(2 * GIB)
    ///     .or(Request::new().gpu_on(1, 2 * GIB))
    ///     .or(Request::new().host(2 * GIB));
    /// assert!(request.check().is_ok());
    /// ```
    pub fn or(mut self, other: Request) -> Self {
        if let Err(fault) = other.check() {
            return self.fault(fault);
        }
        let rare = other.rare.map(Arc::unwrap_or_clone).unwrap_or_default();
        let others = &mut self.rare().others;
        others.push(Alternative::elastic(other.amounts, &rare.floors));
        others.extend(rare.others);
        if others.len() >= MOST_ALTERNATIVES {
            return self.fault(RequestError::TooManyAlternatives { limit: MOST_ALTERNATIVES });
        }
        self
    }

    /// Makes an amount elastic: `floor` units would do. The reservation insists on the whole amount for as long as its
    /// [`patience`](Request::patience) lasts; from then on it takes what can be had, by the
    /// [`ladder`](Request::ladder), and never less than the floor. What it got is what the lease holds.
    ///
    /// ```
    /// use std::time::Duration;
    /// use bursar::{BudgetId, GIB, Request};
    ///
    /// // Eight gigabytes; after 20 ms four, two or one.
    /// let request = Request::new()
    ///     .gpu(8 * GIB)
    ///     .down_to(BudgetId::GPU, GIB)
    ///     .patience(Duration::from_millis(20));
    /// assert!(request.check().is_ok());
    /// ```
    pub fn down_to(mut self, id: BudgetId, floor: u64) -> Self {
        if !self.rare().floors.add(id, floor) {
            let rare = self.rare.take();
            self.rare = Some(refuse(rare, id, floor));
        }
        self
    }

    /// The fraction of an elastic amount that each rung of its ladder has of the one before: above 0 and below 1, one
    /// half if not said.
    pub fn ladder(mut self, factor: f64) -> Self {
        let millionths = (factor * f64::from(WHOLE)).round();
        if !(1.0..f64::from(WHOLE)).contains(&millionths) {
            return self.fault(RequestError::Ladder { factor: factor.to_string() });
        }
        // Between 1 and 999,999.
        self.rare().factor = millionths as u32;
        self
    }

    /// How long the reservation insists on the whole of its elastic amounts, counted from its first poll. Nothing if
    /// not said: it takes less at once.
    pub fn patience(mut self, within: Duration) -> Self {
        self.rare().patience_ns = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        self
    }

    /// How long it will hold what it gets, by [`Order::ResponseRatio`](crate::Order::ResponseRatio): those who hold it
    /// for a short time go first, until the others have waited long in proportion. 100 ms if not said. Nobody is held
    /// to it.
    pub fn expected_hold(mut self, time: Duration) -> Self {
        self.rare().expected_hold_ns = Some(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self
    }

    /// The lease can end early: when a higher level waits for what it holds, it is asked to
    /// ([`Lease::revoked`](crate::Lease::revoked)), and has [`Config::grace`](crate::Config::grace) to do so. A lease
    /// that is not marked is never asked. One that is takes a turn at the scheduler's desk when it is granted and one
    /// when it ends.
    pub fn preemptible(mut self) -> Self {
        self.rare().tag.preemptible = true;
        self
    }

    /// It takes up work that had to be left: among requests of its level without a deadline it has the place that the
    /// request of the lease had that was asked to end. It was let in before: a full queue does not
    /// [shed](crate::ReserveError::Shed) it.
    pub fn seniority(mut self, seniority: Seniority) -> Self {
        let rare = self.rare();
        (rare.arrived, rare.waits_since) = (seniority.arrived, seniority.waits_since);
        self
    }

    /// The activity that it is part of, see [`Activity`]. A lease of an activity takes a turn at the
    /// scheduler's desk when it is granted and one when it ends, whether anybody waits or not.
    pub fn activity(mut self, activity: &Activity) -> Self {
        let rare = self.rare();
        (rare.tag.activity, rare.most) = (activity.id(), activity.most());
        self
    }

    /// The number of the activity in whose scope it is awaited, which it does not name itself.
    pub(crate) fn imply(&mut self, activity: u64) {
        self.rare().tag.activity = activity | IMPLIED;
    }

    /// The registered module that asks.
    pub(crate) fn of_module(mut self, number: u64, name: &Arc<str>) -> Self {
        let rare = self.rare();
        rare.tag.module = number;
        rare.module = Some(ModuleName::Shared(Arc::clone(name)));
        self
    }

    /// More of what a lease with this tag holds.
    pub(crate) fn growth(amounts: Amounts, priority: Priority, tag: Tag) -> Self {
        let mut request = Request { amounts, ..Request::new().priority(priority) };
        let rare = request.rare();
        (rare.tag, rare.grows) = (tag, true);
        request
    }

    /// Whether it asks for more of what a lease holds.
    pub(crate) fn grows(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.grows)
    }

    /// Whom it is for.
    pub(crate) fn tag(&self) -> Tag {
        self.rare.as_ref().map_or(Tag::NOBODY, |rare| rare.tag)
    }

    /// Whether the request is well-formed. Says nothing of what a scheduler has.
    ///
    /// # Errors
    /// The first bad value that was given to the builder, or [`RequestError::Empty`].
    pub fn check(&self) -> Result<(), RequestError> {
        match self.rare.as_ref().and_then(|rare| rare.fault.as_ref()) {
            Some(fault) => Err(fault.clone()),
            None if self.amounts.is_empty() => Err(RequestError::Empty),
            None => self.rare.as_ref().map_or(Ok(()), |rare| self.check_floors(&rare.floors)),
        }
    }

    fn check_floors(&self, floors: &Amounts) -> Result<(), RequestError> {
        let above = |&(id, floor): &(BudgetId, u64)| floor > self.amounts.get(id);
        match floors.iter().find(above) {
            Some((budget, floor)) => Err(RequestError::FloorAbove { budget, floor, asked: self.amounts.get(budget) }),
            None => Ok(()),
        }
    }

    /// Alternatives and elastic amounts, if there are any.
    pub(crate) fn terms(&self) -> Option<Arc<Terms>> {
        let rare = self.rare.as_ref().filter(|rare| rare.is_flexible())?;
        let terms = rare.terms.get_or_init(|| self.terms_of(rare));
        // A clone may ask for more than the one that was asked first.
        let same = terms.alternatives.first().is_some_and(|first| *first.want() == self.amounts);
        Some(if same { Arc::clone(terms) } else { self.terms_of(rare) })
    }

    fn terms_of(&self, rare: &Rare) -> Arc<Terms> {
        let first = Alternative::elastic(self.amounts.clone(), &rare.floors);
        let alternatives = std::iter::once(first).chain(rare.others.iter().cloned()).collect();
        let factor = if rare.factor == 0 { WHOLE / 2 } else { rare.factor };
        let Rare { patience_ns: patience, tag, grows, arrived, waits_since, .. } = *rare;
        let most = rare.most.clone();
        Arc::new(Terms { alternatives, factor, patience, tag, grows, most, arrived, waits_since })
    }

    /// Whether what is granted may be another bundle than [`amounts`](Request::amounts).
    #[inline]
    pub(crate) fn is_flexible(&self) -> bool {
        self.level & RARE != 0 && self.rare.as_ref().is_some_and(|rare| rare.is_flexible())
    }

    /// Whether the request has none of the parts that few have, so that there is nothing to check and nothing to note.
    /// It may be empty.
    #[inline(always)]
    pub(crate) const fn is_plain(&self) -> bool {
        self.level & RARE == 0
    }

    /// What is asked of which budgets.
    #[inline]
    pub const fn amounts(&self) -> &Amounts {
        &self.amounts
    }

    /// How urgent it is.
    #[inline]
    pub const fn urgency(&self) -> Priority {
        Priority::ALL[(self.level & LEVEL) as usize % Priority::COUNT]
    }

    /// The latest time of the grant, counted from the first poll.
    pub const fn time_limit(&self) -> Option<Duration> {
        if self.deadline_ns == u64::MAX { None } else { Some(Duration::from_nanos(self.deadline_ns)) }
    }

    /// The name for reports.
    #[inline]
    pub fn name(&self) -> Option<&str> {
        self.rare.as_ref().and_then(|rare| rare.label.as_deref()).or(self.label)
    }

    /// The module that asks.
    pub fn module_name(&self) -> Option<&str> {
        self.rare.as_ref().and_then(|rare| rare.module.as_ref()).map(ModuleName::as_str)
    }

    /// The same, to keep.
    pub(crate) fn module_kept(&self) -> Option<Arc<str>> {
        self.rare.as_ref().and_then(|rare| rare.module.as_ref()).map(ModuleName::shared)
    }

    /// The deadline in nanoseconds from the first poll, `u64::MAX` for none.
    #[inline]
    pub(crate) const fn deadline_ns(&self) -> u64 {
        self.deadline_ns
    }

    /// How long it will hold what it gets, in nanoseconds.
    #[inline]
    pub(crate) fn expected_hold_ns(&self) -> u64 {
        self.rare.as_ref().and_then(|rare| rare.expected_hold_ns).unwrap_or(USUAL_HOLD_NS)
    }

    /// The label, to keep.
    pub(crate) fn label_of(&self) -> Option<Cow<'static, str>> {
        let owned = self.rare.as_ref().and_then(|rare| rare.label.clone());
        owned.map(Cow::Owned).or(self.label.map(Cow::Borrowed))
    }

    /// Takes the label out, for the table of known holders.
    pub(crate) fn take_label(&mut self) -> Option<Cow<'static, str>> {
        let owned = self.rare.as_mut().and_then(|rare| match Arc::get_mut(rare) {
            Some(rare) => rare.label.take(),
            None => rare.label.clone(),
        });
        owned.map(Cow::Owned).or(self.label.map(Cow::Borrowed))
    }

    /// Keeps the first fault.
    #[cold]
    fn fault(mut self, fault: RequestError) -> Self {
        self.rare().fault.get_or_insert(fault);
        self
    }

    fn rare(&mut self) -> &mut Rare {
        self.level |= RARE;
        let rare = Arc::make_mut(self.rare.get_or_insert_default());
        rare.terms = OnceLock::new();
        rare
    }
}

/// Notes an amount that cannot be added. Takes and gives the part rather than the request, and cannot unwind: see
/// [`Amounts::add`].
#[cold]
#[inline(never)]
#[expect(improper_ctypes_definitions, reason = "only ever called from Rust")]
extern "C" fn refuse(rare: Option<Arc<Rare>>, id: BudgetId, units: u64) -> Arc<Rare> {
    let mut rare = rare.unwrap_or_default();
    Arc::make_mut(&mut rare).fault.get_or_insert(match units {
        0 => RequestError::Zero { budget: id },
        _ => RequestError::Overflow { budget: id, added: units, limit: MAX_AMOUNT },
    });
    rare
}

impl Default for Request {
    fn default() -> Self {
        Request::new()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("amounts", &self.amounts)
            .field("priority", &self.urgency())
            .field("deadline", &self.time_limit())
            .field("label", &self.name())
            .field("module", &self.module_name())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_stays_small() {
        assert!(size_of::<Request>() <= 128, "{}", size_of::<Request>());
    }

    #[test]
    fn the_first_bad_value_is_kept() {
        let request = Request::new().gpu(0).attention(f64::INFINITY);
        assert_eq!(request.check(), Err(RequestError::Zero { budget: BudgetId::GPU }));
        let request = Request::new().gpu_on(40, 1u64);
        assert!(matches!(request.check(), Err(RequestError::NoSuchSpace { space }) if space.index == 40));
        assert_eq!(Request::new().check(), Err(RequestError::Empty));
    }
}
