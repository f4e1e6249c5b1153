//! Instructions of one operation, counted by callgrind: a figure that a busy machine does not change.
//!
//! `cargo bench -p bursar-benches --bench instructions`. Every peer runs twice in a process of its own under valgrind,
//! with few and with many operations; the difference is what the operations cost, without the start. Instructions that
//! lock a cache line are counted as executed: their addresses are looked up in what `objdump` says of the program.
//! Those inside libc do not show.
//!
//! What very many waiters cost somebody else (R11) shows in the last two lists. A release of a module at its cap, with
//! the grant and the new waiter that follow, took 16,100 instructions among 10 waiters, 17,100 among 1,000 and 20,200
//! among 100,000; of one with a minimum 18,000, 19,000 and 22,100. When every turn looked at all waiters of the module
//! it was 52,900 and 3,900,000, and 34,900 and 2,250,000, among 10 and 1,000.

use std::collections::HashSet;
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bursar_benches::critical::Crowd;
use bursar_benches::module::{Quota, Waiters};
use bursar_benches::peers::{self, Ask, Bursar, BursarBundle, Intrusives, Peer, Prioritised, Tokio, Visit};
use bursar_benches::{Options, Table, child_args};

const FEW: u64 = 1_000;
const MANY: u64 = 11_000;
const PLENTY: u64 = 1 << 40;

fn main() {
    if let Some(args) = child_args() {
        return child(&args);
    }
    if Options::from_args().is_none() {
        return;
    }
    if !there("valgrind") {
        println!("valgrind is not installed: no instructions counted");
        return;
    }
    let locked = locked_addresses().unwrap_or_default();
    let lists = [
        ("one budget, reserve and release", names(peers::one_budget)),
        ("four budgets, reserve and release", names(peers::four_budgets)),
        (HANDED_ON, names(contended)),
        (
            "a CRITICAL request that waits, the release that serves it, and its taking up",
            CROWDS.map(|(name, _)| name).into(),
        ),
        (
            "a release of a module with a quota, the grant to the next of its waiters, and one more who waits",
            QUOTAS.map(|(name, ..)| name).into(),
        ),
    ];
    for (title, list) in lists {
        println!("\n{title}\n");
        let mut table = Table::new(["", "instructions", "locked"]);
        for name in list {
            let [few, many] = [FEW, MANY].map(|ops| count(name, ops, &locked).expect("valgrind runs this program"));
            let each = |few: u64, many: u64| format!("{:.1}", (many - few) as f64 / (MANY - FEW) as f64);
            let locks = if locked.is_empty() { "-".into() } else { each(few.locked, many.locked) };
            table.row([name.into(), each(few.all, many.all), locks]);
        }
        table.print();
    }
}

fn there(program: &str) -> bool {
    let version = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// The names of a list of peers.
fn names(list: fn(&mut Names)) -> Vec<&'static str> {
    let mut names = Names(Vec::new());
    list(&mut names);
    names.0
}

struct Names(Vec<&'static str>);

impl Visit for Names {
    fn visit<P: Peer>(&mut self, name: &'static str, _: fn(u64) -> P) {
        self.0.push(name);
    }
}

const HANDED_ON: &str = "64 tasks on one worker, 8 units: acquire, yield, release";
const TASKS: usize = 64;
const CAPACITY: u64 = 8;

/// Those whose units go from task to task.
fn contended(visit: &mut impl Visit) {
    visit.visit(CONTENDED[0], Tokio::<1>::open);
    visit.visit(CONTENDED[1], Prioritised::<1>::open);
    visit.visit(CONTENDED[2], Intrusives::<1>::open);
    visit.visit(CONTENDED[3], Bursar::open);
    visit.visit(CONTENDED[4], Tokio::<4>::open);
    visit.visit(CONTENDED[5], BursarBundle::open);
}

const CONTENDED: [&str; 6] = [
    "64 tasks, tokio",
    "64 tasks, priority-semaphore",
    "64 tasks, futures-intrusive",
    "64 tasks, bursar",
    "64 tasks, 4 x tokio",
    "64 tasks, bursar, four budgets",
];

/// Runs one peer of that list.
struct HandOn<'a> {
    wanted: &'a str,
    ops: u64,
}

impl Visit for HandOn<'_> {
    fn visit<P: Peer>(&mut self, name: &'static str, open: fn(u64) -> P) {
        if name != self.wanted {
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let (peer, left) = (Arc::new(open(CAPACITY)), Arc::new(AtomicU64::new(self.ops)));
            let member = |_| tokio::spawn(member(Arc::clone(&peer), Arc::clone(&left)));
            for task in (0..TASKS).map(member).collect::<Vec<_>>() {
                task.await.expect("no task panics");
            }
        });
    }
}

async fn member<P: Peer>(peer: Arc<P>, left: Arc<AtomicU64>) {
    loop {
        // There is one thread, so this needs no locked instruction.
        let there = left.load(Ordering::Relaxed);
        if there == 0 {
            return;
        }
        left.store(there - 1, Ordering::Relaxed);
        let guard = peer.acquire(black_box(Ask::ONE)).await;
        tokio::task::yield_now().await;
        drop(guard);
    }
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
    contended(&mut HandOn { wanted, ops });
    let mut run = Run { wanted, ops };
    peers::one_budget(&mut run);
    peers::four_budgets(&mut run);
}

/// What callgrind counted in one process.
struct Counted {
    all: u64,
    locked: u64,
}

fn count(peer: &str, ops: u64, locked: &HashSet<u64>) -> io::Result<Counted> {
    let program = std::env::current_exe()?;
    let profile = std::env::temp_dir().join(format!("bursar-callgrind.{}", std::process::id()));
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind", "--dump-instr=yes", "--compress-pos=no", "--compress-strings=no"]);
    valgrind.arg(format!("--callgrind-out-file={}", profile.display()));
    let status = valgrind.arg(&program).args(["--child", peer, &ops.to_string()]).status()?;
    if !status.success() {
        return Err(io::Error::other(format!("valgrind: {status}")));
    }
    let text = std::fs::read_to_string(&profile)?;
    std::fs::remove_file(&profile)?;
    Ok(parse(&text, &program, locked))
}

/// Reads a profile: `ob=` names the object that the lines below are of; each is an address, a source line and a count;
/// the line after `calls=` is the cost of the callee, which is counted where it belongs.
fn parse(profile: &str, program: &Path, locked: &HashSet<u64>) -> Counted {
    let (mut counted, mut ours, mut is_call) = (Counted { all: 0, locked: 0 }, false, false);
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            ours = Path::new(object) == program;
        }
        if line.starts_with("calls=") {
            is_call = true;
            continue;
        }
        let Some(rest) = line.strip_prefix("0x") else { continue };
        if std::mem::take(&mut is_call) {
            continue;
        }
        let mut fields = rest.split(' ');
        let address = fields.next().and_then(|address| u64::from_str_radix(address, 16).ok());
        let instructions: u64 = fields.nth(1).and_then(|count| count.parse().ok()).unwrap_or(0);
        counted.all += instructions;
        if ours && address.is_some_and(|address| locked.contains(&address)) {
            counted.locked += instructions;
        }
    }
    counted
}

/// Where this program has instructions that lock a cache line: those with the prefix, and every exchange with memory.
fn locked_addresses() -> io::Result<HashSet<u64>> {
    let program = std::env::current_exe()?;
    let listing = Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(program).output()?;
    let locks = |code: &str| code.starts_with("lock") || (code.starts_with("xchg") && code.contains('('));
    let text = String::from_utf8_lossy(&listing.stdout);
    let lines = text.lines().filter_map(|line| line.split_once(":\t"));
    Ok(lines
        .filter(|(_, code)| locks(code.trim_start()))
        .filter_map(|(address, _)| u64::from_str_radix(address.trim(), 16).ok())
        .collect())
}
