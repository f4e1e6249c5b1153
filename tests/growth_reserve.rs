//! What new requests leave for leases that grow (C7).

mod common;

use bursar::{Budget, Config};
use common::*;

fn rig() -> Rig {
    Rig::new(Config::new().with(Budget::loan(GPU, 10).growth_reserve(2)).with(Budget::loan(HOST, 10)))
}

#[test]
fn c7_new_requests_leave_the_reserve_to_leases_that_grow() {
    let rig = rig();
    let mut first = take(&rig.scheduler, gpu(4));
    assert!(rig.scheduler.try_reserve(gpu(5)).is_err());
    let second = take(&rig.scheduler, gpu(4));
    assert!(rig.scheduler.try_reserve(gpu(1)).is_err());
    first.try_grow(&bundle(&[(GPU, 2)])).unwrap();
    assert_eq!((first.get(GPU), free(&rig.scheduler, GPU)), (6, 0));
    drop((first, second));
    assert_untouched(&rig.scheduler);
}

#[test]
fn c7_the_reserve_is_waived_while_nothing_is_held() {
    let rig = rig();
    let held = take(&rig.scheduler, gpu(1));
    let mut whole = queued(&rig.scheduler, gpu(10));
    drop(held);
    drop(granted(&mut whole));
    drop(take(&rig.scheduler, gpu(10)));
    assert_untouched(&rig.scheduler);
}
