//! What would end the whole process: each case runs in a process of its own, which has to end well.

mod common;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use bursar::{Figure, Lease, Priority, Reservation, Scheduler};
use common::*;
use tracing::subscriber::with_default;
use tracing::{Event, Metadata, Subscriber, span};

/// Runs the calling test again in a process of its own. `true` in that process, which is then to do the work.
fn in_a_process_of_its_own(test: &str) -> bool {
    const CHILD: &str = "BURSAR_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    // As it was called: where it lies is not known without /proc.
    let mut child = Command::new(std::env::args_os().next().unwrap());
    let output = child.args([test, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap();
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    false
}

/// Wakers are the caller's code. Several that panic in one turn are several panics, of which none goes on.
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

/// A waker that panics on one kind of use while it is armed, and how often it did.
fn bad_waker(bad: Use) -> (Waker, Rc<Cell<bool>>, Rc<Cell<u32>>) {
    let (armed, panics) = (Rc::new(Cell::new(true)), Rc::new(Cell::new(0)));
    let (arm, count) = (Rc::clone(&armed), Rc::clone(&panics));
    let waker = waker_with(move |how| {
        if how == bad && arm.get() {
            count.set(count.get() + 1);
            panic!("a waker that panics");
        }
    });
    (waker, armed, panics)
}

fn poll(reservation: &mut Reservation, waker: &Waker) -> Poll<Result<Lease, bursar::ReserveError>> {
    Pin::new(reservation).poll(&mut Context::from_waker(waker))
}

/// The panic does not reach whoever released, the others of the turn are woken and granted, and so is the waiter itself
/// when it is polled, or its units come back when it is not.
#[test]
fn a_waker_that_panics_when_woken_costs_nobody_of_the_turn_his_grant() {
    for polled in [true, false] {
        let rig = Rig::loans(10, 10);
        let held = take(&rig.scheduler, gpu(10));
        let (waker, _, panics) = bad_waker(Use::Wake);
        let mut before = queued(&rig.scheduler, gpu(3).priority(Priority::High));
        let mut bad = rig.scheduler.reserve(gpu(4));
        assert!(poll(&mut bad, &waker).is_pending());
        let (mut after, mut last) = (queued(&rig.scheduler, gpu(3)), queued(&rig.scheduler, gpu(4)));
        drop(held);
        assert_eq!(panics.get(), 1);
        let leases = [granted(&mut before), granted(&mut after)];
        assert_waits(&mut last);
        if polled {
            assert!(matches!(poll(&mut bad, Waker::noop()), Poll::Ready(Ok(lease)) if lease.get(GPU) == 4));
        }
        drop(bad);
        drop((granted(&mut last), leases));
        assert_untouched(&rig.scheduler);
    }
}

/// The panic reaches the poller, whose waker it is. Nothing was taken or queued for it, and it may poll again.
#[test]
fn a_waker_that_panics_when_cloned_leaves_the_reservation_as_it_was() {
    let rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let (waker, armed, panics) = bad_waker(Use::Clone);
    let fails = |reservation: &mut Reservation| {
        assert!(catch_unwind(AssertUnwindSafe(|| poll(reservation, &waker).is_ready())).is_err());
    };
    let (mut first, mut given_up) = (rig.scheduler.reserve(gpu(6)), rig.scheduler.reserve(gpu(6)));
    // At its first poll: it is not queued.
    fails(&mut first);
    fails(&mut given_up);
    assert_eq!((first.is_waiting(), rig.scheduler.stats().waiting), (false, 0));
    drop(given_up);
    let mut other = queued(&rig.scheduler, gpu(4));
    // While it waits: it keeps its place and the waker it had.
    armed.set(false);
    assert!(poll(&mut first, &waker).is_pending());
    armed.set(true);
    fails(&mut first);
    assert!(first.is_waiting());
    let mut last = queued(&rig.scheduler, gpu(6));
    drop(held);
    let lease = granted(&mut other);
    // A grant that lies ready needs no waker.
    assert!(matches!(poll(&mut first, &waker), Poll::Ready(Ok(lease)) if lease.get(GPU) == 6));
    assert_eq!(panics.get(), 3);
    drop((granted(&mut last), lease));
    assert_untouched(&rig.scheduler);
}

/// A verdict that lies ready is not lost with the poll that was to take it.
#[test]
fn a_waker_that_panics_when_cloned_does_not_lose_a_verdict() {
    let mut rig = Rig::loans(10, 10);
    let _held = take(&rig.scheduler, gpu(10));
    let mut late = rig.scheduler.reserve(gpu(1).deadline(MS));
    assert!(poll(&mut late, Waker::noop()).is_pending());
    rig.pass(MS);
    let (waker, ..) = bad_waker(Use::Clone);
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut late, &waker).is_ready())).is_err());
    let found = poll(&mut late, Waker::noop());
    assert!(matches!(found, Poll::Ready(Err(bursar::ReserveError::Late { .. }))), "{found:?}");
    rig.scheduler.verify().unwrap();
}

/// Cancelled while it waits, or while its grant lies ready; in either case others are granted in the same turn.
#[test]
fn a_waker_that_panics_when_dropped_does_not_disturb_the_cancel() {
    for offered in [false, true] {
        let rig = Rig::strict(10, 10);
        let mut held = Some(take(&rig.scheduler, gpu(if offered { 10 } else { 4 })));
        let (waker, armed, panics) = bad_waker(Use::Drop);
        let mut bad = rig.scheduler.reserve(gpu(8).priority(Priority::High));
        assert!(poll(&mut bad, &waker).is_pending());
        // A later poll replaces the waker, which drops the one before.
        assert!(poll(&mut bad, &waker).is_pending());
        assert_eq!(panics.get(), 1);
        let (mut first, mut second) = (queued(&rig.scheduler, gpu(3)), queued(&rig.scheduler, gpu(3)));
        held.take_if(|_| offered);
        assert_eq!(rig.scheduler.stats().offered, u64::from(offered));
        drop(bad);
        let leases = [granted(&mut first), granted(&mut second)];
        assert_eq!(panics.get(), if offered { 1 } else { 2 }, "an offer has used its waker up");
        armed.set(false);
        drop((leases, held));
        assert_untouched(&rig.scheduler);
    }
}

/// A subscriber that panics as soon as it is asked about something of this crate's.
struct PanickingSubscriber;

impl Subscriber for PanickingSubscriber {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        tracing::subscriber::Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        assert!(!metadata.target().starts_with("bursar::"), "a subscriber that panics at {}", metadata.target());
        false
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The task would take every wait with it.
#[test]
fn a_subscriber_that_panics_when_it_is_asked_does_not_end_the_scheduler_task() {
    if !in_a_process_of_its_own("a_subscriber_that_panics_when_it_is_asked_does_not_end_the_scheduler_task") {
        return;
    }
    let mut rig = Rig::new(three_loans().with_stuck_after(100 * MS));
    let held = take(&rig.scheduler, gpu(10));
    let mut wait = queued(&rig.scheduler, gpu(1));
    with_default(PanickingSubscriber, || rig.pass(1_000 * MS));
    assert_eq!(rig.scheduler.closed(), None);
    drop(held);
    drop(granted(&mut wait));
}

/// What is said of a waker that panics is said to a subscriber that panics too, on a thread that panics already.
#[test]
fn a_waker_and_a_subscriber_that_both_panic_keep_nobody_else_asleep() {
    if !in_a_process_of_its_own("a_waker_and_a_subscriber_that_both_panic_keep_nobody_else_asleep") {
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
    let mut bad = rig.scheduler.reserve(gpu(2));
    assert!(Pin::new(&mut bad).poll(&mut Context::from_waker(&waker)).is_pending());
    let mut good = queued(&rig.scheduler, gpu(3));
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        with_default(PanickingSubscriber, || {
            let _held = held;
            panic!("of the caller's");
        });
    }));
    assert!(unwound.is_err() && good.is_woken());
    drop((bad, granted(&mut good)));
    assert_untouched(&rig.scheduler);
}

/// The last lease takes what others publish with it, which is code of theirs, and may end on a thread that panics.
#[test]
fn what_publishes_figures_may_panic_when_it_is_dropped_with_the_last_lease() {
    if !in_a_process_of_its_own("what_publishes_figures_may_panic_when_it_is_dropped_with_the_last_lease") {
        return;
    }
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a source that panics when it is dropped");
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _inside = runtime.enter();
    let (scheduler, driver) = Scheduler::builder().gpu(10u64).build().unwrap();
    for name in ["first", "second"] {
        let bomb = Bomb;
        scheduler.publish(name, move || {
            let _ = &bomb;
            Vec::<Figure>::new()
        });
    }
    let lease = scheduler.try_reserve(gpu(1)).unwrap();
    drop((scheduler, driver));
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _lease = lease;
        panic!("of the caller's");
    }));
    assert!(unwound.is_err());
}
