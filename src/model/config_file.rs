//! A configuration as a file: how budgets and settings are written in TOML and the like.
//!
//! Amounts are written as whole numbers, as text with a unit (`"40 GiB"`, `"25 %"`), or, for a budget counted in
//! shares, as a fraction (`0.5`). Times are milliseconds, as a number or, where a number would not be exact, as text
//! (`"1.000001"`). Unknown keys are refused. What [`Config::check`] accepts reads back exactly as it was written.
//!
//! ```
//! let config = bursar::Config::from_toml(r#"
//!     offer_expiry_ms = 50
//!
//!     [[budget]]
//!     id = "gpu0"
//!     capacity = "40 GiB"
//!
//!     [[budget]]
//!     id = "io"
//!     rate = "500 MB"
//!     burst = "100 MB"
//!
//!     [[budget]]
//!     id = "custom0"
//!     name = "tokens"
//!     capacity = 8192
//! "#).unwrap();
//! assert_eq!(config.budgets.len(), 3);
//! assert!(bursar::Config::from_toml("[[budget]]\nid = \"gpu0\"\ncapacity = nan").is_err());
//! ```

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::amount::{Bytes, MAX_AMOUNT, Unit, whole_units};
use super::budget::{BudgetId, BudgetKind, SpaceId};
use super::config::{Budget, Config, Supply, usual};
use super::error::{AmountError, ConfigError};
use super::order::Order;
use super::placement::{Distance, Topology};

impl Config {
    /// Reads a configuration from TOML and checks it.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`] with line and column when the text is no configuration, else what
    /// [`Config::check`] finds.
    pub fn from_toml(text: &str) -> Result<Config, ConfigError> {
        let config: Config = toml::from_str(text).map_err(|e| ConfigError::Syntax(e.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Writes the configuration as TOML.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`] when it cannot be written, which no configuration that passes [`Config::check`] causes.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string_pretty(self).map_err(|e| ConfigError::Syntax(e.to_string()))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    offer_expiry_ms: Option<Millis>,
    look_ahead: Option<usize>,
    edf_horizon_ms: Option<Millis>,
    max_waiters: Option<usize>,
    verify_every_ms: Option<Millis>,
    sample_every_ms: Option<Millis>,
    stuck_after_ms: Option<Millis>,
    verdict_after_ms: Option<Millis>,
    roll_backs: Option<u32>,
    grace_ms: Option<Millis>,
    bypass_limit: Option<u32>,
    bypass_time_ms: Option<Millis>,
    aging_step_ms: Option<Millis>,
    age_idle: Option<bool>,
    order: Option<Order>,
    #[serde(default, rename = "budget")]
    budgets: Vec<BudgetFile>,
    #[serde(default, rename = "distance", skip_serializing_if = "Vec::is_empty")]
    distances: Vec<Distance>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetFile {
    id: BudgetId,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<Unit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_debt: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    growth_reserve: Option<Written>,
}

/// A time in milliseconds. Whole ones are written as such, others as a fraction if that reads back as the same time,
/// and else, with six places, as text.
struct Millis(Duration);

/// Digits after the point of a millisecond that end at the nanosecond.
const MS_PLACES: usize = 6;
/// Digits after the point of a percentage that end at the millionth of a whole.
const PERCENT_PLACES: usize = 4;

/// A decimal number, counted in units of its last possible place; `None` when it is no such number.
fn exact(text: &str, places: usize) -> Option<u128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = !whole.is_empty() && whole.bytes().chain(part.bytes()).all(|byte| byte.is_ascii_digit());
    if digits && part.len() <= places { format!("{whole}{part:0<places$}").parse().ok() } else { None }
}

/// The number that [`exact`] reads as `units`.
fn decimal(units: u128, places: usize) -> String {
    let scale = 10u128.pow(places as u32);
    format!("{}.{:0places$}", units / scale, units % scale)
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nanos = self.0.as_nanos();
        let fraction = nanos as f64 / 1e6;
        match i64::try_from(nanos / 1_000_000) {
            Ok(whole) if nanos.is_multiple_of(1_000_000) => serializer.serialize_i64(whole),
            _ if whole_units(fraction, 1_000_000, "").is_ok_and(|read| u128::from(read) == nanos) => {
                serializer.serialize_f64(fraction)
            }
            _ => serializer.serialize_str(&decimal(nanos, MS_PLACES)),
        }
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let nanos = match Written::deserialize(deserializer)? {
            Written::Units(ms) => return Ok(Millis(Duration::from_millis(ms))),
            Written::Number(ms) => whole_units(ms, 1_000_000, &ms.to_string()).map_err(de::Error::custom)?,
            Written::Text(text) => {
                let Some(nanos) = exact(text.trim(), MS_PLACES) else {
                    return Err(de::Error::custom(AmountError::NotANumber { text }));
                };
                let seconds = u64::try_from(nanos / 1_000_000_000);
                let seconds = seconds.map_err(|_| de::Error::custom(AmountError::TooLarge { text }))?;
                return Ok(Millis(Duration::new(seconds, (nanos % 1_000_000_000) as u32)));
            }
        };
        Ok(Millis(Duration::from_nanos(nanos)))
    }
}

/// An amount as it was written; its meaning depends on the budget's unit.
enum Written {
    Units(u64),
    Number(f64),
    Text(String),
}

impl Written {
    /// What [`units`](Written::units) reads as so many.
    fn exactly(units: u64, unit: Unit) -> Written {
        let fraction = units as f64 / 1e6;
        match unit {
            Unit::Share if whole_units(fraction, 1_000_000, "") == Ok(units) => Written::Number(fraction),
            Unit::Share => Written::Text(decimal(units.into(), PERCENT_PLACES) + " %"),
            _ => Written::Units(units),
        }
    }

    fn units(&self, unit: Unit) -> Result<u64, AmountError> {
        let share = unit == Unit::Share;
        let wrong = |text: &str| AmountError::Unit { text: text.into() };
        match self {
            Written::Units(units) => {
                let large = || AmountError::TooLarge { text: units.to_string() };
                let factor = if share { 1_000_000 } else { 1 };
                units.checked_mul(factor).filter(|&units| units <= MAX_AMOUNT).ok_or_else(large)
            }
            Written::Number(number) if share => whole_units(*number, 1_000_000, &number.to_string()),
            Written::Number(number) if number.fract() == 0.0 => whole_units(*number, 1, &number.to_string()),
            Written::Number(number) => Err(AmountError::Fraction { text: number.to_string() }),
            Written::Text(text) => match (text.trim().strip_suffix('%'), unit) {
                (Some(percent), Unit::Share) => {
                    if let Some(units) = exact(percent.trim(), PERCENT_PLACES) {
                        let units = u64::try_from(units).ok().filter(|&units| units <= MAX_AMOUNT);
                        return units.ok_or_else(|| AmountError::TooLarge { text: text.clone() });
                    }
                    let bad = |_| AmountError::NotANumber { text: text.clone() };
                    whole_units(percent.trim().parse().map_err(bad)?, 10_000, text)
                }
                (None, Unit::Bytes) => text.parse::<Bytes>().map(|bytes| bytes.0),
                (None, Unit::Count) => text.trim().parse().map_err(|_| wrong(text)),
                _ => Err(wrong(text)),
            },
        }
    }
}

impl BudgetFile {
    fn budget(self) -> Result<Budget, String> {
        let (name, unit) = usual(self.id);
        let (name, unit) = (self.name.unwrap_or(name), self.unit.unwrap_or(unit));
        let read = |what: &str, written: &Option<Written>| match written {
            Some(written) => written.units(unit).map(Some).map_err(|e| format!("budget `{name}`: {what}: {e}")),
            None => Ok(None),
        };
        let (capacity, rate) = (read("capacity", &self.capacity)?, read("rate", &self.rate)?);
        let (burst, max_debt) = (read("burst", &self.burst)?, read("max_debt", &self.max_debt)?);
        let supply = match (capacity, rate) {
            (Some(capacity), None) if burst.is_none() && max_debt.is_none() => Supply::Loan { capacity },
            (None, Some(per_second)) => {
                Supply::Rate { per_second, burst: burst.unwrap_or(per_second), max_debt: max_debt.unwrap_or(0) }
            }
            _ => {
                return Err(format!(
                    "budget `{name}`: write either `capacity`, or `rate` with `burst` and `max_debt` if wanted"
                ));
            }
        };
        let growth_reserve = read("growth_reserve", &self.growth_reserve)?.unwrap_or(0);
        Ok(Budget { id: self.id, name, unit, supply, growth_reserve })
    }
}

impl From<&Budget> for BudgetFile {
    fn from(budget: &Budget) -> Self {
        let whole = |units| Some(Written::exactly(units, budget.unit));
        let (capacity, rate, burst, max_debt) = match budget.supply {
            Supply::Loan { capacity } => (whole(capacity), None, None, None),
            Supply::Rate { per_second, burst, max_debt } => (None, whole(per_second), whole(burst), whole(max_debt)),
        };
        BudgetFile {
            id: budget.id,
            name: Some(budget.name.clone()),
            unit: Some(budget.unit),
            capacity,
            rate,
            burst,
            max_debt,
            growth_reserve: (budget.growth_reserve > 0).then(|| Written::exactly(budget.growth_reserve, budget.unit)),
        }
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file = ConfigFile::deserialize(deserializer)?;
        let usual = Config::new();
        let ms = |ms: Option<Millis>, usual| ms.map_or(usual, |Millis(time)| time);
        Ok(Config {
            budgets: file
                .budgets
                .into_iter()
                .map(BudgetFile::budget)
                .collect::<Result<_, _>>()
                .map_err(de::Error::custom)?,
            offer_expiry: ms(file.offer_expiry_ms, usual.offer_expiry),
            look_ahead: file.look_ahead.unwrap_or(usual.look_ahead),
            edf_horizon: ms(file.edf_horizon_ms, usual.edf_horizon),
            max_waiters: file.max_waiters.unwrap_or(usual.max_waiters),
            verify_every: file.verify_every_ms.map(|Millis(time)| time),
            sample_every: file.sample_every_ms.map(|Millis(time)| time),
            stuck_after: file.stuck_after_ms.map(|Millis(time)| time),
            verdict_after: file.verdict_after_ms.map_or(usual.verdict_after, |Millis(time)| time),
            grace: ms(file.grace_ms, usual.grace),
            roll_backs: file.roll_backs.unwrap_or(usual.roll_backs),
            bypass_limit: file.bypass_limit.unwrap_or(usual.bypass_limit),
            bypass_time: file.bypass_time_ms.map_or(usual.bypass_time, |Millis(time)| time),
            aging_step: file.aging_step_ms.map(|Millis(time)| time),
            age_idle: file.age_idle.unwrap_or(usual.age_idle),
            order: file.order.unwrap_or(usual.order),
            topology: Topology { distances: file.distances },
        })
    }
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let file = ConfigFile {
            offer_expiry_ms: Some(Millis(self.offer_expiry)),
            look_ahead: Some(self.look_ahead),
            edf_horizon_ms: Some(Millis(self.edf_horizon)),
            max_waiters: Some(self.max_waiters),
            verify_every_ms: self.verify_every.map(Millis),
            sample_every_ms: self.sample_every.map(Millis),
            stuck_after_ms: self.stuck_after.map(Millis),
            verdict_after_ms: Some(Millis(self.verdict_after)),
            roll_backs: Some(self.roll_backs),
            grace_ms: Some(Millis(self.grace)),
            bypass_limit: Some(self.bypass_limit),
            bypass_time_ms: Some(Millis(self.bypass_time)),
            aging_step_ms: self.aging_step.map(Millis),
            age_idle: Some(self.age_idle),
            order: Some(self.order),
            budgets: self.budgets.iter().map(BudgetFile::from).collect(),
            distances: self.topology.distances.clone(),
        };
        file.serialize(serializer)
    }
}

impl FromStr for BudgetId {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let all = (0..BudgetId::LIMIT).filter_map(BudgetId::from_index);
        let unknown = || {
            ConfigError::Syntax(format!(
                "`{text}` names no budget: use gpu0 to gpu15, host0 to host7, disk0 to disk3, compute, attention, io, \
                 network, or custom0 to custom31"
            ))
        };
        all.into_iter().find(|id| id.to_string() == text).ok_or_else(unknown)
    }
}

impl Serialize for BudgetId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BudgetId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl Serialize for SpaceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SpaceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match BudgetId::deserialize(deserializer)?.kind() {
            BudgetKind::Space(space) => Ok(space),
            _ => Err(de::Error::custom("memory lies in a space: gpu0 to gpu15, host0 to host7, disk0 to disk3")),
        }
    }
}

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Written::Units(units) => serializer.serialize_u64(*units),
            Written::Number(number) => serializer.serialize_f64(*number),
            Written::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyAmount;

        impl Visitor<'_> for AnyAmount {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount: a whole number, a fraction, or text with a unit such as \"40 GiB\" or \"25 %\"")
            }

            fn visit_u64<E: de::Error>(self, units: u64) -> Result<Written, E> {
                Ok(Written::Units(units))
            }

            fn visit_i64<E: de::Error>(self, units: i64) -> Result<Written, E> {
                let negative = |_| E::custom(AmountError::Negative { text: units.to_string() });
                u64::try_from(units).map(Written::Units).map_err(negative)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Written, E> {
                whole_units(number, 1, &number.to_string()).map_err(E::custom)?;
                Ok(Written::Number(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Written, E> {
                Ok(Written::Text(text.to_owned()))
            }
        }

        deserializer.deserialize_any(AnyAmount)
    }
}
