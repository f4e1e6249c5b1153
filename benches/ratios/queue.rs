//! Long queues. Every sample is a process of its own, because what the heap went through before shows.

use std::process::Command;

use bursar_benches::chain::{Chain, Cost, Heap, PEERS, measure};
use bursar_benches::{Goal, Goals, Options, Rounds, Subject, Table, interleave};

/// Beyond this, a single-budget waiter with its future is too large.
const BYTES: f64 = 256.0;

pub fn run(options: &Options, goals: &mut Goals) {
    let rounds = options.pick(9, 2);
    let long = options.pick(1_000_000, 20_000);
    let middle = options.pick(100_000, 10_000);
    println!("\nper waiter; one unit handed down the chain; peers without levels serve in order of arrival");

    let one = scenario(&format!("{long} waiters, one level"), [long, 1], false, rounds);
    let five = scenario(&format!("{long} waiters, five levels interleaved"), [long, 5], false, rounds);
    let hundred = scenario(&format!("{middle} waiters, one level"), [middle, 1], false, rounds);
    let short = scenario("1000 waiters, one level", [1000, 1], false, rounds);
    let cancelled = scenario(&format!("{middle} waiters, a random half cancelled"), [middle, 1], true, rounds);

    let pass = one.ratio("bursar", "tokio", Cost::pass_ns);
    goals.check(format!("{long} waiters, enqueue + drain, x tokio"), pass, Goal::AtMost(1.0, Some(0.7)));
    let pass = five.ratio("bursar", "tokio", Cost::pass_ns);
    goals.check(format!("{long} waiters, five levels, x tokio"), pass, Goal::AtMost(1.3, None));
    for (waiters, found) in [(middle, &hundred), (long, &one)] {
        let growth = found.median("bursar", Cost::pass_ns) / short.median("bursar", Cost::pass_ns);
        goals.check(format!("enqueue + drain, {waiters} / 1000 waiters"), growth, Goal::AtMost(1.6, None));
    }
    let bytes = one.median("bursar", |cost| cost.resident_bytes);
    goals.check(format!("bytes a waiter, future and all, {long} waiters"), bytes, Goal::AtMost(BYTES, None));
    let cancel = cancelled.ratio("bursar", "tokio", |cost| cost.cancel_ns);
    goals.check(format!("cancel of a random half of {middle}, x tokio"), cancel, Goal::AtMost(1.5, None));
}

fn scenario(title: &str, [waiters, levels]: [usize; 2], cancel: bool, rounds: usize) -> Rounds<Cost> {
    let chain = Chain { waiters, levels, cancel, heap: Heap::default };
    let subjects = PEERS.iter().map(|&peer| Subject::new(peer, move || in_a_child(peer, chain)));
    let found = interleave(subjects.collect(), rounds);
    println!("\n{title}\n");
    let mut table = Table::new(["", "enqueue ns", "x tokio", "drain ns", "x tokio", "cancel ns", "x tokio", "bytes"]);
    for name in found.names() {
        let time = |figure: fn(&Cost) -> f64| format!("{:.1}", found.median(name, figure));
        let ratio = |figure: fn(&Cost) -> f64| format!("{:.2}", found.ratio(name, "tokio", figure));
        let if_cancelled = |cell: String| if cancel { cell } else { String::new() };
        table.row([
            name.into(),
            time(|cost| cost.enqueue_ns),
            ratio(|cost| cost.enqueue_ns),
            time(|cost| cost.drain_ns),
            ratio(|cost| cost.drain_ns),
            if_cancelled(time(|cost| cost.cancel_ns)),
            if_cancelled(ratio(|cost| cost.cancel_ns)),
            format!("{:.0}", found.median(name, |cost| cost.resident_bytes)),
        ]);
    }
    table.print();
    found
}

/// Measures in a fresh process.
fn in_a_child(peer: &str, chain: Chain) -> Cost {
    let program = std::env::current_exe().expect("the path of this program");
    let [waiters, levels] = [chain.waiters, chain.levels].map(|figure| figure.to_string());
    let mode = if chain.cancel { "cancel" } else { "serve" };
    let child = Command::new(program).args(["--child", peer, &waiters, &levels, mode]).output();
    let child = child.expect("this program can be started again");
    let line = String::from_utf8_lossy(&child.stdout);
    let failed = || panic!("{peer}, {waiters} waiters: {line}{}", String::from_utf8_lossy(&child.stderr));
    Cost::from_line(&line).unwrap_or_else(failed)
}

/// The other side: what a child process does.
pub fn child(args: &[String]) {
    let [peer, waiters, levels, mode] = args else { panic!("not the arguments of a child: {args:?}") };
    let [waiters, levels] = [waiters, levels].map(|figure| figure.parse().expect("a number"));
    let chain = Chain { waiters, levels, cancel: mode == "cancel", heap: Heap::default };
    println!("{}", measure(peer, chain).to_line());
}
