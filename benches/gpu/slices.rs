//! Copies of plain slices with one thread and with several that fill and empty pinned memory, beside plain pinned
//! copies of the same round. Every copy is compared with what was to be copied.

use bursar::MIB;
use bursar::memory::{CudaConfig, Space, Stream};
use bursar_benches::Options;
use tokio::runtime::Builder;

use crate::copies::{Plain, median, speed};
use crate::print;

const STREAM: Stream = Stream(3);

pub fn run(options: &Options) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let usual = cores.min(12);
    for threads in [1, 2, 4, 8, 12, 16].into_iter().filter(|&threads| threads == 1 || threads <= cores) {
        for bytes in [MIB, 16 * MIB, 64 * MIB, 256 * MIB, 1_024 * MIB] {
            let (up, down) = ratios(threads, bytes, options);
            print(&format!("{threads} threads"), &format!("{} MiB slice to device, x plain", bytes / MIB), up);
            print(&format!("{threads} threads"), &format!("{} MiB slice to host, x plain", bytes / MIB), down);
            if threads == usual && bytes >= 64 * MIB {
                let judge = |ratio: f64| if ratio >= 0.95 { "met" } else { "MISSED" };
                println!("goal >= 0.95 at {} MiB: to device {}, to host {}", bytes / MIB, judge(up), judge(down));
            }
        }
    }
}

/// Medians of the ratios to the plain copy of the round.
fn ratios(threads: usize, bytes: u64, options: &Options) -> (f64, f64) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let config = CudaConfig::new(0).limit(2_048 * MIB).copy_threads(threads);
    let gpu = crate::open(config).expect("it was there before");
    let plain = Plain::new(&gpu, bytes);
    let id = runtime.block_on(gpu.allocate(bytes)).expect("room");
    let from: Vec<u8> = (0..bytes).map(|at| (at * 31 + at / 4_093) as u8).collect();
    let mut into = vec![5_u8; bytes as usize];
    let each = (256 * MIB / bytes).clamp(1, 32);
    let mut found = Vec::new();
    for _ in 0..=options.pick(7, 3) {
        let [plain_up, plain_down] = [speed(bytes, each, || plain.up()), speed(bytes, each, || plain.down())];
        let up = speed(bytes, each, || runtime.block_on(gpu.write(STREAM, id, 0, &from)).expect("copied"));
        let down = speed(bytes, each, || runtime.block_on(gpu.read(STREAM, id, 0, &mut into)).expect("copied"));
        assert!(into == from, "copied with {threads} threads");
        into.fill(5);
        found.push((up / plain_up, down / plain_down));
    }
    // The first round warms up.
    found.remove(0);
    (median(found.iter().map(|&(up, _)| up).collect()), median(found.iter().map(|&(_, down)| down).collect()))
}
