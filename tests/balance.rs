//! The balancing policies as plain data: RROS's traces with stated differences, and what a pitfall asks for.

use bursar::Priority;
use bursar::tasks::balance::{Balancer, Job, NoWorker, Policy, Service, State, Worker, assign};

const ALL: [Policy; 6] = [
    Policy::RoundRobin,
    Policy::LeastLoaded,
    Policy::PriorityBased,
    Policy::Predictive,
    Policy::TwoChoices { seed: 5 },
    Policy::Affinity,
];

fn job(priority: Priority, cost: u64) -> Job {
    Job { priority, cost }
}

/// How many of so many equal tasks each of RROS's modules a, b and c gets, with loads in tenths of theirs.
fn spread(policy: Policy, tasks: usize, cost: u64) -> [usize; 3] {
    let workers = [100, 50, 150].map(Worker::with_load);
    let queue = vec![job(Priority::Normal, cost); tasks];
    let assigned = assign(&mut Balancer::new(policy), &workers, &queue).unwrap();
    [0, 1, 2].map(|worker| assigned.iter().filter(|&&at| at == worker).count())
}

/// RROS test 7: theirs adds one for each task whatever it asks for, so all five go to the second. Ours does the same if
/// each costs one, and counts what they ask for if they say so.
#[test]
fn rros_test_7_the_least_loaded_worker_gets_a_task_and_its_cost() {
    assert_eq!(spread(Policy::LeastLoaded, 5, 10), [0, 5, 0]);
    assert_eq!(spread(Policy::LeastLoaded, 5, 50), [2, 3, 0]);
}

/// RROS S11: theirs gives 3, 9 and 0, as its hash map happens to list b before a; ours goes by registration.
#[test]
fn rros_s11_twelve_tasks_on_three_workers() {
    assert_eq!(spread(Policy::LeastLoaded, 12, 10), [4, 8, 0]);
    assert_eq!(spread(Policy::RoundRobin, 12, 10), [4, 4, 4]);
    assert_eq!(spread(Policy::PriorityBased, 12, 10), [4, 4, 4]);
    // Theirs: the same as the least loaded, always. Ours: as long as nobody has shown anything.
    assert_eq!(spread(Policy::Predictive, 12, 10), [4, 8, 0]);
}

/// Strict form of test 7: the prediction differs when what workers have shown says so.
#[test]
fn the_prediction_prefers_a_fast_worker_to_an_empty_one() {
    let mut workers = [20, 10].map(Worker::with_load);
    (workers[0].service, workers[1].service) = (shown(100), shown(1_000));
    let first = |policy| assign(&mut Balancer::new(policy), &workers, &[job(Priority::Normal, 10)]).unwrap()[0];
    assert_eq!((first(Policy::Predictive), first(Policy::LeastLoaded)), (0, 1));
}

/// RROS S12.
#[test]
fn rros_s12_urgent_tasks_weigh_more_than_they_cost() {
    let workers = [100, 50, 150].map(Worker::with_load);
    let queue = [job(Priority::Critical, 10), job(Priority::High, 10)];
    let mut balancer = Balancer::new(Policy::PriorityBased);
    assert_eq!(assign(&mut balancer, &workers, &queue).unwrap(), [1, 0]);
    assert_eq!(queue.map(|job| balancer.weighed(&job)), [100, 50]);
    assert_eq!(Priority::ALL[2..].iter().map(|&p| balancer.weighed(&job(p, 10))).collect::<Vec<_>>(), [10, 5, 1]);
}

/// RROS P9: theirs dies of a division by zero, and its answers depend on the platform and on earlier calls.
#[test]
fn rros_p9_nobody_to_assign_to_is_an_error_and_the_same_seed_gives_the_same_answers() {
    let queue: Vec<Job> = (0..200).map(|n| job(Priority::ALL[n % 5], 1 + n as u64 % 7)).collect();
    let mut draining = Worker::with_load(0);
    draining.state = State::Draining;
    for policy in ALL {
        let nobody = assign(&mut Balancer::new(policy), &[], &queue);
        assert_eq!(nobody, Err(NoWorker { workers: 0 }));
        assert_eq!(assign(&mut Balancer::new(policy), &[draining.clone()], &queue), Err(NoWorker { workers: 1 }));
        assert_eq!(assign(&mut Balancer::new(policy), &[], &[]), Ok(vec![]));
        let workers = [7, 3, 9, 0, 4].map(Worker::with_load);
        let once = assign(&mut Balancer::new(policy), &workers, &queue).unwrap();
        assert_eq!(once, assign(&mut Balancer::new(policy), &workers, &queue).unwrap(), "{policy:?}");
    }
    let choices = |seed| {
        let workers = [0; 9].map(Worker::with_load);
        assign(&mut Balancer::new(Policy::TwoChoices { seed }), &workers, &queue).unwrap()
    };
    assert_ne!(choices(1), choices(2));
}

/// The two-choice answers of one seed, written down: another platform must give them too.
#[test]
fn rros_p9_the_answers_of_a_seed_are_these() {
    let workers = [0; 12].map(Worker::with_load);
    let queue = [job(Priority::Normal, 3); 12];
    let assigned = assign(&mut Balancer::new(Policy::TwoChoices { seed: 42 }), &workers, &queue).unwrap();
    assert_eq!(assigned, TWO_CHOICES_OF_42);
}

const TWO_CHOICES_OF_42: [usize; 12] = [8, 3, 0, 2, 4, 6, 5, 7, 1, 9, 11, 10];

/// What a worker has shown that took so many nanoseconds for each ten units of cost.
fn shown(nanos: u64) -> Service {
    let mut service = Service::default();
    (1..=20).for_each(|at| service.record(10, nanos, at));
    service
}

/// Which of these workers one task of cost ten goes to.
fn goes_to(policy: Policy, workers: &[Worker]) -> usize {
    assign(&mut Balancer::new(policy), workers, &[job(Priority::Normal, 10)]).unwrap()[0]
}

const TWO_CHOICES: Policy = Policy::TwoChoices { seed: 1 };

#[test]
fn what_a_worker_has_to_do_is_divided_by_the_tasks_that_it_runs_at_once() {
    let with = |load, capacity| Worker { capacity, service: shown(1_000), ..Worker::with_load(load) };
    for policy in [Policy::LeastLoaded, Policy::Predictive, TWO_CHOICES] {
        assert_eq!(goes_to(policy, &[with(10, 1), with(40, 8)]), 1, "{policy:?}");
        assert_eq!(goes_to(policy, &[with(40, 8), with(10, 1)]), 0, "{policy:?}");
        assert_eq!(goes_to(policy, &[with(9_000, 8), with(10, 1)]), 1, "{policy:?}");
    }
    assert_eq!(goes_to(Policy::LeastLoaded, &[with(5, 4), with(1, 1)]), 1, "the same in whole units");
    assert_eq!(Worker::with_load(7).capacity, 1);
}

#[test]
fn an_empty_worker_is_no_better_than_a_fast_one_with_little_to_do() {
    let workers =
        [(20, 100), (0, 1_000)].map(|(load, nanos)| Worker { service: shown(nanos), ..Worker::with_load(load) });
    assert_eq!((goes_to(Policy::Predictive, &workers), goes_to(TWO_CHOICES, &workers)), (0, 0));
    let workers =
        [(90, 1_000), (0, 2_000)].map(|(load, nanos)| Worker { service: shown(nanos), ..Worker::with_load(load) });
    assert_eq!((goes_to(Policy::Predictive, &workers), goes_to(TWO_CHOICES, &workers)), (1, 1));
}

/// With two that have shown something, the slower one is the one in the middle.
#[test]
fn of_a_worker_that_has_shown_nothing_the_upper_median_is_expected() {
    let known =
        [(10, 100), (100, 1_000)].map(|(load, nanos)| Worker { service: shown(nanos), ..Worker::with_load(load) });
    let workers = [&known[..], &[Worker::with_load(0)]].concat();
    assert_eq!(goes_to(Policy::Predictive, &workers), 0);
    let many = [100, 100, 1_000, 1_000, 1_000].map(|nanos| Worker { service: shown(nanos), ..Worker::with_load(60) });
    let workers = [&many[..1], &[Worker::with_load(0)], &many[1..]].concat();
    assert_eq!(goes_to(Policy::Predictive, &workers), 0, "600 and 100 there, nothing and 1,000 for the new one");
}

/// P29: a worker without samples is as good as the others are in the middle, for every policy that looks at samples.
#[test]
fn p29_a_new_worker_is_neither_passed_over_nor_flooded() {
    let mut service = Service::default();
    (1..=20).for_each(|at| service.record(10, 1_000, at));
    let known = Worker { service, ..Worker::with_load(0) };
    let workers = [known.clone(), known.clone(), known, Worker::with_load(0)];
    for policy in ALL {
        let assigned = assign(&mut Balancer::new(policy), &workers, &[job(Priority::Normal, 10); 400]).unwrap();
        let new = assigned.iter().filter(|&&at| at == 3).count();
        assert!((80..=120).contains(&new), "{policy:?}: {new} of 400");
    }
}

/// P29: who fails fast has the shortest service times, and gets nothing for it as long as anybody else is there.
#[test]
fn p29_a_worker_that_fails_is_the_last_resort() {
    let mut failing = Worker::with_load(0);
    failing.state = State::Failing;
    for policy in ALL {
        let some = [failing.clone(), Worker::with_load(1_000), Worker::with_load(900)];
        let assigned = assign(&mut Balancer::new(policy), &some, &[job(Priority::High, 10); 50]).unwrap();
        assert!(!assigned.contains(&0), "{policy:?}");
        let only = assign(&mut Balancer::new(policy), &[failing.clone()], &[job(Priority::High, 10)]);
        assert_eq!(only, Ok(vec![0]), "{policy:?}");
    }
}

#[test]
fn affinity_follows_the_key_until_its_holder_is_far_busier_than_the_others() {
    let mut workers = [0; 4].map(|load| Worker { capacity: 2, ..Worker::with_load(load) });
    workers[2].holds_key = true;
    let assigned = assign(&mut Balancer::new(Policy::Affinity), &workers, &[job(Priority::Normal, 10); 100]).unwrap();
    let holders = assigned.iter().filter(|&&at| at == 2).count();
    assert_eq!(assigned[..2], [2, 2]);
    assert!((26..=33).contains(&holders), "{holders} of 100, a fair quarter and a quarter of that");
}

#[test]
fn a_holder_of_the_key_whose_seats_are_taken_is_held_to_the_mean_load() {
    let mut workers = [0; 4].map(Worker::with_load);
    workers[2].holds_key = true;
    let assigned = assign(&mut Balancer::new(Policy::Affinity), &workers, &[job(Priority::Normal, 10); 2]).unwrap();
    assert_eq!(assigned, [2, 0], "its one seat, then elsewhere: twenty would be four times the mean");
}

#[test]
fn extreme_figures_neither_overflow_nor_divide_by_zero() {
    let huge = Worker { load: u64::MAX, capacity: 0, tasks: u64::MAX, ..Worker::default() };
    let slow = Worker { service: shown(u64::MAX), ..huge.clone() };
    for policy in ALL {
        let queue = [job(Priority::Critical, u64::MAX), job(Priority::Idle, 0)];
        assert!(assign(&mut Balancer::new(policy), &[huge.clone(), huge.clone()], &queue).is_ok());
        assert!(assign(&mut Balancer::new(policy), &[slow.clone(), slow.clone()], &queue).is_ok());
    }
}
