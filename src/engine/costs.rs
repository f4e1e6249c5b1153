//! What one call costs while very many wait (R11): counted by how often anybody is looked at, among few and among many.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::ledger::{Board, Books, Held};
use crate::model::{Alternative, Budget, BudgetId, Config, Priority, Quota, Request, Tag, Terms};

use super::lines::MILE;
use super::regrant::BREATH;
use super::steps;
use super::{Asked, Effect, Engine, Settled, Submitted, Turn};

/// More than debug builds check after every call.
const FEW: u64 = 300;
const MANY: u64 = 3_000;

/// How often the first in a line is looked at when it is granted, where all there ask for that budget only.
const LOOKS_AT_A_HEAD: u64 = 30;

const GPU: BudgetId = BudgetId::GPU;
const HOST: BudgetId = BudgetId::HOST;
/// The number of a module.
const MODULE: u64 = 1;

struct Scene {
    engine: Engine,
    books: Books,
    board: Board,
}

impl Scene {
    fn new(change: impl FnOnce(Config) -> Config) -> Self {
        let budgets = [Budget::loan(GPU, 1_000_000), Budget::loan(HOST, 1_000_000)];
        let config = change(Config::new().with_budgets(budgets).with_aging_step(None));
        let mut books = Books::new();
        books.open(&config.budgets, 0);
        Scene { engine: Engine::new(&config), books, board: Board::default() }
    }

    fn enter<R>(&mut self, event: impl FnOnce(&mut Engine, &mut Turn<'_>) -> R) -> R {
        let turn = &mut Turn { books: &mut self.books, board: &self.board, now: 0 };
        let done = event(&mut self.engine, turn);
        while self.engine.settle(turn) == Settled::Breath {}
        self.engine.effects().for_each(drop);
        done
    }

    #[track_caller]
    fn take(&mut self, asked: Asked<'_>) -> Held {
        match self.enter(|engine, turn| engine.submit(turn, asked)) {
            Submitted::Granted(held) => held,
            other => panic!("it has to fit: {other:?}"),
        }
    }

    #[track_caller]
    fn queue(&mut self, asked: Asked<'_>) -> u32 {
        match self.enter(|engine, turn| engine.submit(turn, asked)) {
            Submitted::Waiting(slot) => slot,
            other => panic!("it has to wait: {other:?}"),
        }
    }
}

/// What somebody asks for, and for whom.
struct Ask {
    request: Request,
    terms: Arc<Terms>,
}

impl Ask {
    fn new(request: Request, tag: Tag) -> Self {
        let alternatives = vec![Alternative::rigid(request.amounts().clone())];
        let terms =
            Terms { alternatives, factor: 0, patience: 0, tag, grows: false, most: None, arrived: 0, waits_since: 0 };
        Ask { request, terms: Arc::new(terms) }
    }

    fn asked(&self) -> Asked<'_> {
        Asked { terms: Some(Arc::clone(&self.terms)), ..Asked::of(&self.request) }
    }
}

const OF_MODULE: Tag = Tag { module: MODULE, ..Tag::NOBODY };

impl Scene {
    fn register(&mut self, minimum: u64, cap: u64) {
        let quotas = BTreeMap::from([(GPU, Quota { minimum, cap })]);
        self.enter(|engine, turn| engine.register(turn, MODULE, "crowded", 1, &quotas)).unwrap();
    }

    /// A lease that belongs to somebody ends.
    fn end(&mut self, held: Held) {
        self.enter(|engine, turn| engine.ended(turn, held));
    }

    fn release(&mut self, held: Held) {
        let flagged = self.books.give(held).expect("somebody waits");
        self.enter(|engine, turn| engine.released(turn, flagged));
    }

    fn cancel(&mut self, slot: u32) {
        self.enter(|engine, turn| engine.cancel(turn, slot));
    }
}

/// What `act` does looks at no more because so many more have come, but for the way from one milestone of a list to
/// the next.
#[track_caller]
fn assert_flat<S>(what: &str, open: impl Fn(u64) -> (Scene, S), act: impl Fn(&mut Scene, S)) {
    let [few, many] = [FEW, MANY].map(|count| {
        let (mut scene, state) = open(count);
        let before = steps::taken();
        act(&mut scene, state);
        steps::taken() - before
    });
    assert!(many <= few + few / 2, "{what}: {few} looks among {FEW}, {many} among {MANY}");
}

fn plain(units: u64) -> Request {
    Request::new().gpu(units)
}

/// A module that has one unit, and so many of it who wait for it.
fn module(minimum: u64, cap: u64, others: u64) -> impl Fn(u64) -> (Scene, (Held, Vec<u32>)) {
    move |count| {
        let mut scene = Scene::new(|config| config);
        scene.register(minimum, cap);
        let one = Ask::new(plain(1), OF_MODULE);
        let held = scene.take(one.asked());
        if others > 0 {
            scene.take(Asked::of(&plain(others)));
        }
        let slots = (0..count).map(|_| scene.queue(one.asked())).collect();
        (scene, (held, slots))
    }
}

/// Without this, the others would pass whatever they count.
#[test]
fn looks_are_counted() {
    let before = steps::taken();
    line(1);
    assert!(steps::taken() > before);
}

#[test]
fn r11_a_release_of_a_module_at_its_cap_looks_at_no_more_for_all_who_wait() {
    assert_flat("cap", module(0, 1, 0), |scene, (held, _)| scene.end(held));
    assert_flat("cap, cancel", module(0, 1, 0), |scene, (_, slots)| scene.cancel(slots[150]));
    let newcomer = Ask::new(plain(1), OF_MODULE);
    assert_flat("cap, one more", module(0, 1, 0), |scene, _| _ = scene.queue(newcomer.asked()));
}

#[test]
fn r11_a_release_of_a_module_with_a_minimum_looks_at_no_more_for_all_who_wait() {
    let crowd = || module(1, u64::MAX, 999_999);
    assert_flat("minimum", crowd(), |scene, (held, _)| scene.end(held));
    assert_flat("minimum, cancel", crowd(), |scene, (_, slots)| scene.cancel(slots[150]));
}

/// Some want more than is left, and one behind them does not: few of them are looked at in vain.
#[test]
fn r11_a_minimum_is_looked_for_among_the_first_only() {
    let open = |count| {
        let mut scene = Scene::new(|config| config);
        scene.register(3, u64::MAX);
        let (one, three) = (Ask::new(plain(1), OF_MODULE), Ask::new(plain(3), OF_MODULE));
        let held = [0; 3].map(|_| scene.take(one.asked()));
        scene.take(Asked::of(&plain(999_997)));
        (0..count).for_each(|_| _ = scene.queue(three.asked()));
        let last = scene.queue(one.asked());
        (scene, (held, last))
    };
    assert_flat("minimum", open, |scene, ([held, ..], last)| {
        scene.end(held);
        assert!(!scene.engine.has_guarantee(last));
    });
}

/// All are hard: each has its claim.
fn strict(count: u64) -> (Scene, (Held, Vec<u32>)) {
    let mut scene = Scene::new(|config| config.with_bypass_limit(0));
    let held = scene.take(Asked::of(&plain(1)));
    scene.take(Asked::of(&Request::new().host(1_000_000u64)));
    let first = scene.queue(Asked::of(&plain(1_000_000)));
    let slots = (0..count).map(|_| scene.queue(Asked::of(&plain(1).host(1u64))));
    let slots = std::iter::once(first).chain(slots.collect::<Vec<_>>()).collect();
    (scene, (held, slots))
}

#[test]
fn r11_the_end_of_a_hard_claim_looks_at_no_more_for_all_who_claim() {
    assert_flat("first", strict, |scene, (_, slots)| scene.cancel(slots[0]));
    assert_flat("last", strict, |scene, (_, slots)| scene.cancel(slots[slots.len() - 1]));
    assert_flat("last but nine", strict, |scene, (_, slots)| scene.cancel(slots[slots.len() - 10]));
    assert_flat("release", strict, |scene, (held, _)| scene.release(held));
    let one = plain(1);
    assert_flat("one more", strict, |scene, _| _ = scene.queue(Asked::of(&one)));
    let urgent = plain(1).priority(Priority::Critical);
    assert_flat("urgent", strict, |scene, _| _ = scene.take(Asked::of(&urgent)));
}

/// Two who want more than the claims of all others leave, and stand in the same line.
#[test]
fn r11_a_release_that_claims_keep_looks_at_few_of_them() {
    let open = |count| {
        let mut scene = Scene::new(|config| config.with_bypass_limit(0));
        let held = scene.take(Asked::of(&plain(1)));
        scene.take(Asked::of(&Request::new().host(1_000_000u64)));
        (0..count).for_each(|_| _ = scene.queue(Asked::of(&plain(1).host(1u64))));
        (0..3).for_each(|_| _ = scene.queue(Asked::of(&plain(999_999))));
        (scene, held)
    };
    let [few, many] = [FEW, MANY].map(|count| {
        let (mut scene, held) = open(count);
        let before = steps::taken();
        scene.release(held);
        steps::taken() - before
    });
    let blocks = (MANY - FEW) / 64;
    assert!(many <= few + 8 * blocks, "{few} looks among {FEW} claims, {many} among {MANY}");
}

/// So many leases that may be asked to end, and one who waits for more than all of them have. It asks nobody.
fn preemptible(count: u64) -> (Scene, Vec<Held>) {
    let mut scene = Scene::new(|config| config);
    let of_it = Tag { preemptible: true, ..Tag::NOBODY };
    let lent = Ask::new(plain(1).priority(Priority::Idle), of_it);
    scene.take(Asked::of(&plain(500_000)));
    let leases = (0..count).map(|_| scene.take(lent.asked())).collect();
    scene.queue(Asked::of(&plain(1_000_000)));
    (scene, leases)
}

#[test]
fn r11_a_lease_that_may_be_asked_to_end_comes_and_goes_without_a_look_at_the_others() {
    let beside = Ask::new(Request::new().host(1u64), Tag { preemptible: true, ..Tag::NOBODY });
    assert_flat("one more", preemptible, |scene, _| _ = scene.take(beside.asked()));
    assert_flat("one less", preemptible, |scene, leases| scene.end(leases[7]));
}

/// They are of the level of whoever waits.
#[test]
fn r11_where_nobody_may_be_asked_to_end_no_lease_is_looked_at() {
    let equal = Ask::new(plain(1), Tag { preemptible: true, ..Tag::NOBODY });
    let open = |count| {
        let mut scene = Scene::new(|config| config);
        (0..count).for_each(|_| _ = scene.take(equal.asked()));
        scene.take(Asked::of(&plain(1_000_000 - count)));
        (scene, ())
    };
    assert_flat("equals", open, |scene, ()| _ = scene.queue(Asked::of(&plain(10))));
}

/// Somebody needs what one lease holds. The others, which could end too, hold nothing of that, but of what is there.
#[test]
fn r11_who_gives_way_is_looked_for_among_those_who_hold_what_is_needed() {
    let of_it = Tag { preemptible: true, ..Tag::NOBODY };
    let idle = |request: Request| Ask::new(request.priority(Priority::Idle), of_it);
    let open = |count| {
        let mut scene = Scene::new(|config| config);
        scene.take(idle(plain(500_000)).asked());
        scene.take(Asked::of(&plain(500_000)));
        (0..count).for_each(|_| _ = scene.take(idle(Request::new().host(1u64)).asked()));
        // The first search counts all leases once.
        scene.queue(Asked::of(&plain(1).priority(Priority::Idle)));
        scene.queue(Asked::of(&Request::new().host(1_000_000u64).priority(Priority::Low).gpu(900_000u64)));
        (scene, ())
    };
    for urgent in [plain(10), plain(10).host(1u64)] {
        assert_flat("search", open, |scene, ()| {
            scene.queue(Asked::of(&urgent));
            assert!(scene.engine.preemption.due() < u64::MAX, "somebody was asked");
        });
    }
}

/// So many wait in the line of a budget of which nothing is left.
fn line(count: u64) -> (Scene, (Held, VecDeque<u32>)) {
    let mut scene = Scene::new(|config| config);
    let held = scene.take(Asked::of(&plain(1_000_000)));
    let slots = (0..count).map(|_| scene.queue(Asked::of(&plain(1)))).collect();
    (scene, (held, slots))
}

/// The first leave and others come.
fn pass_by(scene: &mut Scene, slots: &mut VecDeque<u32>, times: u64) {
    for _ in 0..times {
        slots.pop_front().into_iter().for_each(|first| scene.cancel(first));
        slots.push_back(scene.queue(Asked::of(&plain(1))));
    }
}

#[test]
fn r11_a_line_knows_few_who_have_left_it() {
    let (mut scene, (_, mut slots)) = line(400);
    slots.drain(..300).for_each(|first| scene.cancel(first));
    pass_by(&mut scene, &mut slots, 4_000);
    let milestones = scene.engine.queue.lines.milestones(GPU);
    assert!(milestones <= 2 * (100 / MILE as usize) + 9, "{milestones} milestones among 100");
}

#[test]
fn r11_those_who_have_left_a_line_are_forgotten_by_few_looks_at_the_others() {
    assert_flat("forgotten", line, |scene, (_, mut slots)| pass_by(scene, &mut slots, 300));
}

#[test]
fn r11_a_turn_pauses_for_breath_after_so_many_grants_and_looks_little_at_each() {
    let (Scene { mut engine, mut books, board }, (held, _)) = line(3 * BREATH as u64 + 8);
    let flagged = books.give(held).expect("somebody waits");
    let turn = &mut Turn { books: &mut books, board: &board, now: 0 };
    let before = steps::taken();
    engine.released(turn, flagged);
    let mut granted = Vec::new();
    loop {
        let settled = engine.settle(turn);
        granted.push(engine.effects().filter(|effect| matches!(effect, Effect::Offer { .. })).count());
        if settled == Settled::Done {
            break;
        }
    }
    assert_eq!(granted, [BREATH, BREATH, BREATH, 8]);
    let looks = (steps::taken() - before) / granted.iter().sum::<usize>() as u64;
    assert!(looks <= LOOKS_AT_A_HEAD, "{looks} looks at each");
}

/// What an activity said that it will ever hold.
fn bounded(activity: u64, most: Request, request: Request) -> Ask {
    let mut ask = Ask::new(request, Tag { activity, ..Tag::NOBODY });
    let terms = Terms { most: Some(Arc::new(most.amounts().clone())), ..(*ask.terms).clone() };
    ask.terms = Arc::new(terms);
    ask
}

const RUNNER: u64 = 1_000_000;

/// So many bounded activities that wait for the same loan, beside one that holds some of it: for units of which others
/// have the rest, or for safety, as that one could ask for more than they would leave it. And others with other loans.
fn crowd_of_bounded(units: bool) -> impl Fn(u64) -> (Scene, (Held, Held)) {
    move |count| {
        let mut scene = Scene::new(|config| config.with(Budget::loan(BudgetId::DISK, 100)));
        let most = || plain(if units { 400_000 } else { 1_000_000 });
        scene.take(bounded(RUNNER, most(), plain(400_000)).asked());
        if units {
            scene.take(Asked::of(&plain(600_000)));
        }
        let other = scene.take(Asked::of(&Request::new().host(1u64)));
        let disk = |units: u64| Request::new().disk(units);
        let elsewhere = scene.take(bounded(RUNNER + 1, disk(100), disk(10)).asked());
        for activity in 1..=count {
            scene.queue(bounded(activity, most(), plain(1 + u64::from(!units))).asked());
        }
        assert_eq!(scene.engine.held_back.iter().count() as u64, if units { 0 } else { count });
        (scene, (other, elsewhere))
    }
}

#[test]
fn r11_a_turn_that_concerns_no_bounded_activity_looks_at_none_of_those_that_wait() {
    for units in [true, false] {
        let open = || crowd_of_bounded(units);
        let host = Request::new().host(1u64);
        assert_flat("plain", open(), |scene, _| _ = scene.take(Asked::of(&host)));
        assert_flat("plain, release", open(), |scene, (other, _)| {
            assert_eq!(scene.books.give(other), None, "nobody waits for that");
            scene.enter(|engine, turn| engine.released(turn, HOST.bit()));
        });
        let disk = bounded(RUNNER + 2, Request::new().disk(50u64), Request::new().disk(10u64));
        assert_flat("begins elsewhere", open(), |scene, _| _ = scene.take(disk.asked()));
        assert_flat("ends elsewhere", open(), |scene, (_, elsewhere)| scene.end(elsewhere));
        let more = bounded(RUNNER + 3, plain(1_000_000), plain(500_000));
        assert_flat("one more that waits", open(), |scene, _| _ = scene.queue(more.asked()));
    }
}

/// What it had counts as coming back anyway, so nothing is safer than before.
#[test]
fn r11_an_activity_without_a_bound_that_ends_looks_at_none_of_those_whom_safety_keeps() {
    let other = Ask::new(Request::new().host(1u64), Tag { activity: RUNNER + 2, ..Tag::NOBODY });
    let open = |count| {
        let (mut scene, _) = crowd_of_bounded(false)(count);
        let held = scene.take(other.asked());
        (scene, held)
    };
    assert_flat("ends", open, |scene, held| scene.end(held));
}

/// They may ask for the same, but it goes before all of them, so it passes none.
#[test]
fn r11_a_bounded_activity_that_begins_looks_at_none_of_those_behind_it_whom_safety_keeps() {
    let first = bounded(RUNNER + 2, plain(1), plain(1).priority(Priority::Critical));
    assert_flat("begins before all", crowd_of_bounded(false), |scene, _| _ = scene.take(first.asked()));
}
