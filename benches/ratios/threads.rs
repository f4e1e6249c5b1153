//! Two threads on one limiter that is never exhausted: what the shared cache lines cost.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::uncontended::{PLENTY, print, runtime};
use bursar_benches::peers::{self, Ask, Peer, Visit};
use bursar_benches::{Goal, Goals, Options, Subject, interleave};

const THREADS: usize = 2;
/// Operations between two looks at the clock's flag.
const BATCH: u64 = 64;

pub fn run(options: &Options, goals: &mut Goals) {
    let window = options.pick(Duration::from_millis(150), Duration::from_millis(20));
    let rounds = options.pick(21, 3);

    let mut one = Together { window, subjects: Vec::new() };
    peers::one_budget(&mut one);
    let one = interleave(one.subjects, rounds);
    print("two threads on one budget, wall time", &one, [peers::TOKIO, peers::TOKIO_OWNED]);
    let reach = one.ratio(peers::BURSAR, peers::TOKIO, |ns| *ns);
    goals.check("two threads on one budget, x acquire_many", reach, Goal::AtMost(0.45, None));

    let mut four = Together { window, subjects: Vec::new() };
    peers::four_budgets(&mut four);
    let four = interleave(four.subjects, rounds);
    print("two threads on four budgets, wall time", &four, [peers::TOKIO_4, peers::TOKIO_OWNED_4]);
    let reach = four.ratio(peers::BURSAR_4, peers::TOKIO_4, |ns| *ns);
    goals.check("two threads on four budgets, x 4 acquire_many", reach, Goal::AtMost(0.36, None));
}

/// Makes a subject of every peer: nanoseconds an operation, of all threads together.
struct Together {
    window: Duration,
    subjects: Vec<Subject<'static, f64>>,
}

impl Visit for Together {
    fn visit<P: Peer>(&mut self, name: &'static str, open: fn(u64) -> P) {
        let runtime = runtime();
        let window = self.window;
        let peer = {
            let _context = runtime.enter();
            open(PLENTY)
        };
        self.subjects.push(Subject::new(name, move || {
            let _ = &runtime;
            hammer(&peer, window)
        }));
    }
}

fn hammer<P: Peer>(peer: &P, window: Duration) -> f64 {
    let (start, stop) = (Barrier::new(THREADS + 1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let worker = || {
            runtime().block_on(async {
                start.wait();
                let mut ops = 0;
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..BATCH {
                        black_box(&peer.acquire(black_box(Ask::ONE)).await);
                    }
                    ops += BATCH;
                }
                ops
            })
        };
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(worker)).collect();
        start.wait();
        let began = Instant::now();
        std::thread::sleep(window);
        stop.store(true, Ordering::Relaxed);
        let ops: u64 = workers.into_iter().map(|worker| worker.join().expect("no worker panics")).sum();
        began.elapsed().as_nanos() as f64 / ops as f64
    })
}
