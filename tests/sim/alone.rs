//! The reference model by itself, under the same oracles as the engine and its own invariants: what the engine is
//! compared with has to be right.

use crate::model::Model;
use crate::profile::Profile;
use crate::simulation::all;
use crate::tally::Case;

#[test]
fn whoever_is_passed_once_claims_hard() {
    let least = [(Case::Passed, 1_200), (Case::Hardened, 1_000), (Case::Moved, 600), (Case::Regained, 40)];
    all::<Model>(&Profile::passed(1, "passed once"), 20_000, &least);
}

#[test]
fn whoever_is_passed_twice_claims_hard() {
    all::<Model>(&Profile::passed(2, "passed twice"), 20_000, &[(Case::Passed, 1_500), (Case::Hardened, 600)]);
}

#[test]
fn strict_order() {
    all::<Model>(&Profile::passed(0, "strict"), 20_000, &[(Case::Hardened, 3_000)]);
}

#[test]
fn flexible_requests() {
    let least = [(Case::Elastic, 350), (Case::SecondChoice, 900), (Case::Refitted, 250), (Case::NeverFits, 80)];
    all::<Model>(&Profile::flexible(), 20_000, &least);
}

#[test]
fn levels_that_rise() {
    all::<Model>(&Profile::aging(), 20_000, &[(Case::Aged, 1_000), (Case::Late, 200), (Case::Expired, 400)]);
}

#[test]
fn modules_with_shares() {
    all::<Model>(&Profile::shares(), 20_000, &[(Case::Aged, 200), (Case::Hardened, 800)]);
}

#[test]
fn leases_that_are_asked_to_end() {
    let least = [(Case::Revoked, 250), (Case::EndedInGrace, 150), (Case::Overdue, 50)];
    all::<Model>(&Profile::preemption(), 10_000, &least);
    all::<Model>(&Profile::preemption_of_holders(), 10_000, &least);
}

#[test]
fn many_budgets_and_rates() {
    all::<Model>(&Profile::eight_with_rates(), 20_000, &[(Case::RateBlocked, 350), (Case::Moved, 800)]);
    all::<Model>(&Profile::wide_bundles(), 4_000, &[(Case::Offered, 120)]);
}

#[test]
fn turns_that_look_at_few() {
    all::<Model>(&Profile::look_ahead(1, "look-ahead of 1"), 10_000, &[(Case::LookAhead, 1_200)]);
    all::<Model>(&Profile::look_ahead(2, "look-ahead of 2").bypass(1, 50), 10_000, &[(Case::LookAhead, 1_000)]);
}

#[test]
fn short_offers_and_tight_capacities() {
    all::<Model>(&Profile::short_offers(), 10_000, &[(Case::Expired, 600), (Case::Regained, 100)]);
    all::<Model>(&Profile::tight(), 10_000, &[(Case::Full, 400)]);
    all::<Model>(&Profile::equal_ranks(), 4_000, &[(Case::Passed, 200)]);
    all::<Model>(&Profile::vast(), 6_000, &[(Case::Offered, 250), (Case::Elastic, 15)]);
    all::<Model>(&Profile::four_budgets(), 8_000, &[(Case::Offered, 400), (Case::Passed, 500)]);
}
