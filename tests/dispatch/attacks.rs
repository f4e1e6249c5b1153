//! Callers' code that misbehaves inside a dispatcher, and requests that cross each other.

use super::*;

/// The urgent one takes the seat of the cancelled one in the same turn.
#[tokio::test(start_paused = true)]
async fn a_job_that_is_cancelled_while_it_gives_up_its_seat_is_not_queued_again() {
    let house = House::new(10, Policy::LeastLoaded);
    let hog = take(&house.scheduler, gpu(10));
    let _worker = house.worker("only", 1);
    let low = house.submit(7, Priority::Low);
    settle().await;
    low.cancel();
    let urgent = house.submit(1, Priority::Critical);
    settle().await;
    assert_eq!(house.times.stats().ended, 1);
    drop(hog);
    assert!(matches!(low.await, Err(TaskError::Cancelled { .. })));
    urgent.await.unwrap();
    assert_eq!(house.log(), [("only", 1)]);
    house.assert_accounted();
}
