//! Requests for memory that may lie in several spaces.

use crate::model::{BudgetKind, Bytes, MOST_ALTERNATIVES, Placement, PlacementError, Request, RequestError};
use crate::policy::{SpaceView, spaces_for};

use super::Scheduler;

impl Scheduler {
    /// A request for memory in whatever spaces a placement allows, the best first: to be reserved like any other, with
    /// priority, deadline and further amounts of its own. Amounts that are added count for the first space only.
    ///
    /// It names at most eight spaces. Which of them are the best is decided now; which of them serves is decided while
    /// it waits, as it waits for all of them at once.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use bursar::{BudgetId, GIB, Placement, Scheduler, SpaceId, Tier};
    ///
    /// let scheduler = Scheduler::builder().gpu(40 * GIB).host(64 * GIB).spawn()?;
    /// let gpu = SpaceId { tier: Tier::Gpu, index: 0 };
    /// let _busy = scheduler.reserve(scheduler.place(40 * GIB, &Placement::Specific(gpu))?).await?;
    ///
    /// // The GPU is full, so it is the host.
    /// let lease = scheduler.reserve(scheduler.place(2 * GIB, &Placement::Preferred(gpu))?).await?;
    /// assert_eq!(lease.get(BudgetId::HOST), 2 * GIB);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`PlacementError`]: no space qualifies, or nothing is asked.
    pub fn place(&self, bytes: impl Into<Bytes>, placement: &Placement) -> Result<Request, PlacementError> {
        let bytes = bytes.into();
        let (views, names) = self.core.look(|desk, turn| {
            let memory = desk.names.all().filter_map(|(id, ..)| match id.kind() {
                BudgetKind::Space(space) if turn.books.bucket(*id).is_none() => Some((*id, space)),
                _ => None,
            });
            let view = |(id, space)| SpaceView { space, free: turn.books.free(id), capacity: turn.books.capacity(id) };
            (memory.map(view).collect::<Vec<_>>(), desk.names.clone())
        });
        let spaces = spaces_for(placement, bytes.0, &views, &names.topology)?;
        let each = spaces.into_iter().take(MOST_ALTERNATIVES).map(|space| Request::new().space(space, bytes));
        let request = each.reduce(Request::or).ok_or(RequestError::Empty)?;
        request.check()?;
        Ok(request)
    }
}
