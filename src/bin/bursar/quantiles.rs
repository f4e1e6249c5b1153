//! Distributions as tables of quantiles, made from two public traces.
//!
//! * `CONVERSATION`: Azure LLM inference trace 2023, conversation (Azure Public Dataset, CC-BY): 19,366 requests in
//!   3,502 s, short prompts.
//! * `LONG_CONTEXT`: Mooncake conversation trace (FAST'25, Apache-2.0): 12,031 requests in 3,537 s, long prompts, in
//!   groups that arrive at the same time every three seconds.
//!
//! Made once: the values of a trace in ascending order, read at position `p * (n - 1)` for every `p` of `AT`, linear
//! between neighbours, rounded. Gaps are microseconds between one arrival and the next. The points at 90.1 % and 90.3 %
//! are there because the gaps of the second trace jump from zero to three seconds between them.

/// The points at which a distribution is known.
const AT: [f64; 31] = [
    0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75,
    0.8, 0.85, 0.9, 0.901, 0.903, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0,
];

/// A distribution: its values at the points of `AT`.
#[derive(Debug)]
pub struct Quantiles([u32; AT.len()]);

impl Quantiles {
    /// The value at `p`, between 0 and 1: between two points of the table, linear in the logarithm of the value plus
    /// one.
    pub fn at(&self, p: f64) -> u32 {
        let above = AT.partition_point(|&point| point <= p).clamp(1, AT.len() - 1);
        let [from, to] = [above - 1, above].map(|at| f64::from(self.0[at]).ln_1p());
        let way = (p - AT[above - 1]) / (AT[above] - AT[above - 1]);
        (from + (to - from) * way).exp_m1().round() as u32
    }
}

/// How the requests of one trace are distributed.
#[derive(Debug)]
pub struct Profile {
    /// Microseconds between two arrivals.
    pub gap: Quantiles,
    /// Tokens of a prompt.
    pub prompt: Quantiles,
    /// Tokens of an answer.
    pub output: Quantiles,
}

pub const CONVERSATION: Profile = Profile {
    gap: Quantiles([
        2, 7, 188, 546, 1_443, 6_320, 16_144, 26_417, 36_519, 48_272, 60_723, 73_459, 87_254, 101_941, 118_424,
        137_612, 158_680, 183_170, 213_606, 246_733, 288_826, 345_918, 420_656, 422_416, 426_181, 565_194, 749_268,
        889_671, 1_034_205, 1_411_171, 4_314_579,
    ]),
    prompt: Quantiles([
        2, 8, 17, 29, 91, 181, 207, 372, 387, 396, 403, 414, 703, 984, 1_020, 1_045, 1_071, 1_097, 1_130, 1_189, 1_315,
        1_876, 2_734, 2_753, 2_839, 4_083, 4_098, 4_142, 4_831, 6_179, 14_050,
    ]),
    output: Quantiles([
        7, 12, 14, 16, 24, 41, 54, 67, 77, 85, 91, 96, 103, 113, 129, 151, 177, 217, 384, 395, 400, 411, 424, 425, 426,
        451, 540, 601, 643, 954, 1_000,
    ]),
};

pub const LONG_CONTEXT: Profile = Profile {
    gap: Quantiles([
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2_999_000, 3_000_000, 3_001_000,
        3_001_000, 3_001_000, 3_001_000, 3_003_000,
    ]),
    prompt: Quantiles([
        891, 892, 893, 894, 896, 901, 964, 1_261, 1_662, 2_306, 3_263, 4_251, 4_993, 5_870, 6_909, 8_187, 9_570,
        11_238, 13_196, 15_367, 17_869, 21_464, 27_367, 27_536, 27_810, 39_550, 66_449, 85_400, 100_810, 121_301,
        126_195,
    ]),
    output: Quantiles([
        1, 1, 1, 3, 3, 10, 24, 46, 100, 156, 213, 256, 291, 322, 350, 375, 399, 423, 447, 472, 504, 543, 597, 599, 601,
        698, 892, 1_119, 1_568, 2_000, 2_000,
    ]),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_hit_at_its_points_and_grows_between_them() {
        for table in [&CONVERSATION.gap, &CONVERSATION.prompt, &LONG_CONTEXT.gap, &LONG_CONTEXT.output] {
            for (&point, &value) in AT.iter().zip(&table.0) {
                assert_eq!(table.at(point), value);
            }
            let values: Vec<u32> = (0..=10_000).map(|step| table.at(f64::from(step) / 1e4)).collect();
            assert!(values.is_sorted());
        }
        // Half way between 2 and 8 on a logarithmic scale of one more: sqrt(3 * 9) - 1.
        assert_eq!(CONVERSATION.prompt.at(0.0005), 4);
    }
}
