//! Growth and verdicts.

use bursar::{Activity, Growth};

use super::*;

/// Polls a growth once.
fn poll_growth(growth: &mut Growth<'_>, woken: &Shared<Woken>) -> Poll<Result<(), ReserveError>> {
    let waker = Waker::from(Shared::clone(woken));
    Pin::new(growth).poll(&mut Context::from_waker(&waker))
}

/// C7, R1: a lease grows while another ends. It is granted at once or woken for it, and the two are one lease then.
#[test]
fn c7_growth_against_the_release_that_it_needs() {
    model(|| {
        let (scheduler, _driver, _clock) = scheduler();
        let (mut lease, other) = (scheduler.try_reserve(gpu(1)).unwrap(), scheduler.try_reserve(gpu(1)).unwrap());
        let release = thread::spawn(move || drop(other));
        let (more, woken) = (Amounts::of(BudgetId::GPU, 1), Woken::new());
        let mut growth = lease.grow(&more);
        let mut polled = poll_growth(&mut growth, &woken);
        release.join().unwrap();
        if polled.is_pending() {
            assert_eq!(woken.times(), 1, "the wake-up was lost");
            polled = poll_growth(&mut growth, &woken);
        }
        assert!(matches!(polled, Poll::Ready(Ok(()))));
        drop(growth);
        assert_eq!(lease.get(BudgetId::GPU), 2);
        drop(lease);
        assert_untouched(&scheduler);
    });
}

/// C7, C5: a growth is dropped while the release that it waits for is made. The lease is as it was.
#[test]
fn c5_a_release_against_the_drop_of_a_growth() {
    model(|| {
        let (scheduler, _driver, _clock) = scheduler();
        let (mut lease, other) = (scheduler.try_reserve(gpu(1)).unwrap(), scheduler.try_reserve(gpu(1)).unwrap());
        let more = Amounts::of(BudgetId::GPU, 1);
        let mut growth = lease.grow(&more);
        assert!(poll_growth(&mut growth, &Woken::new()).is_pending());
        let release = thread::spawn(move || drop(other));
        drop(growth);
        release.join().unwrap();
        assert_eq!(lease.get(BudgetId::GPU), 1);
        drop(lease);
        assert_untouched(&scheduler);
    });
}

/// P36: the time of a verdict comes while what would end the deadlock is released. Whoever comes first, the wait ends
/// once: with the grant, or with the verdict.
#[test]
fn p36_a_verdict_against_the_release_that_makes_it_needless() {
    model(|| {
        let (scheduler, mut driver, clock) = Scheduler::builder().gpu(2u64).build_by_hand().unwrap();
        let (one, two) = (Activity::new("one"), Activity::new("two"));
        let holds = |of: &Activity| scheduler.try_reserve(gpu(1).activity(of)).unwrap();
        let (kept, released) = (holds(&one), holds(&two));
        let (mut first, first_woken) = (scheduler.reserve(gpu(1).activity(&one)), Woken::new());
        let (mut second, second_woken) = (scheduler.reserve(gpu(1).activity(&two)), Woken::new());
        assert!(poll(&mut first, &first_woken).is_pending());
        assert!(poll(&mut second, &second_woken).is_pending());
        clock.advance(Duration::from_millis(10));
        let release = thread::spawn(move || drop(released));
        let _ = run(&mut driver, &Woken::new());
        release.join().unwrap();
        assert_eq!(first_woken.times(), 1);
        let granted = poll(&mut first, &first_woken);
        assert!(matches!(granted, Poll::Ready(Ok(_))));
        let told = scheduler.stats().levels.iter().map(|level| level.rolled_back).sum::<u64>();
        assert_eq!(second_woken.times() as u64, told);
        match poll(&mut second, &second_woken) {
            Poll::Ready(ended) => assert!(matches!(ended, Err(ReserveError::RolledBack { .. })) && told == 1),
            Poll::Pending => assert_eq!(told, 0),
        }
        drop((granted, kept, first, second));
        assert_untouched(&scheduler);
    });
}

/// P36: a grant is taken up, without the lock, while the engine looks for holders that wait for each other: the
/// activity has another wait that is stuck. It is told only once the grant was taken up or has lain for a while, and
/// the time of the next look is never lost.
#[test]
fn p36_a_verdict_against_the_poll_that_takes_up_a_grant_of_the_same_activity() {
    model(|| {
        let builder = Scheduler::builder().gpu(2u64).host(1u64);
        let (scheduler, mut driver, clock) = builder.build_by_hand().unwrap();
        let query = Activity::new("query");
        let kept = scheduler.try_reserve(gpu(1).activity(&query)).unwrap();
        let other = scheduler.try_reserve(Request::new().host(1u64)).unwrap();
        let (mut joined, joined_woken) = (scheduler.reserve(Request::new().host(1u64).activity(&query)), Woken::new());
        let (mut stuck, stuck_woken) = (scheduler.reserve(gpu(2).activity(&query)), Woken::new());
        assert!(poll(&mut joined, &joined_woken).is_pending());
        assert!(poll(&mut stuck, &stuck_woken).is_pending());
        drop(other);
        clock.advance(Duration::from_millis(10));
        let looks = thread::spawn(move || {
            let _ = run(&mut driver, &Woken::new());
            driver
        });
        let taken = poll(&mut joined, &joined_woken);
        assert!(matches!(taken, Poll::Ready(Ok(_))));
        let mut driver = looks.join().unwrap();
        for _ in 0..2 {
            assert_eq!(stuck_woken.times(), 0);
            clock.advance(Duration::from_millis(10));
            let task = Woken::new();
            let _ = run(&mut driver, &task);
            if stuck_woken.times() == 1 {
                break;
            }
            assert!(task.times() > 0, "nobody will look again");
        }
        assert!(matches!(poll(&mut stuck, &stuck_woken), Poll::Ready(Err(ReserveError::Split { .. }))));
        drop((taken, kept, joined, stuck));
        assert_eq!(scheduler.stats().leases, 0);
        scheduler.verify().unwrap();
    });
}
