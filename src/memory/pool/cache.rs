//! What a thread keeps to itself: free blocks by stream and size, last in first out, and its part of the accounts.
//!
//! The idea is that of magazines (Bonwick and Adams, "Magazines and vmem", 2001) and of thread caches (TCMalloc):
//! nearly every allocation is served by what the same thread freed before. A cache is a line of its own in memory,
//! under a lock that another thread takes only when it is in need.

use std::sync::atomic::{AtomicI64, Ordering};

use super::central::Cut;
use crate::memory::Stream;

/// The most blocks of one size in a cache, for one stream.
const MOST: u64 = 64;
/// What is cut out of the heap at once when a cache has nothing, in bytes and in blocks.
const REFILL_BYTES: u64 = 64 << 10;
const REFILL: u64 = 16;

/// How much a cache may keep.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) bytes: u64,
}

impl Room {
    /// How many blocks of a size.
    #[inline]
    fn blocks(self, bytes: u64) -> usize {
        // An eighth for one size; but a block that fits at all may stay.
        let share = (self.bytes / 8 / bytes).clamp(u64::from(bytes <= self.bytes), MOST);
        share as usize
    }

    /// By how much a thread's part of the peak may lie above what it has in use: see [`Peak`].
    fn slack(self) -> i64 {
        (self.bytes / 4).max(1 << 20) as i64
    }

    /// How many blocks of a size to cut out at once.
    pub(super) fn refill(self, bytes: u64) -> usize {
        (REFILL_BYTES.min(self.bytes / 16) / bytes).clamp(1, REFILL) as usize
    }
}

/// What became of a block that was put into a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Yes,
    /// Yes, and of this size there are more than enough now.
    TooManyOfSize,
    /// Yes, and there is more than enough of all sizes together.
    TooMany,
    No,
}

/// The free blocks of one stream.
#[derive(Debug)]
struct Shelf {
    lists: Box<[Vec<Cut>]>,
}

/// A thread's part of the accounts. Blocks that it allocated and another freed make it positive here and negative
/// there; the sum is exact.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Account {
    pub(super) bytes: i64,
    pub(super) asked: i64,
    pub(super) blocks: i64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    /// What it has announced to the peak; at least `bytes`.
    mark: i64,
    /// By how much more. Here and not beside the peak, whose line other threads write to.
    slack: i64,
}

#[derive(Debug)]
pub(super) struct Cache {
    /// By stream; made when first used.
    shelves: Box<[Option<Shelf>]>,
    sizes: usize,
    pub(super) bytes: u64,
    pub(super) account: Account,
}

impl Cache {
    pub(super) fn new(streams: usize, sizes: usize, room: Room) -> Self {
        let shelves = (0..streams).map(|_| None).collect();
        let account = Account { slack: room.slack(), ..Account::default() };
        Cache { shelves, sizes, bytes: 0, account }
    }

    #[inline]
    pub(super) fn pop(&mut self, stream: Stream, class: u8) -> Option<Cut> {
        let shelf = self.shelves.get_mut(usize::from(stream.0))?.as_mut()?;
        let cut = shelf.lists.get_mut(usize::from(class))?.pop()?;
        self.bytes -= cut.bytes;
        Some(cut)
    }

    #[inline]
    pub(super) fn push(&mut self, stream: Stream, class: u8, cut: Cut, room: Room) -> Kept {
        let most = room.blocks(cut.bytes);
        if most == 0 {
            return Kept::No;
        }
        let list = self.list(stream, class);
        list.push(cut);
        let enough = list.len() > most;
        self.bytes += cut.bytes;
        match () {
            () if self.bytes > room.bytes => Kept::TooMany,
            () if enough => Kept::TooManyOfSize,
            () => Kept::Yes,
        }
    }

    /// Takes out the older half of the blocks of one size.
    pub(super) fn older_half(&mut self, stream: Stream, class: u8) -> Vec<Cut> {
        let list = self.list(stream, class);
        let half: Vec<Cut> = list.drain(..list.len().div_ceil(2)).collect();
        self.bytes -= half.iter().map(|cut| cut.bytes).sum::<u64>();
        half
    }

    /// Takes out everything, stream by stream.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (Stream, Vec<Cut>)> + '_ {
        self.bytes = 0;
        // There are at most 256 streams.
        let shelves =
            self.shelves.iter_mut().enumerate().filter_map(|(number, shelf)| Some((number as u8, shelf.as_mut()?)));
        shelves
            .map(|(number, shelf)| (Stream(number), shelf.lists.iter_mut().flat_map(|list| list.drain(..)).collect()))
    }

    #[inline]
    fn list(&mut self, stream: Stream, class: u8) -> &mut Vec<Cut> {
        let sizes = self.sizes;
        let make = || Shelf { lists: (0..sizes).map(|_| Vec::new()).collect() };
        &mut self.shelves[usize::from(stream.0)].get_or_insert_with(make).lists[usize::from(class)]
    }
}

impl Account {
    #[inline]
    pub(super) fn allocated(&mut self, bytes: u64, asked: u64, peak: &Peak) {
        self.bytes += bytes as i64;
        self.asked += asked as i64;
        self.blocks += 1;
        if self.bytes > self.mark {
            peak.raise(self.bytes - self.mark);
            self.mark = self.bytes;
        }
    }

    #[inline]
    pub(super) fn freed(&mut self, bytes: u64, asked: u64, peak: &Peak) {
        self.bytes -= bytes as i64;
        self.asked -= asked as i64;
        self.blocks -= 1;
        if self.mark - self.bytes > self.slack {
            self.settle(peak);
        }
    }

    /// Takes the mark down to what is in use.
    pub(super) fn settle(&mut self, peak: &Peak) {
        peak.marked.fetch_sub(self.mark - self.bytes, Ordering::Relaxed);
        self.mark = self.bytes;
    }
}

/// The most that was in use at the same time, without a count that every thread writes to: each announces a mark, which
/// is never below what its own account says, and takes it back once it is too high by more than the slack. So the peak
/// is exact for one thread, never too low, and for more threads too high by at most the slack for each of the others.
/// That is many times the usual block, or threads would meet here with every other one.
#[derive(Debug, Default)]
pub(super) struct Peak {
    marked: AtomicI64,
    most: AtomicI64,
}

impl Peak {
    fn raise(&self, by: i64) {
        let marked = self.marked.fetch_add(by, Ordering::Relaxed) + by;
        if marked > self.most.load(Ordering::Relaxed) {
            self.most.fetch_max(marked, Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self) -> u64 {
        u64::try_from(self.most.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Begins again with what is marked now.
    pub(super) fn reset(&self) {
        self.most.store(self.marked.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}
