//! `kind = "ab_test"`: contacts are shared out over variants, and the better one gets those who come after the decision.
//!
//! ```toml
//! variants = { a = 1, b = 1 }   # exits, and their shares of the sample; or { a = "10%", b = "5%" } of all, without sample
//! sample = "20%"                # of one set; the rest waits here for the winner
//! decide_after = "4h"           # the deadline; window, looks, winner_by, goal, if_not_proven as in [test]
//!
//! continuing = true             # of contacts who come over time: all are tested on until there is a winner
//! window = "1d"                 # events count for so long after each contact's own send
//! look_every = "1h"             # between looks, as many as it takes: confidence sequences allow that
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;

use super::assemble::Context;
use super::shares::{self, Share, Shares};
use crate::campaigns::spec::SampleSpec;
use crate::campaigns::spec::kinds::basis_points;
use crate::flow::nodes::{AbTest, Arm, Metric, NotProven, SampleSize};
use crate::flow::{Exit, NodeKind};
use crate::limits;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    variants: BTreeMap<String, Share>,
    continuing: bool,
    sample: Option<SampleSpec>,
    winner_by: Option<Metric>,
    goal: Option<String>,
    decide_after: Option<String>,
    window: Option<String>,
    looks: Option<u16>,
    look_every: Option<String>,
    if_not_proven: Option<String>,
    min_delivered: Option<u64>,
    min_events: Option<u64>,
}

const SAMPLE_DEFAULT_BASIS: u32 = 2_000;
const DECIDE_AFTER_DEFAULT: &str = "4h";
const STREAM_WINDOW_DEFAULT: &str = "1d";
const LOOK_EVERY_DEFAULT: &str = "1h";

pub(super) fn kind(context: &mut Context<'_>) -> Option<NodeKind> {
    let keys = context.read::<Keys>()?;
    let alien: &[(&str, bool)] = match keys.continuing {
        true => &[
            ("sample", keys.sample.is_some()),
            ("decide_after", keys.decide_after.is_some()),
            ("looks", keys.looks.is_some()),
        ],
        false => &[("look_every", keys.look_every.is_some())],
    };
    let (has, fix) = match keys.continuing {
        true => ("a continuing test has no", "remove it; look_every and window are what it has"),
        false => ("a test of one set has no", "remove it, or set continuing = true"),
    };
    let alien: Vec<&str> = alien.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
    for key in &alien {
        context.refuse("wrong_key", key, format!("{has} {key}"), fix);
    }
    let Shares { weights, total } = shares::read(context, "variants", &keys.variants)?;
    if let Some(total) = total {
        let (wrong, fix) = match keys.continuing {
            true => (total < shares::WHOLE, "all are tested on: make them 100% together, or write weights without %"),
            false => (keys.sample.is_some(), "remove sample: the fractions say it, or write weights without %"),
        };
        if wrong {
            let message = format!("the fractions make {} of those who come", shares::percent_of(total));
            context.refuse("shares_total", "variants", message, fix);
            return None;
        }
    }
    let sample = match &keys.sample {
        None if total.is_some() => total.map(SampleSize::Share),
        None => Some(SampleSize::Share(SAMPLE_DEFAULT_BASIS)),
        Some(SampleSpec::Contacts(count)) => Some(SampleSize::Contacts(*count)),
        Some(SampleSpec::Share(text)) => basis_points(text).map(SampleSize::Share),
    };
    if let (None, Some(SampleSpec::Share(text))) = (&sample, &keys.sample) {
        let fix = "write it as \"20%\", or a number of contacts";
        context.refuse("bad_sample", "sample", format!("{text:?} is no share"), fix);
    }
    let not_proven = match keys.if_not_proven.as_deref() {
        None | Some("leader") => NotProven::Leader,
        Some("wait") => NotProven::Wait,
        Some("nobody") => NotProven::Nobody,
        Some(name) => NotProven::Arm(Exit(name.to_owned().into())),
    };
    let decide_after = match keys.continuing {
        true => Some(0),
        false => context.seconds("decide_after", keys.decide_after.as_deref().unwrap_or(DECIDE_AFTER_DEFAULT)),
    };
    let window = match (&keys.window, keys.continuing) {
        (Some(text), _) => context.seconds("window", text),
        (None, true) => context.seconds("window", STREAM_WINDOW_DEFAULT),
        (None, false) => decide_after.map(|seconds| seconds / 2),
    };
    let look_every = match keys.continuing {
        true => context.seconds("look_every", keys.look_every.as_deref().unwrap_or(LOOK_EVERY_DEFAULT)),
        false => Some(0),
    };
    let (sample, decide_after, window, look_every) = (sample?, decide_after?, window?, look_every?);
    if !alien.is_empty() {
        return None;
    }
    let arms = weights.into_iter().map(|(exit, weight)| Arm { exit: Exit(exit.into()), weight });
    Some(NodeKind::AbTest(AbTest {
        arms: arms.collect(),
        sample,
        metric: keys.winner_by.unwrap_or_default(),
        decide_after_seconds: decide_after,
        looks: keys.looks.unwrap_or(1),
        not_proven,
        min_delivered: keys.min_delivered.unwrap_or(limits::WINNER_DELIVERED_MIN),
        min_events: keys.min_events.unwrap_or(limits::WINNER_EVENTS_MIN),
        window_seconds: window,
        goal: keys.goal,
        moments: false,
        look_every_seconds: look_every,
    }))
}
