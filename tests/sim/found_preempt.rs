//! What the reference model has found of preemption and cannot be told through the shell. The rest is in
//! `tests/preempt.rs`.

use bursar::{Budget, BudgetId, Config, Priority, Tag};

use crate::ask::Ask;
use crate::driven::Driven;
use crate::event::{Arrival, Event, Seen};
use crate::world::World;

const START: u64 = 1_000_000_000;

fn ask(id: u32, units: u64, level: Priority, preemptible: bool) -> Event {
    let plain = Arrival::plain(id, Ask::plain(&vec![(BudgetId::GPU, units)]), level);
    Event::Submit(Arrival { tag: Tag { preemptible, ..Tag::NOBODY }, past: false, ..plain })
}

/// Whoever it was for has given up, and nobody else is there to be asked: no time is of any interest.
#[test]
fn c8_nothing_is_due_for_a_grace_that_nobody_waits_for() {
    let mut world = World::new(&Config::new().with(Budget::loan(BudgetId::GPU, 10)), START);
    world.apply(&ask(0, 10, Priority::Idle, true));
    world.apply(&ask(1, 1, Priority::Idle, false));
    let seen = world.apply(&ask(2, 1, Priority::Critical, false));
    assert_eq!(seen, [Seen::Waits(2), Seen::Revoked(0, Priority::Idle)]);
    world.apply(&Event::Cancel(2));
    let view = world.view().expect("the books are sound");
    assert_eq!((view.waiting, view.due), (1, u64::MAX));
    assert_eq!(world.apply(&Event::Sleep(1_000_000_000)), [], "the driver did not turn");
}
