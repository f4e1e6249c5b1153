//! bursar on a CUDA device: `pool` beside the peers of `peers.cpp`, and `copies` beside plain pinned copies.
//!
//! `benches/gpu/run` builds what is needed, runs both sides in rounds and prints ratios. By itself:
//! `cargo bench -p bursar-benches --features cuda --bench gpu -- pool`; `--quick` is shorter. Without a device it says
//! so and is done. Prints a line a figure: who, what, the figure, with tabs between.

mod copies;
mod pool;

use bursar::memory::{CudaConfig, CudaSpace};
use bursar::{SpaceId, Tier};
use bursar_benches::Options;

fn main() {
    let Some(options) = Options::from_args() else { return };
    let gpu = match CudaSpace::open(SpaceId { tier: Tier::Gpu, index: 0 }, CudaConfig::new(0)) {
        Ok(gpu) => gpu,
        Err(reason) => return println!("skipped: {reason}"),
    };
    if options.wants("pool") {
        pool::run(&gpu, &options);
    }
    if options.wants("copies") {
        copies::run(gpu, &options);
    }
}

fn print(who: &str, what: &str, figure: f64) {
    println!("{who}\t{what}\t{figure:.2}");
}
