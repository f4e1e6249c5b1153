//! Who has what, as far as the owners themselves know: what the next event of a trace is chosen from.

use std::collections::{BTreeMap, BTreeSet};

use crate::ask::{Asks, part_of, rest_of, sum_of};
use crate::event::{Event, Seen};

/// What an owner has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A reservation. `woken`: it has reason to poll.
    Queued { woken: bool },
    /// A lease.
    Holding(Asks),
}

/// All owners, by the ids of their requests.
#[derive(Debug, Default)]
pub struct Crowd {
    owners: BTreeMap<u32, Owner>,
    /// The numbers of the modules that are registered.
    modules: Vec<u64>,
    /// Those who were asked to end.
    asked: BTreeSet<u32>,
    /// Whether a release may not have reached the engine yet.
    late: bool,
    clock: u64,
}

impl Crowd {
    pub fn new(clock: u64) -> Crowd {
        Crowd { clock, ..Crowd::default() }
    }

    /// Takes note of an event and what was seen of it.
    pub fn note(&mut self, event: &Event, seen: &[Seen]) {
        match event {
            Event::Cancel(id) if matches!(self.owners.get(id), Some(Owner::Queued { .. })) => {
                self.owners.remove(id);
                self.asked.remove(id);
            }
            Event::Poll(id) => self.wake(*id, false),
            Event::Release { id, late } => {
                if let Some(Owner::Holding(_)) = self.owners.get(id) {
                    self.owners.remove(id);
                    self.asked.remove(id);
                    self.late |= late;
                }
            }
            Event::Shrink { id, by } => drop(self.part(*id, by)),
            Event::Split { id, by, into } => {
                if let Some(part) = self.part(*id, by) {
                    self.owners.insert(*into, Owner::Holding(part));
                    if self.asked.contains(id) {
                        self.asked.insert(*into);
                    }
                }
            }
            Event::Merge { id, other } => self.merge(*id, *other),
            Event::Deregister(gone) => self.modules.retain(|number| number != gone),
            Event::Enter => self.late = false,
            Event::Stall(time) | Event::Sleep(time) => self.clock += time,
            _ => {}
        }
        seen.iter().for_each(|seen| self.see(seen));
    }

    fn see(&mut self, seen: &Seen) {
        match seen {
            Seen::Granted(id, grant) | Seen::Accepted(id, grant) | Seen::Regained(id, grant) => {
                self.owners.insert(*id, Owner::Holding(grant.loans.clone()));
            }
            Seen::Waits(id) => drop(self.owners.insert(*id, Owner::Queued { woken: false })),
            Seen::Offered { id, .. } | Seen::Ended { id, .. } => self.wake(*id, true),
            Seen::Collected { id, .. } => drop(self.owners.remove(id)),
            Seen::Revoked(id, _) => drop(self.asked.insert(*id)),
            Seen::Expired(id) => drop(self.asked.remove(id)),
            Seen::Registered(number, Ok(())) => self.modules.push(*number),
            _ => {}
        }
    }

    fn wake(&mut self, id: u32, now: bool) {
        if let Some(Owner::Queued { woken }) = self.owners.get_mut(&id) {
            *woken = now;
        }
    }

    fn part(&mut self, id: u32, by: &Asks) -> Option<Asks> {
        let Some(Owner::Holding(held)) = self.owners.get_mut(&id) else { return None };
        let part = part_of(held, by);
        *held = rest_of(held, &part);
        (!part.is_empty()).then_some(part)
    }

    fn merge(&mut self, id: u32, other: u32) {
        if let (Some(Owner::Holding(to)), Some(Owner::Holding(from))) = (self.owners.get(&id), self.owners.get(&other))
            && id != other
        {
            let sum = sum_of(to, from);
            self.owners.remove(&other);
            self.asked.remove(&other);
            self.owners.insert(id, Owner::Holding(sum));
        }
    }

    pub fn modules(&self) -> &[u64] {
        &self.modules
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Owner)> {
        self.owners.iter().map(|(id, owner)| (*id, owner))
    }

    /// Owners of reservations; only those with a reason to poll, if so wanted.
    pub fn queued(&self, only_woken: bool) -> Vec<u32> {
        let matching = |owner: &Owner| matches!(owner, Owner::Queued { woken } if *woken || !only_woken);
        self.iter().filter(|(_, owner)| matching(owner)).map(|(id, _)| id).collect()
    }

    /// Owners of leases.
    pub fn holding(&self) -> Vec<u32> {
        self.iter().filter(|(_, owner)| matches!(owner, Owner::Holding(_))).map(|(id, _)| id).collect()
    }

    /// Owners of leases that were asked to end and that do so: one in four is stubborn.
    pub fn yielding(&self) -> Vec<u32> {
        self.holding().into_iter().filter(|id| self.asked.contains(id) && id % 4 > 0).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    pub fn is_late(&self) -> bool {
        self.late
    }

    pub fn clock(&self) -> u64 {
        self.clock
    }
}
