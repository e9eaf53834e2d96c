//! `kind = "delay"`: whoever comes rests, exactly one of
//!
//! ```toml
//! for = "2d"                                        # from each contact's arrival: s, m, h, d (24 hours), w
//! until = 2027-01-01T09:00:00+01:00                 # who comes later passes at once
//! event = "opened"; of = "welcome"; timeout = "5d"  # opened, clicked; ways out: "happened", "timed_out"
//! ```

use serde::Deserialize;

use super::assemble::Context;
use crate::clock::Timestamp;
use crate::flow::NodeKind;
use crate::flow::nodes::{Delay, WaitEvent};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    Opened,
    Clicked,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    #[serde(rename = "for")]
    period: Option<String>,
    #[serde(with = "crate::campaigns::instant")]
    until: Option<Timestamp>,
    event: Option<Event>,
    of: Option<String>,
    timeout: Option<String>,
}

pub(super) fn kind(context: &mut Context<'_>) -> Option<NodeKind> {
    let keys = context.read::<Keys>()?;
    let delay = match (&keys.period, keys.until, keys.event) {
        (Some(text), None, None) => Delay::Seconds(context.seconds("for", text)?),
        (None, Some(at), None) => Delay::Until(at.0),
        (None, None, Some(event)) => {
            let Some(text) = &keys.timeout else {
                context.refuse("no_length", "timeout", "the wait has no end", "set timeout, such as \"5d\"");
                return None;
            };
            let seconds = context.seconds("timeout", text)?;
            let send = context.named("of", keys.of.as_deref())?;
            let event = match event {
                Event::Opened => WaitEvent::Opened(send),
                Event::Clicked => WaitEvent::Clicked(send),
            };
            Delay::Event { event, seconds }
        }
        _ => {
            let message = "a delay has one thing to wait for";
            context.refuse("delay_for", "", message, "set exactly one of for, until and event");
            return None;
        }
    };
    if keys.event.is_none() && (keys.of.is_some() || keys.timeout.is_some()) {
        context.refuse("wrong_key", "", "of and timeout belong to event", "remove them, or set event");
        return None;
    }
    Some(NodeKind::Delay(delay))
}
