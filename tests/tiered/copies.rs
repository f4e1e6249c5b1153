//! Bytes from block to block, whatever spaces they are in.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use bursar::memory::{HostSpace, SimulatedDevice, SpaceError};
use bursar::tiered::{AllocateError, Block, CopyFault, MemoryLease, Tiers, copy};
use bursar::{BudgetId, KIB, MIB, Priority, Request, ReserveError, Scheduler, SpaceId, Tier};
use tokio::time::Instant;
use tracing::{Instrument, Level};

use crate::backends::space;
use crate::common;
use crate::common::log::Lines;
use crate::paper::GPU0;

const GPU1: SpaceId = SpaceId { tier: Tier::Gpu, index: 1 };
const HOST0: SpaceId = space(Tier::Host);
const DISK0: SpaceId = space(Tier::Disk);

/// Two devices whose links do 64 MiB a second, the host, a disk, and a rate of 8 MiB a second.
struct Machine {
    scheduler: Scheduler,
    device: Arc<SimulatedDevice>,
    tiers: Tiers,
    spaces: Vec<SpaceId>,
}

async fn machine() -> Machine {
    let config = [BudgetId::GPU, GPU1.budget().unwrap(), BudgetId::HOST, BudgetId::DISK]
        .into_iter()
        .fold(bursar::Config::new(), |config, id| config.with(bursar::Budget::loan(id, 64 * MIB)))
        .with(bursar::Budget::rate(BudgetId::IO, 8 * MIB).burst(MIB));
    let scheduler = Scheduler::builder().config(config).spawn().unwrap();
    let link = |id| SimulatedDevice::new(id, 64 * MIB).bandwidth(64 * MIB).latency(Duration::ZERO);
    let device = Arc::new(link(GPU0));
    let builder = Tiers::builder().shared_space(device.clone()).space(link(GPU1));
    let builder = builder.space(HostSpace::new(HOST0, 64 * MIB));
    #[cfg(unix)]
    let builder = builder.space(crate::backends::disk(64 * MIB).await);
    let tiers = builder.build(&scheduler).unwrap();
    let spaces = [GPU0, GPU1, HOST0, DISK0].into_iter().filter(|&id| tiers.space(id).is_some()).collect();
    Machine { scheduler, device, tiers, spaces }
}

impl Machine {
    /// So much everywhere.
    async fn lease(&self, bytes: u64) -> MemoryLease {
        let request = self.spaces.iter().fold(Request::new(), |request, &id| request.space(id, bytes));
        self.tiers.reserve(request).await.unwrap()
    }
}

fn pattern(seed: u8, length: u64) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8).wrapping_add(seed)).collect()
}

async fn read(block: &Block) -> Vec<u8> {
    let mut bytes = vec![0; block.len() as usize];
    block.read(0, &mut bytes).await.unwrap();
    bytes
}

#[tokio::test(start_paused = true)]
async fn bytes_go_from_every_space_to_every_space_whatever_the_chunk() {
    let machine = machine().await;
    let length = 300 * KIB + 7;
    for &from in &machine.spaces {
        for &to in &machine.spaces {
            for (chunk, depth) in [(MIB, 2), (64 * KIB, 2), (10_007, 5)] {
                let lease = machine.lease(MIB).await;
                let mut source = lease.allocate_in(from, length).await.unwrap();
                let mut target = lease.allocate_in(to, length).await.unwrap();
                source.write(0, &pattern(1, length)).await.unwrap();
                let copied = copy(&source, &mut target).chunk(chunk).depth(depth).await.unwrap();
                assert_eq!(copied, length);
                assert!(read(&target).await == pattern(1, length), "{from} to {to}, {chunk} a chunk");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_may_hold_any_number_of_chunks_holds_no_more_than_there_are() {
    let machine = machine().await;
    let lease = machine.lease(8 * KIB).await;
    let mut source = lease.allocate_in(HOST0, 4 * KIB).await.unwrap();
    let mut target = lease.allocate_in(GPU0, 4 * KIB).await.unwrap();
    source.write(0, &pattern(5, 4 * KIB)).await.unwrap();
    for chunk in [KIB, u64::MAX] {
        assert_eq!(copy(&source, &mut target).chunk(chunk).depth(usize::MAX).await, Ok(4 * KIB));
        assert_eq!(read(&target).await, pattern(5, 4 * KIB));
    }
    assert_eq!(copy(&source, &mut target).range(0, 0, 0).depth(usize::MAX).await, Ok(0));
}

#[tokio::test]
async fn a_range_leaves_the_rest_of_the_target_as_it_was_and_one_that_does_not_fit_moves_nothing() {
    let machine = machine().await;
    let lease = machine.lease(MIB).await;
    for &to in &machine.spaces {
        let mut source = lease.allocate_in(HOST0, 4 * KIB).await.unwrap();
        let mut target = lease.allocate_in(to, 8 * KIB).await.unwrap();
        source.write(0, &pattern(1, 4 * KIB)).await.unwrap();
        target.write(0, &pattern(2, 8 * KIB)).await.unwrap();
        assert_eq!(copy(&source, &mut target).range(100, 5_000, 3_000).chunk(999).await, Ok(3_000));
        let mut expected = pattern(2, 8 * KIB);
        expected[5_000..8_000].copy_from_slice(&pattern(1, 4 * KIB)[100..3_100]);
        assert_eq!(read(&target).await, expected);
        for (range, of_target) in [((0, 5_000, 4_000), true), ((97, 0, 4_000), false), ((u64::MAX, 0, 1), false)] {
            let refused = copy(&source, &mut target).range(range.0, range.1, range.2).await.unwrap_err();
            assert_eq!((refused.done, refused.unknown), (0, 0));
            match refused.fault {
                CopyFault::Write(SpaceError::OutOfRange { .. }) => assert!(of_target),
                CopyFault::Read(SpaceError::OutOfRange { .. }) => assert!(!of_target),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(read(&target).await, expected);
        assert_eq!(copy(&source, &mut target).range(0, 0, 0).await, Ok(0));
    }
}

/// Reading one chunk and writing the one before it take the time of one of the two.
#[tokio::test(start_paused = true)]
async fn reading_and_writing_overlap() {
    let machine = machine().await;
    let lease = machine.lease(32 * MIB).await;
    let source = lease.allocate_in(GPU0, 32 * MIB).await.unwrap();
    let mut target = lease.allocate_in(GPU1, 32 * MIB).await.unwrap();
    // A chunk more than one of the two alone. The timer makes 32 ms of the 31.25 that 2 MiB take.
    for (chunk, expected) in [(32 * MIB, 500 + 500), (8 * MIB, 4 * 125 + 125), (2 * MIB, 16 * 32 + 32)] {
        let before = Instant::now();
        copy(&source, &mut target).chunk(chunk).await.unwrap();
        let took = before.elapsed().as_millis();
        assert_eq!(took, expected, "chunks of {chunk}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_dropped_has_copied_what_it_says_and_can_be_taken_up_there() {
    let machine = machine().await;
    for &to in &machine.spaces {
        let lease = machine.lease(8 * MIB).await;
        let mut source = lease.allocate_in(GPU0, 4 * MIB).await.unwrap();
        let mut target = lease.allocate_in(to, 4 * MIB).await.unwrap();
        source.write(0, &pattern(1, 4 * MIB)).await.unwrap();
        target.write(0, &pattern(2, 4 * MIB)).await.unwrap();
        let chunk = 256 * KIB;
        let transfer = copy(&source, &mut target).chunk(chunk);
        let progress = transfer.progress();
        let cut_off = tokio::time::timeout(Duration::from_millis(30), transfer.into_future()).await;
        assert!(cut_off.is_err());
        let done = progress.done();
        assert!(done > 0 && done < 4 * MIB && done.is_multiple_of(chunk), "{done} bytes done");
        let bytes = read(&target).await;
        let (at, unknown) = (done as usize, chunk as usize);
        assert!(bytes[..at] == pattern(1, 4 * MIB)[..at], "what is done is done");
        assert!(bytes[at + unknown..] == pattern(2, 4 * MIB)[at + unknown..], "what comes later is as it was");
        let rest = 4 * MIB - done;
        assert_eq!(copy(&source, &mut target).range(done, done, rest).chunk(chunk).await, Ok(rest));
        assert!(read(&target).await == pattern(1, 4 * MIB));
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_pays_for_every_byte_out_of_the_rates_it_names_and_is_no_faster() {
    let machine = machine().await;
    let lease = machine.lease(8 * MIB).await;
    let source = lease.allocate_in(HOST0, 8 * MIB).await.unwrap();
    let mut target = lease.allocate_in(GPU0, 8 * MIB).await.unwrap();
    let spent = || machine.scheduler.stats().budget(BudgetId::IO).unwrap().granted;
    copy(&source, &mut target).await.unwrap();
    assert_eq!(spent(), 0);
    let before = Instant::now();
    // The burst is 1 MiB, so that a chunk is paid for in four parts. The first part is there.
    copy(&source, &mut target).charge(BudgetId::IO).await.unwrap();
    assert_eq!(spent(), 8 * MIB);
    let took = before.elapsed().as_millis();
    assert!((874..=1_010).contains(&took), "{took} ms for 7 MiB at 8 MiB a second");
    machine.scheduler.close();
    let refused = copy(&source, &mut target).charge(BudgetId::IO).priority(Priority::High).await.unwrap_err();
    assert!(matches!(refused.fault, CopyFault::Bandwidth(ReserveError::Closed { .. })), "{refused}");
    assert_eq!(refused.done, 0);
}

#[tokio::test(start_paused = true)]
async fn a_block_that_goes_in_the_middle_ends_the_copy_with_what_was_done() {
    let machine = machine().await;
    let lease = machine.lease(8 * MIB).await;
    let source = lease.allocate_in(GPU0, 8 * MIB).await.unwrap();
    let mut target = lease.allocate_in(GPU1, 8 * MIB).await.unwrap();
    let (id, device) = (source.id(), Arc::clone(&machine.device));
    let remover = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(70)).await;
        bursar::memory::Space::free(&*device, id).await
    });
    let broken = copy(&source, &mut target).chunk(MIB).await.unwrap_err();
    remover.await.unwrap().unwrap();
    assert_eq!(broken.fault, CopyFault::Read(SpaceError::StaleBlock { block: id }));
    assert!(broken.done > 0 && broken.done < 8 * MIB && broken.unknown == MIB, "{broken}");
}

#[tokio::test(start_paused = true)]
async fn a_space_shows_what_is_allocated_copied_spilled_and_refused_until_its_tiers_are_gone() {
    let machine = machine().await;
    let lease = machine.lease(2 * MIB).await;
    let mut on_host = lease.allocate_in(HOST0, MIB).await.unwrap();
    let mut on_device = lease.allocate_in(GPU0, MIB).await.unwrap();
    copy(&on_host, &mut on_device).await.unwrap();
    copy(&on_device, &mut on_host).range(0, 0, 1_000).await.unwrap();
    assert!(lease.allocate_in(GPU0, 2 * MIB).await.is_err());
    let figures = |space| common::shown(&machine.scheduler, space).expect("shown");
    let names = ["allocated", "blocks", "copied_in", "copied_out", "spilled", "refused"];
    let [device, host] = ["memory gpu0", "memory host0"].map(figures);
    assert_eq!(names.map(|name| device[name]), [MIB, 1, MIB, 1_000, 1_000, 1]);
    assert_eq!(names.map(|name| host[name]), [MIB, 1, 1_000, MIB, 0, 0]);
    // The figures of the pool below are with them.
    assert_eq!((host["pool_allocated"], host["pool_hits"] + host["pool_misses"]), (MIB, 1));
    drop((lease, on_device));
    let scheduler = machine.scheduler.clone();
    drop(machine);
    assert_eq!(common::shown(&scheduler, "memory host0").map(|host| host["blocks"]), Some(1));
    drop(on_host);
    assert_eq!(common::shown(&scheduler, "memory host0"), None);
}

/// However many copies there are, blocks and leases come back.
#[tokio::test(start_paused = true)]
async fn a_round_trip_through_all_tiers_leaves_nothing_behind() {
    let machine = machine().await;
    for round in 0..4_u8 {
        let lease = machine.lease(2 * MIB).await;
        let mut first = lease.allocate_in(HOST0, MIB).await.unwrap();
        first.write(0, &pattern(round, MIB)).await.unwrap();
        let mut last = first;
        for &space in machine.spaces.iter().chain(machine.spaces.iter().rev()) {
            let mut next = lease.allocate_in(space, MIB).await.unwrap();
            copy(&last, &mut next).chunk(100_000).await.unwrap();
            std::mem::replace(&mut last, next).free().await.unwrap();
        }
        assert!(read(&last).await == pattern(round, MIB));
        last.free().await.unwrap();
        let over = lease.allocate_in(HOST0, 3 * MIB).await;
        assert!(matches!(over, Err(AllocateError::OverReserved { .. })));
    }
    for &space in &machine.spaces {
        let usage = machine.tiers.usage(space).unwrap();
        assert_eq!((usage.total, usage.allocated, machine.tiers.space(space).unwrap().used()), (0, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_to_a_slower_tier_is_a_span_in_that_of_its_caller_and_no_other_copy_is() {
    let lines = Lines::get();
    let machine = machine().await;
    let lease = machine.lease(MIB).await;
    let mut device = lease.allocate_in(GPU0, 300).await.unwrap();
    let mut host = lease.allocate_in(HOST0, 300).await.unwrap();
    copy(&host, &mut device).await.unwrap();
    assert!(lines.spans("bursar::spill").is_empty(), "that way it becomes faster");
    let caller = tracing::info_span!(target: "bursar_test", "caller");
    let spilled = caller.in_scope(|| copy(&device, &mut host).range(0, 0, 200).into_future());
    assert_eq!(spilled.instrument(caller).await.unwrap(), 200);
    let too_much = copy(&device, &mut host).range(200, 0, 200).await;
    assert!(too_much.is_err());
    let [whole, none] = &lines.spans("bursar::spill")[..] else { panic!("two spans") };
    assert_eq!((whole.name, whole.level, whole.parent, whole.closed), ("spill", Level::DEBUG, Some("caller"), true));
    assert!(whole.fields.contains("from=gpu0 to=host0 bytes=200 "), "{}", whole.fields);
    assert!(whole.fields.ends_with("copied=200 ") && whole.lines.len() == 1, "{whole:?}");
    assert!(whole.lines[0].contains("copied to a slower tier") && whole.lines[0].contains("whole=true"), "{whole:?}");
    assert!(none.fields.ends_with("copied=0 ") && none.lines[0].contains("whole=false"), "{none:?}");
}
