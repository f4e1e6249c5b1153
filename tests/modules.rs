//! Modules: caps, minima, weights.

mod common;

use bursar::{
    Activity, Amounts, Budget, Config, ModuleError, Order, Priority, ReserveError, Scheduler, TryReserveError,
};
use common::*;

#[test]
fn r9_a_module_at_its_cap_waits_claims_nothing_and_goes_on_when_it_has_room() {
    let rig = Rig::loans(10, 10);
    let vision = rig.scheduler.module("vision").cap(GPU, 4).register().unwrap();
    let first = take(&rig.scheduler, gpu(3).of(&vision));
    let mut second = queued(&rig.scheduler, gpu(3).of(&vision));
    let others = take(&rig.scheduler, gpu(7));
    drop(others);
    assert_waits(&mut second);
    drop(take(&rig.scheduler, gpu(1).of(&vision)));
    drop(first);
    drop(granted(&mut second));
    assert_untouched(&rig.scheduler);
}

#[test]
fn r9_more_than_the_cap_never_fits_and_says_so() {
    let rig = Rig::loans(10, 10);
    let vision = rig.scheduler.module("vision").cap(GPU, 4).register().unwrap();
    match block_on(rig.scheduler.reserve(gpu(5).of(&vision))) {
        Err(ReserveError::NeverFits(short)) => assert_eq!((short.asked, short.limit), (5, 4)),
        other => panic!("{other:?}"),
    }
}

/// P48: what counts against a cap is the sum, however small the parts.
#[test]
fn p48_small_siblings_together_do_not_exceed_a_cap() {
    let rig = Rig::loans(10, 10);
    let vision = rig.scheduler.module("vision").cap(GPU, 4).register().unwrap();
    let held: Vec<_> = (0..4).map(|_| take(&rig.scheduler, gpu(1).of(&vision))).collect();
    assert!(matches!(rig.scheduler.try_reserve(gpu(1).of(&vision)), Err(TryReserveError::NotNow(_))));
    let mut parts = held.into_iter();
    let mut kept = parts.next().unwrap();
    drop(kept.split(&bundle(&[(GPU, 1)])).unwrap());
    drop(take(&rig.scheduler, gpu(1).of(&vision)));
    drop((kept, parts.collect::<Vec<_>>()));
    assert_untouched(&rig.scheduler);
}

#[test]
fn r9_an_unused_minimum_is_lent_out_and_got_back_before_anybody_below_critical() {
    let rig = Rig::loans(10, 10);
    let chat = rig.scheduler.module("chat").minimum(GPU, 4).register().unwrap();
    let lent = take(&rig.scheduler, gpu(5).priority(Priority::Low));
    let also = take(&rig.scheduler, gpu(5).priority(Priority::Low));
    let mut high = queued(&rig.scheduler, gpu(5).priority(Priority::High));
    let mut own = queued(&rig.scheduler, gpu(4).of(&chat).priority(Priority::Low));
    let mut beyond = queued(&rig.scheduler, gpu(1).of(&chat).priority(Priority::Low));
    drop(lent);
    let lease = granted(&mut own);
    assert_eq!(lease.priority(), Priority::Low, "its own level stays what it was");
    assert_waits(&mut high);
    drop(granted(&mut beyond));
    drop(also);
    drop(granted(&mut high));
    drop(lease);
    assert_untouched(&rig.scheduler);
}

/// R9: the claim of what is inside a minimum is hard from the start, so nothing of lower rank passes it.
#[test]
fn r9_what_is_inside_a_minimum_is_passed_by_nobody() {
    let rig = Rig::loans(10, 10);
    let chat = rig.scheduler.module("chat").minimum(GPU, 8).register().unwrap();
    let held = take(&rig.scheduler, gpu(5));
    let mut own = queued(&rig.scheduler, gpu(8).of(&chat));
    assert!(rig.scheduler.try_reserve(gpu(1).priority(Priority::High)).is_err());
    drop(take(&rig.scheduler, gpu(1).priority(Priority::Critical)));
    drop(held);
    drop(granted(&mut own));
    assert_untouched(&rig.scheduler);
}

#[test]
fn r9_what_a_module_gives_back_is_promised_to_its_next_request() {
    let rig = Rig::loans(10, 10);
    let chat = rig.scheduler.module("chat").minimum(GPU, 4).register().unwrap();
    let first = take(&rig.scheduler, gpu(4).of(&chat));
    let rest = take(&rig.scheduler, gpu(6));
    let mut high = queued(&rig.scheduler, gpu(4).priority(Priority::High));
    let mut next = queued(&rig.scheduler, gpu(4).of(&chat).priority(Priority::Idle));
    drop(first);
    drop(granted(&mut next));
    drop(granted(&mut high));
    drop(rest);
    assert_untouched(&rig.scheduler);
}

/// R9: what is inside a minimum ranks before all below `Critical` from its arrival on, also if it does not wait.
#[test]
fn r9_an_attempt_inside_a_minimum_passes_the_claims_of_others() {
    let rig = Rig::strict(10, 10);
    let chat = rig.scheduler.module("chat").minimum(GPU, 4).register().unwrap();
    let held = take(&rig.scheduler, gpu(6));
    let mut high = queued(&rig.scheduler, gpu(8).priority(Priority::High));
    assert!(matches!(rig.scheduler.try_reserve(gpu(4)), Err(TryReserveError::NotNow(_))));
    let inside = take(&rig.scheduler, gpu(4).of(&chat));
    drop(held);
    assert_waits(&mut high);
    drop(inside);
    drop(granted(&mut high));
    assert_untouched(&rig.scheduler);
}

/// R9: whoever is inside the minimum with what was promised to those before is served from it, nobody else.
#[test]
fn r9_a_minimum_is_promised_once() {
    let rig = Rig::loans(12, 10);
    let chat = rig.scheduler.module("chat").minimum(GPU, 4).register().unwrap();
    let mut held: Vec<_> = (0..3).map(|_| take(&rig.scheduler, gpu(4))).collect();
    let mut high = queued(&rig.scheduler, gpu(4).priority(Priority::High));
    let mut first = queued(&rig.scheduler, gpu(4).of(&chat));
    let mut second = queued(&rig.scheduler, gpu(4).of(&chat));
    held.pop();
    let inside = granted(&mut first);
    held.pop();
    let urgent = granted(&mut high);
    assert_waits(&mut second);
    held.pop();
    drop((inside, urgent, granted(&mut second)));
    assert_untouched(&rig.scheduler);
}

/// R9: what an offer that expired was promised may be promised to another until it is polled again. It is looked at
/// anew then, as one that arrives.
#[test]
fn r9_a_minimum_is_promised_once_though_an_offer_from_it_expired_and_is_asked_for_again() {
    let mut rig = Rig::loans(8, 10);
    let chat = rig.scheduler.module("chat").minimum(GPU, 4).register().unwrap();
    let (held, rest) = (take(&rig.scheduler, gpu(4)), take(&rig.scheduler, gpu(4)));
    let mut sleeper = queued(&rig.scheduler, gpu(4).of(&chat));
    drop(held);
    assert!(sleeper.is_woken());
    let mut second = queued(&rig.scheduler, gpu(4).of(&chat));
    rig.pass(200 * MS);
    let inside = granted(&mut second);
    let mut high = queued(&rig.scheduler, gpu(4).priority(Priority::High));
    assert!(sleeper.poll().is_pending());
    drop(rest);
    assert!(high.is_woken() && !sleeper.is_woken(), "nothing of the minimum is left");
    drop((inside, granted(&mut high)));
    drop(granted(&mut sleeper));
    assert_untouched(&rig.scheduler);
}

/// R9: it keeps the promise that it had if it is inside still, also where others of its module are looked at first and
/// nobody after them.
#[test]
fn r9_who_asks_again_and_is_still_inside_the_minimum_is_served_from_it() {
    let mut rig = Rig::new(Config::new().with(Budget::loan(GPU, 8)).with_look_ahead(1));
    let chat = rig.scheduler.module("chat").minimum(GPU, 4).register().unwrap();
    let own = take(&rig.scheduler, gpu(2).of(&chat));
    let (held, rest) = (take(&rig.scheduler, gpu(2)), take(&rig.scheduler, gpu(4)));
    let mut sleeper = queued(&rig.scheduler, gpu(2).of(&chat).priority(Priority::Low));
    drop(held);
    assert!(sleeper.is_woken());
    let beyond = queued(&rig.scheduler, gpu(4).of(&chat).priority(Priority::High));
    rig.pass(200 * MS);
    let between = take(&rig.scheduler, gpu(2));
    let high = queued(&rig.scheduler, gpu(2).priority(Priority::High));
    assert!(sleeper.poll().is_pending());
    drop(between);
    assert!(sleeper.is_woken() && !high.is_woken(), "two of the minimum are left");
    drop((granted(&mut sleeper), high, beyond, own, rest));
    assert_untouched(&rig.scheduler);
}

/// R9: growth makes a lease an activity of its own; what it holds stays its module's.
#[test]
fn r9_a_lease_that_grew_counts_against_its_cap_until_it_ends() {
    let rig = Rig::loans(10, 10);
    let vision = rig.scheduler.module("vision").cap(GPU, 4).register().unwrap();
    let mut lease = take(&rig.scheduler, gpu(2).of(&vision));
    lease.try_grow(&bundle(&[(GPU, 1)])).unwrap();
    assert!(rig.scheduler.try_reserve(gpu(2).of(&vision)).is_err());
    drop(lease);
    drop(take(&rig.scheduler, gpu(4).of(&vision)));
    assert_untouched(&rig.scheduler);
}

/// R9: what one waiter of a module is granted counts for the next in the same turn.
#[test]
fn r9_one_release_grants_a_module_no_more_than_its_cap() {
    let rig = Rig::loans(10, 10);
    let vision = rig.scheduler.module("vision").cap(GPU, 4).register().unwrap();
    let held = take(&rig.scheduler, gpu(10));
    let mut first = queued(&rig.scheduler, gpu(3).of(&vision));
    let mut second = queued(&rig.scheduler, gpu(3).of(&vision));
    drop(held);
    let lease = granted(&mut first);
    assert_waits(&mut second);
    drop(lease);
    drop(granted(&mut second));
    assert_untouched(&rig.scheduler);
}

#[test]
fn quotas_that_cannot_be_kept_are_refused_with_their_figures() {
    let rig = Rig::new(Config::new().with(Budget::loan(GPU, 10)).with(Budget::rate(IO, 10)));
    let scheduler = &rig.scheduler;
    let _chat = scheduler.module("chat").minimum(GPU, 6).register().unwrap();
    let refused = |error: Result<_, ModuleError>| error.map(|_: bursar::Module| ()).unwrap_err();
    let above = refused(scheduler.module("vision").minimum(GPU, 5).register());
    assert_eq!(above, ModuleError::Minimum { budget: GPU, minimum: 5, promised: 6, capacity: 10 });
    let name = refused(scheduler.module("chat").register());
    assert_eq!(name, ModuleError::DuplicateName { name: "chat".into() });
    assert_eq!(refused(scheduler.module("a").weight(0).register()), ModuleError::Weight { weight: 0 });
    assert_eq!(refused(scheduler.module("a").cap(HOST, 1).register()), ModuleError::NoLoan { budget: HOST });
    assert_eq!(refused(scheduler.module("a").cap(IO, 1).register()), ModuleError::NoLoan { budget: IO });
    let below = refused(scheduler.module("a").minimum(GPU, 3).cap(GPU, 2).register());
    assert_eq!(below, ModuleError::Cap { budget: GPU, minimum: 3, cap: 2 });
    assert!(above.to_string().contains("capacity of 10"), "{above}");
}

/// P54: a module that nobody registered, or that is gone, is no module with nothing: it has no quota at all.
#[test]
fn r9_a_module_without_a_cap_shows_none() {
    let rig = Rig::loans(10, 10);
    let _chat = rig.scheduler.module("chat").minimum(GPU, 4).register().unwrap();
    let _vision = rig.scheduler.module("vision").cap(GPU, 4).register().unwrap();
    let modules = rig.scheduler.snapshot(0).modules;
    let quotas: Vec<_> = modules.iter().map(|module| (module.shares[0].minimum, module.shares[0].cap)).collect();
    assert_eq!(quotas, [(4, None), (0, Some(4))]);
}

#[test]
fn p54_a_module_that_is_gone_leaves_its_leases_and_waiters_as_anybody_elses() {
    let rig = Rig::loans(10, 10);
    let vision = rig.scheduler.module("vision").cap(GPU, 4).minimum(GPU, 4).register().unwrap();
    let request = gpu(4).of(&vision);
    let lease = take(&rig.scheduler, request.clone());
    let mut parked = queued(&rig.scheduler, request.clone());
    drop(vision);
    drop(granted(&mut parked));
    drop(take(&rig.scheduler, request));
    drop(lease);
    assert_untouched(&rig.scheduler);
}

/// A way that only the cap had made impossible is one again, at once and not at the next change of a limit.
#[test]
fn p54_a_module_that_is_gone_makes_ways_possible_that_its_cap_did_not_allow() {
    for free_at_once in [false, true] {
        let rig = Rig::loans(10, 10);
        let vision = rig.scheduler.module("vision").cap(GPU, 4).register().unwrap();
        let mut on_gpu = (!free_at_once).then(|| take(&rig.scheduler, gpu(10)));
        let on_host = take(&rig.scheduler, host(10));
        let mut waiting = queued(&rig.scheduler, gpu(6).or(host(6)).of(&vision));
        drop(vision);
        if !free_at_once {
            assert_waits(&mut waiting);
            on_gpu.take();
        }
        let lease = granted(&mut waiting);
        assert_eq!(lease.get(GPU), 6);
        drop((lease, on_host));
        assert_untouched(&rig.scheduler);
    }
}

#[test]
fn c5_cancelling_a_parked_request_leaves_nothing_behind() {
    let rig = Rig::loans(10, 10);
    let vision = rig.scheduler.module("vision").cap(GPU, 4).register().unwrap();
    let lease = take(&rig.scheduler, gpu(4).of(&vision));
    let parked = queued(&rig.scheduler, gpu(4).of(&vision));
    drop(parked);
    drop(lease);
    drop(take(&rig.scheduler, gpu(4).of(&vision)));
    assert_untouched(&rig.scheduler);
}

/// An offer that expires gives room under the cap, and takes it again.
#[test]
fn r5_an_expired_offer_of_a_capped_module_makes_room_for_the_next() {
    let mut rig = Rig::loans(4, 10);
    let vision = rig.scheduler.module("vision").cap(GPU, 4).register().unwrap();
    let lease = take(&rig.scheduler, gpu(4).of(&vision));
    let mut sleeper = queued(&rig.scheduler, gpu(4).of(&vision));
    let mut next = queued(&rig.scheduler, gpu(4));
    drop(lease);
    assert!(sleeper.is_woken());
    rig.pass(200 * MS);
    drop(granted(&mut next));
    drop(granted(&mut sleeper));
    assert_untouched(&rig.scheduler);
}

/// P49 and weights: shares are those of modules that ask; who comes late has saved up nothing.
#[test]
fn p49_a_level_is_shared_by_weight_among_the_modules_that_ask() {
    let rig = Rig::new(Config::new().with(Budget::loan(GPU, 1)).with_order(Order::Shares));
    let scheduler: &Scheduler = &rig.scheduler;
    let heavy = scheduler.module("heavy").weight(3).register().unwrap();
    let light = scheduler.module("light").register().unwrap();
    let _asleep = scheduler.module("asleep").weight(1_000).register().unwrap();
    let held = take(scheduler, gpu(1));
    let mut waiting: Vec<_> = (0..40)
        .map(|at| (at % 2 == 0, queued(scheduler, gpu(1).of(if at % 2 == 0 { &heavy } else { &light }))))
        .collect();
    drop(held);
    let mut served = Vec::new();
    while let Some(at) = waiting.iter().position(|(_, waiting)| waiting.is_woken()) {
        let (is_heavy, mut waiting) = waiting.remove(at);
        served.push(is_heavy);
        drop(granted(&mut waiting));
    }
    let heavy_first = served[..16].iter().filter(|heavy| **heavy).count();
    assert_eq!((served.len(), heavy_first), (40, 12), "{served:?}");
}

/// R9, R10: who insists on more than its cap leaves takes less when its patience is over.
#[test]
fn r9_a_parked_waiter_goes_when_it_would_do_with_what_its_cap_leaves() {
    let mut rig = Rig::loans(100, 10);
    let vision = rig.scheduler.module("vision").cap(GPU, 10).register().unwrap();
    let lease = take(&rig.scheduler, gpu(6).of(&vision));
    let mut waits = queued(&rig.scheduler, gpu(8).down_to(GPU, 2).patience(20 * MS).of(&vision));
    rig.pass(19 * MS);
    assert_waits(&mut waits);
    rig.pass(MS);
    assert_eq!(granted(&mut waits).get(GPU), 4);
    drop(lease);
    assert_untouched(&rig.scheduler);
}

/// C7, R9: a cap is a budget too. Two holders at the cap of their module, who both want more, wait for each other
/// though the budget has plenty.
#[test]
fn c7_holders_that_wait_for_room_below_a_cap_get_a_verdict() {
    let mut rig = Rig::loans(100, 10);
    let vision = rig.scheduler.module("vision").cap(GPU, 10).register().unwrap();
    let (one, two) = (Activity::new("one"), Activity::new("two"));
    let held = [&one, &two].map(|of| take(&rig.scheduler, gpu(5).of(&vision).activity(of)));
    let mut first = queued(&rig.scheduler, gpu(1).of(&vision).activity(&one));
    let mut second = queued(&rig.scheduler, gpu(1).of(&vision).activity(&two));
    rig.pass(9 * MS);
    assert!(!first.is_woken() && !second.is_woken());
    rig.pass(MS);
    assert!(matches!(outcome(&mut second), Err(ReserveError::RolledBack { .. })));
    assert_waits(&mut first);
    let [of_one, of_two] = held;
    drop(of_two);
    drop((granted(&mut first), of_one));
    assert_untouched(&rig.scheduler);
}

/// R3, R9: a claimant depends on whoever has what the module of a holder of its may have, too.
#[test]
fn r3_a_claim_does_not_keep_a_holder_out_on_whom_the_claimant_depends_through_a_cap() {
    let config = three_loans();
    let mut rig = Rig::new(config.with_bypass_limit(0));
    let vision = rig.scheduler.module("vision").cap(HOST, 5).register().unwrap();
    let (one, two) = (Activity::new("one"), Activity::new("two"));
    let (has_gpu, has_host) =
        (take(&rig.scheduler, gpu(10).activity(&one)), take(&rig.scheduler, host(5).of(&vision).activity(&two)));
    let all = gpu(1).amount(DISK, 10).priority(Priority::Critical);
    let mut claimant = queued(&rig.scheduler, all);
    let mut two = queued(&rig.scheduler, ask(&[(DISK, 1)]).activity(&two));
    // The claimant waits for the GPU of one, and one for what two has of the module's host memory.
    let mut one = queued(&rig.scheduler, host(1).of(&vision).activity(&one));
    drop((granted(&mut two), has_host));
    drop((granted(&mut one), has_gpu));
    rig.pass(MS);
    drop(granted(&mut claimant));
    assert_untouched(&rig.scheduler);
}

/// C7, P31: who has all that its module may have, and waits for more, blocks itself.
#[test]
fn p31_an_activity_that_has_all_its_module_may_have_is_told_to_split() {
    let mut rig = Rig::loans(100, 10);
    let vision = rig.scheduler.module("vision").cap(GPU, 10).register().unwrap();
    let one = Activity::new("one");
    let mut lease = take(&rig.scheduler, gpu(5).of(&vision).activity(&one));
    // What it holds outside the module does not count there.
    let other = take(&rig.scheduler, gpu(5).activity(&one));
    lease.try_grow(&Amounts::of(GPU, 2)).unwrap();
    let mut more = queued(&rig.scheduler, gpu(4).of(&vision).activity(&one));
    rig.pass(10 * MS);
    assert!(matches!(outcome(&mut more), Err(ReserveError::Split { .. })));
    drop((lease, other));
    assert_untouched(&rig.scheduler);
}

/// R9, R10: two changes in one turn, either of which lets a parked request stand in line again. What it leaves behind
/// in a line that it stood in twice would be found by whoever comes next.
#[test]
fn r9_a_parked_request_that_ripens_as_a_limit_changes_stands_in_line_once() {
    let rig = Rig::loans(10, 10);
    let vision = rig.scheduler.module("vision").cap(GPU, 4).register().unwrap();
    let own = take(&rig.scheduler, gpu(2).of(&vision));
    let held = take(&rig.scheduler, gpu(8));
    let before = queued(&rig.scheduler, gpu(9));
    let parked = queued(&rig.scheduler, gpu(4).down_to(GPU, 2).patience(10 * MS).of(&vision));
    rig.jump(10 * MS);
    rig.scheduler.set_capacity(GPU, 11).unwrap();
    drop((before, parked));
    let mut next = queued(&rig.scheduler, gpu(4));
    drop(own);
    assert_waits(&mut next);
    drop(held);
    drop(granted(&mut next));
    rig.scheduler.set_capacity(GPU, 10).unwrap();
    assert_untouched(&rig.scheduler);
}
