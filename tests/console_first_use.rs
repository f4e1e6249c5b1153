//! The first use of a callsite. In a process of its own, because there is only one first time.

#[path = "console/recorder.rs"]
#[allow(dead_code, reason = "most of it is for the other tests")]
mod recorder;

use std::collections::BTreeSet;

use bursar::{Budget, BudgetId, Config, Scheduler};
use recorder::Recorder;

#[test]
fn every_callsite_is_registered_before_the_first_is_used_and_nothing_is_shown_by_that() {
    let recorder = Recorder::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    recorder.listen(|| {
        runtime.block_on(async {
            let config = Config::new().with(Budget::loan(BudgetId::GPU, 10));
            let scheduler = Scheduler::builder().config(config).spawn().unwrap();
            tokio::task::yield_now().await;
            let kinds: BTreeSet<_> = recorder::registered().into_iter().collect();
            let waits = ["runtime.resource.async_op", "runtime::resource::async_op::state_update"];
            let all = ["runtime.resource", "runtime::resource::poll_op", "runtime::resource::state_update"];
            assert!(waits.iter().chain(&all).all(|kind| kinds.contains(kind)), "nobody has waited yet: {kinds:?}");
            assert_eq!((recorder.resources().len(), recorder.ops().len()), (1, 0));
            drop(scheduler);
        });
    });
}
