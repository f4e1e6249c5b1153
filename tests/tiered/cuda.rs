//! Blocks of leases as kernels see them. What only a CUDA device can show says so and is done without one.

use bursar::memory::{CudaConfig, CudaError, CudaSpace, SimulatedDevice, SpaceError, ViewError};
use bursar::tiered::{DeviceBlock, OverUse};
use bursar::{MIB, Tier};

use crate::backends::{K, Rig, rig, space};

/// Tiers over the first device, or a line that says why there is none.
fn device() -> Option<Rig> {
    match CudaSpace::open(space(Tier::Gpu), CudaConfig::new(0).limit(64 * MIB)) {
        Ok(gpu) => Some(rig(gpu, 64 * MIB)),
        Err(reason @ (CudaError::NoDriver { .. } | CudaError::NoDevice { .. })) => {
            println!("skipped: {reason}");
            None
        }
        Err(failed) => panic!("{failed}"),
    }
}

#[tokio::test]
async fn a_block_of_a_simulated_device_has_no_address_no_stream_and_no_view() {
    let rig = rig(SimulatedDevice::new(space(Tier::Gpu), MIB), MIB);
    let lease = rig.lease(64, OverUse::Fail);
    let mut block: DeviceBlock = lease.allocate(64 * K).await.unwrap();
    let refused = ViewError::NotCuda { space: space(Tier::Gpu) };
    assert_eq!(block.view::<f32>().map(drop), Err(refused.clone()));
    assert_eq!(block.address(), Err(refused.clone()));
    assert_eq!(block.cuda_stream().map(drop), Err(refused.clone()));
    assert!(refused.to_string().starts_with("gpu0 is no CUDA device"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_of_a_leased_block_is_its_memory_typed_and_charged_for_as_long_as_the_block_is() {
    let Some(rig) = device() else { return };
    let lease = rig.lease(MIB / K, OverUse::Fail);
    let mut block: DeviceBlock = lease.allocate(4_096).await.unwrap();
    let numbers: Vec<f32> = (0..1_024_u16).map(f32::from).collect();

    let mut view = block.view::<f32>().unwrap();
    assert_eq!(view.len(), 1_024);
    let stream = view.stream().clone();
    stream.memcpy_htod(&numbers, &mut view.as_view_mut()).unwrap();
    assert_eq!(stream.clone_dtoh(&view.as_view().slice(1_000..)).unwrap(), numbers[1_000..]);
    drop(view);
    // A copy of the block comes after what was queued on its stream.
    let mut bytes = vec![0; 4_096];
    block.read(0, &mut bytes).await.unwrap();
    let read: Vec<f32> = bytes.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(read, numbers);
    block.write(0, &7_u64.to_le_bytes()).await.unwrap();
    let view = block.view::<u64>().unwrap();
    assert_eq!(stream.clone_dtoh(&view.as_view()).unwrap()[0], 7);
    drop(view);
    assert_eq!((block.address().unwrap() % 256, rig.of(&lease).allocated), (0, 4_096));

    let odd = lease.allocate_in(rig.id, 4_098).await.unwrap();
    let mut odd: DeviceBlock = odd.typed().unwrap();
    assert_eq!(odd.view::<f32>().map(drop), Err(ViewError::Length { length: 4_098, element: 4 }));
    assert_eq!(odd.view::<u16>().unwrap().len(), 2_049);
    drop((odd, block, lease));
    rig.assert_untouched();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_is_freed_behind_the_back_of_a_view_is_nobody_elses_until_the_view_is_gone() {
    let Some(rig) = device() else { return };
    let lease = rig.lease(MIB / K, OverUse::Fail);
    let mut block: DeviceBlock = lease.allocate(4_096).await.unwrap();
    let (id, address) = (block.id(), block.address().unwrap());
    let view = block.view::<u8>().unwrap();
    let gpu = rig.tiers.space(rig.id).unwrap().clone();
    gpu.free(id).await.unwrap();
    let other: DeviceBlock = lease.allocate(4_096).await.unwrap();
    assert_ne!(other.address().unwrap(), address);
    drop(view);
    let stale = ViewError::Space(SpaceError::StaleBlock { block: id });
    assert_eq!(block.address(), Err(stale.clone()));
    assert_eq!(block.view::<u8>().map(drop), Err(stale));
    drop((block, other, lease));
    rig.assert_untouched();
}
