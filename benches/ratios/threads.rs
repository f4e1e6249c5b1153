//! Threads on one limiter that is never exhausted: what the shared cache lines cost.
//!
//! `threads` has two, beside peers. `scaling` has 1 to 8, for a machine with as many cores, beside what cuCascade's
//! manager of reservations did on a machine of 16: it needs a GPU and is not in this process.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::uncontended::{PLENTY, print, runtime};
use bursar_benches::peers::{self, Ask, Peer, Visit};
use bursar_benches::{Goal, Goals, Options, Subject, interleave};

/// Million pairs a second of cuCascade 73d00c4 (`request_reservation` of a space, and release), all threads together.
/// With 4 threads it was not measured; it does no more than with 2.
const CUCASCADE: [(usize, f64); 4] = [(1, 5.2), (2, 1.6), (4, 1.6), (8, 1.1)];
/// Operations between two looks at the clock's flag.
const BATCH: u64 = 64;

pub fn run(options: &Options, goals: &mut Goals) {
    let window = options.pick(Duration::from_millis(150), Duration::from_millis(20));
    let rounds = options.pick(21, 3);

    let mut one = Together { threads: 2, window, subjects: Vec::new() };
    peers::one_budget(&mut one);
    let one = interleave(one.subjects, rounds);
    print("two threads on one budget, wall time", &one, [peers::TOKIO, peers::TOKIO_OWNED]);
    let reach = one.ratio(peers::BURSAR, peers::TOKIO, |ns| *ns);
    goals.check("two threads on one budget, x acquire_many", reach, Goal::AtMost(0.45, None));

    let mut four = Together { threads: 2, window, subjects: Vec::new() };
    peers::four_budgets(&mut four);
    let four = interleave(four.subjects, rounds);
    print("two threads on four budgets, wall time", &four, [peers::TOKIO_4, peers::TOKIO_OWNED_4]);
    let reach = four.ratio(peers::BURSAR_4, peers::TOKIO_4, |ns| *ns);
    goals.check("two threads on four budgets, x 4 acquire_many", reach, Goal::AtMost(0.36, None));
}

/// All peers on one budget with 1 to 8 threads.
pub fn scaling(options: &Options, goals: &mut Goals) {
    let window = options.pick(Duration::from_millis(60), Duration::from_millis(20));
    let rounds = options.pick(7, 3);
    for (threads, theirs) in CUCASCADE {
        let mut one = Together { threads, window, subjects: Vec::new() };
        peers::one_budget(&mut one);
        let one = interleave(one.subjects, rounds);
        print(&format!("{threads} thread(s) on one budget, wall time"), &one, [peers::TOKIO, peers::TOKIO_OWNED]);
        let millions = 1e3 / one.median(peers::BURSAR, |ns| *ns);
        println!("\nbursar: {millions:.2} million pairs a second, {:.1} x cuCascade's {theirs}", millions / theirs);
        if threads > 1 {
            let what = format!("{threads} threads on one budget, x cuCascade's {theirs} M/s");
            goals.check(what, millions / theirs, Goal::AtLeast(5.0));
        }
    }
}

/// Makes a subject of every peer: nanoseconds an operation, of all threads together.
struct Together {
    threads: usize,
    window: Duration,
    subjects: Vec<Subject<'static, f64>>,
}

impl Visit for Together {
    fn visit<P: Peer>(&mut self, name: &'static str, open: fn(u64) -> P) {
        let runtime = runtime();
        let (threads, window) = (self.threads, self.window);
        let peer = {
            let _context = runtime.enter();
            open(PLENTY)
        };
        self.subjects.push(Subject::new(name, move || {
            let _ = &runtime;
            hammer(&peer, threads, window)
        }));
    }
}

fn hammer<P: Peer>(peer: &P, threads: usize, window: Duration) -> f64 {
    let (start, stop) = (Barrier::new(threads + 1), AtomicBool::new(false));
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
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        start.wait();
        let began = Instant::now();
        std::thread::sleep(window);
        stop.store(true, Ordering::Relaxed);
        let ops: u64 = workers.into_iter().map(|worker| worker.join().expect("no worker panics")).sum();
        began.elapsed().as_nanos() as f64 / ops as f64
    })
}
