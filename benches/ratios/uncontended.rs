//! One caller, nothing short: acquire and release at once.

use std::hint::black_box;
use std::time::Duration;

use bursar::{GIB, MIB, Priority, Request, Scheduler};
use cpu_time::ThreadTime;
use tokio::runtime::{Builder, Runtime};

use bursar_benches::peers::{self, Ask, Peer, Visit};
use bursar_benches::{Goal, Goals, Options, Rounds, Subject, Table, interleave, nanos_each};

/// Never exhausted.
pub const PLENTY: u64 = 1 << 40;

pub fn run(options: &Options, goals: &mut Goals) {
    let ops = options.pick(100_000, 5_000);
    let rounds = options.pick(41, 5);
    let runtime = runtime();

    let mut one = Alone { runtime: &runtime, ops, subjects: Vec::new() };
    peers::one_budget(&mut one);
    let one = interleave(one.subjects, rounds);
    print("one budget, reserve and release", &one, [peers::TOKIO, peers::TOKIO_OWNED]);
    let reach = one.ratio(peers::BURSAR, peers::TOKIO_OWNED, |ns| *ns);
    goals.check("one budget, uncontended, x acquire_many_owned", reach, Goal::AtMost(0.52, Some(0.40)));
    let ahead = one.ratio(peers::BURSAR, peers::PRIORITY, |ns| *ns);
    goals.check("one budget, uncontended, x priority-semaphore", ahead, Goal::AtMost(1.0, None));

    let mut four = Alone { runtime: &runtime, ops: ops / 2, subjects: Vec::new() };
    peers::four_budgets(&mut four);
    four.subjects.push(readme("bursar, the README's request", &runtime, ops / 2, |request| request.label("chat")));
    four.subjects.push(readme("bursar, the same without its label", &runtime, ops / 2, |request| request));
    let four = interleave(four.subjects, rounds);
    print("four budgets at once", &four, [peers::TOKIO_4, peers::TOKIO_OWNED_4]);
    let reach = four.ratio(peers::BURSAR_4, peers::TOKIO_4, |ns| *ns);
    goals.check("four budgets, uncontended, x 4 acquire_many", reach, Goal::AtMost(0.30, Some(0.22)));
}

pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// Makes a subject of every peer: a run of operations in `block_on`, by CPU time.
struct Alone<'a> {
    runtime: &'a Runtime,
    ops: u64,
    subjects: Vec<Subject<'a, f64>>,
}

impl Visit for Alone<'_> {
    fn visit<P: Peer>(&mut self, name: &'static str, open: fn(u64) -> P) {
        let (runtime, ops) = (self.runtime, self.ops);
        let _context = runtime.enter();
        let peer = open(PLENTY);
        self.subjects.push(Subject::new(name, move || {
            runtime.block_on(async {
                let start = ThreadTime::now();
                for _ in 0..ops {
                    black_box(&peer.acquire(black_box(Ask::ONE)).await);
                }
                nanos_each(start.elapsed(), ops)
            })
        }));
    }
}

/// The request that the crate's page shows, with a fraction, a rate and a deadline in it, in a task.
fn readme<'a>(name: &str, runtime: &'a Runtime, ops: u64, finish: fn(Request) -> Request) -> Subject<'a, f64> {
    let _context = runtime.enter();
    // A rate is spent and does not come back with the lease: it needs more than plenty.
    let builder = Scheduler::builder().gpu(PLENTY).host(PLENTY).attention().io(PLENTY << 20);
    let scheduler = builder.spawn().expect("a plain configuration");
    Subject::new(name, move || {
        let scheduler = scheduler.clone();
        let work = async move {
            for _ in 0..ops {
                let request = Request::new().gpu(black_box(2 * GIB)).host(256 * MIB).attention(0.10).io(50 * MIB);
                let request = request.priority(Priority::High).deadline(Duration::from_millis(200));
                black_box(&scheduler.reserve(finish(request)).await.expect("nothing is short"));
            }
        };
        let start = ThreadTime::now();
        runtime.block_on(runtime.spawn(work)).expect("the task does not panic");
        nanos_each(start.elapsed(), ops)
    })
}

/// A table of nanoseconds, and of ratios to two peers.
pub fn print(title: &str, rounds: &Rounds<f64>, bases: [&str; 2]) {
    println!("\n{title}\n");
    let [first, second] = bases;
    let mut table = Table::new(["", "ns", &format!("x {first}"), "quartiles", &format!("x {second}")]);
    for name in rounds.names() {
        let (low, high) = rounds.quartiles(name, first, |ns| *ns);
        table.row([
            name.into(),
            format!("{:.1}", rounds.median(name, |ns| *ns)),
            format!("{:.3}", rounds.ratio(name, first, |ns| *ns)),
            format!("{low:.3} {high:.3}"),
            format!("{:.3}", rounds.ratio(name, second, |ns| *ns)),
        ]);
    }
    table.print();
}
