//! The mixed workload: modules of different urgency, and which of them makes which request.
//!
//! Request number n of a trace goes to module `DEAL[n % 20]`: 1 of 20 to the control path, 7 to chat, 4 to embeddings,
//! 7 to summaries, 1 to the cache refresh. So every module sees the lengths of the trace, cut to what such a module
//! asks, and two runs of one trace deal it alike.
//!
//! A request holds what it was granted for as long as its tokens take, at the speed of a mid-sized model on one GPU.

use std::time::Duration;

use bursar::Priority;

use crate::trace::Arrival;

/// A prompt is read at 10,000 tokens a second.
const PER_PROMPT_TOKEN: Duration = Duration::from_micros(100);
/// An answer is written at 50 tokens a second.
const PER_OUTPUT_TOKEN: Duration = Duration::from_millis(20);

/// A part of the service that makes requests.
#[derive(Debug)]
pub struct Module {
    /// Its name, which is the label of its requests too.
    pub name: &'static str,
    /// How urgent its requests are.
    pub priority: Priority,
    /// The latest grant that is of any use, after the arrival.
    deadline: Option<Duration>,
    /// Tokens that it takes of a prompt and of an answer at most.
    longest: (u32, u32),
    /// Attention of one request, in comparison with the other modules.
    pub attention: f64,
}

/// The modules, one a priority, most urgent first.
pub static MODULES: [Module; Priority::COUNT] = [
    Module { name: "control", priority: Priority::Critical, deadline: None, longest: (256, 16), attention: 1.0 },
    Module {
        name: "chat",
        priority: Priority::High,
        // Who waits longer than this for a first word has gone.
        deadline: Some(Duration::from_secs(5)),
        longest: (u32::MAX, u32::MAX),
        attention: 2.0,
    },
    // An embedding has no answer, and such models read 8,192 tokens.
    Module { name: "embeddings", priority: Priority::Normal, deadline: None, longest: (8_192, 0), attention: 1.0 },
    Module {
        name: "summaries",
        priority: Priority::Low,
        deadline: None,
        longest: (u32::MAX, u32::MAX),
        attention: 4.0,
    },
    Module { name: "refresh", priority: Priority::Idle, deadline: None, longest: (u32::MAX, 0), attention: 1.0 },
];

/// The modules in the order in which requests are dealt to them, as indexes into `MODULES`. Spread out, so that
/// requests that arrive together go to different modules.
const DEAL: [usize; 20] = [1, 3, 2, 1, 3, 0, 1, 3, 2, 1, 3, 4, 1, 3, 2, 1, 3, 2, 1, 3];

/// One request of a module, in the time of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its place in the trace.
    pub number: usize,
    /// The index of its module in `MODULES`.
    pub module: usize,
    /// When it arrives, from the start of the run.
    pub at: Duration,
    /// The latest useful grant, after the arrival.
    pub deadline: Option<Duration>,
    /// How long it holds what it is granted.
    pub hold: Duration,
    /// Tokens whose keys and values it keeps.
    pub tokens: u64,
}

impl Job {
    /// Its module.
    pub fn module(&self) -> &'static Module {
        &MODULES[self.module]
    }
}

/// Deals requests to the modules and makes them `speed` times as fast: arrivals, times held, and deadlines.
pub fn deal(arrivals: &[Arrival], speed: f64) -> Vec<Job> {
    // A trace that begins late does not make the run begin late.
    let start = arrivals.first().map_or(Duration::ZERO, |first| first.at);
    let job = |(number, arrival): (usize, &Arrival)| {
        let module = DEAL[number % DEAL.len()];
        let Module { longest, deadline, .. } = MODULES[module];
        // Whatever a request is, it has something to keep.
        let prompt = arrival.prompt.min(longest.0).max(1);
        let output = arrival.output.min(longest.1);
        let hold = PER_PROMPT_TOKEN * prompt + PER_OUTPUT_TOKEN * output;
        Job {
            number,
            module,
            at: faster(arrival.at - start, speed),
            deadline: deadline.map(|deadline| faster(deadline, speed)),
            hold: faster(hold, speed),
            tokens: u64::from(prompt) + u64::from(output),
        }
    };
    arrivals.iter().enumerate().map(job).collect()
}

/// A time of the workload as a time of the run. A century is for ever, and can still be added to any instant.
fn faster(time: Duration, speed: f64) -> Duration {
    const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);
    Duration::try_from_secs_f64(time.as_secs_f64() / speed).map_or(FOR_EVER, |time| time.min(FOR_EVER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(seconds: u64) -> Arrival {
        Arrival { at: Duration::from_secs(seconds), prompt: 10_000, output: 100 }
    }

    #[test]
    fn there_is_one_module_a_priority_in_their_order() {
        for (module, priority) in MODULES.iter().zip(Priority::ALL) {
            assert_eq!(module.priority, priority);
        }
    }

    #[test]
    fn requests_are_dealt_by_their_number_and_cut_to_what_the_module_asks() {
        let jobs = deal(&(100..140).map(arrival).collect::<Vec<_>>(), 10.0);
        let counts = [0, 1, 2, 3, 4].map(|module| jobs.iter().filter(|job| job.module == module).count());
        assert_eq!(counts, [2, 14, 8, 14, 2]);
        assert!(jobs.windows(2).all(|pair| pair[0].module != pair[1].module));
        assert_eq!(jobs[..20].iter().map(|job| job.module).collect::<Vec<_>>(), DEAL);

        let chat = &jobs[3];
        assert_eq!((chat.module().name, chat.tokens), ("chat", 10_100));
        assert_eq!(chat.at, Duration::from_millis(300));
        assert_eq!(chat.hold, Duration::from_millis(300));
        assert_eq!(chat.deadline, Some(Duration::from_millis(500)));
        let embedding = &jobs[2];
        assert_eq!((embedding.tokens, embedding.hold), (8_192, Duration::from_micros(81_920)));
        assert_eq!(jobs[5].tokens, 272);
    }
}
