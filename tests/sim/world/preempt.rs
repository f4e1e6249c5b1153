//! Who was asked to end: the places of the engine's effects, as the ids of their owners.

use bursar::Priority;
use bursar::internals::Held;

use super::World;

impl World {
    /// Whose lease, or offer, lies at a place.
    pub(super) fn owner_of(&self, place: u32) -> u32 {
        let held = self.held.iter().find(|(_, held)| held.place() == Some(place)).map(|(id, _)| *id);
        let mut offered = self.offered().filter(|(_, held)| held.place() == Some(place)).map(|(id, _)| id);
        held.or_else(|| offered.next()).expect("what is asked to end is held or offered")
    }

    /// Who was asked to end and has not, ascending by id: for which level, until when, and when its request arrived.
    pub(super) fn asked(&self) -> Vec<(u32, Priority, u64, u64)> {
        let held = self.held.iter().map(|(id, held)| (*id, *held));
        let asked = held.chain(self.offered()).filter_map(|(id, held)| {
            let (by, until, arrived) = self.engine.revocation(held)?;
            Some((id, by, until, arrived))
        });
        let mut asked: Vec<_> = asked.collect();
        asked.sort();
        asked
    }

    /// Offers that may be asked to end; these always have a place of their own.
    fn offered(&self) -> impl Iterator<Item = (u32, Held)> {
        let preemptible = self.reserved.iter().filter(|(_, its)| its.tag.preemptible);
        preemptible.filter_map(|(id, its)| {
            let place = self.board.lies_at(its.slot)?;
            Some((*id, Held::placed(place, its.request.urgency())))
        })
    }
}
