//! What belongs to slots, in chunks that never move.
//!
//! A vector of a million waiters copies some hundred megabytes when it grows, all at once and under the lock of the
//! desk, and may then be twice as large as it needs to be. Here growth costs one chunk, whatever there is already.

use std::ops::{Index, IndexMut};

/// Entries of a chunk: some 24 KiB of waiters.
const CHUNK: usize = 256;

/// One `T` for each slot, from slot 0 on; the default where nothing was put.
#[derive(Debug)]
pub struct Table<T> {
    chunks: Vec<Box<[T; CHUNK]>>,
}

impl<T> Default for Table<T> {
    /// A table without a slot.
    fn default() -> Self {
        Table { chunks: Vec::new() }
    }
}

impl<T: Default> Table<T> {
    /// Makes room for a slot.
    #[inline]
    pub fn open(&mut self, slot: u32) {
        while slot as usize / CHUNK >= self.chunks.len() {
            self.grow();
        }
    }

    #[cold]
    fn grow(&mut self) {
        let chunk: Box<[T]> = (0..CHUNK).map(|_| T::default()).collect();
        self.chunks.extend(chunk.try_into().ok());
    }

    /// What a slot has, if there is room for it.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<&T> {
        self.chunks.get(slot as usize / CHUNK).map(|chunk| &chunk[slot as usize % CHUNK])
    }

    /// What a slot has, to be changed.
    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.chunks.get_mut(slot as usize / CHUNK).map(|chunk| &mut chunk[slot as usize % CHUNK])
    }

    /// All slots that there is room for, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// What all slots have.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.chunks.into_iter().flat_map(|chunk| *chunk)
    }
}

/// For slots that were opened.
impl<T> Index<u32> for Table<T> {
    type Output = T;

    #[inline]
    fn index(&self, slot: u32) -> &T {
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

impl<T> IndexMut<u32> for Table<T> {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut T {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_a_slot_stays_there_and_where_it_is_while_the_table_grows() {
        let mut table = Table::<u32>::default();
        assert_eq!(table.get(0), None);
        table.open(3);
        table[3] = 7;
        let place: *const u32 = &table[3];
        (0..10 * CHUNK as u32).for_each(|slot| table.open(slot));
        assert!(std::ptr::eq(place, &table[3]));
        assert_eq!((table[3], table.get(10 * CHUNK as u32 - 1), table.get(10 * CHUNK as u32)), (7, Some(&0), None));
        assert_eq!(table.iter().sum::<u32>(), 7);
    }
}
