//! The books by themselves.

use std::collections::BTreeSet;

use super::*;
use crate::policy::balance::Policy;

const NO_AGING: Aging = Aging { step: u64::MAX, idle: false, horizon: 0 };

/// Nobody gives up a seat.
fn firm(_job: JobId) -> Grip {
    Grip::Firm
}

fn floor(policy: Policy, desks: u64) -> Floor {
    let mut floor = Floor::new(Balancer::new(policy), 4, NO_AGING);
    (1..=desks).for_each(|id| floor.join(Desk::new(id, 1)));
    floor
}

fn arrive(floor: &mut Floor, job: JobId, priority: Priority, cost: u64) {
    floor.arrive(job, Card::new(priority, Rank::new(priority, u64::MAX, job), cost, None), 0);
}

fn start(job: JobId, worker: WorkerId) -> Action {
    Action::Start { job, worker }
}

/// Theirs runs a task and loses it; here every job is in exactly one place whatever happens to the workers.
#[test]
fn a_job_is_in_exactly_one_place_whatever_comes_and_goes() {
    let mut dice = fastrand::Rng::with_seed(11);
    let mut floor = floor(Policy::TwoChoices { seed: 3 }, 2);
    floor.aging = Aging { step: 20, idle: true, horizon: 10 };
    let (mut live, mut next) = (BTreeSet::new(), 100);
    for step in 0..4_000 {
        next += 1;
        let some = live.iter().nth(dice.usize(..live.len().max(1))).copied();
        match (dice.u8(..8), some) {
            (0..3, _) => {
                arrive(&mut floor, next, Priority::ALL[dice.usize(..5)], dice.u64(1..50));
                live.insert(next);
            }
            (3, _) if floor.desks.len() < 6 => floor.join(Desk::new(next, dice.u32(1..4))),
            (4, _) if !floor.desks.is_empty() => {
                let worker = floor.desks[dice.usize(..floor.desks.len())].id;
                floor.stop(worker, dice.bool(), step);
            }
            (5, Some(job)) => {
                floor.note(job, 5, dice.u8(..3) == 0, step);
                floor.remove(job);
                live.remove(&job);
            }
            (6, Some(job)) => floor.go_away(job),
            (_, Some(job)) => floor.come_back(job, step),
            _ => floor.tick(),
        }
        let grips = [Grip::Waits, Grip::Runs, Grip::Firm];
        for action in floor.turn(step, |job| grips[job as usize % 3]) {
            match action {
                Action::Displace { job, .. } if job % 3 == 0 => floor.come_back(job, step),
                Action::Displace { job, by } => floor.note_told(job, by, step + 5),
                Action::Strand { job, .. } => floor.come_back(job, step),
                Action::Start { .. } => {}
            }
        }
        // A job that was told stops some time later.
        let told: Vec<JobId> = floor.desks.iter().flat_map(|desk| desk.told.keys().copied()).collect();
        told.into_iter().filter(|_| dice.u8(..4) == 0).for_each(|job| floor.come_back(job, step));
        let seated: usize = floor.desks.iter().map(|desk| desk.seated.len()).sum();
        let away = floor.jobs.values().filter(|(_, place)| *place == Place::Away).count();
        assert_eq!(floor.queued() + seated + away, live.len());
        assert!(live.iter().eq(floor.jobs.keys()));
        assert!(floor.raises.iter().all(|(at, job)| *at > step && floor.jobs[job].0.raise_at == *at));
        for desk in &floor.desks {
            assert!(desk.seated.len() <= desk.capacity as usize);
            assert!(desk.told.keys().all(|job| desk.seated.contains(job)));
            let cost = |jobs: &mut dyn Iterator<Item = &JobId>| jobs.map(|job| floor.jobs[job].0.cost).sum::<u64>();
            assert_eq!(desk.queued_cost, cost(&mut desk.queue.values()));
            assert_eq!(desk.running_cost, cost(&mut desk.seated.iter()));
        }
    }
}

#[test]
fn an_urgent_job_takes_the_place_of_one_that_waits_and_none_that_runs() {
    let mut floor = floor(Policy::LeastLoaded, 1);
    arrive(&mut floor, 1, Priority::Low, 5);
    assert_eq!(floor.turn(0, |_| Grip::Waits), [start(1, 1)]);
    arrive(&mut floor, 2, Priority::Critical, 5);
    assert_eq!(floor.turn(0, firm), []);
    assert_eq!(floor.turn(0, |_| Grip::Waits), [Action::Displace { job: 1, by: 2 }]);
    floor.come_back(1, 0);
    assert_eq!(floor.turn(0, |_| Grip::Waits), [start(2, 1)]);
    arrive(&mut floor, 3, Priority::Critical, 5);
    assert_eq!(floor.turn(0, |_| Grip::Waits), [], "equals never displace each other");
}

#[test]
fn a_worker_with_room_takes_what_waits_elsewhere_but_its_own_first_inside_a_level() {
    let mut floor = floor(Policy::RoundRobin, 2);
    (1..=4).for_each(|job| arrive(&mut floor, job, Priority::Normal, 1));
    assert_eq!(floor.turn(0, firm), [start(1, 1), start(2, 2)]);
    // Three is queued at the first, four at the second.
    floor.remove(2);
    assert_eq!(floor.turn(0, firm), [start(4, 2)]);
    floor.remove(4);
    assert_eq!(floor.turn(0, firm), [start(3, 2)]);
    assert_eq!(floor.moves, 1);
    arrive(&mut floor, 5, Priority::Normal, 1);
    arrive(&mut floor, 6, Priority::Normal, 1);
    arrive(&mut floor, 7, Priority::High, 1);
    floor.turn(0, firm);
    floor.remove(3);
    assert_eq!(floor.turn(0, firm), [start(7, 2)]);
}
