//! Subscribers that misbehave: the console itself panics when a process has too many callsites.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::common::*;
use super::{config, ticks, watched};

#[test]
fn a_subscriber_that_panics_ends_neither_the_scheduler_task_nor_a_wait() {
    let (recorder, mut rig) = watched(config());
    let held = take(&rig.scheduler, host(10));
    let mut wait = recorder.listen(|| queued(&rig.scheduler, host(1)));
    recorder.state().panics = true;
    ticks(&recorder, &mut rig, 1, std::slice::from_mut(&mut wait));
    ticks(&recorder, &mut rig, 3, std::slice::from_mut(&mut wait));
    assert_eq!(rig.scheduler.closed(), None);
    recorder.listen(|| drop(held));
    drop(recorder.listen(|| granted(&mut wait)));
    assert_untouched(&rig.scheduler);
    let refused = recorder.listen(|| super::Rig::new(config()));
    assert_eq!(refused.scheduler.closed(), None, "a scheduler is made all the same");
}

#[test]
fn a_listed_wait_may_be_dropped_by_a_panic_while_the_subscriber_panics() {
    let (recorder, mut rig) = watched(config());
    let _held = take(&rig.scheduler, host(10));
    let mut wait = [recorder.listen(|| queued(&rig.scheduler, host(1)))];
    ticks(&recorder, &mut rig, 2, &mut wait);
    assert_eq!(recorder.open_ops().len(), 1);
    recorder.state().panics = true;
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        recorder.listen(|| {
            let _wait = wait;
            panic!("of the caller's");
        });
    }));
    assert!(unwound.is_err());
    assert_eq!(rig.scheduler.stats().waiting, 0);
}
