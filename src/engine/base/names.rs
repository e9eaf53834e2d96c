//! Names of lists and segments, and who refers to one.

use std::collections::BTreeSet;

use crate::campaigns::lifecycle;
use crate::campaigns::parse::from_stored;
use crate::engine::Engine;
use crate::engine::base::BaseError;
use crate::engine::runs::campaign_state;
use crate::ids::CampaignId;
use crate::ledger::State;
use crate::ledger::state::Campaign;
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
            let specs: BTreeSet<String> = live.flat_map(|(id, c)| versions_at_work(&state, *id, c)).collect();
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
                let user = format!("campaign {:?}", spec.name.unwrap_or_default());
                if !users.contains(&user) {
                    users.push(user);
                }
            }
        }
        users
    }
}

/// The newest version of a campaign, and those that something still executes: an edit of what is scheduled leaves the runs
/// before it to what they began with.
fn versions_at_work(state: &State, id: CampaignId, campaign: &Campaign) -> Vec<String> {
    let runs = state.runs.values().filter(|run| run.campaign == id && run.state.is_live()).map(|run| run.version);
    let planned = state.plans.get(&id).filter(|plan| plan.is_open()).map(|plan| plan.version);
    let executed = runs.chain(planned).filter_map(|version| campaign.versions.get(&version));
    executed.map(String::as_str).chain(campaign.newest().map(|(_, text)| text)).map(str::to_owned).collect()
}

/// A campaign in this state will, or may, evaluate its audience, or shows it to people who are working with it.
fn needs_it(state: lifecycle::State) -> bool {
    use lifecycle::State::{Archived, Finished, Stopped};
    !matches!(state, Finished | Stopped | Archived)
}
