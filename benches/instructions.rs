//! Instructions of one operation, counted by callgrind: a figure that a busy machine does not change.
//!
//! `cargo bench -p bursar-benches --bench instructions`; `support/callgrind.rs` says how. What waits for one another's
//! units is `handed_on`, a program of its own: a peer that is used in two places of one costs other instructions.
//!
//! What very many waiters cost somebody else (R11) shows in the last two lists. A release of a module at its cap, with
//! the grant and the new waiter that follow, took 16,100 instructions among 10 waiters, 17,100 among 1,000 and 20,200
//! among 100,000; of one with a minimum 18,000, 19,000 and 22,100. When every turn looked at all waiters of the module
//! it was 52,900 and 3,900,000, and 34,900 and 2,250,000, among 10 and 1,000.

use std::hint::black_box;

use bursar_benches::callgrind::{self, names};
use bursar_benches::critical::Crowd;
use bursar_benches::module::{Quota, Waiters};
use bursar_benches::peers::{self, Ask, Peer, Visit};
use bursar_benches::{Options, child_args};

const PLENTY: u64 = 1 << 40;

fn main() {
    if let Some(args) = child_args() {
        return child(&args);
    }
    if Options::from_args().is_none() {
        return;
    }
    let lists = [
        ("one budget, reserve and release", names(peers::one_budget)),
        ("four budgets, reserve and release", names(peers::four_budgets)),
        (
            "a CRITICAL request that waits, the release that serves it, and its taking up",
            CROWDS.map(|(name, _)| name).into(),
        ),
        (
            "a release of a module with a quota, the grant to the next of its waiters, and one more who waits",
            QUOTAS.map(|(name, ..)| name).into(),
        ),
    ];
    callgrind::print(&lists);
}

/// Crowds in front of which an urgent request goes.
const CROWDS: [(&str, usize); 2] = [("among 10 IDLE", 10), ("among 100000 IDLE", 100_000)];

/// Passes a crowd.
fn pass(waiters: usize, ops: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _inside = runtime.enter();
    let mut crowd = Crowd::new(waiters);
    (0..ops).for_each(|_| black_box(&mut crowd).pass());
}

/// Modules for which so many wait.
const QUOTAS: [(&str, Quota, usize); 6] = [
    ("cap, 10 wait", Quota::Cap, 10),
    ("cap, 1000 wait", Quota::Cap, 1_000),
    ("cap, 100000 wait", Quota::Cap, 100_000),
    ("minimum, 10 wait", Quota::Minimum, 10),
    ("minimum, 1000 wait", Quota::Minimum, 1_000),
    ("minimum, 100000 wait", Quota::Minimum, 100_000),
];

/// Passes what a module has from one of its waiters to the next.
fn pass_on(quota: Quota, waiters: usize, ops: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _inside = runtime.enter();
    let mut waiters = Waiters::new(quota, waiters);
    (0..ops).for_each(|_| black_box(&mut waiters).pass());
}

/// Runs one peer of the lists.
struct Run<'a> {
    wanted: &'a str,
    ops: u64,
}

impl Visit for Run<'_> {
    fn visit<P: Peer>(&mut self, name: &'static str, open: fn(u64) -> P) {
        if name != self.wanted {
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let peer = open(PLENTY);
            for _ in 0..self.ops {
                black_box(&peer.acquire(black_box(Ask::ONE)).await);
            }
        });
    }
}

fn child(args: &[String]) {
    let [wanted, ops] = args else { panic!("not the arguments of a child: {args:?}") };
    let ops = ops.parse().expect("a number");
    if let Some(&(_, waiters)) = CROWDS.iter().find(|(name, _)| name == wanted) {
        return pass(waiters, ops);
    }
    if let Some(&(_, quota, waiters)) = QUOTAS.iter().find(|(name, ..)| name == wanted) {
        return pass_on(quota, waiters, ops);
    }
    let mut run = Run { wanted, ops };
    peers::one_budget(&mut run);
    peers::four_budgets(&mut run);
}
