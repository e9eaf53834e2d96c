//! Shares of branches as they are written: weights beside each other, or per cent.
//!
//! ```toml
//! weights = { a = 1, b = 3 }
//! weights = { a = "25%", b = "75%" }     # of a split they make 100 % together; of a test's sample they may be less
//! ```
//!
//! Owns no state. Invariant: SH-1 what is written in per cent is never rounded: hundredths of a per cent are weights.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::assemble::Context;
use crate::campaigns::spec::kinds::basis_points;

/// All of them, in hundredths of a per cent.
pub(super) const WHOLE: u32 = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a whole number, or a share such as \"25%\"")]
pub(super) enum Share {
    Weight(u32),
    Percent(String),
}

/// Branches with their weights, in order of their names.
pub(super) struct Shares {
    pub weights: Vec<(String, u32)>,
    /// Hundredths of a per cent in all, if they are written in per cent.
    pub total: Option<u32>,
}

/// Reads shares; nothing, with the reasons told, if they cannot be read.
pub(super) fn read(context: &mut Context<'_>, key: &str, shares: &BTreeMap<String, Share>) -> Option<Shares> {
    let percent = shares.values().filter(|share| matches!(share, Share::Percent(_))).count();
    if percent > 0 && percent < shares.len() {
        let message = "some shares are in per cent, and others are weights";
        context.refuse("bad_share", key, message, "write all of them in per cent, or none");
        return None;
    }
    let mut weights = Vec::with_capacity(shares.len());
    let mut total: u32 = 0;
    for (name, share) in shares {
        let weight = match share {
            Share::Weight(weight) => Some(*weight),
            Share::Percent(text) => basis_points(text),
        };
        let Some(weight) = weight else {
            let path = format!("{key}.{name}");
            context.refuse(
                "bad_share",
                &path,
                format!("{share:?} is no share"),
                "write it as \"25%\" or as a whole number",
            );
            return None;
        };
        total = total.saturating_add(weight);
        weights.push((name.clone(), weight));
    }
    let total = (percent > 0).then_some(total);
    if let Some(total) = total.filter(|total| *total > WHOLE) {
        let message = format!("the shares make {} in all", percent_of(total));
        context.refuse("shares_total", key, message, "make them 100% together, or write weights without %");
        return None;
    }
    Some(Shares { weights, total })
}

/// `12.5%`
pub(super) fn percent_of(basis: u32) -> String {
    let text = format!("{}.{:02}", basis / 100, basis % 100);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}
