//! Requests without a file: two streams, each drawn from the quantiles of one public trace, merged by arrival.
//!
//! Gaps, prompts and answers are drawn independently of each other. In both traces the rank correlation of prompt and
//! answer is 0.07, so little is lost. The gaps are independent too: bursts that last longer than one gap are not kept,
//! except the groups of the second trace, which lie in the gaps themselves.

use std::time::Duration;

use fastrand::Rng;

use crate::quantiles::{CONVERSATION, LONG_CONTEXT, Profile};
use crate::trace::Arrival;

/// The first `count` requests of a seed. The same seed gives the same requests.
pub fn generate(seed: u64, count: usize) -> Vec<Arrival> {
    let mut root = Rng::with_seed(seed);
    let mut conversation = Stream::new(&CONVERSATION, root.fork()).peekable();
    let mut long_context = Stream::new(&LONG_CONTEXT, root.fork()).peekable();
    let earlier = || {
        let long_is_next = conversation.peek().zip(long_context.peek()).is_some_and(|(a, b)| b.at < a.at);
        if long_is_next { long_context.next() } else { conversation.next() }
    };
    std::iter::from_fn(earlier).take(count).collect()
}

/// The endless requests of one profile.
struct Stream {
    profile: &'static Profile,
    random: Rng,
    micros: u64,
}

impl Stream {
    fn new(profile: &'static Profile, random: Rng) -> Self {
        Stream { profile, random, micros: 0 }
    }
}

impl Iterator for Stream {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let Profile { gap, prompt, output } = self.profile;
        let arrival = Arrival {
            at: Duration::from_micros(self.micros),
            prompt: prompt.at(self.random.f64()),
            output: output.at(self.random.f64()),
        };
        self.micros += u64::from(gap.at(self.random.f64()));
        Some(arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantiles::Quantiles;

    /// As many requests as the traces have, so that the tail is as well known.
    const COUNT: usize = 20_000;

    fn stream(profile: &'static Profile) -> Vec<Arrival> {
        Stream::new(profile, Rng::with_seed(7)).take(COUNT).collect()
    }

    fn mean(values: impl Iterator<Item = f64>) -> f64 {
        values.sum::<f64>() / COUNT as f64
    }

    /// Whether `a` is within `percent` of `b`.
    fn near(a: f64, b: f64, percent: f64) -> bool {
        (a - b).abs() <= b.abs() * percent / 100.0
    }

    #[test]
    fn the_same_seed_gives_the_same_requests_and_another_seed_gives_others() {
        let requests = generate(3, 500);
        assert_eq!(requests, generate(3, 500));
        assert_eq!(requests[..100], generate(3, 100));
        assert_ne!(requests, generate(4, 500));
        assert!(requests.is_sorted_by_key(|request| request.at));
        assert!(requests.iter().all(|request| request.prompt > 0));
    }

    /// The means are of the traces themselves. They are not in the tables, so they judge the interpolation too.
    #[test]
    fn the_means_are_those_of_the_traces_within_five_percent() {
        for (profile, gap, prompt, output) in
            [(&CONVERSATION, 0.180_827, 1_154.70, 211.126), (&LONG_CONTEXT, 0.294_015, 12_035.06, 342.619)]
        {
            let requests = stream(profile);
            let span = requests[COUNT - 1].at.as_secs_f64() / (COUNT - 1) as f64;
            let prompts = mean(requests.iter().map(|request| f64::from(request.prompt)));
            let outputs = mean(requests.iter().map(|request| f64::from(request.output)));
            assert!(near(span, gap, 5.0), "gap {span}");
            assert!(near(prompts, prompt, 5.0), "prompt {prompts}");
            assert!(near(outputs, output, 5.0), "output {outputs}");
        }
    }

    #[test]
    fn the_quantiles_are_those_of_the_tables_within_ten_percent() {
        for profile in [&CONVERSATION, &LONG_CONTEXT] {
            let requests = stream(profile);
            let gaps = requests.windows(2).map(|pair| (pair[1].at - pair[0].at).as_micros() as u32).collect();
            compare(gaps, &profile.gap);
            compare(requests.iter().map(|request| request.prompt).collect(), &profile.prompt);
            compare(requests.iter().map(|request| request.output).collect(), &profile.output);
        }
    }

    fn compare(mut drawn: Vec<u32>, table: &Quantiles) {
        drawn.sort_unstable();
        for p in [0.1, 0.25, 0.5, 0.75, 0.88, 0.95, 0.99] {
            let (drawn, wanted) = (drawn[(p * drawn.len() as f64) as usize], table.at(p));
            assert!(near(f64::from(drawn), f64::from(wanted), 10.0), "p{p}: {drawn} for {wanted} in {table:?}");
        }
    }

    #[test]
    fn prompt_and_answer_are_independent() {
        let requests = stream(&CONVERSATION);
        let logs =
            |of: fn(&Arrival) -> u32| -> Vec<f64> { requests.iter().map(|r| f64::from(of(r)).ln_1p()).collect() };
        let (prompts, outputs) = (logs(|r| r.prompt), logs(|r| r.output));
        let (a, b) = (mean(prompts.iter().copied()), mean(outputs.iter().copied()));
        let covariance = mean(prompts.iter().zip(&outputs).map(|(x, y)| (x - a) * (y - b)));
        let spread = |values: &[f64], m: f64| mean(values.iter().map(|x| (x - m).powi(2))).sqrt();
        let correlation = covariance / (spread(&prompts, a) * spread(&outputs, b));
        assert!(correlation.abs() < 0.03, "{correlation}");
    }
}
