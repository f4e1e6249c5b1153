//! Which holders can be served, however the others end: the reduction of a resource allocation graph.
//!
//! Every way to serve a holder has a list of places where it lacks something, and every place those who lack something
//! there, the least demanding first. Who lacks nothing goes on and gives back what it holds, and whatever that is
//! enough for is crossed off. So each lack is looked at once (Holt, "Some Deadlock Properties of Computer Systems",
//! 1972): n holders with m amounts cost n m log(n m), where going through all of them for each that goes on would cost
//! n² m.

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::Books;
use crate::model::{Amounts, BudgetId, Tag};

use super::activity::{Party, Sure};
use super::caps::Place;
use super::{Engine, Turn};

/// What is not held by some holders: free, or coming back.
pub(super) struct There {
    sure: Sure,
    /// Of each budget; below zero while a shrunk budget is overdrawn.
    units: [i128; BudgetId::LIMIT],
    /// What those holders have of what each module may have.
    of_modules: BTreeMap<(u64, BudgetId), u128>,
    /// Their numbers.
    holders: BTreeSet<u64>,
}

impl There {
    pub(super) fn without(sure: Sure, holders: &[(u64, &Party)], books: &Books) -> Self {
        let holding = holders.iter().map(|&(activity, _)| activity).collect();
        let mut there = There { sure, units: [0; BudgetId::LIMIT], of_modules: BTreeMap::new(), holders: holding };
        // Nobody looks what there is of a rate.
        for id in BudgetId::in_set(books.budgets()) {
            there.units[id.index()] = i128::from(books.capacity(id));
        }
        for part in holders.iter().flat_map(|(_, party)| party.parts(sure)) {
            part.held.iter().for_each(|(id, units)| there.units[id.index()] -= i128::from(units));
            for (&module, of_module) in &part.of_modules {
                for (id, units) in of_module.iter() {
                    *there.of_modules.entry((module, id)).or_default() += u128::from(units);
                }
            }
        }
        there
    }

    /// One of those holders goes on, and gives back what it holds. Where there is more now.
    fn put(&mut self, activity: u64, party: &Party) -> Vec<Place> {
        self.holders.remove(&activity);
        let mut more = Vec::new();
        for part in party.parts(self.sure) {
            for (id, units) in part.held.iter() {
                self.units[id.index()] += i128::from(units);
                more.push(Place::Budget(id));
            }
            for (&module, of_module) in &part.of_modules {
                for (id, units) in of_module.iter() {
                    let had = self.of_modules.entry((module, id)).or_default();
                    *had = had.saturating_sub(u128::from(units));
                    more.push(Place::Cap(module, id));
                }
            }
        }
        more
    }
}

/// One way to serve a holder: which holder, what it takes, and how many places lack something for it.
struct Way<'a> {
    holder: usize,
    tag: Tag,
    least: &'a Amounts,
    lacks: usize,
}

/// What is lacked where, and by which way; the least last.
type Lacks = BTreeMap<Place, Vec<(u64, usize)>>;

impl Engine {
    /// The holders that cannot be served however the others end, if `going` go on, in order of number; and what there
    /// will be without them.
    pub(super) fn stuck(&self, turn: &Turn<'_>, sure: Sure, going: &[u64]) -> (Vec<u64>, There) {
        let stays = |(activity, _): &(u64, &Party)| !going.contains(activity);
        let holders: Vec<(u64, &Party)> = self.parties.holders(sure).filter(stays).collect();
        let mut there = There::without(sure, &holders, turn.books);
        let (mut ways, mut lacks) = (Vec::new(), Lacks::new());
        // Those for which all is there; whether they are safe depends on who else cannot end.
        let mut there_for = Vec::new();
        for (holder, (_, party)) in holders.iter().enumerate() {
            for (tag, least) in self.ways(party, sure) {
                let before = ways.len();
                let mut way = Way { holder, tag, least, lacks: 0 };
                for (place, units) in self.lacking(turn, tag, least, &there) {
                    lacks.entry(place).or_default().push((units, before));
                    way.lacks += 1;
                }
                if way.lacks == 0 {
                    there_for.push(before);
                }
                ways.push(way);
            }
        }
        lacks.values_mut().for_each(|lacking| lacking.sort_unstable_by(|a, b| b.cmp(a)));
        let mut served = vec![false; holders.len()];
        while let Some(at) = there_for.iter().rposition(|&way: &usize| self.is_safe(turn, &ways[way], &there)) {
            let holder = ways[there_for.swap_remove(at)].holder;
            if std::mem::replace(&mut served[holder], true) {
                continue;
            }
            let (activity, party) = holders[holder];
            for place in there.put(activity, party) {
                let Some(lacking) = lacks.get_mut(&place) else { continue };
                while let Some((_, way)) = lacking.pop_if(|&mut (units, _)| self.has(&there, place, units)) {
                    ways[way].lacks -= 1;
                    if ways[way].lacks == 0 {
                        there_for.push(way);
                    }
                }
            }
        }
        let stuck = holders.iter().zip(served).filter(|&(_, served)| !served);
        (stuck.map(|((activity, _), _)| *activity).collect(), there)
    }

    /// Whether a way endangers none of those who cannot end yet.
    fn is_safe(&self, turn: &Turn<'_>, way: &Way<'_>, there: &There) -> bool {
        self.kept_by(turn.books, way.tag, way.least, |activity| there.holders.contains(&activity)) == 0
    }

    /// The least of each way to serve each of the waits of a party.
    fn ways<'a>(&'a self, party: &'a Party, sure: Sure) -> impl Iterator<Item = (Tag, &'a Amounts)> + 'a {
        let terms = party.waiters(sure).filter_map(|slot| self.queue.flexible(slot)).map(|flexible| &flexible.terms);
        terms.flat_map(|terms| terms.alternatives.iter().map(|each| (terms.tag, each.least())))
    }

    /// Whether a place has so much.
    fn has(&self, there: &There, place: Place, units: u64) -> bool {
        match place {
            Place::Budget(id) => i128::from(units) <= there.units[id.index()],
            Place::Cap(module, id) => {
                let had = there.of_modules.get(&(module, id)).copied().unwrap_or(0);
                let cap = self.modules.cap(Tag { module, ..Tag::NOBODY }, id);
                had + u128::from(units) <= u128::from(cap)
            }
        }
    }

    /// The places that have too little for a bundle. Rates come back with time.
    fn lacking<'a>(
        &'a self,
        turn: &Turn<'_>,
        tag: Tag,
        least: &'a Amounts,
        there: &'a There,
    ) -> impl Iterator<Item = (Place, u64)> + 'a {
        let rates = turn.books.rates();
        let capped = move |id| (tag.module != 0).then_some(Place::Cap(tag.module, id));
        let places = move |(id, units)| {
            let all = std::iter::once(Place::Budget(id)).chain(capped(id));
            all.map(move |place| (place, units))
        };
        let all = least.iter().filter(move |(id, _)| rates & id.bit() == 0).flat_map(places);
        all.filter(move |&(place, units)| !self.has(there, place, units))
    }

    /// The budgets that have too little for each of the ways to serve a party, or of which its module may have too
    /// little; or, if none has, those that have to come back before it is safe.
    pub(super) fn lacks<'a>(
        &'a self,
        turn: &'a Turn<'_>,
        party: &'a Party,
        there: &'a There,
    ) -> impl Iterator<Item = u64> + 'a {
        self.ways(party, there.sure).map(move |(tag, least)| {
            let lacking = self.lacking(turn, tag, least, there);
            match lacking.fold(0, |set, (Place::Budget(id) | Place::Cap(_, id), _)| set | id.bit()) {
                0 => self.kept_by(turn.books, tag, least, |activity| there.holders.contains(&activity)),
                lacking => lacking,
            }
        })
    }

    /// Whether a holder could not be served even if it were alone.
    pub(super) fn blocks_itself(&self, turn: &Turn<'_>, party: &Party) -> bool {
        let there = There::without(Sure::Declared, &[(0, party)], turn.books);
        self.lacks(turn, party, &there).all(|lacks| lacks != 0)
    }
}
