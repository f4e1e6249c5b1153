//! Instructions of handing units on: 64 tasks on one worker and 8 units, each `acquire, yield, release` over and over,
//! with what the runtime does for that, counted by callgrind (`support/callgrind.rs`).
//!
//! `cargo bench -p bursar-benches --bench handed_on`.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bursar_benches::callgrind::{self, names};
use bursar_benches::peers::{self, Ask, Bursar, BursarBundle, Intrusives, Peer, Prioritised, Tokio, Visit};
use bursar_benches::{Options, child_args};

const TASKS: usize = 64;
const CAPACITY: u64 = 8;

fn main() {
    if let Some(args) = child_args() {
        let [wanted, ops] = &args[..] else { panic!("not the arguments of a child: {args:?}") };
        return all(&mut HandOn { wanted, ops: ops.parse().expect("a number") });
    }
    if Options::from_args().is_some() {
        callgrind::print(&[("64 tasks on one worker, 8 units: acquire, yield, release", names(all))]);
    }
}

/// Those whose units go from task to task.
fn all(visit: &mut impl Visit) {
    visit.visit(peers::TOKIO, Tokio::<1>::open);
    visit.visit(peers::PRIORITY, Prioritised::<1>::open);
    visit.visit(peers::INTRUSIVE, Intrusives::<1>::open);
    visit.visit(peers::BURSAR, Bursar::open);
    visit.visit(peers::TOKIO_4, Tokio::<4>::open);
    visit.visit(peers::BURSAR_4, BursarBundle::open);
}

/// Runs one peer of the list.
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
