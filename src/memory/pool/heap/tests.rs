//! The heap against a map of units, and what it promises about its pieces.

use super::*;

/// A small generator, so that a failure can be repeated from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(bound)) as u32
    }
}

/// Walks every slab and every list, and compares them with who has which unit.
fn check(heap: &Heap, slabs: &[Option<(u32, Vec<bool>)>]) {
    let (mut free, mut largest, mut pieces) = (0, 0, 0);
    for (first, taken) in slabs.iter().flatten() {
        let (mut node, mut at, mut was_free) = (*first, 0, false);
        while node != NONE {
            let Node { start, units, free: is_free, after, .. } = heap.nodes[node as usize];
            assert_eq!(start, at);
            assert!(!(was_free && is_free), "two free neighbours");
            assert!(taken[at as usize..(at + units) as usize].iter().all(|&taken| taken != is_free));
            if is_free {
                (free, pieces) = (free + u64::from(units), pieces + 1);
                largest = largest.max(units);
            }
            (node, at, was_free) = (after, at + units, is_free);
        }
        assert_eq!(at as usize, taken.len());
    }
    assert_eq!((heap.free(), heap.largest()), (free, largest));
    let listed: usize = (0..LEVELS * 16).map(|list| heap.list_of(list / 16, list % 16).count()).sum();
    assert_eq!(listed, pieces);
}

/// The first run of free units that fits, by looking at every unit.
fn fits(slabs: &[Option<(u32, Vec<bool>)>], units: u32, align: u32) -> bool {
    let (units, align) = (units as usize, align as usize);
    slabs.iter().flatten().any(|(_, taken)| {
        (0..taken.len())
            .step_by(align)
            .any(|at| taken.get(at..at + units).is_some_and(|run| run.iter().all(|&taken| !taken)))
    })
}

#[test]
fn a_thorough_look_finds_a_piece_whenever_there_is_one_and_pieces_never_overlap() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let mut heap = Heap::new();
        let mut slabs: Vec<Option<(u32, Vec<bool>)>> = Vec::new();
        let mut held: Vec<Place> = Vec::new();
        for _ in 0..600 {
            match random.below(12) {
                0 if slabs.len() < 6 => {
                    let units = 1 + random.below(300);
                    let first = heap.add(slabs.len() as u32, units).expect("few nodes");
                    slabs.push(Some((first, vec![false; units as usize])));
                }
                1 if !slabs.is_empty() => {
                    let at = random.below(slabs.len() as u32) as usize;
                    let slab = &mut slabs[at];
                    if let Some((first, taken)) = slab {
                        let empty = taken.iter().all(|&taken| !taken);
                        assert_eq!(heap.remove(*first), empty);
                        if empty {
                            *slab = None;
                        }
                    }
                }
                2..=7 => {
                    let (units, align) = (1 + random.below(60), 1 << random.below(4));
                    let look = if random.below(2) == 0 { Look::Quick } else { Look::Thorough };
                    let there = fits(&slabs, units, align);
                    match heap.take(units, align, look) {
                        Some(place) => {
                            assert!(place.units == units && place.start.is_multiple_of(align));
                            let (_, taken) = slabs[place.slab as usize].as_mut().expect("a slab that is there");
                            let run = &mut taken[place.start as usize..(place.start + units) as usize];
                            assert!(run.iter().all(|&taken| !taken));
                            run.fill(true);
                            held.push(place);
                        }
                        None => assert!(look == Look::Quick || !there, "seed {seed}"),
                    }
                }
                _ if !held.is_empty() => {
                    let place = held.swap_remove(random.below(held.len() as u32) as usize);
                    heap.give(place.node);
                    let (_, taken) = slabs[place.slab as usize].as_mut().expect("a slab that is there");
                    taken[place.start as usize..(place.start + place.units) as usize].fill(false);
                }
                _ => {}
            }
            check(&heap, &slabs);
        }
        for place in held {
            heap.give(place.node);
        }
        assert!(slabs.iter().flatten().all(|&(first, _)| heap.remove(first)));
        assert_eq!((heap.free(), heap.largest()), (0, 0));
    }
}

#[test]
fn the_whole_of_a_slab_can_be_taken_whatever_its_size() {
    for units in [1, 15, 16, 17, 1_000, 1_023, 1 << 20, u32::MAX] {
        let mut heap = Heap::new();
        heap.add(0, units).expect("few nodes");
        assert_eq!(heap.largest(), units);
        assert_eq!(heap.take(units, 1, Look::Quick).map(|place| place.units), Some(units));
        assert_eq!((heap.free(), heap.take(1, 1, Look::Thorough)), (0, None));
    }
}

#[test]
fn a_taken_piece_can_be_cut_and_its_end_is_free_at_once() {
    let mut heap = Heap::new();
    let first = heap.add(0, 100).expect("few nodes");
    let place = heap.take(60, 1, Look::Quick).expect("room");
    heap.cut_back(place.node, 10);
    assert_eq!((heap.free(), heap.largest()), (90, 90));
    heap.give(place.node);
    assert!(heap.is_empty(first));
}
