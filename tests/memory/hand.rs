//! A source of memory whose streams are moved by hand, and which checks what a pool asks of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bursar::memory::{Pool, PoolBlock, PoolConfig, PoolUsage, Slab, Source, SourceError, Stream};
use bursar::{SpaceId, Tier};

pub const GPU0: SpaceId = SpaceId { tier: Tier::Gpu, index: 0 };

/// A small generator, so that a failure can be repeated from its seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[derive(Debug, Default)]
struct State {
    /// Slabs that are out: address and bytes. Addresses are used again, the lowest first.
    slabs: BTreeMap<u64, u64>,
    out: u64,
    most: u64,
    /// How many slabs were asked for, and how many of them from now on are refused.
    asked: u64,
    refuse: u64,
    lost: bool,
    /// No point of a stream can be marked.
    unmarked: bool,
    /// For every stream: how much was queued, and how much of it is done.
    queued: BTreeMap<u8, u64>,
    done: BTreeMap<u8, u64>,
    /// What a stream waits for.
    waits: Vec<(Stream, Event)>,
    records: u64,
    queries: u64,
}

/// A point of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub stream: u8,
    pub at: u64,
}

/// What a pool that is driven by hand draws on. Clones are the same source.
#[derive(Debug, Clone)]
pub struct Hand {
    state: Arc<Mutex<State>>,
    /// What the device has.
    device: u64,
}

#[derive(Debug)]
pub struct HandSlab {
    hand: Hand,
    address: u64,
}

impl Hand {
    pub fn new(device: u64) -> Self {
        Hand { state: Arc::default(), device }
    }

    /// A pool over it.
    pub fn pool(&self, config: PoolConfig) -> Pool<Hand> {
        Pool::new(GPU0, self.clone(), config)
    }

    /// Queues work on a stream.
    pub fn queue(&self, stream: Stream) {
        *self.state().queued.entry(stream.0).or_default() += 1;
    }

    /// Everything that is queued on a stream is done.
    pub fn pass(&self, stream: Stream) {
        let mut state = self.state();
        let queued = state.queued.get(&stream.0).copied().unwrap_or(0);
        state.done.insert(stream.0, queued);
    }

    /// The next so many slabs are refused.
    pub fn refuse(&self, slabs: u64) {
        self.state().refuse = slabs;
    }

    /// Nothing works any more.
    pub fn lose(&self) {
        self.state().lost = true;
    }

    /// From now on, points of streams cannot be marked, or can again.
    pub fn mark(&self, can: bool) {
        self.state().unmarked = !can;
    }

    pub fn waits(&self) -> Vec<(Stream, Event)> {
        self.state().waits.clone()
    }

    /// Bytes that are out now, and the most that were out at a time.
    pub fn out(&self) -> (u64, u64) {
        let state = self.state();
        (state.out, state.most)
    }

    /// How often it was asked for a slab, to record and to query.
    pub fn calls(&self) -> (u64, u64, u64) {
        let state = self.state();
        (state.asked, state.records, state.queries)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Source for Hand {
    type Slab = HandSlab;
    type Event = Event;

    const STREAMS: bool = true;

    fn slab(&self, bytes: u64) -> Result<HandSlab, SourceError> {
        let mut state = self.state();
        state.asked += 1;
        if state.lost {
            return Err(SourceError::Lost { reason: "fell off the bus".into() });
        }
        if state.refuse > 0 || state.out + bytes > self.device {
            state.refuse = state.refuse.saturating_sub(1);
            return Err(SourceError::Exhausted);
        }
        let mut address = 1 << 20;
        for (&taken, &length) in &state.slabs {
            if taken >= address + bytes {
                break;
            }
            address = (taken + length).next_multiple_of(4_096);
        }
        state.slabs.insert(address, bytes);
        state.out += bytes;
        state.most = state.most.max(state.out);
        Ok(HandSlab { hand: self.clone(), address })
    }

    fn record(&self, stream: Stream) -> Option<Event> {
        let mut state = self.state();
        state.records += 1;
        let at = state.queued.get(&stream.0).copied().unwrap_or(0);
        (!state.lost && !state.unmarked).then_some(Event { stream: stream.0, at })
    }

    fn has_passed(&self, event: &Event) -> bool {
        let mut state = self.state();
        state.queries += 1;
        state.done.get(&event.stream).copied().unwrap_or(0) >= event.at
    }

    fn wait(&self, stream: Stream, event: &Event) -> bool {
        let mut state = self.state();
        state.waits.push((stream, *event));
        !state.lost
    }
}

impl Slab for HandSlab {
    fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for HandSlab {
    fn drop(&mut self) {
        let mut state = self.hand.state();
        let bytes = state.slabs.remove(&self.address).expect("a slab is returned once");
        state.out -= bytes;
    }
}

/// Which addresses are in use, so that nothing has two owners.
#[derive(Debug, Default)]
pub struct Owners(Mutex<BTreeMap<u64, u64>>);

impl Owners {
    pub fn enter<S: Source>(&self, block: &PoolBlock<S>) {
        let (from, to) = (block.address(), block.address() + block.capacity());
        let mut owners = self.0.lock().expect("no panic");
        if let Some((&before, &end)) = owners.range(..to).next_back() {
            assert!(end <= from, "{from:#x}..{to:#x} overlaps {before:#x}..{end:#x}");
        }
        owners.insert(from, to);
    }

    pub fn leave<S: Source>(&self, block: &PoolBlock<S>) {
        assert!(self.0.lock().expect("no panic").remove(&block.address()).is_some());
    }
}

/// The accounts of a pool, checked: they add up, and agree with the source.
pub fn audit(pool: &Pool<Hand>) -> PoolUsage {
    let usage = pool.usage();
    assert_eq!(usage.reserved, usage.allocated + usage.cached + usage.pending + usage.free, "{usage:?}");
    assert!(usage.reserved <= usage.limit && usage.peak_reserved <= usage.limit, "{usage:?}");
    assert!(usage.asked <= usage.allocated && usage.largest_free <= usage.free, "{usage:?}");
    let (out, most) = pool.source().out();
    assert_eq!(out, usage.reserved);
    assert!(most <= usage.limit, "{most} bytes were out at a time, the limit is {}", usage.limit);
    usage
}
