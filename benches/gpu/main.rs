//! bursar on a CUDA device: `pool` beside the peers of `peers.cpp`, `copies` beside plain pinned copies, `slices` with
//! one thread and with several, and `mapping`: what the driver's two ways to give memory cost.
//!
//! `benches/gpu/run` builds what is needed, runs both sides in rounds and prints ratios. By itself:
//! `cargo bench -p bursar-benches --features cuda --bench gpu -- pool`; `--quick` is shorter. Without a device it says
//! so and is done. Prints a line a figure: who, what, the figure, with tabs between.

mod copies;
mod mapping;
mod pool;
mod slices;

use bursar::memory::{CudaConfig, CudaError, CudaSpace};
use bursar::{SpaceId, Tier};
use bursar_benches::Options;

fn main() {
    let Some(options) = Options::from_args() else { return };
    let gpu = match open(CudaConfig::new(0)) {
        Ok(gpu) => gpu,
        Err(reason) => return println!("skipped: {reason}"),
    };
    if options.wants("mapping") {
        mapping::run(&gpu, &options);
    }
    if options.wants("pool") {
        pool::run(&gpu, &options);
    }
    if options.wants("copies") {
        copies::run(&gpu, &options);
    }
    if options.wants("slices") {
        drop(gpu);
        slices::run(&options);
    }
}

fn open(config: CudaConfig) -> Result<CudaSpace, CudaError> {
    CudaSpace::open(SpaceId { tier: Tier::Gpu, index: 0 }, config)
}

fn print(who: &str, what: &str, figure: f64) {
    println!("{who}\t{what}\t{figure:.2}");
}
