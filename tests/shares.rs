//! Shares of modules inside a level (`Order::Shares`): what they get is equal, whatever they ask for at a time.

mod common;

use std::collections::VecDeque;

use bursar::{Budget, Config, Order, Priority, Request};
use common::*;

/// Strict order, so that what is granted is what the order says.
fn rig() -> Rig {
    let loans = Config::new().with(Budget::loan(GPU, 8)).with(Budget::loan(HOST, 8));
    Rig::new(Config { order: Order::Shares, bypass_limit: 0, ..loans })
}

/// A module with so many requests in line.
struct Module {
    waiting: VecDeque<Waiting>,
    had: u64,
}

impl Module {
    fn new(rig: &Rig, name: &'static str, request: Request, count: usize) -> Self {
        let request = request.module(name);
        let waiting = (0..count).map(|_| queued(&rig.scheduler, request.clone())).collect();
        Module { waiting, had: 0 }
    }

    /// Takes what it was granted and gives it back at once.
    fn turn(&mut self) -> bool {
        let Some(mut first) = self.waiting.pop_front_if(|waiting| waiting.is_woken()) else { return false };
        let lease = granted(&mut first);
        self.had += lease.get(GPU).max(lease.get(HOST));
        drop(lease);
        true
    }
}

/// Serves modules until `each` says stop or nobody is granted any more.
fn serve(modules: &mut [Module], mut each: impl FnMut(&[Module]) -> bool) {
    while each(modules) {
        if !modules.iter_mut().any(Module::turn) {
            return;
        }
    }
}

/// Neither the size of requests nor their number counts.
#[test]
fn modules_get_the_same_whatever_they_ask_for_at_a_time() {
    let rig = rig();
    let held = take(&rig.scheduler, gpu(8).module("before"));
    let large = Module::new(&rig, "large", gpu(8), 50);
    let small = Module::new(&rig, "small", gpu(2), 400);
    drop(held);
    serve(&mut [large, small], |modules| {
        let [large, small] = modules else { return false };
        // Several small ones are granted together.
        assert!(large.had.abs_diff(small.had) <= 16, "{} and {}", large.had, small.had);
        large.had < 400 && small.had < 400
    });
}

/// A request costs its largest part of any budget: modules that press on different budgets share fairly too.
#[test]
fn the_dominant_part_of_a_request_is_what_counts() {
    let rig = rig();
    let held = take(&rig.scheduler, gpu(8).host(8u64).module("before"));
    let on_gpu = Module::new(&rig, "gpu", gpu(8).host(1u64), 50);
    let on_host = Module::new(&rig, "host", gpu(1).host(8u64), 50);
    drop(held);
    serve(&mut [on_gpu, on_host], |modules| {
        assert!(modules[0].had.abs_diff(modules[1].had) <= 8);
        modules[0].had < 400
    });
}

#[test]
fn a_module_that_was_idle_has_neither_lost_nor_saved_anything() {
    let rig = rig();
    let held = take(&rig.scheduler, gpu(8).module("busy"));
    let busy = Module::new(&rig, "busy", gpu(8), 100);
    drop(held);
    let mut modules = [busy];
    serve(&mut modules, |modules| modules[0].had < 400);
    let [busy] = modules;
    let idle = Module::new(&rig, "idle", gpu(8), 50);
    let (before, mut longest) = (busy.had, 0);
    serve(&mut [busy, idle], |modules| {
        longest = longest.max(modules[1].had.abs_diff(modules[0].had - before));
        modules[1].had < 160
    });
    assert!(longest <= 16, "{longest}");
}

/// P49: modules that asked long ago, and ask no more, take nothing of the shares of those that do.
#[test]
fn p49_modules_that_ask_for_nothing_do_not_dilute_the_shares_of_the_others() {
    let rig = rig();
    for name in ["c", "d", "e", "f", "g"] {
        drop(take(&rig.scheduler, gpu(8).module(name)));
    }
    let held = take(&rig.scheduler, gpu(8).module("before"));
    let modules = [Module::new(&rig, "a", gpu(8), 40), Module::new(&rig, "b", gpu(4), 80)];
    drop(held);
    serve(&mut { modules }, |modules| {
        assert!(modules[0].had.abs_diff(modules[1].had) <= 16);
        modules[0].had < 300
    });
}

/// Levels go before shares, and each level has shares of its own.
#[test]
fn a_level_goes_before_a_share() {
    let rig = rig();
    for _ in 0..20 {
        drop(take(&rig.scheduler, gpu(8).module("greedy")));
    }
    let held = take(&rig.scheduler, gpu(8).module("greedy"));
    let mut modest = queued(&rig.scheduler, gpu(8).module("modest"));
    let mut greedy = queued(&rig.scheduler, gpu(8).module("greedy"));
    let mut urgent = queued(&rig.scheduler, gpu(8).module("greedy").priority(Priority::High));
    drop(held);
    drop(granted(&mut urgent));
    drop(granted(&mut modest));
    drop(granted(&mut greedy));
    assert_untouched(&rig.scheduler);
}

/// What is granted without a wait counts too: there is no way past the order.
#[test]
fn grants_that_did_not_wait_count() {
    let rig = rig();
    let held = take(&rig.scheduler, gpu(6).module("other"));
    drop(take(&rig.scheduler, gpu(2).module("greedy")));
    let mut greedy = queued(&rig.scheduler, gpu(8).module("greedy"));
    let mut modest = queued(&rig.scheduler, gpu(8).module("modest"));
    drop(held);
    drop(granted(&mut modest));
    drop(granted(&mut greedy));
}

/// Neither the wait nor the grant that ends it is charged beside the request.
#[test]
fn a_request_that_waited_costs_as_much_as_one_that_did_not() {
    let rig = rig();
    let held = take(&rig.scheduler, gpu(8).module("large"));
    let mut first = queued(&rig.scheduler, gpu(4).module("small"));
    let mut large = queued(&rig.scheduler, gpu(8).module("large"));
    let mut second = queued(&rig.scheduler, gpu(4).module("small"));
    drop(held);
    let both = (granted(&mut first), granted(&mut second));
    assert_waits(&mut large);
    drop(both);
    drop(granted(&mut large));
}

/// A refused attempt costs nothing.
#[test]
fn what_was_refused_is_not_charged() {
    let rig = rig();
    let held = take(&rig.scheduler, gpu(8).module("other"));
    for _ in 0..50 {
        assert!(rig.scheduler.try_reserve(gpu(8).module("refused")).is_err());
    }
    let mut refused = queued(&rig.scheduler, gpu(8).module("refused"));
    let mut after = queued(&rig.scheduler, gpu(8).module("after"));
    drop(held);
    drop(granted(&mut refused));
    drop(granted(&mut after));
}

/// Equal shares of one module, the nameless one, are in order of arrival.
#[test]
fn without_modules_it_is_the_order_of_arrival() {
    let rig = rig();
    let held = take(&rig.scheduler, gpu(8));
    let mut waiting: Vec<_> = (0..20).map(|at| queued(&rig.scheduler, gpu(8 - at % 3))).collect();
    drop(held);
    for waiting in &mut waiting {
        drop(granted(waiting));
    }
    assert_untouched(&rig.scheduler);
}

#[test]
fn a_way_that_can_never_be_had_is_not_charged() {
    let rig = rig();
    drop(take(&rig.scheduler, gpu(1 << 50).or(host(1)).module("once")));
    let held = take(&rig.scheduler, host(8).module("other"));
    let once = Module::new(&rig, "once", host(8), 10);
    let often = Module::new(&rig, "often", host(8), 10);
    drop(held);
    serve(&mut [once, often], |modules| {
        assert!(modules[0].had.abs_diff(modules[1].had) <= 16, "{} and {}", modules[0].had, modules[1].had);
        true
    });
}

/// Growth names no module: what it gets is charged to the one whose lease grows.
#[test]
fn what_a_lease_grows_by_is_charged_to_its_module() {
    let rig = rig();
    let [a, b] = ["a", "b"].map(|name| rig.scheduler.module(name).register().unwrap());
    let mut grown = take(&rig.scheduler, gpu(1).of(&a));
    let other = take(&rig.scheduler, gpu(1).of(&b));
    grown.try_grow(&bundle(&[(GPU, 5)])).unwrap();
    let last = take(&rig.scheduler, gpu(1));
    let mut first_to_ask = queued(&rig.scheduler, gpu(1).of(&a));
    let mut second = queued(&rig.scheduler, gpu(1).of(&b));
    drop(last);
    let second = granted(&mut second);
    assert_waits(&mut first_to_ask);
    drop((grown, other, second));
    drop(granted(&mut first_to_ask));
    assert_untouched(&rig.scheduler);
}
