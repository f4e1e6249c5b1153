//! Notices that nothing moves: nothing was granted for a while although something waits.

/// Looks every so often, while somebody waits, whether anything was granted since it last looked.
#[derive(Debug)]
pub(super) struct Watch {
    /// Nanoseconds; `u64::MAX` for never.
    after: u64,
    /// When to look next; `u64::MAX` while nobody waits.
    at: u64,
    /// The grants there were when it last looked.
    grants: u64,
    /// How long until it looks again: doubles while nothing moves.
    pause: u64,
}

impl Watch {
    pub(super) fn new(after: u64) -> Self {
        Watch { after, at: u64::MAX, grants: 0, pause: after }
    }

    /// When it wants to look, now that so many wait. `grants` counts all there ever were.
    #[inline]
    pub(super) fn due(&mut self, waiting: usize, now: u64, grants: impl FnOnce() -> u64) -> u64 {
        if self.after == u64::MAX {
            return u64::MAX;
        }
        if waiting == 0 {
            self.at = u64::MAX;
        } else if self.at == u64::MAX {
            (self.grants, self.pause) = (grants(), self.after);
            self.at = now.saturating_add(self.after);
        }
        self.at
    }

    /// When it wants to look; `u64::MAX` while nobody waits.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Looks, if that is due: whether nothing was granted since it last did.
    pub(super) fn is_stuck(&mut self, now: u64, grants: impl FnOnce() -> u64) -> bool {
        if now < self.at {
            return false;
        }
        let grants = grants();
        let stuck = grants == self.grants;
        self.pause = if stuck { self.pause.saturating_mul(2) } else { self.after };
        (self.grants, self.at) = (grants, now.saturating_add(self.pause));
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stuck_is_said_once_then_after_twice_the_time_and_anew_after_a_grant() {
        let mut watch = Watch::new(10);
        assert_eq!(watch.due(0, 100, || 5), u64::MAX);
        assert_eq!(watch.due(3, 100, || 5), 110);
        assert!(!watch.is_stuck(109, || 5));
        assert!(watch.is_stuck(110, || 5));
        assert_eq!(watch.due(3, 111, || 5), 130);
        assert!(watch.is_stuck(130, || 5));
        assert!(!watch.is_stuck(170, || 6));
        assert_eq!(watch.due(3, 171, || 6), 180);
        assert_eq!(watch.due(0, 172, || 6), u64::MAX);
    }
}
