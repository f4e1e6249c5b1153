//! How to keep the budget words: the candidates, bare, on one budget, on four, and on both in turn.
//!
//! `cargo bench -p bursar-benches --bench ledger` prints the table of the docs of `src/ledger`. Every candidate keeps
//! for each of four budgets the free units and a flag that somebody waits: a take is refused if a flag of its bundle is
//! set, and a give says whether one is.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bursar_benches::{Options, Subject, Table, interleave, nanos_each, print_load};
use cpu_time::ThreadTime;
use crossbeam_utils::{Backoff, CachePadded};
use portable_atomic::AtomicU128;

const BUDGETS: usize = 4;
const PLENTY: u64 = 1 << 30;
/// Operations between two looks at the clock's flag.
const BATCH: usize = 64;

/// Units of the first so many budgets.
type Bundle<'a> = &'a [u64];

/// A way to keep the words.
trait Words: Sync {
    fn new() -> Self;
    /// All of the bundle, or nothing.
    fn take(&self, bundle: Bundle<'_>) -> bool;
    /// Whether somebody waits for any of it.
    fn give(&self, bundle: Bundle<'_>) -> bool;
}

/// One word a budget: units in the low bits, the flag on top. A bundle is taken budget by budget, and undone when one
/// is short.
struct WordEach([CachePadded<AtomicU64>; BUDGETS]);

const FLAG: u64 = 1 << 63;

impl WordEach {
    fn take_one(word: &AtomicU64, units: u64) -> bool {
        let mut held = word.load(Ordering::Relaxed);
        while held & FLAG == 0 && held >= units {
            match word.compare_exchange_weak(held, held - units, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => held = now,
            }
        }
        false
    }
}

impl Words for WordEach {
    fn new() -> Self {
        WordEach(std::array::from_fn(|_| CachePadded::new(AtomicU64::new(PLENTY))))
    }

    #[inline]
    fn take(&self, bundle: Bundle<'_>) -> bool {
        for (at, &units) in bundle.iter().enumerate() {
            if !Self::take_one(&self.0[at], units) {
                self.give(&bundle[..at]);
                return false;
            }
        }
        true
    }

    #[inline]
    fn give(&self, bundle: Bundle<'_>) -> bool {
        let add =
            |(word, units): (&CachePadded<AtomicU64>, &u64)| word.fetch_add(*units, Ordering::Release) & FLAG != 0;
        self.0.iter().zip(bundle).map(add).fold(false, |flagged, flag| flagged | flag)
    }
}

/// Plain integers, to lie under a lock.
struct Plain {
    shut: u64,
    free: [u64; BUDGETS],
}

impl Plain {
    fn new() -> Self {
        Plain { shut: 0, free: [PLENTY; BUDGETS] }
    }

    fn is_shut(&self, bundle: Bundle<'_>) -> bool {
        self.shut & ((1 << bundle.len()) - 1) != 0
    }

    #[inline]
    fn take(&mut self, bundle: Bundle<'_>) -> bool {
        if self.is_shut(bundle) || !self.free.iter().zip(bundle).all(|(free, units)| free >= units) {
            return false;
        }
        self.free.iter_mut().zip(bundle).for_each(|(free, units)| *free -= units);
        true
    }

    #[inline]
    fn give(&mut self, bundle: Bundle<'_>) -> bool {
        self.free.iter_mut().zip(bundle).for_each(|(free, units)| *free += units);
        self.is_shut(bundle)
    }
}

/// Makes a candidate of a lock around [`Plain`].
macro_rules! locked {
    ($name:ident, $lock:ty, $guard:expr) => {
        struct $name(CachePadded<$lock>);

        impl Words for $name {
            fn new() -> Self {
                $name(CachePadded::new(<$lock>::new(Plain::new())))
            }

            #[inline]
            fn take(&self, bundle: Bundle<'_>) -> bool {
                $guard(&self.0).take(bundle)
            }

            #[inline]
            fn give(&self, bundle: Bundle<'_>) -> bool {
                $guard(&self.0).give(bundle)
            }
        }
    };
}

type Spin = spin::mutex::SpinMutex<Plain>;

locked!(ParkingLot, parking_lot::Mutex<Plain>, parking_lot::Mutex::lock);
locked!(Std, std::sync::Mutex<Plain>, with_std);
locked!(SpinBackoff, Spin, with_backoff);
locked!(SpinPlain, Spin, Spin::lock);

#[inline]
fn with_std(lock: &std::sync::Mutex<Plain>) -> std::sync::MutexGuard<'_, Plain> {
    lock.lock().expect("nobody panics under it")
}

/// As in `src/rt/short.rs`.
#[inline]
fn with_backoff(lock: &Spin) -> spin::mutex::SpinMutexGuard<'_, Plain> {
    match lock.try_lock() {
        Some(guard) => guard,
        None => back_off(lock),
    }
}

#[cold]
fn back_off(lock: &Spin) -> spin::mutex::SpinMutexGuard<'_, Plain> {
    let backoff = Backoff::new();
    loop {
        backoff.snooze();
        if !lock.is_locked()
            && let Some(guard) = lock.try_lock()
        {
            return guard;
        }
    }
}

/// Four budgets in one word: 31 bits of units and a flag each.
struct Wide(CachePadded<AtomicU128>);

impl Wide {
    /// The bundle as a word, and the flags of its budgets.
    #[inline]
    fn packed(bundle: Bundle<'_>) -> (u128, u128) {
        bundle.iter().enumerate().fold((0, 0), |(units, flags), (at, &one)| {
            (units | u128::from(one) << (32 * at), flags | 1 << (32 * at + 31))
        })
    }
}

impl Words for Wide {
    fn new() -> Self {
        Wide(CachePadded::new(AtomicU128::new(Self::packed(&[PLENTY; BUDGETS]).0)))
    }

    #[inline]
    fn take(&self, bundle: Bundle<'_>) -> bool {
        let (units, flags) = Self::packed(bundle);
        let mut held = self.0.load(Ordering::Relaxed);
        loop {
            let fits = (0..bundle.len()).all(|at| held >> (32 * at) & 0x7FFF_FFFF >= units >> (32 * at) & 0x7FFF_FFFF);
            if held & flags != 0 || !fits {
                return false;
            }
            match self.0.compare_exchange_weak(held, held - units, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => held = now,
            }
        }
    }

    #[inline]
    fn give(&self, bundle: Bundle<'_>) -> bool {
        let (units, flags) = Self::packed(bundle);
        self.0.fetch_add(units, Ordering::Release) & flags != 0
    }
}

/// Which bundles come one after the other.
#[derive(Clone, Copy)]
struct Pattern {
    name: &'static str,
    bundles: [&'static [u64]; 2],
}

const PATTERNS: [Pattern; 3] = [
    Pattern { name: "one", bundles: [&[1], &[1]] },
    Pattern { name: "four", bundles: [&[1, 2, 3, 4], &[1, 2, 3, 4]] },
    Pattern { name: "mixed", bundles: [&[1], &[1, 2, 3, 4]] },
];

fn main() {
    let Some(options) = Options::from_args() else { return };
    print_load();
    let rounds = options.pick(21, 3);
    let mut table = Table::new([
        "take and give, ns",
        "one, 1 thread",
        "four, 1 thread",
        "mixed, 1 thread",
        "one, 2 threads",
        "four, 2 threads",
        "mixed, 2 threads",
    ]);
    let columns: Vec<Vec<(String, f64)>> = [1, 2]
        .into_iter()
        .flat_map(|threads| PATTERNS.map(|pattern| (threads, pattern)))
        .map(|(threads, pattern)| column(&options, threads, pattern, rounds))
        .collect();
    for (at, (name, _)) in columns[0].iter().enumerate() {
        let cell = |column: usize| format!("{:.1}", columns[column][at].1);
        table.row([name.clone(), cell(0), cell(1), cell(2), cell(3), cell(4), cell(5)]);
    }
    println!();
    table.print();
    println!();
    table.print_markdown("//! ");
}

/// Nanoseconds of every candidate: CPU time of one thread, or wall time of two together.
fn column(options: &Options, threads: usize, pattern: Pattern, rounds: usize) -> Vec<(String, f64)> {
    let subjects = vec![
        subject::<WordEach>("one word a budget", options, threads, pattern),
        subject::<ParkingLot>("one lock, `parking_lot::Mutex`", options, threads, pattern),
        subject::<Std>("one lock, `std::sync::Mutex`", options, threads, pattern),
        subject::<SpinBackoff>("one lock, spinning with back-off", options, threads, pattern),
        subject::<SpinPlain>("one lock, plain spinning", options, threads, pattern),
        subject::<Wide>("one wide word, 4 x 31 bits", options, threads, pattern),
    ];
    let found = interleave(subjects, rounds);
    let names: Vec<String> = found.names().map(String::from).collect();
    eprintln!("{} budgets, {threads} thread(s): done", pattern.name);
    names.into_iter().map(|name| (name.clone(), found.median(&name, |ns| *ns))).collect()
}

fn subject<W: Words + 'static>(
    name: &str,
    options: &Options,
    threads: usize,
    pattern: Pattern,
) -> Subject<'static, f64> {
    let words: &'static W = Box::leak(Box::new(W::new()));
    let ops = options.pick(400_000, 10_000);
    let window = options.pick(Duration::from_millis(100), Duration::from_millis(10));
    Subject::new(name, move || if threads == 1 { alone(words, pattern, ops) } else { hammer(words, pattern, window) })
}

#[inline]
fn pairs<W: Words>(words: &W, pattern: Pattern, pairs: usize) {
    for at in 0..pairs {
        let bundle = black_box(pattern.bundles[at % 2]);
        assert!(words.take(bundle), "never exhausted");
        assert!(!words.give(black_box(bundle)), "nobody waits");
    }
}

fn alone<W: Words>(words: &W, pattern: Pattern, ops: usize) -> f64 {
    let start = ThreadTime::now();
    pairs(words, pattern, ops);
    nanos_each(start.elapsed(), ops as u64)
}

fn hammer<W: Words>(words: &W, pattern: Pattern, window: Duration) -> f64 {
    const THREADS: usize = 2;
    let (start, stop) = (Barrier::new(THREADS + 1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let worker = || {
            start.wait();
            let mut done = 0;
            while !stop.load(Ordering::Relaxed) {
                pairs(words, pattern, BATCH);
                done += BATCH as u64;
            }
            done
        };
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(worker)).collect();
        start.wait();
        let began = Instant::now();
        std::thread::sleep(window);
        stop.store(true, Ordering::Relaxed);
        let done: u64 = workers.into_iter().map(|worker| worker.join().expect("no worker panics")).sum();
        began.elapsed().as_nanos() as f64 / done as f64
    })
}
