//! Names of lists and segments, and who refers to one.

use crate::campaigns::lifecycle;
use crate::campaigns::parse::from_stored;
use crate::engine::Engine;
use crate::engine::base::BaseError;
use crate::engine::runs::campaign_state;
use crate::limits::NAME_BYTES_MAX;
use crate::segments::expression::{Expression, Kind};
use crate::segments::parse;

/// A name as it is kept: trimmed, not empty, one line.
pub(super) fn valid(what: &'static str, name: &str) -> Result<String, BaseError> {
    let name = name.trim();
    let reason = if name.is_empty() {
        "is empty"
    } else if name.len() > NAME_BYTES_MAX {
        "is longer than 255 bytes"
    } else if name.chars().any(char::is_control) {
        "has a control character"
    } else {
        return Ok(name.to_owned());
    };
    let name = name.chars().take(40).collect();
    Err(BaseError::BadName { what, name, reason })
}

/// What somebody wants to delete or change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thing<'n> {
    List(&'n str),
    Segment(&'n str),
}

impl Thing<'_> {
    fn is_in(self, expression: &Expression) -> bool {
        let mut found = false;
        expression.walk(&mut |part| {
            found |= match (&part.kind, self) {
                (Kind::InList(name), Thing::List(wanted)) | (Kind::InSegment(name), Thing::Segment(wanted)) => {
                    name == wanted
                }
                _ => false,
            };
        });
        found
    }

    fn is_in_text(self, text: &str) -> bool {
        parse(text).is_ok_and(|expression| self.is_in(&expression))
    }
}

impl Engine {
    /// Segments and unfinished campaigns that refer to a thing, in words.
    pub(super) fn users_of(&self, thing: Thing<'_>) -> Vec<String> {
        // Copied out, so that nobody waits while specs are parsed.
        let (segments, specs) = {
            let state = self.book.read();
            let segments: Vec<(String, String)> =
                state.segments.iter().map(|(n, s)| (n.clone(), s.text.clone())).collect();
            let live = state.campaigns.iter().filter(|(id, _)| campaign_state(&state, **id).is_some_and(needs_it));
            let specs: Vec<String> = live.filter_map(|(_, c)| c.newest().map(|(_, spec)| spec.to_owned())).collect();
            (segments, specs)
        };
        let mut users = Vec::new();
        for (name, text) in segments {
            if thing != Thing::Segment(&name) && thing.is_in_text(&text) {
                users.push(format!("segment {name:?}"));
            }
        }
        for spec in specs {
            let Ok(spec) = from_stored(&spec) else { continue };
            let named = matches!((thing, &spec.audience.list), (Thing::List(name), Some(list)) if name == list);
            if named || spec.expressions().iter().any(|text| thing.is_in_text(text)) {
                users.push(format!("campaign {:?}", spec.name.unwrap_or_default()));
            }
        }
        users
    }
}

/// A campaign in this state will, or may, evaluate its audience, or shows it to people who are working with it.
fn needs_it(state: lifecycle::State) -> bool {
    use lifecycle::State::{Archived, Finished, Stopped};
    !matches!(state, Finished | Stopped | Archived)
}
