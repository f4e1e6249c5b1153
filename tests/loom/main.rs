//! Models of the shell: a small number of threads in every order that loom can tell apart.
//!
//! ```text
//! RUSTFLAGS="--cfg bursar_loom" cargo test --release --features test-util --test loom --target-dir target/loom
//! ```
//!
//! In release, because without optimisation a scheduler is larger than the stacks that loom gives; with `test-util`,
//! because the engine then checks itself after every turn all the same.
//!
//! The models are so small that every order is tried, in a second or two. Should one grow, `LOOM_MAX_PREEMPTIONS=3`
//! bounds it to what two threads can do to each other and most of what three can.
//!
//! What is modelled is what carries the argument: the books and the desk (loom's mutex for both), the words of the
//! board and the clock (loom's atomics). Not modelled, and never blocking while they are held across a point where loom
//! may switch: the `OnceLock`s of the board's chunks, written under the desk's lock and read without; the table of
//! labelled holders, which no model uses; and the count of handles. No model drops its last handle on another thread.
#![cfg(bursar_loom)]

mod growth;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc as Shared;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bursar::internals::HandClock;
use bursar::{
    Amounts, Budget, BudgetId, CloseReason, Config, Driver, Lease, Request, Reservation, ReserveError, Scheduler,
};
use loom::model;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

const EXPIRY: Duration = Duration::from_millis(100);

fn scheduler() -> (Scheduler, Driver, HandClock) {
    Scheduler::builder().gpu(2u64).offer_expiry(EXPIRY).build_by_hand().unwrap()
}

/// The same, in strict head-of-line order.
fn strict() -> (Scheduler, Driver, HandClock) {
    let config = Config { bypass_limit: 0, offer_expiry: EXPIRY, ..Config::new() };
    Scheduler::builder().config(config.with(Budget::loan(BudgetId::GPU, 2))).build_by_hand().unwrap()
}

fn gpu(units: u64) -> Request {
    Request::new().gpu(units)
}

/// Counts how often it was woken.
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Shared<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    fn new() -> Shared<Self> {
        Shared::new(Woken(AtomicUsize::new(0)))
    }

    fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

type Outcome = Poll<Result<Lease, ReserveError>>;

fn poll(reservation: &mut Reservation, woken: &Shared<Woken>) -> Outcome {
    let waker = Waker::from(Shared::clone(woken));
    Pin::new(reservation).poll(&mut Context::from_waker(&waker))
}

/// A reservation that waits, with the waker that it was last polled with.
fn queued(scheduler: &Scheduler, units: u64) -> (Reservation, Shared<Woken>) {
    let (mut reservation, woken) = (scheduler.reserve(gpu(units)), Woken::new());
    assert!(poll(&mut reservation, &woken).is_pending());
    (reservation, woken)
}

/// Polls the driver. On a clock moved by hand it wakes itself as long as something will be due, and is silent if not.
fn run(driver: &mut Driver, woken: &Shared<Woken>) -> Poll<()> {
    let waker = Waker::from(Shared::clone(woken));
    Pin::new(driver).poll(&mut Context::from_waker(&waker))
}

/// Nothing is lost and nothing is made.
fn assert_untouched(scheduler: &Scheduler) {
    scheduler.verify().unwrap();
    let stats = scheduler.stats();
    let gpu = stats.budget(BudgetId::GPU).unwrap();
    assert_eq!((gpu.free, gpu.granted, gpu.waiting, stats.leases, stats.offered), (2, 0, 0, 0, 0));
}

/// C5: a grant races the drop of its reservation; the units go to the next or come back.
#[test]
fn c5_a_grant_against_the_drop_of_its_reservation() {
    model(|| {
        let (scheduler, _driver, _clock) = scheduler();
        let held = scheduler.try_reserve(gpu(2)).unwrap();
        let (dropped, _) = queued(&scheduler, 2);
        let (mut next, woken) = queued(&scheduler, 1);
        let release = thread::spawn(move || drop(held));
        drop(dropped);
        release.join().unwrap();
        assert_eq!(woken.times(), 1, "the next was not woken");
        assert!(matches!(poll(&mut next, &woken), Poll::Ready(Ok(_))));
        drop(next);
        assert_untouched(&scheduler);
    });
}

/// C5, P01: the drop of a blocked head, a first poll behind it and an attempt in between. No release helps.
#[test]
fn p01_the_drop_of_a_blocked_head_against_a_newcomer_and_an_attempt() {
    model(|| {
        let (scheduler, _driver, _clock) = strict();
        let held = scheduler.try_reserve(gpu(1)).unwrap();
        let (head, _) = queued(&scheduler, 2);
        let cancel = thread::spawn(move || drop(head));
        let attempt = thread::spawn({
            let scheduler = scheduler.clone();
            move || drop(scheduler.try_reserve(gpu(1)))
        });
        let (mut newcomer, woken) = (scheduler.reserve(gpu(1)), Woken::new());
        let mut polled = poll(&mut newcomer, &woken);
        cancel.join().unwrap();
        attempt.join().unwrap();
        if polled.is_pending() {
            assert_eq!(woken.times(), 1);
            polled = poll(&mut newcomer, &woken);
        }
        assert!(matches!(polled, Poll::Ready(Ok(_))));
        drop((polled, held));
        assert_untouched(&scheduler);
    });
}

/// P23, in strict order: an attempt of equal rank gets nothing before the release, when somebody is ahead, and nothing
/// after it.
#[test]
fn p23_an_attempt_never_passes_a_waiter_while_a_release_is_under_way() {
    model(|| {
        let (scheduler, _driver, _clock) = strict();
        let held = scheduler.try_reserve(gpu(1)).unwrap();
        let (mut waiting, woken) = queued(&scheduler, 2);
        let release = thread::spawn(move || drop(held));
        assert!(scheduler.try_reserve(gpu(1)).is_err(), "it barged in");
        release.join().unwrap();
        assert!(matches!(poll(&mut waiting, &woken), Poll::Ready(Ok(_))));
        assert_untouched(&scheduler);
    });
}

/// R10: two releases race for one waiter that takes either; it takes one, and the other stays free.
#[test]
fn r10_two_releases_against_a_waiter_that_takes_either_grant_it_once() {
    model(|| {
        let builder = Scheduler::builder().gpu(2u64).host(2u64);
        let (scheduler, _driver, _clock) = builder.build_by_hand().unwrap();
        let held = [gpu(2), Request::new().host(2u64)].map(|request| scheduler.try_reserve(request).unwrap());
        let (mut either, woken) = (scheduler.reserve(gpu(2).or(Request::new().host(2u64))), Woken::new());
        assert!(poll(&mut either, &woken).is_pending());
        let [on_gpu, on_host] = held;
        let release = thread::spawn(move || drop(on_gpu));
        drop(on_host);
        release.join().unwrap();
        assert_eq!(woken.times(), 1);
        let Poll::Ready(Ok(lease)) = poll(&mut either, &woken) else { panic!("it was woken for nothing") };
        assert_eq!(lease.get(BudgetId::GPU) + lease.get(BudgetId::HOST), 2);
        drop(lease);
        assert_untouched(&scheduler);
    });
}

/// R1, P07: a release races a first poll; whoever has to wait is woken.
#[test]
fn r1_p07_a_release_against_the_first_poll_loses_no_wake_up() {
    model(|| {
        let (scheduler, _driver, _clock) = scheduler();
        let held = scheduler.try_reserve(gpu(2)).unwrap();
        let release = thread::spawn(move || drop(held));
        let (mut reservation, woken) = (scheduler.reserve(gpu(1)), Woken::new());
        let first = poll(&mut reservation, &woken);
        release.join().unwrap();
        if first.is_pending() {
            assert_eq!(woken.times(), 1, "the wake-up was lost");
            assert!(matches!(poll(&mut reservation, &woken), Poll::Ready(Ok(_))));
        } else {
            assert!(matches!(first, Poll::Ready(Ok(_))));
            drop(first);
        }
        assert_untouched(&scheduler);
    });
}

/// P14, R5: close races a release and a poll. Who can be granted ends with the lease or the reason, who cannot with the
/// reason, and both are woken for it.
#[test]
fn p14_close_against_a_release_and_a_poll() {
    model(|| {
        let (scheduler, _driver, _clock) = scheduler();
        let mut kept = scheduler.try_reserve(gpu(2)).unwrap();
        let released = kept.split(&Amounts::of(BudgetId::GPU, 1)).unwrap();
        let (mut small, small_woken) = queued(&scheduler, 1);
        let (mut large, large_woken) = queued(&scheduler, 2);
        let release = thread::spawn(move || drop(released));
        let close = thread::spawn({
            let scheduler = scheduler.clone();
            move || scheduler.close()
        });
        let mut ended = poll(&mut small, &small_woken);
        release.join().unwrap();
        close.join().unwrap();
        if ended.is_pending() {
            assert!(small_woken.times() > 0, "nobody woke it");
            ended = poll(&mut small, &small_woken);
        }
        match ended {
            Poll::Ready(Ok(lease)) => assert_eq!(lease.get(BudgetId::GPU), 1),
            Poll::Ready(Err(error)) => {
                assert!(matches!(error, ReserveError::Closed { reason: CloseReason::Closed, .. }))
            }
            Poll::Pending => panic!("closed, and it still waits"),
        }
        assert_eq!(large_woken.times(), 1);
        let large = poll(&mut large, &large_woken);
        assert!(matches!(large, Poll::Ready(Err(ReserveError::Closed { reason: CloseReason::Closed, .. }))));
        drop(kept);
        assert_untouched(&scheduler);
    });
}

/// P14: close races the drop of a waiter and of a grant that was not polled.
#[test]
fn p14_close_against_cancelling_a_wait_and_an_offer() {
    model(|| {
        let (scheduler, _driver, _clock) = scheduler();
        let held = scheduler.try_reserve(gpu(2)).unwrap();
        let (offered, _) = queued(&scheduler, 1);
        let (waiting, _) = queued(&scheduler, 2);
        drop(held);
        let cancel = thread::spawn(move || drop(offered));
        let close = thread::spawn({
            let scheduler = scheduler.clone();
            move || scheduler.close()
        });
        drop(waiting);
        cancel.join().unwrap();
        close.join().unwrap();
        assert_untouched(&scheduler);
    });
}

/// Two releases and a waiter that needs the units of both: the second one, whichever that is, grants it.
#[test]
fn two_releases_against_one_waiter_that_needs_both() {
    model(|| {
        let (scheduler, _driver, _clock) = scheduler();
        let (one, two) = (scheduler.try_reserve(gpu(1)).unwrap(), scheduler.try_reserve(gpu(1)).unwrap());
        let release = thread::spawn(move || drop(one));
        let (mut reservation, woken) = (scheduler.reserve(gpu(2)), Woken::new());
        assert!(poll(&mut reservation, &woken).is_pending());
        let other = thread::spawn(move || drop(two));
        release.join().unwrap();
        other.join().unwrap();
        assert_eq!(woken.times(), 1, "woken once, when both are back");
        assert!(matches!(poll(&mut reservation, &woken), Poll::Ready(Ok(_))));
        assert_untouched(&scheduler);
    });
}

/// P15: the waker is replaced while the grant is made. Either that poll has the lease, or the new waker is woken.
#[test]
fn p15_a_waker_replaced_while_the_grant_is_made() {
    model(|| {
        let (scheduler, _driver, _clock) = scheduler();
        let held = scheduler.try_reserve(gpu(2)).unwrap();
        let (mut waiting, _old) = queued(&scheduler, 1);
        let release = thread::spawn(move || drop(held));
        let new = Woken::new();
        let polled = poll(&mut waiting, &new);
        release.join().unwrap();
        if polled.is_pending() {
            assert_eq!(new.times(), 1, "only the old waker was woken");
            assert!(matches!(poll(&mut waiting, &new), Poll::Ready(Ok(_))));
        } else {
            drop(polled);
        }
        assert_untouched(&scheduler);
    });
}

/// R5: an offer expires while its owner takes it up. One of the two wins; the units are granted once.
#[test]
fn r5_the_expiry_of_an_offer_against_the_poll_that_accepts_it() {
    model(|| {
        let (scheduler, mut driver, clock) = scheduler();
        let held = scheduler.try_reserve(gpu(2)).unwrap();
        let (mut slow, slow_woken) = queued(&scheduler, 2);
        let (mut rival, rival_woken) = queued(&scheduler, 2);
        drop(held);
        clock.advance(EXPIRY);
        let expire = thread::spawn(move || {
            let _ = run(&mut driver, &Woken::new());
            driver
        });
        let polled = poll(&mut slow, &slow_woken);
        let _driver = expire.join().unwrap();
        let expired = scheduler.stats().expired_offers;
        match polled {
            Poll::Ready(lease) => {
                assert_eq!((expired, rival_woken.times()), (0, 0));
                drop(lease.unwrap());
            }
            Poll::Pending => assert_eq!(expired, 1),
        }
        assert_eq!(rival_woken.times(), 1);
        assert!(matches!(poll(&mut rival, &rival_woken), Poll::Ready(Ok(_))));
        if expired == 1 {
            assert_eq!(slow_woken.times(), 2, "once for the offer that expired, once for the rival's release");
            assert!(matches!(poll(&mut slow, &slow_woken), Poll::Ready(Ok(_))));
        }
        drop((slow, rival));
        assert_untouched(&scheduler);
    });
}

/// C1, P52: two threads that take past the engine never hold more than there is, while a third waits for what they
/// leave.
#[test]
fn p52_two_takes_against_a_waiter_never_exceed_the_capacity() {
    model(|| {
        let (scheduler, _driver, _clock) = scheduler();
        let other = thread::spawn({
            let scheduler = scheduler.clone();
            move || scheduler.try_reserve(gpu(2)).map(drop).is_ok()
        });
        let (mut reservation, woken) = (scheduler.reserve(gpu(1)), Woken::new());
        let mut polled = poll(&mut reservation, &woken);
        other.join().unwrap();
        if polled.is_pending() {
            assert_eq!(woken.times(), 1);
            polled = poll(&mut reservation, &woken);
        }
        assert!(matches!(&polled, Poll::Ready(Ok(lease)) if lease.get(BudgetId::GPU) == 1));
        assert_eq!(scheduler.stats().budget(BudgetId::GPU).unwrap().free, 1);
        drop(polled);
        assert_untouched(&scheduler);
    });
}

/// R5, C5: an offer expires while its owner drops it. The units go to the rival once.
#[test]
fn r5_the_expiry_of_an_offer_against_the_drop_of_its_reservation() {
    model(|| {
        let (scheduler, mut driver, clock) = scheduler();
        let held = scheduler.try_reserve(gpu(2)).unwrap();
        let (slow, _) = queued(&scheduler, 2);
        let (mut rival, woken) = queued(&scheduler, 2);
        drop(held);
        clock.advance(EXPIRY);
        let cancel = thread::spawn(move || drop(slow));
        let _ = run(&mut driver, &Woken::new());
        cancel.join().unwrap();
        assert_eq!(woken.times(), 1);
        assert!(matches!(poll(&mut rival, &woken), Poll::Ready(Ok(_))));
        assert_untouched(&scheduler);
    });
}

/// The scheduler task goes to sleep while somebody queues who has a deadline: it sees the deadline or is woken for it.
#[test]
fn a_new_deadline_against_the_scheduler_task_that_goes_to_sleep() {
    model(|| {
        let (scheduler, mut driver, clock) = scheduler();
        let _held = scheduler.try_reserve(gpu(2)).unwrap();
        let task = Woken::new();
        assert!(run(&mut driver, &task).is_pending());
        let sleeps = thread::spawn({
            let task = Shared::clone(&task);
            move || {
                let _ = run(&mut driver, &task);
                driver
            }
        });
        let (mut waiting, woken) = (scheduler.reserve(gpu(1).deadline(EXPIRY)), Woken::new());
        assert!(poll(&mut waiting, &woken).is_pending());
        let mut driver = sleeps.join().unwrap();
        assert!(task.times() > 0, "nobody will end the wait");
        clock.advance(EXPIRY);
        let _ = run(&mut driver, &task);
        assert_eq!(woken.times(), 1);
        assert!(matches!(poll(&mut waiting, &woken), Poll::Ready(Err(ReserveError::Late { .. }))));
    });
}

/// The scheduler task goes to sleep while the scheduler is closed: it ends or is woken to end.
#[test]
fn p14_close_against_the_scheduler_task_that_goes_to_sleep() {
    model(|| {
        let (scheduler, mut driver, _clock) = scheduler();
        let task = Woken::new();
        let sleeps = thread::spawn({
            let task = Shared::clone(&task);
            move || {
                let polled = run(&mut driver, &task);
                (driver, polled)
            }
        });
        scheduler.close();
        let (mut driver, polled) = sleeps.join().unwrap();
        if polled.is_pending() {
            assert!(task.times() > 0, "it sleeps for ever");
            assert!(run(&mut driver, &task).is_ready());
        }
    });
}

/// `shutdown` goes to sleep while the last leases end: one is dropped, one is forgotten.
#[test]
fn shutdown_against_the_end_of_the_last_leases() {
    model(|| {
        let (scheduler, _driver, _clock) = scheduler();
        let (one, two) = (scheduler.try_reserve(gpu(1)).unwrap(), scheduler.try_reserve(gpu(1)).unwrap());
        let release = thread::spawn(move || drop(one));
        let forget = thread::spawn(move || two.forget());
        let woken = Woken::new();
        let waker = Waker::from(Shared::clone(&woken));
        let mut shutdown = std::pin::pin!(scheduler.shutdown());
        let mut polled = shutdown.as_mut().poll(&mut Context::from_waker(&waker));
        release.join().unwrap();
        forget.join().unwrap();
        if polled.is_pending() {
            assert!(woken.times() > 0, "it waits for ever");
            polled = shutdown.as_mut().poll(&mut Context::from_waker(&waker));
        }
        let Poll::Ready(stats) = polled else { panic!("no lease is left, and it still waits") };
        assert_eq!(stats.unwrap().budget(BudgetId::GPU).unwrap().free, 1);
    });
}
