//! What every space must do. A space joins with one line in `spaces`; what only the simulated device does stands below.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bursar::memory::{BlockId, HostSpace, SimulatedDevice, Space, SpaceError, Stream};
use bursar::{MIB, SpaceId, Tier};
use tokio::time::Instant;

use crate::hand::{GPU0, Random};

const CAPACITY: u64 = 8 * MIB;
const HOST0: SpaceId = SpaceId { tier: Tier::Host, index: 0 };

/// Every space under test, empty, with `CAPACITY` bytes.
async fn spaces() -> Vec<Arc<dyn Space>> {
    let mut spaces: Vec<Arc<dyn Space>> =
        vec![Arc::new(SimulatedDevice::new(GPU0, CAPACITY)), Arc::new(HostSpace::new(HOST0, CAPACITY))];
    #[cfg(unix)]
    spaces.push(Arc::new(crate::disk::open(CAPACITY).await));
    #[cfg(feature = "cuda")]
    spaces.extend(crate::cuda::open(CAPACITY).map(|space| Arc::new(space) as Arc<dyn Space>));
    spaces
}

/// A foreign space: the same capacity, another id.
fn another() -> Arc<dyn Space> {
    Arc::new(SimulatedDevice::new(SpaceId { tier: Tier::Gpu, index: 9 }, CAPACITY))
}

fn pattern(seed: u64, length: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let words = (0..length.div_ceil(4)).flat_map(|_| (random.below(1 << 31) as u32).to_le_bytes());
    words.take(length as usize).collect()
}

async fn read(space: &dyn Space, block: BlockId, offset: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    space.read(Stream(0), block, offset, &mut bytes).await.unwrap();
    bytes
}

#[tokio::test(start_paused = true)]
async fn bytes_come_back_as_they_were_written_at_any_offset() {
    for space in spaces().await {
        let block = space.allocate(3 * MIB + 5).await.unwrap();
        let whole = pattern(1, 3 * MIB + 5);
        space.write(Stream(0), block, 0, &whole).await.unwrap();
        let part = pattern(2, MIB + 1);
        space.write(Stream(0), block, 77, &part).await.unwrap();
        let mut expected = whole.clone();
        expected[77..77 + part.len()].copy_from_slice(&part);
        assert_eq!(read(&*space, block, 0, expected.len() as u64).await, expected);
        assert_eq!(read(&*space, block, 3 * MIB, 5).await, expected[3 * MIB as usize..]);
        space.free(block).await.unwrap();
        assert_eq!(space.used(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_space_refuses_with_its_figures_and_grants_again_after_a_free() {
    for space in spaces().await {
        let mut blocks = Vec::new();
        for _ in 0..8 {
            blocks.push(space.allocate(MIB).await.unwrap());
        }
        match space.allocate(1).await {
            Err(SpaceError::OutOfMemory { space: id, asked: 1, free: 0, largest_free, .. }) => {
                assert_eq!(id, space.id());
                assert!(largest_free.is_none_or(|largest| largest == 0));
            }
            other => panic!("{other:?}"),
        }
        space.free(blocks.swap_remove(3)).await.unwrap();
        assert_eq!(space.used(), 7 * MIB);
        blocks.push(space.allocate(MIB).await.unwrap());
        for block in blocks {
            space.free(block).await.unwrap();
        }
        assert_eq!((space.used(), space.capacity()), (0, CAPACITY));
        assert_eq!(space.allocate(0).await, Err(SpaceError::Zero { space: space.id() }));
        assert!(space.allocate(u64::MAX).await.is_err());
        assert_eq!(space.used(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn scenarios_2_and_19_of_the_pool_a_block_is_freed_once_and_its_id_is_stale_when_its_place_is_used_again() {
    for space in spaces().await {
        let block = space.allocate(64).await.unwrap();
        space.free(block).await.unwrap();
        let stale = || Err(SpaceError::StaleBlock { block });
        assert_eq!(space.free(block).await, stale());
        let next = space.allocate(64).await.unwrap();
        assert_ne!(next, block);
        space.write(Stream(0), next, 0, &[7; 64]).await.unwrap();
        assert_eq!(space.free(block).await, stale());
        assert_eq!(space.write(Stream(0), block, 0, &[1]).await, stale());
        assert_eq!(space.read(Stream(0), block, 0, &mut [0]).await, stale());
        assert_eq!(read(&*space, next, 0, 64).await, [7; 64]);
        let used = space.used();
        assert!((64..=512).contains(&used), "{used}");
        space.free(next).await.unwrap();
        assert_eq!(space.used(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_19_of_the_pool_of_many_that_free_one_block_at_once_exactly_one_succeeds() {
    for space in spaces().await {
        for _ in 0..200 {
            let block = space.allocate(4_096).await.unwrap();
            let tasks: Vec<_> = (0..16)
                .map(|_| {
                    let space = Arc::clone(&space);
                    tokio::spawn(async move { space.free(block).await })
                })
                .collect();
            let mut freed = 0;
            for task in tasks {
                match task.await.unwrap() {
                    Ok(()) => freed += 1,
                    Err(error) => assert_eq!(error, SpaceError::StaleBlock { block }),
                }
            }
            assert_eq!((freed, space.used()), (1, 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_outside_its_block_moves_nothing() {
    for space in spaces().await {
        let block = space.allocate(10).await.unwrap();
        space.write(Stream(0), block, 0, &[9; 10]).await.unwrap();
        for (offset, length) in [(0, 11), (10, 1), (11, 0), (u64::MAX, 2), (1 << 40, 1)] {
            let outside = Err(SpaceError::OutOfRange { block, size: 10, offset, length });
            assert_eq!(space.write(Stream(0), block, offset, &vec![1; length as usize]).await, outside);
            assert_eq!(space.read(Stream(0), block, offset, &mut vec![1; length as usize]).await, outside);
        }
        space.write(Stream(0), block, 10, &[]).await.unwrap();
        assert_eq!(read(&*space, block, 0, 10).await, [9; 10]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_block_of_another_space_is_refused() {
    let foreign = another();
    for space in spaces().await {
        let block = foreign.allocate(8).await.unwrap();
        let refused = Err(SpaceError::ForeignBlock { block, space: space.id() });
        assert_eq!(space.free(block).await, refused);
        assert_eq!(space.write(Stream(0), block, 0, &[1]).await, refused);
        foreign.free(block).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn scenario_10_of_the_pool_five_thousand_random_operations_agree_with_a_model_and_leave_no_residue() {
    for space in spaces().await {
        let mut random = Random(42);
        let mut model: Vec<(BlockId, Vec<u8>)> = Vec::new();
        for step in 0..5_000 {
            let asked: u64 = model.iter().map(|(_, bytes)| bytes.len() as u64).sum();
            let used = space.used();
            assert!(asked <= used && used <= CAPACITY, "step {step}: {asked} asked, {used} used");
            let at = random.below(model.len().max(1) as u64) as usize;
            match random.below(4) {
                0 | 1 if random.below(3) > 0 => {
                    let size = 1 + (random.below(256 * 1_024) >> random.below(4));
                    match space.allocate(size).await {
                        Ok(block) => {
                            let bytes = pattern(step, size);
                            space.write(Stream(step as u8), block, 0, &bytes).await.unwrap();
                            model.push((block, bytes));
                        }
                        // Too little, or not in one piece.
                        Err(SpaceError::OutOfMemory { asked, free, largest_free, pending, .. }) => {
                            assert_eq!((asked, free + pending), (size, CAPACITY - used), "step {step}");
                            assert!(largest_free.unwrap_or(free) < size, "step {step}");
                        }
                        Err(other) => panic!("step {step}: {other}"),
                    }
                }
                2 if !model.is_empty() => {
                    let (block, bytes) = &model[at];
                    assert_eq!(&read(&*space, *block, 0, bytes.len() as u64).await, bytes, "step {step}");
                }
                3 if !model.is_empty() => space.free(model.swap_remove(at).0).await.unwrap(),
                _ => {}
            }
        }
        for (block, _) in model {
            space.free(block).await.unwrap();
        }
        assert_eq!(space.used(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_27_of_the_pool_sixteen_tasks_at_a_small_space_never_have_more_than_it_has() {
    for space in spaces().await {
        let tasks: Vec<_> = (0..16)
            .map(|seed| {
                let space = Arc::clone(&space);
                tokio::spawn(async move {
                    let mut random = Random(seed);
                    let mut held: HashMap<BlockId, u64> = HashMap::new();
                    for _ in 0..200 {
                        if let Ok(block) = space.allocate(MIB).await {
                            assert!(held.insert(block, MIB).is_none(), "one block for two");
                        }
                        assert!(space.used() <= space.capacity());
                        if random.below(2) == 0 {
                            tokio::task::yield_now().await;
                            for (block, _) in held.drain() {
                                space.free(block).await.unwrap();
                            }
                        }
                    }
                    for (block, _) in held {
                        space.free(block).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(space.used(), 0);
    }
}

/// A device whose copies take long enough to be told apart: 1 MiB/s and 1 ms.
fn slow() -> Arc<SimulatedDevice> {
    Arc::new(SimulatedDevice::new(GPU0, CAPACITY).bandwidth(MIB).latency(Duration::from_millis(1)))
}

#[tokio::test(start_paused = true)]
async fn copies_of_one_stream_are_done_in_their_order() {
    let device = slow();
    let block = device.allocate(MIB).await.unwrap();
    let long = vec![1; MIB as usize];
    // Polled in this order by `join`; the short one would otherwise be over long before the long one.
    let (first, second, third) = tokio::join!(
        device.write(Stream(3), block, 0, &long),
        device.write(Stream(3), block, 0, &[2]),
        device.launch(Stream(3), block, |_, bytes| bytes.iter_mut().for_each(|byte| *byte += 5)),
    );
    for copied in [first, second, third] {
        copied.unwrap();
    }
    assert_eq!(read(&*device, block, 0, 2).await, [7, 6]);
}

#[tokio::test(start_paused = true)]
async fn the_link_of_a_direction_is_shared_and_the_directions_do_not_disturb_each_other() {
    let device = slow();
    let (a, b) = (device.allocate(MIB).await.unwrap(), device.allocate(MIB).await.unwrap());
    let bytes = vec![1; MIB as usize];
    let mut back = vec![0; MIB as usize];
    let start = Instant::now();
    let timed = async |stream, block| {
        device.write(Stream(stream), block, 0, &bytes).await.unwrap();
        start.elapsed()
    };
    let timed_read = async {
        device.read(Stream(3), b, 0, &mut back).await.unwrap();
        start.elapsed()
    };
    let (first, second, third) = tokio::join!(timed(1, a), timed(2, b), timed_read);
    assert_eq!(first, Duration::from_millis(1_001));
    assert_eq!(second, Duration::from_millis(2_001));
    assert_eq!(third, Duration::from_millis(1_001));
}

#[tokio::test(start_paused = true)]
async fn many_copies_shorter_than_the_timer_take_as_long_as_the_model_says() {
    let device = SimulatedDevice::new(GPU0, CAPACITY).bandwidth(1_000_000_000).latency(Duration::from_micros(10));
    let block = device.allocate(MIB).await.unwrap();
    let start = Instant::now();
    for _ in 0..1_000 {
        // 90 us and the latency.
        device.write(Stream(0), block, 0, &[1; 90_000]).await.unwrap();
    }
    let took = start.elapsed();
    assert!((Duration::from_millis(99)..=Duration::from_millis(101)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_given_up_lets_the_next_of_its_stream_go_on() {
    let device = slow();
    let block = device.allocate(MIB).await.unwrap();
    let mut given_up = tokio_test::task::spawn(device.write(Stream(0), block, 0, &[1, 1]));
    assert!(given_up.poll().is_pending());
    drop(given_up);
    device.write(Stream(0), block, 0, &[2]).await.unwrap();
    assert_eq!(read(&*device, block, 0, 2).await, [2, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_block_that_is_freed_under_a_copy_is_stale_to_it() {
    let device = slow();
    let block = device.allocate(MIB).await.unwrap();
    let (copied, freed) = tokio::join!(device.write(Stream(0), block, 0, &[1]), device.free(block));
    assert_eq!((copied, freed), (Err(SpaceError::StaleBlock { block }), Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_kernel_sees_every_byte_once_with_its_offset() {
    let device = slow();
    let block = device.allocate(3 * MIB + 1).await.unwrap();
    let mut next = 0;
    let kernel = |offset: u64, piece: &mut [u8]| {
        assert_eq!(offset, next);
        next += piece.len() as u64;
        piece.fill(3);
    };
    device.launch(Stream(0), block, kernel).await.unwrap();
    assert_eq!(next, 3 * MIB + 1);
    assert!(read(&*device, block, 0, 3 * MIB + 1).await.iter().all(|&byte| byte == 3));
}

#[test]
fn every_refusal_says_where_and_how_much() {
    let full =
        SpaceError::OutOfMemory { space: GPU0, asked: 2 * MIB, free: MIB, largest_free: Some(4_096), pending: 0 };
    assert_eq!(
        full.to_string(),
        "gpu0: asked 2.0 MiB, 1.0 MiB free, 4.0 KiB of it in one piece; free blocks first, or reserve the space before \
         allocating in it"
    );
    assert_eq!(SpaceError::Zero { space: GPU0 }.to_string(), "gpu0: a block of 0 bytes; ask for at least 1");
}
