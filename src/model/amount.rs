//! Exact amounts: bytes and shares as integers, and how they are written for people.

use std::fmt;

use super::error::AmountError;

/// 1,024 bytes.
pub const KIB: u64 = 1 << 10;
/// 1,024 [`KIB`].
pub const MIB: u64 = 1 << 20;
/// 1,024 [`MIB`].
pub const GIB: u64 = 1 << 30;
/// 1,024 [`GIB`].
pub const TIB: u64 = 1 << 40;

/// The largest capacity and the largest amount: 2⁶³ − 1.
///
/// A ledger keeps free units as a signed number, so that a shrink below what is in use is visible as a deficit.
pub(crate) const MAX_AMOUNT: u64 = i64::MAX as u64;

/// A number of bytes.
///
/// ```
/// use bursar::{Bytes, GIB};
///
/// let kv_cache = Bytes(2 * GIB);
/// assert_eq!(kv_cache.to_string(), "2.0 GiB");
/// assert_eq!(kv_cache.checked_sub(Bytes(3 * GIB)), None);
/// assert_eq!("1.5 GiB".parse::<Bytes>().unwrap(), Bytes(3 * GIB / 2));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl Bytes {
    /// The sum, or `None` when it would overflow.
    pub const fn checked_add(self, other: Bytes) -> Option<Bytes> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Bytes(sum)),
            None => None,
        }
    }

    /// The difference, or `None` when it would be negative.
    pub const fn checked_sub(self, other: Bytes) -> Option<Bytes> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Bytes(difference)),
            None => None,
        }
    }

    /// The product, or `None` when it would overflow.
    pub const fn checked_mul(self, factor: u64) -> Option<Bytes> {
        match self.0.checked_mul(factor) {
            Some(product) => Some(Bytes(product)),
            None => None,
        }
    }
}

impl From<u64> for Bytes {
    fn from(bytes: u64) -> Self {
        Bytes(bytes)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            0..KIB => return f.pad(&format!("{} B", self.0)),
            KIB..MIB => (KIB, "KiB"),
            MIB..GIB => (MIB, "MiB"),
            GIB..TIB => (GIB, "GiB"),
            _ => (TIB, "TiB"),
        };
        // For reading only: the ledger never sees this float.
        f.pad(&format!("{:.1} {name}", self.0 as f64 / unit as f64))
    }
}

impl std::str::FromStr for Bytes {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let text = text.trim();
        let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (digits, unit) = (text[..split].trim(), text[split..].trim());
        let factor = match unit {
            "" | "B" => 1,
            "KiB" | "K" => KIB,
            "MiB" | "M" => MIB,
            "GiB" | "G" => GIB,
            "TiB" | "T" => TIB,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            _ => return Err(AmountError::Unit { text: text.into() }),
        };
        if let Ok(whole) = digits.parse::<u64>() {
            let overflow = || AmountError::TooLarge { text: text.into() };
            let bytes = whole.checked_mul(factor).ok_or_else(overflow)?;
            return if bytes <= MAX_AMOUNT { Ok(Bytes(bytes)) } else { Err(overflow()) };
        }
        let number: f64 = digits.parse().map_err(|_| AmountError::NotANumber { text: text.into() })?;
        whole_units(number, factor, text).map(Bytes)
    }
}

/// Turns a decimal number of some unit into whole base units; refuses NaN, infinity, negative and too large.
pub(crate) fn whole_units(number: f64, factor: u64, text: &str) -> Result<u64, AmountError> {
    if number.is_nan() {
        return Err(AmountError::NotANumber { text: text.into() });
    }
    if number < 0.0 {
        return Err(AmountError::Negative { text: text.into() });
    }
    let units = (number * factor as f64).round();
    if units >= MAX_AMOUNT as f64 {
        return Err(AmountError::TooLarge { text: text.into() });
    }
    Ok(units as u64)
}

/// A share of a whole, in millionths: what an attention budget is counted in.
///
/// ```
/// use bursar::Share;
///
/// let tenth = Share::from_fraction(0.10).unwrap();
/// assert_eq!(tenth.millionths(), 100_000);
/// assert_eq!(tenth.to_string(), "10 %");
/// assert!(Share::from_fraction(f64::NAN).is_err());
/// assert!(Share::from_fraction(-0.1).is_err());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

impl Share {
    /// The whole: 1,000,000 millionths.
    pub const WHOLE: Share = Share(1_000_000);

    /// So many percent, the whole at most.
    pub(super) const fn percent(percent: u32) -> Share {
        let millionths = percent.saturating_mul(10_000);
        if millionths < Self::WHOLE.0 { Share(millionths) } else { Self::WHOLE }
    }

    /// A share of `millionths` / 1,000,000.
    ///
    /// # Errors
    /// [`AmountError::AboveWhole`] when it is more than the whole.
    pub fn from_millionths(millionths: u32) -> Result<Share, AmountError> {
        if millionths > Self::WHOLE.0 {
            return Err(AmountError::AboveWhole { text: format!("{millionths} millionths") });
        }
        Ok(Share(millionths))
    }

    /// A fraction between 0 and 1, rounded to the nearest millionth.
    ///
    /// # Errors
    /// NaN, a negative number, or more than 1.
    pub fn from_fraction(fraction: f64) -> Result<Share, AmountError> {
        let text = fraction.to_string();
        let millionths = whole_units(fraction, u64::from(Self::WHOLE.0), &text)?;
        match u32::try_from(millionths) {
            Ok(millionths) if millionths <= Self::WHOLE.0 => Ok(Share(millionths)),
            _ => Err(AmountError::AboveWhole { text }),
        }
    }

    /// The share in millionths.
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// The sum, or `None` when it would be more than the whole.
    pub const fn checked_add(self, other: Share) -> Option<Share> {
        let sum = self.0 + other.0;
        if sum > Self::WHOLE.0 { None } else { Some(Share(sum)) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} %", f64::from(self.0) / 10_000.0))
    }
}

/// What a budget counts, for people: it changes how amounts are printed, never how they are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Unit {
    /// Bytes, or bytes per second for a rate.
    Bytes,
    /// Millionths of a whole.
    Share,
    /// Things that are counted one by one: slots, tokens, cores.
    #[default]
    Count,
}

impl Unit {
    /// Writes `amount` in this unit.
    pub fn show(self, amount: u64) -> String {
        match self {
            Unit::Bytes => Bytes(amount).to_string(),
            Unit::Share => format!("{} %", amount as f64 / 10_000.0),
            Unit::Count => amount.to_string(),
        }
    }
}
