//! Who is asked to end, and whether they do in time.

use bursar::{Priority, Tag};

use crate::event::View;
use crate::tally::Case;

use super::{Oracle, State, Verdict};

impl Oracle {
    /// Only who said so is asked, once, and only while somebody waits for whom it may be.
    pub(super) fn judge_revoked(&mut self, id: u32, level: Priority) -> Verdict {
        let offered = self.waits.get(&id).filter(|wait| matches!(wait.state, State::Offered { .. }));
        let offered = offered.map(|wait| (wait.tag, wait.rank.0));
        let Some((tag, granted_at)) = self.owners.get(&id).copied().or(offered) else {
            return Err("nobody's".into());
        };
        if !tag.preemptible || granted_at != level || self.asked.contains_key(&id) {
            return Err(format!("{tag:?}, granted at {granted_at:?}, asked before: {:?}", self.asked.get(&id)));
        }
        if !self.active().any(|wait| wait.rank.0 < level || self.may_ask_back(wait.tag, tag, level)) {
            return Err("nobody waits for whom it should end".into());
        }
        self.asked.insert(id, self.clock + self.config.grace.as_nanos() as u64);
        Ok(())
    }

    /// Whether a minimum of the one may have been lent to the other.
    fn may_ask_back(&self, tag: Tag, from: Tag, level: Priority) -> bool {
        tag.module != 0 && tag.module != from.module && level > Priority::Critical
    }

    pub(super) fn judge_overdue(&self, id: u32) -> Verdict {
        match self.asked.get(&id) {
            Some(until) if *until <= self.clock => Ok(()),
            other => Err(format!("overdue at {}, asked until {other:?}", self.clock)),
        }
    }

    /// A lease has ended, or an offer is no more.
    pub(super) fn note_end(&mut self, id: u32) {
        if let Some(until) = self.asked.remove(&id) {
            self.tally.count(if self.clock < until { Case::EndedInGrace } else { Case::EndedLate });
        }
    }

    /// What the owners can find out is what they were told.
    pub(super) fn judge_asked(&self, view: &View) -> Verdict {
        let told = self.asked.iter().map(|(id, until)| (*id, *until));
        if !told.eq(view.asked.iter().map(|(id, _, until, _)| (*id, *until))) {
            return Err(format!("{:?} were asked, told were {:?}", view.asked, self.asked));
        }
        Ok(())
    }
}
