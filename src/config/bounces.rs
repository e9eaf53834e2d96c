//! `[bounces]`: when soft bounces of an address suppress it. Owns no state.

use serde::Deserialize;
use toml::Spanned;

use super::{ConfigError, Source};
use crate::limits::{SOFT_BOUNCE_DAYS_MAX, SOFT_BOUNCES_MAX};

/// When soft bounces suppress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftRule {
    /// So many bounces; 0: never.
    pub bounces: u32,
    /// On so many different days.
    pub days: u32,
    /// Within so many days, today included.
    pub within_days: u32,
}

impl Default for SoftRule {
    /// Five bounces on three days within thirty: a mailbox that is full for a weekend stays.
    fn default() -> SoftRule {
        SoftRule { bounces: 5, days: 3, within_days: 30 }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Bounces {
    pub(super) soft_max: Option<Spanned<u64>>,
    pub(super) soft_days: Option<Spanned<u64>>,
    pub(super) soft_within_days: Option<Spanned<u64>>,
}

pub(super) fn validate(raw: &Bounces, source: &Source<'_>) -> Result<SoftRule, ConfigError> {
    let default = SoftRule::default();
    let within = |key, value: &Option<Spanned<u64>>, least, most, default: u32| match value {
        None => Ok(default),
        Some(value) => source.within(key, value, least, most).map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
    };
    let most = SOFT_BOUNCES_MAX as u64;
    let longest = u64::from(SOFT_BOUNCE_DAYS_MAX.unsigned_abs());
    let rule = SoftRule {
        bounces: within("bounces.soft_max", &raw.soft_max, 0, most, default.bounces)?,
        days: within("bounces.soft_days", &raw.soft_days, 1, most, default.days)?,
        within_days: within("bounces.soft_within_days", &raw.soft_within_days, 1, longest, default.within_days)?,
    };
    match raw.soft_days.as_ref() {
        Some(days) if rule.days > rule.within_days => {
            Err(source.value("bounces.soft_days", days, "must be at most bounces.soft_within_days"))
        }
        _ => Ok(rule),
    }
}
