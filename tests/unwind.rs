//! What would end the whole process: each case runs in a process of its own, which has to end well.

mod common;

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread;

use bursar::Lease;
use common::*;

/// Runs the calling test again in a process of its own. `true` in that process, which is then to do the work.
fn in_a_process_of_its_own(test: &str) -> bool {
    const CHILD: &str = "BURSAR_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args([test, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap();
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    false
}

/// Wakers are the caller's code. Several that panic in one turn are several panics, of which one goes on.
#[test]
fn two_wakers_that_panic_in_one_turn_do_not_abort_the_process() {
    if !in_a_process_of_its_own("two_wakers_that_panic_in_one_turn_do_not_abort_the_process") {
        return;
    }
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker that panics");
        }
    }
    let rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let waker = Waker::from(Arc::new(Panics));
    let mut bad: Vec<_> = (0..2).map(|_| rig.scheduler.reserve(gpu(2))).collect();
    for reservation in &mut bad {
        assert!(Pin::new(reservation).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    let mut good = queued(&rig.scheduler, gpu(3));
    drop(held);
    drop(granted(&mut good));
    drop(bad);
    assert_untouched(&rig.scheduler);
}

/// R14: a drop on whatever thread, also while the thread ends and the runtime's thread-local state is gone.
#[test]
fn a_lease_kept_in_a_thread_local_is_given_back_when_its_thread_ends() {
    if !in_a_process_of_its_own("a_lease_kept_in_a_thread_local_is_given_back_when_its_thread_ends") {
        return;
    }
    thread_local! {
        static KEPT: RefCell<Option<Lease>> = const { RefCell::new(None) };
    }
    let rig = Rig::loans(10, 10);
    let lease = take(&rig.scheduler, gpu(10));
    let mut waiting = queued(&rig.scheduler, gpu(10));
    let ended = thread::spawn(move || {
        KEPT.set(Some(lease));
        // Whatever tokio keeps per thread is made after the lease is kept, so it is gone before the lease drops.
        paused().block_on(tokio::task::yield_now());
    });
    ended.join().unwrap();
    drop(granted(&mut waiting));
    assert_untouched(&rig.scheduler);
}
