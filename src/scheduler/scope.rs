//! The activity that a task is part of without saying so at every request.
//!
//! Whatever is reserved inside [`Activity::scope`] is implied to belong to the activity, unless the request names one.
//! While there is no scope in the process, a reservation pays one load for that; while there is one, a look at the
//! task's own.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{Activity, Request};

tokio::task_local! {
    static CURRENT: Activity;
}

/// How many scopes there are. Who is in one has counted it itself, so no order between threads is needed.
static SCOPES: AtomicUsize = AtomicUsize::new(0);

/// The names of the activities that have scopes, with how many they have: for alerts, which know numbers only.
static NAMES: Mutex<BTreeMap<u64, (Arc<str>, usize)>> = Mutex::new(BTreeMap::new());

fn names() -> MutexGuard<'static, BTreeMap<u64, (Arc<str>, usize)>> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a scope for as long as it lasts.
struct Scope(u64);

impl Scope {
    fn of(activity: &Activity) -> Self {
        SCOPES.fetch_add(1, Ordering::Relaxed);
        names().entry(activity.id()).or_insert_with(|| (activity.name().into(), 0)).1 += 1;
        Scope(activity.id())
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        SCOPES.fetch_sub(1, Ordering::Relaxed);
        let mut names = names();
        if let Some((_, scopes)) = names.get_mut(&self.0) {
            *scopes -= 1;
            if *scopes == 0 {
                names.remove(&self.0);
            }
        }
    }
}

impl Activity {
    /// Runs a future as a part of this activity: inside, [`Activity::current`] is this one, and what is reserved by a
    /// request that names no activity is taken to belong to it. That may be wrong, as a lease can be handed to another
    /// task; so such a reservation is never told to roll back or to split. When it looks as if it waited for ever, the
    /// scheduler says so once: a warning through `tracing` that names who waits for whom, and a count in
    /// [`Stats::alerts`](crate::Stats::alerts). For verdicts, name the activity in the request.
    ///
    /// Tasks spawned inside are not part of it unless they say so. What is reserved inside takes a turn at the
    /// scheduler's desk, as with [`Request::activity`]; while there is any scope in the process, every other
    /// reservation looks whether it is in one.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use bursar::Activity;
    ///
    /// let query = Activity::new("query 17");
    /// query.scope(async { assert_eq!(Activity::current().unwrap().name(), "query 17") }).await;
    /// assert!(Activity::current().is_none());
    /// # }
    /// ```
    pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        let scope = Scope::of(self);
        CURRENT.scope(self.clone(), async move {
            let _scope = scope;
            future.await
        })
    }

    /// The activity that the running task is part of.
    pub fn current() -> Option<Activity> {
        CURRENT.try_with(Clone::clone).ok()
    }
}

/// Whether there is any scope.
#[inline(always)]
pub(super) fn is_any() -> bool {
    SCOPES.load(Ordering::Relaxed) != 0
}

/// Notes in a request that names no activity the one in whose scope it is made.
pub(super) fn imply(request: &mut Request) {
    if is_any()
        && request.tag().activity == 0
        && let Ok(current) = CURRENT.try_with(Activity::id)
    {
        request.imply(current);
    }
}

/// What an activity is called, in an alert.
pub(super) fn name_of(activity: u64) -> Arc<str> {
    let known = names().get(&activity).map(|(name, _)| Arc::clone(name));
    known.unwrap_or_else(|| format!("activity {activity}").into())
}
