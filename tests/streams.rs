//! Streams whose items wait for their resources.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bursar::tasks::ReserveExt;
use bursar::{ReserveError, Scheduler};
use common::*;
use futures::{StreamExt, stream};

/// Numbers from one, and how many were taken.
fn numbers(count: u64) -> (impl futures::Stream<Item = u64> + Unpin, Arc<AtomicU64>) {
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&taken);
    (stream::iter(1..=count).inspect(move |_| _ = counted.fetch_add(1, Ordering::Relaxed)), taken)
}

fn with_gpu(units: u64) -> Scheduler {
    Scheduler::builder().gpu(units).spawn().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_item_is_taken_when_the_one_before_has_its_lease() {
    let scheduler = with_gpu(3);
    let (numbers, taken) = numbers(4);
    let mut leased = numbers.reserve_with(&scheduler, |_| gpu(2));
    let (first, lease) = leased.next().await.unwrap().unwrap();
    assert_eq!((first, lease.get(GPU)), (1, 2));
    assert!(futures::poll!(leased.next()).is_pending());
    assert!(futures::poll!(leased.next()).is_pending());
    assert_eq!(taken.load(Ordering::Relaxed), 2, "the third is not taken while the second waits");
    drop(lease);
    assert_eq!(leased.next().await.unwrap().unwrap().0, 2);
    drop(leased);
    assert_untouched(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_limit_and_no_more_than_there_is_run_at_once() {
    for (units, limit, most) in [(10, 3, 3), (4, 9, 2), (10, 0, 1)] {
        let scheduler = with_gpu(units);
        let (running, peak) = (AtomicU64::new(0), AtomicU64::new(0));
        let (numbers, taken) = numbers(20);
        let (runs, peaks, takes) = (&running, &peak, &taken);
        let done = numbers.reserve_with(&scheduler, |_| gpu(2)).for_each_reserved(limit, |number, lease| async move {
            let now = runs.fetch_add(1, Ordering::Relaxed) + 1;
            peaks.fetch_max(now, Ordering::Relaxed);
            tokio::time::sleep(MS).await;
            // One more may wait for its lease.
            assert!(takes.load(Ordering::Relaxed) <= number + most + 1);
            runs.fetch_sub(1, Ordering::Relaxed);
            drop(lease);
        });
        assert_eq!(done.await.unwrap(), 20);
        assert_eq!(peak.load(Ordering::Relaxed), most);
        assert_untouched(&scheduler);
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_can_never_have_what_it_needs_comes_back_with_the_reason() {
    let scheduler = with_gpu(3);
    let (numbers, taken) = numbers(9);
    let work = |_number, lease| async move {
        tokio::time::sleep(MS).await;
        drop(lease);
    };
    let refused = numbers.reserve_with(&scheduler, |number| gpu(*number)).for_each_reserved(9, work).await.unwrap_err();
    assert!(refused.item == 4 && matches!(refused.error, ReserveError::NeverFits(_)), "{refused}");
    assert_eq!(taken.load(Ordering::Relaxed), 4);
    assert_untouched(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_is_dropped_gives_everything_back() {
    let scheduler = with_gpu(3);
    let (numbers, _) = numbers(9);
    let endless = numbers.reserve_with(&scheduler, |_| gpu(1)).for_each_reserved(9, |_, lease| async move {
        std::future::pending::<()>().await;
        drop(lease);
    });
    assert!(tokio::time::timeout(MS, endless).await.is_err());
    assert_untouched(&scheduler);
}
