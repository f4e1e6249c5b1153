//! Memory in three tiers under one lease: `cargo run --example tiers`.
//!
//! Device, host and disk are reserved together, blocks are allocated inside the lease, bytes go from the host to the
//! (simulated) device, on to a file, and all the way back; and when all is dropped nothing is left.

use std::error::Error;
use std::time::Instant;

use bursar::memory::{DiskConfig, DiskSpace, HostSpace, SimulatedDevice};
use bursar::tiered::{DeviceBlock, DiskBlock, HostBlock, Tiers, copy};
use bursar::{Budget, BudgetId, Bytes, Config, GIB, MIB, Request, Scheduler, Share, SpaceId, Tier};

const GPU: SpaceId = SpaceId { tier: Tier::Gpu, index: 0 };
const HOST: SpaceId = SpaceId { tier: Tier::Host, index: 0 };
const DISK: SpaceId = SpaceId { tier: Tier::Disk, index: 0 };
const SIZE: u64 = 64 * MIB;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join("bursar-example-tiers");
    let disk = DiskSpace::open(DISK, DiskConfig::new(folder, GIB)).await?;
    // Leases may have 85 % of the device; the rest is for what is allocated beside them.
    let gpu = Budget::loan(BudgetId::GPU, 512 * MIB).reservation_limit(Share::from_fraction(0.85)?);
    let config = Config::new()
        .with(gpu)
        .with(Budget::loan(BudgetId::HOST, GIB))
        .with(Budget::loan(BudgetId::DISK, GIB))
        .with(Budget::rate(BudgetId::IO, 4 * GIB));
    let scheduler = Scheduler::builder().config(config).spawn()?;
    let tiers = Tiers::builder()
        .space(SimulatedDevice::new(GPU, 512 * MIB))
        .space(HostSpace::new(HOST, GIB))
        .space(disk)
        .build(&scheduler)?;

    let lease = tiers.reserve(Request::new().gpu(SIZE).host(2 * SIZE).disk(SIZE).label("round trip")).await?;
    let mut sent: HostBlock = lease.allocate(SIZE).await?;
    let mut on_device: DeviceBlock = lease.allocate(SIZE).await?;
    let mut spilled: DiskBlock = lease.allocate(SIZE).await?;
    let mut received: HostBlock = lease.allocate(SIZE).await?;

    let bytes: Vec<u8> = (0..SIZE).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    sent.write(0, &bytes).await?;
    let begin = Instant::now();
    copy(&sent, &mut on_device).await?;
    copy(&on_device, &mut spilled).charge(BudgetId::IO).await?;
    on_device.write(0, &vec![0; SIZE as usize]).await?;
    copy(&spilled, &mut on_device).charge(BudgetId::IO).await?;
    copy(&on_device, &mut received).await?;
    println!("host, device, disk, device, host: {} each in {:.0?}", Bytes(SIZE), begin.elapsed());

    let mut back = vec![0; SIZE as usize];
    received.read(0, &mut back).await?;
    if back != bytes {
        return Err("the bytes that came back are not those that were sent".into());
    }
    show("with four blocks", &tiers);

    // The lease ends, and a block keeps its part of it.
    drop(lease);
    drop((sent, received));
    spilled.free().await?;
    show("the lease is dropped, the device's block is not", &tiers);
    on_device.free().await?;
    show("all is dropped", &tiers);

    scheduler.verify()?;
    let left: u64 = [GPU, HOST, DISK].iter().filter_map(|&id| tiers.usage(id)).map(|usage| usage.total).sum();
    if left > 0 {
        return Err(format!("{left} bytes are left").into());
    }
    Ok(())
}

fn show(when: &str, tiers: &Tiers) {
    println!("\n{when}");
    for id in [GPU, HOST, DISK] {
        let Some(usage) = tiers.usage(id) else { continue };
        let [reserved, allocated, limit, capacity] =
            [usage.reserved, usage.allocated, usage.limit, usage.capacity].map(|bytes| Bytes(bytes).to_string());
        println!("  {id:<6} reserved {reserved:>9} of {limit:>9}   allocated {allocated:>9} of {capacity:>9}");
    }
}
