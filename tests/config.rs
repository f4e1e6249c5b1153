//! Configurations: what can be run, what cannot and why, and how they are written to a file.

mod common;

use std::time::Duration;

use bursar::{
    Budget, BudgetId, BudgetKind, Bytes, Config, ConfigError, GIB, MIB, Machine, Scheduler, Supply, Tier, Unit,
};
use common::*;

const MOST: u64 = i64::MAX as u64;

fn fault(config: Config) -> ConfigError {
    let found = config.check().unwrap_err();
    assert_eq!(Scheduler::builder().config(config).build().unwrap_err(), found);
    found
}

fn with(budget: Budget) -> Config {
    Config::new().with(budget)
}

#[test]
fn p55_a_capacity_rate_or_burst_of_zero_is_refused() {
    let cases = [
        (Budget::loan(GPU, 0), "budget `gpu0.memory`: capacity is 0; it would never grant anything"),
        (Budget::rate(IO, 0), "budget `io`: rate is 0; it would never grant anything"),
        (Budget::rate(IO, 1).burst(0), "budget `io`: burst is 0; it would never grant anything"),
    ];
    for (budget, text) in cases {
        assert_eq!(fault(with(budget)).to_string(), text);
    }
}

#[test]
fn figures_beyond_what_can_be_counted_are_refused() {
    let cases = [
        (Budget::loan(GPU, MOST + 1), "budget `gpu0.memory`: capacity of 9223372036854775808 is more than 2^63 - 1"),
        (Budget::rate(IO, MOST + 1).burst(1), "budget `io`: rate of 9223372036854775808 is more than 2^63 - 1"),
        (
            Budget::rate(IO, 1).max_debt(MOST),
            "budget `io`: burst + max_debt of 9223372036854775808 is more than 2^63 - 1",
        ),
    ];
    for (budget, text) in cases {
        assert_eq!(fault(with(budget)).to_string(), text);
    }
    for budget in [Budget::loan(GPU, MOST), Budget::rate(IO, MOST), Budget::rate(IO, 1).max_debt(MOST - 1)] {
        with(budget).check().unwrap();
    }
}

#[test]
fn two_budgets_with_one_name_or_one_id_are_refused() {
    let names = with(Budget::loan(GPU, 1).named("memory")).with(Budget::loan(HOST, 1).named("memory"));
    assert_eq!(fault(names).to_string(), "two budgets are named `memory`");
    let ids = with(Budget::loan(GPU, 1).named("a")).with(Budget::rate(GPU, 1).named("b"));
    assert_eq!(fault(ids).to_string(), "budget gpu0 is configured twice, as `a` and `b`");
}

#[test]
fn a_name_that_would_spoil_a_report_is_refused() {
    let long = "x".repeat(65);
    for name in ["", "two words", "tab\t", "umlaut-ä", "`tick`", &long] {
        let found = fault(with(Budget::loan(GPU, 1).named(name)));
        assert_eq!(found, ConfigError::BadName { name: name.to_owned() });
        assert!(found.to_string().ends_with("is no name for a budget: use letters, digits, `.`, `_`, `-`, at most 64"));
    }
    with(Budget::loan(GPU, 1).named("x".repeat(64))).check().unwrap();
}

#[test]
fn a_configuration_without_a_budget_is_refused() {
    assert_eq!(fault(Config::new()).to_string(), "the configuration has no budget");
}

#[test]
fn a_setting_that_cannot_work_is_refused() {
    let good = || with(Budget::loan(GPU, 1));
    let cases = [
        (good().with_offer_expiry(Duration::ZERO), "setting `offer_expiry` is 0; it must be at least 1 ms"),
        (good().with_edf_horizon(Duration::ZERO), "setting `edf_horizon` is 0; it must be at least 1 ms"),
        (good().with_look_ahead(0), "setting `look_ahead` is 0; it must be at least 1"),
        (good().with_max_waiters(0), "setting `max_waiters` is 0; it must be between 1 and 2^28"),
        (good().with_max_waiters((1 << 28) + 1), "setting `max_waiters` is 268435457; it must be between 1 and 2^28"),
        (good().with_verify_every(Duration::ZERO), "setting `verify_every` is 0; it must be at least 1 ms"),
    ];
    for (config, text) in cases {
        assert_eq!(fault(config).to_string(), text);
    }
}

/// A program outside the crate cannot write a configuration out, so it must be able to set all there is to set.
#[test]
fn every_field_of_a_configuration_can_be_set_from_outside_by_method_and_by_name() {
    let budgets = || [Budget::loan(GPU, 5).named("memory").counted_in(Unit::Count), Budget::rate(IO, 7)];
    let by_method = Config::new()
        .with_budgets(budgets())
        .with_offer_expiry(2 * MS)
        .with_look_ahead(3)
        .with_edf_horizon(4 * MS)
        .with_max_waiters(5)
        .with_verify_every(6 * MS);
    let mut by_name = Config::new();
    by_name.budgets.extend(budgets());
    (by_name.offer_expiry, by_name.edf_horizon, by_name.verify_every) = (2 * MS, 4 * MS, Some(6 * MS));
    (by_name.look_ahead, by_name.max_waiters) = (3, 5);
    assert_eq!(by_method, by_name);
    assert_eq!(by_method.clone().with_verify_every(None).verify_every, None);
    let mut budget = Budget::loan(GPU, 1);
    (budget.name, budget.unit, budget.supply) = ("memory".into(), Unit::Count, Supply::loan(5));
    assert_eq!(budget, by_method.budgets[0]);
    assert_eq!(Budget::rate(IO, 7).burst(2).max_debt(3).burst(7).max_debt(0).supply, Supply::rate(7));
}

#[test]
fn a_time_without_end_in_a_configuration_means_never() {
    let settings = Config::new().with_offer_expiry(Duration::MAX).with_edf_horizon(Duration::MAX);
    let mut rig = Rig::new(settings.with_verify_every(Duration::MAX).with(Budget::loan(GPU, 10)));
    let held = take(&rig.scheduler, gpu(10));
    let (mut first, mut second) = (queued(&rig.scheduler, gpu(10)), queued(&rig.scheduler, gpu(10)));
    drop(held);
    rig.pass(Duration::from_secs(1_000_000_000));
    assert_waits(&mut second);
    drop(granted(&mut first));
    drop(granted(&mut second));
    assert_untouched(&rig.scheduler);
}

#[test]
fn a_scheduler_task_needs_a_runtime_with_a_clock() {
    let builder = || Scheduler::builder().gpu(1u64);
    assert_eq!(builder().spawn().unwrap_err(), ConfigError::NoRuntime);
    let timeless = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = timeless.enter();
    assert_eq!(builder().spawn().unwrap_err(), ConfigError::NoTime);
    assert_eq!(
        [ConfigError::NoRuntime, ConfigError::NoTime].map(|error| error.to_string()),
        [
            "no tokio runtime: call this inside one, or use `build` and poll the driver inside one",
            "the tokio runtime has no time driver: build it with `enable_time` or `enable_all`",
        ]
    );
}

#[test]
fn a_machine_becomes_budgets_for_its_memory_and_cores() {
    let config = Config::for_machine(Machine::new(128 * GIB, 16));
    let capacity = |id| match config.budget(id).unwrap().supply {
        Supply::Loan { capacity, .. } => capacity,
        other => panic!("{other:?}"),
    };
    assert_eq!([GPU, HOST, BudgetId::COMPUTE].map(capacity), [16 * GIB, 128 * GIB, 16]);
    assert_eq!(capacity(BudgetId::ATTENTION), 1_000_000);
    for machine in [Machine::new(0u64, 0), Machine::new(u64::MAX, u64::MAX / 2), Machine::new(1u64, 1)] {
        Config::for_machine(machine).check().unwrap();
    }
}

#[test]
fn gpus_that_were_found_have_budgets_by_their_numbers_that_lend_85_percent_and_no_other_gpu_has_one() {
    let machine = || Machine::new(GIB, 1);
    let budgets = |memories: &[u64]| {
        let config = Config::for_machine(machine().with_gpus(memories.iter().map(|&memory| Bytes(memory))));
        config.check().unwrap();
        let found = config.budgets.iter().filter_map(|budget| match (budget.id.kind(), budget.supply) {
            (BudgetKind::Space(space), Supply::Loan { capacity, .. }) => Some((space, capacity)),
            _ => None,
        });
        let gpus = found.filter(|(space, _)| space.tier == Tier::Gpu);
        gpus.map(|(space, capacity)| (space.index, capacity)).collect::<Vec<_>>()
    };
    assert_eq!(budgets(&[]), []);
    assert_eq!(budgets(&[80 * GIB, 0, 40 * GIB]), [(0, 68 * GIB), (2, 34 * GIB)]);
    assert_eq!(budgets(&[1, 100, u64::MAX]), [(1, 85), (2, (u128::from(MOST) * 85 / 100) as u64)]);
    let all: Vec<_> = (0..16).map(|number| (number, 17)).collect();
    assert_eq!(budgets(&[20; 30]), all);
    assert_eq!(Config::for_machine(machine()).budget(GPU).unwrap().supply, Supply::loan(GIB / 4));
}

#[test]
fn the_builder_makes_the_budgets_it_names() {
    let builder = Scheduler::builder().gpu(4 * GIB).host(8 * GIB).compute(6).attention().io(MIB).network(2 * MIB);
    let (scheduler, _driver) = builder.build().unwrap();
    let names: Vec<_> = scheduler
        .stats()
        .budgets
        .iter()
        .map(|b| (b.name.to_string(), b.rate, b.capacity, b.unit.show(b.capacity)))
        .collect();
    let expected = [
        ("gpu0.memory", false, 4 * GIB, "4.0 GiB"),
        ("host0.memory", false, 8 * GIB, "8.0 GiB"),
        ("compute", false, 6, "6"),
        ("attention", false, 1_000_000, "100 %"),
        ("io", true, MIB, "1.0 MiB"),
        ("network", true, 2 * MIB, "2.0 MiB"),
    ];
    let expected = expected.map(|(name, rate, capacity, shown)| (name.to_owned(), rate, capacity, shown.to_owned()));
    assert_eq!(names, expected);
}

#[cfg(feature = "serde")]
mod file {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;
    use proptest::sample::select;
    use proptest::test_runner::RngSeed;

    use super::*;

    #[track_caller]
    fn refused(text: &str, parts: &[&str]) {
        let error = Config::from_toml(text).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{parts:?} should be in: {error}");
    }

    fn gpu_with(capacity: &str) -> String {
        format!("[[budget]]\nid = \"gpu0\"\ncapacity = {capacity}\n")
    }

    #[test]
    fn a_configuration_survives_being_written_and_read() {
        let settings = Config::new()
            .with_offer_expiry(7 * MS)
            .with_look_ahead(3)
            .with_edf_horizon(2_500 * MS)
            .with_max_waiters(17)
            .with_verify_every(9 * MS);
        let configs = [
            Config::rros(),
            Config::for_machine(Machine::new(12_345_678_901u64, 7)),
            settings
                .with(Budget::loan(GPU, MOST))
                .with(Budget::rate(IO, 500).burst(7).max_debt(3))
                .with(Budget::loan(BudgetId::ATTENTION, 333_333))
                .with(Budget::loan(BudgetId::custom(31).unwrap(), 1).named("seats").counted_in(Unit::Bytes))
                .with(Budget::rate(BudgetId::custom(0).unwrap(), 250_001).counted_in(Unit::Share)),
        ];
        for config in configs {
            let text = config.to_toml().unwrap();
            assert_eq!(Config::from_toml(&text).unwrap(), config, "{text}");
        }
    }

    #[test]
    fn every_share_up_to_the_whole_survives_being_written_and_read() {
        for millionths in (1..=1_000_000).step_by(997).chain([999_999, 1_000_000]) {
            let config = with(Budget::loan(BudgetId::ATTENTION, millionths));
            assert_eq!(Config::from_toml(&config.to_toml().unwrap()).unwrap(), config);
        }
    }

    #[test]
    fn amounts_are_read_as_numbers_units_percents_and_fractions() {
        let read = |id: &str, capacity: &str| {
            let text = format!("[[budget]]\nid = \"{id}\"\ncapacity = {capacity}\n");
            Config::from_toml(&text).unwrap().budgets[0].supply
        };
        let loan = Supply::loan;
        assert_eq!(read("gpu3", "\"40 GiB\""), loan(40 * GIB));
        assert_eq!(read("gpu3", "\"1.5 MiB\""), loan(3 * MIB / 2));
        assert_eq!(read("host7", "4096"), loan(4_096));
        assert_eq!(read("disk3", "\"2 TB\""), loan(2_000_000_000_000));
        assert_eq!(read("attention", "\"25 %\""), loan(250_000));
        assert_eq!(read("attention", "0.5"), loan(500_000));
        assert_eq!(read("custom31", "8192"), loan(8_192));
    }

    #[test]
    fn what_is_no_amount_is_refused_with_its_figures() {
        refused(&gpu_with("nan"), &["line 3", "`NaN` is not a number"]);
        refused(&gpu_with("-nan"), &["is not a number"]);
        refused(&gpu_with("inf"), &["`inf` is more than 2^63 - 1 units"]);
        refused(&gpu_with("-5"), &["line 3", "`-5` is negative; an amount is zero or more"]);
        refused(&gpu_with("-0.5"), &["`-0.5` is negative"]);
        refused(&gpu_with("\"-5 GiB\""), &["gpu0.memory", "capacity", "`-5 GiB` is negative"]);
        refused(&gpu_with("\"5 parsecs\""), &["gpu0.memory", "`5 parsecs` has the wrong unit"]);
        refused(&gpu_with("\"99999999 TiB\""), &["gpu0.memory", "is more than 2^63 - 1 units"]);
        refused(&gpu_with("true"), &["line 3", "expected an amount"]);
        refused(&gpu_with("[1]"), &["line 3", "expected an amount"]);
    }

    #[test]
    fn p55_zero_in_a_file_is_refused_like_zero_in_code() {
        refused(&gpu_with("0"), &["budget `gpu0.memory`: capacity is 0; it would never grant anything"]);
        refused("[[budget]]\nid = \"io\"\nrate = 0", &["budget `io`: rate is 0"]);
        refused("[[budget]]\nid = \"io\"\nrate = 5\nburst = 0", &["budget `io`: burst is 0"]);
    }

    #[test]
    fn unknown_keys_and_names_are_refused_with_their_place() {
        refused("ofer_expiry_ms = 5", &["line 1, column 1", "unknown field `ofer_expiry_ms`"]);
        refused(&(gpu_with("1") + "capacitty = 3"), &["line 4, column 1", "unknown field `capacitty`"]);
        refused("[[budget]]\nid = \"gpu16\"\ncapacity = 1", &["line 2", "`gpu16` names no budget: use gpu0 to gpu15"]);
        refused("[[budget]]\ncapacity = 1", &["missing field `id`"]);
        refused(&(gpu_with("1") + "unit = \"parsecs\""), &["line 4", "parsecs"]);
        refused("[[budget]\n", &["line 1"]);
    }

    #[test]
    fn a_loan_that_is_also_a_rate_is_refused() {
        let text = "budget `gpu0.memory`: write either `capacity`, or `rate` with `burst` and `max_debt` if wanted";
        for more in ["rate = 5", "burst = 5", "max_debt = 5"] {
            refused(&(gpu_with("1") + more), &[text]);
        }
        refused("[[budget]]\nid = \"gpu0\"\nburst = 5", &[text]);
    }

    #[test]
    fn duplicates_in_a_file_are_refused() {
        let (gpu, host) = (gpu_with("1"), "[[budget]]\nid = \"host0\"\nname = \"gpu0.memory\"\ncapacity = 1\n");
        refused(&format!("{gpu}{host}"), &["two budgets are named `gpu0.memory`"]);
        let again = "[[budget]]\nid = \"gpu0\"\nname = \"again\"\ncapacity = 1\n";
        refused(&format!("{gpu}{again}"), &["budget gpu0 is configured twice, as `gpu0.memory` and `again`"]);
        refused("", &["the configuration has no budget"]);
    }

    #[test]
    fn a_setting_of_zero_in_a_file_is_refused() {
        for setting in ["offer_expiry", "edf_horizon", "verify_every"] {
            refused(&format!("{setting}_ms = 0\n{}", gpu_with("1")), &[setting, "it must be at least 1 ms"]);
        }
        refused(&format!("offer_expiry_ms = -1\n{}", gpu_with("1")), &["line 1", "-1"]);
    }

    /// What is written in a unit that the budget is not counted in is a mistake, not a number.
    #[test]
    fn an_amount_in_the_wrong_unit_is_refused() {
        let budget = |id: &str, capacity: &str| format!("[[budget]]\nid = \"{id}\"\ncapacity = {capacity}\n");
        refused(&budget("gpu0", "\"25 %\""), &["gpu0.memory", "25 %"]);
        refused(&budget("compute", "\"2 GiB\""), &["compute", "2 GiB"]);
        refused(&budget("attention", "\"1 GiB\""), &["attention", "1 GiB"]);
        // As text a fraction of a share would be read as half a byte, rounded up.
        refused(&budget("attention", "\"0.5\""), &["attention", "0.5"]);
    }

    /// Fractions are for shares. Half a byte is no byte.
    #[test]
    fn a_fraction_of_what_is_counted_in_whole_units_is_refused() {
        refused(&gpu_with("0.5"), &["gpu0.memory", "0.5"]);
        refused("[[budget]]\nid = \"compute\"\ncapacity = 2.5\n", &["compute", "2.5"]);
    }

    fn times() -> impl Strategy<Value = Duration> {
        let nano = Duration::from_nanos(1);
        let near = [Duration::ZERO, nano, MS - nano, MS, MS + nano, Duration::from_nanos(1 << 53), Duration::MAX];
        let far = [Duration::from_nanos(u64::MAX), Duration::from_millis(u64::MAX), Duration::MAX - nano];
        let far = far.into_iter().chain([MOST, MOST + 1].map(Duration::from_millis));
        prop_oneof![
            select(near.into_iter().chain(far).collect::<Vec<_>>()),
            any::<Duration>(),
            any::<u64>().prop_map(Duration::from_nanos),
            any::<u64>().prop_map(Duration::from_millis),
        ]
    }

    fn amounts() -> impl Strategy<Value = u64> {
        let halves = [MOST / 2, MOST - MOST / 2, MOST - 1, MOST, MOST + 1, u64::MAX];
        let all = [0, 1, 999_999, 1_000_000, 1 << 30, (1 << 53) - 1, 1 << 53, (1 << 53) + 1].into_iter().chain(halves);
        prop_oneof![select(all.collect::<Vec<_>>()), any::<u64>(), 1..MOST]
    }

    fn budgets() -> impl Strategy<Value = Budget> {
        let ids = (0..BudgetId::LIMIT).filter_map(BudgetId::from_index).collect::<Vec<_>>();
        let supplies = (any::<bool>(), amounts(), amounts(), prop_oneof![Just(0), amounts()]);
        let units = select(vec![Unit::Bytes, Unit::Share, Unit::Count]);
        let names =
            prop_oneof![3 => Just(None), 1 => any::<String>().prop_map(Some), 1 => "[a-z]{1,64}".prop_map(Some)];
        (select(ids), supplies, units, names).prop_map(|(id, (rate, first, second, third), unit, name)| {
            let rate = rate.then(|| Budget::rate(id, first).burst(second).max_debt(third));
            let budget = rate.unwrap_or(Budget::loan(id, first)).counted_in(unit);
            name.map_or(budget.clone(), |name| budget.named(name))
        })
    }

    fn configs() -> impl Strategy<Value = Config> {
        let counts = || amounts().prop_map(|amount| usize::try_from(amount).unwrap_or(usize::MAX));
        let waiters = prop_oneof![3 => 1usize..1 << 28, 1 => counts()];
        let settings = (times(), counts(), times(), waiters, option::of(times()));
        (vec(budgets(), 0..3), settings).prop_map(|(budgets, (expiry, look_ahead, horizon, waiters, verify))| {
            let config = Config::new().with_budgets(budgets).with_offer_expiry(expiry).with_look_ahead(look_ahead);
            config.with_edf_horizon(horizon).with_max_waiters(waiters).with_verify_every(verify)
        })
    }

    /// The same every time.
    fn cases() -> ProptestConfig {
        let rng_seed = RngSeed::Fixed(1);
        ProptestConfig { cases: 4_000, rng_seed, failure_persistence: None, ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn whatever_can_be_run_survives_being_written_and_read_and_nothing_else_becomes_what_can(config in configs()) {
            match (config.check(), config.to_toml()) {
                (Ok(()), written) => {
                    let text = written.unwrap();
                    prop_assert_eq!(Config::from_toml(&text), Ok(config), "{}", text);
                }
                (Err(_), Err(refused)) => prop_assert!(matches!(refused, ConfigError::Syntax(_))),
                (Err(_), Ok(text)) => prop_assert!(Config::from_toml(&text).is_err(), "{}", text),
            }
        }
    }

    #[test]
    fn the_largest_figures_and_times_there_are_survive_being_written_and_read() {
        let settings = Config::new().with_offer_expiry(Duration::MAX).with_edf_horizon(Duration::MAX);
        let config = settings
            .with_verify_every(Duration::MAX)
            .with_look_ahead(usize::MAX)
            .with_max_waiters(1 << 28)
            .with(Budget::loan(GPU, MOST))
            .with(Budget::rate(BudgetId::ATTENTION, MOST).burst(MOST));
        let text = config.to_toml().unwrap();
        assert_eq!(Config::from_toml(&text), Ok(config), "{text}");
    }

    #[test]
    fn a_time_is_read_as_a_number_or_as_text_and_refused_when_it_is_neither_or_too_long() {
        let read = |time: &str| {
            Config::from_toml(&format!("offer_expiry_ms = {time}\n{}", gpu_with("1"))).map(|config| config.offer_expiry)
        };
        for (time, micros) in [("2", 2_000), ("1.5", 1_500), ("\"1.5\"", 1_500), ("\"2\"", 2_000)] {
            assert_eq!(read(time), Ok(Duration::from_micros(micros)), "{time}");
        }
        for time in ["\"\"", "\"soon\"", "\"1.0000001\"", "\"-1\"", "\"1e3\"", "\".5\""] {
            assert!(read(time).unwrap_err().to_string().contains("is not a number"), "{time}");
        }
        for time in ["\"18446744073709551616000\"", "1e300", "\"99999999999999999999999999999999999999999\""] {
            assert!(read(time).is_err(), "{time}");
        }
    }

    /// What a file cannot hold is refused, or written exactly, but not changed in silence.
    #[test]
    fn a_time_that_a_file_cannot_hold_is_not_changed_in_silence() {
        let config = with(Budget::loan(GPU, 1)).with_offer_expiry(Duration::from_micros(1_500));
        if let Ok(text) = config.to_toml() {
            assert_eq!(Config::from_toml(&text).unwrap(), config);
        }
    }
}
