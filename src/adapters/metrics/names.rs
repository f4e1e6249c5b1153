//! Names, units and descriptions, as is the custom with Prometheus.

use metrics::{Label, SharedString, describe_counter, describe_gauge, describe_histogram};

use crate::model::{Share, Unit};

pub(super) const WAITS: &str = "bursar_reservation_wait_seconds";
pub(super) const HOLDS: &str = "bursar_lease_hold_seconds";

/// What there is of every budget, with its unit and an end in the name.
const BUDGET_GAUGES: [(&str, &str, &str); 11] = [
    ("capacity", "", "The most that can be granted"),
    ("free", "", "What can be granted now"),
    ("granted", "", "What leases and offers have"),
    ("offered", "", "What lies in grants that nobody has taken up yet"),
    ("deficit", "", "By how much it is overdrawn after a shrink"),
    ("peak", "", "The most that was granted at once"),
    ("mean", "", "What was granted on average, weighted with time, since the start"),
    ("trend", "", "How much more is granted in the newer half of the last samples than in the older"),
    ("refill", PER_SECOND, "The speed at which a rate comes back"),
    ("mean", PER_SECOND, "What was spent of a rate on average since the start"),
    ("trend", PER_SECOND, "How much faster a rate is spent in the newer half of the last samples than in the older"),
];

pub(super) const PER_SECOND: &str = "_per_second";

/// Tells the recorder what everything is.
pub(super) fn describe() {
    describe_counter!("bursar_reservations_total", "Reservations, by what became of them");
    let seconds = metrics::Unit::Seconds;
    describe_histogram!(WAITS, seconds, "Waits that ended in a grant, by the budget that was short last");
    describe_histogram!(HOLDS, seconds, "How long labelled leases were held that have ended");
    describe_gauge!("bursar_budget_waiting", "Reservations that wait and name this budget");
    describe_gauge!("bursar_budget_utilisation_ratio", "The part that is in use now");
    describe_gauge!("bursar_budget_mean_utilisation_ratio", "The part that was in use on average since the start");
    describe_gauge!("bursar_waiting", "Reservations that wait");
    describe_gauge!("bursar_dormant", "Reservations that did not take up their grant in time and are in no line now");
    describe_gauge!("bursar_leases", "Leases that are out");
    describe_gauge!("bursar_leases_forgotten", "Leases that were given up, whose units never come back");
    describe_counter!("bursar_offers_expired_total", "Grants that passed on because nobody polled them");
    describe_counter!("bursar_leases_revoked_total", "Leases that were asked to end for a higher level");
    describe_counter!("bursar_leases_overdue_total", "Leases that had not ended when the grace for it was over");
    describe_counter!("bursar_inherited_total", "Waits that took over the rank of somebody who waits for their holder");
    describe_counter!("bursar_alerts_total", "Holders that were found waiting for each other and were only told so");
    describe_gauge!("bursar_module_waiting", "Reservations of a module that wait");
    let units = [(Unit::Bytes, Some(metrics::Unit::Bytes)), (Unit::Share, None), (Unit::Count, None)];
    for (unit, base) in units {
        let budgets = BUDGET_GAUGES.iter().map(|(what, end, text)| (named("budget", what, unit, end), *text));
        let module = (named("module", "used", unit, ""), "What a module has");
        for (name, text) in budgets.chain([module]) {
            match base {
                Some(base) => describe_gauge!(name, base, text),
                None => describe_gauge!(name, text),
            }
        }
        describe_counter!(named("budget", "spent", unit, "_total"), "What was spent of a rate");
    }
}

pub(super) fn label(key: &'static str, value: &str) -> Label {
    Label::new(key, SharedString::from(value.to_owned()))
}

/// A name with its unit behind.
pub(super) fn named(of: &str, what: &str, unit: Unit, end: &str) -> String {
    let unit = match unit {
        Unit::Bytes => "_bytes",
        // A counter is a whole number.
        Unit::Share if end == "_total" => "_millionths",
        Unit::Share => "_ratio",
        Unit::Count => "",
    };
    format!("bursar_{of}_{what}{unit}{end}")
}

/// Shares of a whole as fractions, all else as it is.
pub(super) fn in_base_units(unit: Unit, units: f64) -> f64 {
    match unit {
        Unit::Share => units / f64::from(Share::WHOLE.millionths()),
        Unit::Bytes | Unit::Count => units,
    }
}

/// A share as a fraction.
pub(super) fn fraction(share: Share) -> f64 {
    in_base_units(Unit::Share, f64::from(share.millionths()))
}

/// A name of a caller's as one of a metric: lower case letters, digits and `_`.
pub(super) fn clean(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    name.chars().map(allowed).collect()
}
