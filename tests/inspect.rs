//! What a scheduler shows of itself: figures over time, periods, holders, snapshots, log lines, and what is stuck.

mod common;

use std::time::Duration;

use bursar::{Amounts, Budget, BudgetId, Config, Figure, Figures, Priority, Request, Share, Unit};
use common::log::Lines;
use common::{GPU, IO, MS, Rig, gpu, granted, host, io, queued, shown, take, three_loans};
use tracing::Level;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_mean_use_of_a_loan_is_weighted_with_time_and_asking_takes_a_sample() {
    let rig = Rig::loans(10, 10);
    let used = || rig.scheduler.stats().budget(GPU).unwrap().clone();
    assert_eq!(used().usage.mean, 0);
    let held = take(&rig.scheduler, gpu(10));
    assert_eq!(used().usage.mean, 10);
    rig.jump(3 * SECOND);
    used();
    drop(held);
    used();
    rig.jump(SECOND);
    let after = used();
    // The last sample at a moment counts: ten for three seconds, then none for one.
    assert_eq!((after.usage.mean, after.usage.over_ns), (7, 4_000_000_000));
    assert_eq!(after.usage.recent, [10, 0]);
    assert_eq!((after.usage.trend, after.utilisation()), (-10, Share::from_millionths(0).unwrap()));
    assert_eq!(after.mean_utilisation(), Share::from_millionths(700_000).unwrap());
}

#[test]
fn the_use_of_a_rate_is_its_speed_of_spending() {
    let rig = Rig::new(Config::new().with(Budget::rate(IO, 100).burst(1_000)));
    rig.scheduler.stats();
    drop(take(&rig.scheduler, io(300)));
    rig.jump(2 * SECOND);
    let stats = rig.scheduler.stats();
    let spent = stats.budget(IO).unwrap();
    assert_eq!((spent.per_second, spent.usage.mean, spent.usage.recent.as_slice()), (100, 150, &[150][..]));
    assert_eq!(spent.utilisation(), Share::WHOLE);
}

#[test]
fn the_scheduler_task_samples_as_often_as_configured_and_not_at_all_by_default() {
    let mut rig = Rig::new(three_loans().with_sample_every(100 * MS));
    let _held = take(&rig.scheduler, gpu(4));
    for _ in 0..5 {
        rig.jump(99 * MS);
        assert_eq!(rig.run(), 0);
        rig.jump(MS);
        assert_eq!(rig.run(), 1);
    }
    assert_eq!(rig.scheduler.stats().budget(GPU).unwrap().usage.recent, [4, 4, 4, 4, 4, 4][..5]);

    let mut quiet = Rig::new(three_loans());
    quiet.jump(3_600 * SECOND);
    assert_eq!(quiet.run(), 0);
}

#[test]
fn periods_take_nothing_from_each_other_and_lose_nothing() {
    let mut rig = Rig::loans(10, 10);
    let (mut often, mut seldom) = (rig.scheduler.period(), rig.scheduler.period());
    for round in 1..=3u64 {
        let held = take(&rig.scheduler, gpu(10));
        let mut waiting = queued(&rig.scheduler, gpu(round).priority(Priority::Low));
        rig.jump(Duration::from_millis(10 * round));
        drop(held);
        drop(granted(&mut waiting));
        rig.run();
        let period = often.next();
        let low = period.level(Priority::Low);
        assert_eq!((period.grants(), low.waited, period.level(Priority::Normal).immediate), (2, 1, 1));
        let waits = period.budget(GPU).unwrap().waits[Priority::Low.index()];
        assert_eq!(waits.count, 1);
        // Within 1 %, and of this round alone.
        assert!((9_900_000 * round..=10_100_000 * round).contains(&waits.max), "{waits:?}");
    }
    assert_eq!(often.next().grants(), 0);
    let all = seldom.next();
    assert_eq!((all.grants(), all.budget(GPU).unwrap().waits[Priority::Low.index()].count), (6, 3));
    assert_eq!(rig.scheduler.stats().grants(), 6);
}

#[test]
fn what_found_the_service_exhausted_and_what_is_refused_for_what_it_is_are_counted_apart() {
    let rig = Rig::loans(10, 10);
    let _held = take(&rig.scheduler, gpu(10));
    assert!(rig.scheduler.try_reserve(gpu(1)).is_err());
    let ask = |request: Request| assert!(tokio_test::task::spawn(rig.scheduler.reserve(request)).poll().is_ready());
    ask(gpu(1).deadline(Duration::ZERO));
    ask(gpu(11));
    ask(Request::new());
    ask(Request::new().amount(BudgetId::DISK, 1));
    rig.scheduler.close();
    ask(gpu(1));
    let stats = rig.scheduler.stats();
    let normal = stats.level(Priority::Normal);
    assert_eq!((normal.not_now, normal.late, normal.exhausted()), (1, 1, 2));
    assert_eq!((normal.never_fits, normal.malformed, normal.closed, normal.refused()), (1, 2, 1, 4));
}

#[test]
fn holders_know_how_long_they_have_held_and_leave_the_time_behind() {
    let rig = Rig::loans(10, 10);
    let mut first = take(&rig.scheduler, gpu(4).label("first"));
    rig.jump(2 * SECOND);
    let second = take(&rig.scheduler, gpu(1).label("second"));
    rig.jump(SECOND);
    let part = first.split(&Amounts::of(GPU, 1)).unwrap();
    let ages = |limit| {
        let snapshot = rig.scheduler.snapshot(limit);
        let ages = snapshot.holders.iter().map(|holder| (holder.label.to_string(), holder.held_for.as_secs()));
        (ages.collect::<Vec<_>>(), snapshot.labelled)
    };
    let all = vec![("first".into(), 3), ("second".into(), 1), ("first".into(), 3)];
    assert_eq!(ages(10), (all.clone(), 3));
    assert_eq!(ages(1), (all[..1].to_vec(), 3));
    drop((first, second, part));
    let holds = rig.scheduler.stats().holds;
    assert_eq!(holds.count, 3);
    assert!((2_970_000_000..=3_030_000_000).contains(&holds.max), "{holds:?}");
}

/// A lease that was split and put together again was held once.
#[test]
fn what_was_merged_is_held_on_and_is_timed_once_when_all_of_it_ends() {
    let rig = Rig::loans(10, 10);
    let mut whole = take(&rig.scheduler, gpu(4).label("whole"));
    let part = whole.split(&Amounts::of(GPU, 1)).unwrap();
    let other = take(&rig.scheduler, gpu(2).label("other"));
    rig.jump(SECOND);
    whole.merge(part).unwrap();
    whole.merge(other).unwrap();
    assert_eq!(rig.scheduler.stats().holds.count, 0);
    let [holder] = &rig.scheduler.holders(GPU)[..] else { panic!("one holder") };
    assert_eq!((&*holder.label, holder.amounts.get(GPU)), ("whole", 6));
    rig.jump(SECOND);
    drop(whole);
    let holds = rig.scheduler.stats().holds;
    assert_eq!(holds.count, 1);
    assert!((1_980_000_000..=2_020_000_000).contains(&holds.max), "{holds:?}");
}

#[test]
fn hold_times_of_a_period_are_those_of_leases_that_ended_in_it() {
    let rig = Rig::loans(10, 10);
    let hold = |time| {
        let lease = take(&rig.scheduler, gpu(1).label("chat"));
        rig.jump(time);
        drop(lease);
    };
    hold(SECOND);
    let mut period = rig.scheduler.period();
    assert_eq!(period.next().holds.count, 0);
    hold(2 * SECOND);
    let holds = period.next().holds;
    assert_eq!(holds.count, 1);
    assert!((1_980_000_000..=2_020_000_000).contains(&holds.max), "{holds:?}");
    assert_eq!((period.next().holds.count, rig.scheduler.stats().holds.count), (0, 2));
}

#[test]
fn those_that_wait_are_counted_by_the_level_of_their_request_also_when_they_have_risen() {
    let mut rig = Rig::new(three_loans().with_aging_step(SECOND));
    let held = take(&rig.scheduler, gpu(10));
    let low = queued(&rig.scheduler, gpu(1).priority(Priority::Low));
    let mut high = queued(&rig.scheduler, gpu(1).priority(Priority::High));
    rig.pass(3 * SECOND);
    assert_eq!(rig.scheduler.explain_all(2)[0].level, Priority::High);
    assert_eq!(rig.scheduler.stats().waiting_at, [0, 1, 0, 1, 0]);
    drop(low);
    assert_eq!(rig.scheduler.stats().waiting_at, [0, 1, 0, 0, 0]);
    drop(held);
    drop(granted(&mut high));
    assert_eq!(rig.scheduler.stats().waiting_at, [0; Priority::COUNT]);
    rig.scheduler.verify().unwrap();
}

#[test]
fn a_snapshot_shows_who_waits_who_holds_modules_and_what_others_publish() {
    let rig = Rig::loans(10, 10);
    let module = rig.scheduler.module("vision").weight(3).minimum(GPU, 2).cap(GPU, 8).register().unwrap();
    let _held = take(&rig.scheduler, gpu(8).of(&module).label("batch"));
    let _capped = queued(&rig.scheduler, gpu(1).of(&module).label("more"));
    rig.scheduler.publish("pool", || vec![Figure::counter("hits", 7, Unit::Count)]);
    rig.scheduler.publish("pool", || vec![Figure::counter("hits", 8, Unit::Count)]);
    let snapshot = rig.scheduler.snapshot(10);
    assert_eq!(snapshot.waiting.len(), 1);
    let [vision] = &snapshot.modules[..] else { panic!("{:?}", snapshot.modules) };
    assert_eq!((vision.name.as_str(), vision.weight, vision.waiting, vision.parked), ("vision", 3, 1, 1));
    let [share] = vision.shares[..] else { panic!("{:?}", vision.shares) };
    assert_eq!((share.budget, share.used, share.minimum, share.cap), (GPU, 8, 2, Some(8)));
    assert_eq!(snapshot.sections.len(), 1);
    assert_eq!((&*snapshot.sections[0].name, snapshot.sections[0].figures[0].value), ("pool", 8));
    let text = snapshot.to_string();
    let made_at = snapshot.holders[0].made_at.expect("known");
    assert!(made_at.file().ends_with("inspect.rs"), "{made_at}");
    for part in ["first of 1 that wait", "`batch` of vision", "module vision: weight 3, 1 waiting", "pool: hits 8"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    rig.scheduler.withdraw("pool");
    assert!(rig.scheduler.snapshot(0).sections.is_empty());
}

/// Figures of something that may be dropped.
struct Until(std::sync::Weak<u64>);

impl Figures for Until {
    fn figures(&self) -> Vec<Figure> {
        self.0.upgrade().map(|value| vec![Figure::gauge("value", *value, Unit::Count)]).unwrap_or_default()
    }

    fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

#[test]
fn what_is_gone_is_shown_no_more_and_what_has_its_name_meanwhile_stays() {
    let rig = Rig::loans(10, 10);
    let (first, second) = (std::sync::Arc::new(1), std::sync::Arc::new(2));
    rig.scheduler.publish("part", Until(std::sync::Arc::downgrade(&first)));
    assert_eq!(shown(&rig.scheduler, "part").unwrap()["value"], 1);
    drop(first);
    assert_eq!(shown(&rig.scheduler, "part"), None);
    rig.scheduler.publish("part", Until(std::sync::Arc::downgrade(&second)));
    assert_eq!(shown(&rig.scheduler, "part").unwrap()["value"], 2);
}

#[test]
fn a_source_that_panics_shows_nothing_and_is_not_taken_for_gone() {
    struct Broken;
    impl Figures for Broken {
        fn figures(&self) -> Vec<Figure> {
            panic!("no figures")
        }
        fn is_gone(&self) -> bool {
            panic!("no idea")
        }
    }
    let rig = Rig::loans(10, 10);
    rig.scheduler.publish("broken", Broken);
    assert!(shown(&rig.scheduler, "broken").unwrap().is_empty());
    assert!(shown(&rig.scheduler, "broken").unwrap().is_empty());
}

#[cfg(feature = "serde")]
#[test]
fn a_snapshot_is_written_out_as_json_would_be() {
    let rig = Rig::loans(10, 10);
    let _held = take(&rig.scheduler, gpu(10).label("batch"));
    let _waiting = queued(&rig.scheduler, gpu(1).label("chat"));
    let text = toml::Value::try_from(rig.scheduler.snapshot(10)).unwrap();
    assert_eq!(text["holders"][0]["amounts"][GPU.to_string()].as_integer(), Some(10));
    assert_eq!(text["waiting"][0]["label"].as_str(), Some("chat"));
}

#[test]
fn what_is_stuck_is_said_with_who_waits_and_who_holds_and_less_often_the_longer_it_lasts() {
    let lines = Lines::get();
    let mut rig = Rig::new(three_loans().with_stuck_after(SECOND));
    rig.pass(100 * SECOND);
    let hog = take(&rig.scheduler, gpu(10).label("hog"));
    let mut chat = queued(&rig.scheduler, gpu(1).label("chat"));
    rig.run();
    rig.pass(999 * MS);
    assert_eq!(lines.of("bursar::stuck"), []);
    rig.pass(MS);
    let said = lines.of("bursar::stuck");
    assert_eq!((said.len(), said[0].0), (1, Level::WARN));
    assert!(said[0].1.contains("chat") && said[0].1.contains("`hog`"), "{}", said[0].1);
    // Again after two seconds, then four.
    for (time, times) in [(1_999, 1), (1, 2), (3_999, 2), (1, 3)] {
        rig.pass(time * MS);
        assert_eq!(lines.of("bursar::stuck").len(), times);
    }
    // Something else is granted: it moves, and the time begins anew.
    drop(take(&rig.scheduler, host(1)));
    rig.pass(8 * SECOND);
    assert_eq!(lines.of("bursar::stuck").len(), 3);
    rig.pass(SECOND);
    assert_eq!(lines.of("bursar::stuck").len(), 4);
    drop(hog);
    drop(granted(&mut chat));
    rig.pass(100 * SECOND);
    assert_eq!(lines.of("bursar::stuck").len(), 4);
}

#[test]
fn a_wait_is_told_at_debug_in_the_task_it_is_about_and_a_grant_without_one_not_at_all() {
    let lines = Lines::get();
    let rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    assert_eq!(lines.of("bursar::grant"), []);
    let mut chat = queued(&rig.scheduler, gpu(1).label("chat").priority(Priority::High));
    let waits = lines.of("bursar::reserve");
    assert_eq!((waits.len(), waits[0].0), (1, Level::DEBUG));
    assert!(waits[0].1.contains("chat") && waits[0].1.contains("HIGH"), "{}", waits[0].1);
    drop(held);
    drop(granted(&mut chat));
    assert_eq!(lines.of("bursar::grant").len(), 1);
    assert!(tokio_test::task::spawn(rig.scheduler.reserve(gpu(11).label("huge"))).poll().is_ready());
    let failed = &lines.of("bursar::reserve")[1].1;
    assert!(failed.contains("huge") && failed.contains("failed"), "{failed}");
}
