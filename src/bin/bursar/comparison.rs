//! What two runs of the same requests show, in words that are chosen by the figures.

use crate::execution::Figures;
use crate::tally::LevelFigures;
use crate::text::{ms, thousands};

/// Two figures nearer to each other than this are called the same.
const SAME: f64 = 1.05;

/// What the scheduler and the chain of semaphores did with the same requests.
pub fn sentences(scheduler: &Figures, chain: &Figures) -> String {
    let mut text: Vec<String> = spread(scheduler, chain).into_iter().collect();
    let pairs = || scheduler.levels.iter().zip(&chain.levels);
    text.extend(pairs().filter(|(ours, _)| ours.deadline_ns.is_some()).map(|(ours, theirs)| deadlines(ours, theirs)));
    let [ours, theirs] = [scheduler, chain].map(|figures| figures.levels.iter().map(|level| level.served).sum());
    text.push(format!(
        "{} requests were served in {:.1} s, with semaphores {} in {:.1} s.",
        thousands(ours),
        scheduler.seconds,
        thousands(theirs),
        chain.seconds
    ));
    text.join("\n")
}

/// How far apart the most and the least urgent waits are that no deadline cuts off; nothing when there are no two.
fn spread(scheduler: &Figures, chain: &Figures) -> Option<String> {
    let untimed = |at: &usize| {
        let both = [&scheduler.levels[*at], &chain.levels[*at]];
        both.iter().all(|level| level.deadline_ns.is_none() && level.served > 0)
    };
    let all = || (0..scheduler.levels.len().min(chain.levels.len())).filter(untimed);
    let (first, last) = (all().next()?, all().next_back()?);
    if first == last {
        return None;
    }
    let [ours, theirs] = [scheduler, chain].map(|figures| [first, last].map(|at| figures.levels[at].wait_ns.p99));
    let names = [first, last].map(|at| scheduler.levels[at].priority);
    Some(format!(
        "99 of 100 {} requests waited at most {} ms, {} requests {} ms: {}.\n\
         With semaphores they waited {} ms and {} ms: {}.",
        names[0],
        ms(ours[0]),
        names[1],
        ms(ours[1]),
        times(ours),
        ms(theirs[0]),
        ms(theirs[1]),
        times(theirs)
    ))
}

fn deadlines(ours: &LevelFigures, theirs: &LevelFigures) -> String {
    format!(
        "{} of {} {} requests missed their deadline, with semaphores {}.",
        thousands(ours.late),
        thousands(ours.requests),
        ours.priority,
        thousands(theirs.late)
    )
}

/// How the second of two waits compares with the first.
fn times([first, second]: [u64; 2]) -> String {
    // A wait of nothing is a nanosecond.
    let ratio = second.max(1) as f64 / first.max(1) as f64;
    match ratio {
        ratio if (1.0 / SAME..SAME).contains(&ratio) => "about the same".to_owned(),
        10.0.. => format!("{} times as long", thousands(ratio.round() as u64)),
        ratio => format!("{ratio:.2} times as long"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Waits;

    fn level(priority: &'static str, p99_ms: u64, late: u64) -> LevelFigures {
        LevelFigures {
            priority,
            module: "some",
            requests: 2_000,
            deadline_ns: (priority == "HIGH").then_some(5),
            served: 2_000 - late,
            late,
            refused: 0,
            cancelled: 0,
            not_started: 0,
            wait_ns: Waits { p99: p99_ms * 1_000_000, ..Waits::default() },
        }
    }

    fn figures(seconds: f64, levels: Vec<LevelFigures>) -> Figures {
        Figures { seconds, moved_bytes: 0, interrupted: false, levels, budgets: Vec::new(), first_refusal: None }
    }

    #[test]
    fn the_words_follow_the_figures_both_ways() {
        let run = |seconds, critical, late, low| {
            figures(seconds, vec![level("CRITICAL", critical, 0), level("HIGH", 9, late), level("LOW", low, 0)])
        };
        let (fair, urgent) = (run(10.24, 1_000, 1_500, 1_010), run(9.96, 5, 3, 4_000));
        assert_eq!(
            sentences(&urgent, &fair),
            "99 of 100 CRITICAL requests waited at most 5.0 ms, LOW requests 4,000.0 ms: 800 times as long.\n\
             With semaphores they waited 1,000.0 ms and 1,010.0 ms: about the same.\n\
             3 of 2,000 HIGH requests missed their deadline, with semaphores 1,500.\n\
             5,997 requests were served in 10.0 s, with semaphores 4,500 in 10.2 s."
        );
        let text = sentences(&fair, &run(1.0, 200, 0, 50));
        assert!(
            text.contains("about the same.\nWith semaphores they waited 200.0 ms and 50.0 ms: 0.25 times as long.\n")
        );
    }

    #[test]
    fn nothing_is_said_of_the_waits_of_those_that_were_not_served() {
        let none = || figures(1.0, vec![level("CRITICAL", 0, 2_000), level("LOW", 5, 0)]);
        assert_eq!(sentences(&none(), &none()), "2,000 requests were served in 1.0 s, with semaphores 2,000 in 1.0 s.");
    }
}
