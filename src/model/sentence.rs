//! An [`Explanation`] as one sentence.

use std::fmt;
use std::time::Duration;

use super::explain::{Ahead, Blocker, Cause, Ending, Explanation, Next, WaitState};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.label {
            Some(label) => write!(f, "`{label}`")?,
            None => f.write_str("A reservation without a label")?,
        }
        match self.state {
            WaitState::Unpolled => f.write_str(" was not polled yet, so it asks for nothing; polled now, it would ")?,
            WaitState::Waiting => write!(f, " has waited {} at {}", Time(self.waited), self.level)?,
            WaitState::Granted => f.write_str(" is granted, and its lease lies ready for the next poll")?,
            WaitState::Dormant => {
                let times = if self.expiries > 1 { format!(" {} times", self.expiries) } else { String::new() };
                write!(
                    f,
                    " was not polled when it was granted, and the grant passed on{times}; polled now, it would "
                )?;
            }
            WaitState::Ended(ending) => {
                let why = match ending {
                    Ending::Late => "its deadline passed",
                    Ending::NeverFits => "a budget shrank below what it asks",
                    Ending::Closed => "the scheduler was closed",
                    Ending::RolledBack => "all who hold it wait as well, and it was told to roll back",
                    Ending::Split => "it waited for what only itself can free, and was told to split",
                };
                write!(f, " ended after {}: {why}; the error lies ready for the next poll", Time(self.waited))?;
            }
            WaitState::Done => f.write_str(" has given its result")?,
        }
        if self.state == WaitState::Waiting && self.level != self.base {
            write!(f, " (risen from {})", self.base)?;
        }
        if matches!(self.state, WaitState::Unpolled | WaitState::Waiting | WaitState::Dormant) {
            self.fmt_blockers(f)?;
        }
        self.next.iter().try_for_each(|next| self.fmt_next(f, next))?;
        f.write_str(".")
    }
}

impl Explanation {
    fn fmt_blockers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.state, self.next.first()) {
            (WaitState::Waiting, Some(Next::Served { .. })) => {
                return f.write_str("; nothing blocks it at this moment, and the next turn looks at it");
            }
            (_, Some(Next::Served { .. })) => return f.write_str("be granted at once"),
            (_, Some(Next::Refused { why })) if self.blockers.is_empty() => return write!(f, "be refused: {why}"),
            (_, Some(Next::Refused { why })) => write!(f, "be refused: {why}; ")?,
            (WaitState::Waiting, _) => f.write_str(" for ")?,
            _ => f.write_str("wait for ")?,
        }
        if self.alternatives > 1 {
            f.write_str("the first of these to be had: ")?;
        }
        for (at, blocker) in self.blockers.iter().enumerate() {
            let first = at == 0 || self.blockers[at - 1].alternative != blocker.alternative;
            match (at, first) {
                (0, _) => {}
                (_, true) => f.write_str("; ")?,
                (_, false) => f.write_str("; and ")?,
            }
            if first && self.alternatives > 1 {
                write!(f, "({}) ", blocker.alternative + 1)?;
            }
            blocker.fmt_clause(f)?;
        }
        if !self.hard {
            return Ok(());
        }
        let safety = |blocker: &Blocker| matches!(blocker.cause, Cause::Unsafe | Cause::KeptOut);
        let keeps = match self.blockers.iter().any(safety) {
            true => "lets no bounded activity of lower rank begin",
            false => "keeps what it needs from lower ranks",
        };
        match self.passes {
            0 => write!(f, "; it {keeps}"),
            passes => write!(f, "; it was passed {} and {keeps} now", Times(passes)),
        }
    }

    fn fmt_next(&self, f: &mut fmt::Formatter<'_>, next: &Next) -> fmt::Result {
        match next {
            Next::Served { .. } | Next::Refused { .. } => Ok(()),
            Next::Passed { times, .. } if self.passes == 0 => write!(f, "; it may be passed {}", Times(*times)),
            Next::Passed { within: Some(Duration::ZERO), .. } => {
                write!(f, "; it was passed {}, and its time for that is over", Times(self.passes))
            }
            Next::Passed { times, within } => {
                write!(f, "; it was passed {} and may be {} more", Times(self.passes), Times(*times))?;
                within.map_or(Ok(()), |within| write!(f, ", for {} at most", Time(within)))
            }
            Next::Rises { to, within } => write!(f, "; it rises to {to} in {}", Time(*within)),
            Next::TakesLess { within } => write!(f, "; it takes less than it wants in {}", Time(*within)),
            Next::EndsLate { within } => write!(f, "; it ends late in {}", Time(*within)),
            Next::PassesOn { within } => {
                write!(f, "; if it is not polled within {}, whoever else waits for that gets it", Time(*within))
            }
        }
    }
}

impl Blocker {
    fn fmt_clause(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |amount| self.unit.show(amount);
        let [wanted, asked, free] = [self.wanted, self.asked, self.free].map(show);
        let [deficit, claimed, capacity] = [self.deficit, self.claimed, self.capacity].map(show);
        match self.wanted == self.asked {
            true => write!(f, "{asked} of {}: ", self.name)?,
            false => write!(f, "at least {asked} ({wanted} wanted) of {}: ", self.name)?,
        }
        match self.cause {
            Cause::Capped => return f.write_str("the module has all that its cap allows"),
            Cause::Unsafe => {
                return f
                    .write_str("there is enough, but others who said how much they will ever hold may need it to end");
            }
            Cause::KeptOut => {
                return f.write_str(
                    "there is enough, but no bounded activity begins before another is served, which may be passed no \
                     more",
                );
            }
            Cause::TooLarge => return write!(f, "it has {capacity} in all"),
            Cause::Overdrawn => write!(f, "it was shrunk to {capacity} and is {deficit} overdrawn")?,
            Cause::Refilling if self.deficit > 0 => write!(f, "it is {deficit} in debt")?,
            Cause::Refilling => write!(f, "{free} of {capacity} are there")?,
            Cause::Claimed | Cause::Short => write!(f, "{free} of {capacity} are free")?,
        }
        self.fmt_holders(f)?;
        if self.claimed > 0 {
            write!(f, ", {claimed} are kept for others that may not be passed any more")?;
        }
        match (self.cause, self.ready_in) {
            (Cause::Refilling, Some(ready)) => write!(f, ", there is enough in {}", Time(ready))?,
            (Cause::Refilling, None) => f.write_str(", those others have to be served first")?,
            _ => write!(f, ", {} more have to come back", show(self.missing))?,
        }
        match self.ahead {
            Ahead { count: 0, .. } => f.write_str(", nobody is ahead of it"),
            Ahead { more: true, count, .. } => write!(f, ", more than {count} are ahead of it"),
            Ahead { count: 1, asked, .. } => write!(f, ", one is ahead of it and asks {}", show(asked)),
            Ahead { count, asked, .. } => write!(f, ", {count} are ahead of it and ask {}", show(asked)),
        }
    }

    fn fmt_holders(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labelled = self.holders.iter().map(|holder| (format!("`{}` ", holder.label), holder.units, ""));
        let others = [
            (String::new(), self.other_holders, " by others with a label"),
            (String::new(), self.unlabelled, " without a label"),
            (String::new(), self.offered, " granted and not taken up"),
        ];
        let mut first = true;
        for (before, units, after) in labelled.chain(others).filter(|&(_, units, _)| units > 0) {
            let lead = if std::mem::take(&mut first) { " (held: " } else { ", " };
            write!(f, "{lead}{before}{}{after}", self.unit.show(units))?;
        }
        if first { Ok(()) } else { f.write_str(")") }
    }
}

/// A time as people write it.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        match self.0.as_secs() {
            0 if micros < 100 => f.write_str("less than 0.1 ms"),
            0 if micros < 10_000 => write!(f, "{:.1} ms", micros as f64 / 1e3),
            0 => write!(f, "{} ms", micros / 1_000),
            1..120 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            seconds @ 120..7_200 => write!(f, "{} min", seconds / 60),
            seconds => write!(f, "{} h", seconds / 3_600),
        }
    }
}

/// How often.
struct Times(u32);

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("once"),
            times => write!(f, "{times} times"),
        }
    }
}
