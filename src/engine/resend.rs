//! Linked resends: a campaign of its own, made from a run's, to a set of that run, and started.
//!
//! Owns nothing. Invariants: RE-1 two resends that lead back to one run never go to the same contact, unless one continues the
//! other, or the earlier one was rejected or skipped there: who is covered is looked at for the audience, and that no resend
//! came between is checked in the step that starts the run; RE-2 only a run that has ended is continued, so that its sets do
//! not move but by what comes back.

use roaring::RoaringBitmap;
use serde_json::Value;

use crate::campaigns::resend::{ResendSpec, source};
use crate::campaigns::spec::kinds::overlaid;
use crate::campaigns::spec::{AudienceSpec, Kind, MessageSpec};
use crate::campaigns::{self, CampaignSpec, Format, Problem};
use crate::engine::names::find;
use crate::engine::runs::run_state;
use crate::engine::{Engine, EngineError};
use crate::flow::NodeKind;
use crate::ids::{RowSpace, RunId};
use crate::ledger::links::{Resent, covered, family, family_of, first_deliveries};
use crate::ledger::{Run, RunState, State};
use crate::limits::{NAME_BYTES_MAX, RESEND_NAMES_MAX};

/// Why a run's contacts are not sent to again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResendError {
    #[error("run {run} is {state}: it can be continued by a resend once it is finished or stopped", run = .run.0)]
    NotEnded { run: RunId, state: &'static str },
    #[error("there is no set {set:?} to send to again")]
    NoSet { set: String },
    #[error("{set:?} is not known: this server keeps totals only, and nobody's opens and clicks")]
    NeedsTracking { set: String },
    #[error("the campaign has several messages, and nobody says which one is sent again: give a message")]
    WhichMessage,
    #[error(
        "run {run} was sent to an uploaded file: upload the contacts of the set, as `campaign contacts` exports them, for a campaign of its own",
        run = .run.0
    )]
    OneShot { run: RunId },
    #[error(
        "{set:?} of run {run} holds nobody of the first message, and a resend of it sends that one: to send the follow-up's message again, ask for \"follow_up:{set}\"",
        run = .run.0
    )]
    FollowUpOnly { run: RunId, set: String },
    #[error("run {run} has no follow-up whose message could be sent again", run = .run.0)]
    NoFollowUp { run: RunId },
    #[error("another resend of the same run started at the same time: look who is left, and try again")]
    Raced,
}

/// What is to be sent again.
#[derive(Clone, Debug, Default)]
pub struct Resend {
    pub set: String,
    /// A name for the new campaign; by default that of the first one and a number.
    pub name: Option<String>,
    /// Keys of `[message]` that differ, as a JSON merge patch.
    pub message: Option<Value>,
}

/// The rows of a set of an ended run, of its first message or of its follow-up's, without those whom a resend of that message
/// covers; and how many resends there were.
pub fn rows(state: &State, run: RunId, set: &str) -> Result<(RoaringBitmap, usize), EngineError> {
    let found = state.runs.get(&run).ok_or(EngineError::NoRun { run })?;
    let resent = Resent::parse(set).ok_or_else(|| ResendError::NoSet { set: set.to_owned() })?;
    with_details(state, run)?;
    if found.space() != RowSpace::BASE {
        return Err(ResendError::OneShot { run }.into());
    }
    if !matches!(found.state, RunState::Finished | RunState::Stopped) {
        return Err(ResendError::NotEnded { run, state: run_state(found.state).name() }.into());
    }
    let in_set = resent.rows(state, found);
    if resent.follow_up && first_deliveries(state, found).1.is_empty() {
        return Err(ResendError::NoFollowUp { run }.into());
    }
    let of_follow_up = || Resent { follow_up: true, ..resent }.rows(state, found);
    if in_set.is_empty() && !resent.follow_up && !of_follow_up().is_empty() {
        return Err(ResendError::FollowUpOnly { run, set: set.to_owned() }.into());
    }
    Ok((in_set - covered(state, run, resent.follow_up), family(state, run).len()))
}

/// Who got the message by any run of the family is asked: all of it must know.
fn with_details(state: &State, run: RunId) -> Result<(), EngineError> {
    let mut all = family(state, run).into_iter().chain([run, family_of(state, run)]);
    let removed = all.find_map(|run| Some((run, state.runs.get(&run)?.details_removed_at()?)));
    removed.map_or(Ok(()), |(run, at)| Err(EngineError::DetailsRemoved { run, at }))
}

/// Whether no other resend of the run's family has started since there were `seen`, and it knows all that it knew.
pub fn is_still(state: &State, run: RunId, seen: usize) -> Result<(), ResendError> {
    let is = family(state, run).len() == seen && with_details(state, run).is_ok();
    if is { Ok(()) } else { Err(ResendError::Raced) }
}

impl Engine {
    /// What is wrong with the `[resend]` of a spec.
    pub(super) fn resend_problems(&self, spec: &CampaignSpec) -> Vec<Problem> {
        let Some((run, set)) = source(spec) else { return Vec::new() };
        let fix = "name a finished or stopped run and one of its sets, as \"not_opened\"";
        let wrong = |error: &dyn std::fmt::Display| Problem::error("bad_resend", "resend", error.to_string(), fix);
        match self.resendable(RunId(run), set) {
            Ok(()) => Vec::new(),
            Err(error) => vec![wrong(&error)],
        }
    }

    fn resendable(&self, run: RunId, set: &str) -> Result<(), EngineError> {
        let resent = Resent::parse(set).ok_or_else(|| ResendError::NoSet { set: set.to_owned() })?;
        if resent.set.is_tracked() && self.options.aggregate_only {
            return Err(ResendError::NeedsTracking { set: set.to_owned() }.into());
        }
        rows(&self.book.read(), run, set).map(drop)
    }

    /// The campaign that sends to a set of a run again, as a spec; it is not saved.
    pub fn resend_spec(&self, run: RunId, resend: &Resend) -> Result<CampaignSpec, EngineError> {
        self.resendable(run, &resend.set)?;
        let state = self.book.read();
        let found = state.runs.get(&run).ok_or(EngineError::NoRun { run })?;
        let text = state.campaigns.get(&found.campaign).and_then(|campaign| campaign.versions.get(&found.version));
        let text = text.ok_or(EngineError::NoCampaign { id: found.campaign })?;
        let first = campaigns::parse::from_stored(text)?;
        let mut message = first.message.clone();
        let of_follow_up = Resent::parse(&resend.set).is_some_and(|resent| resent.follow_up);
        match first.kind() {
            _ if of_follow_up => message = follow_up_of(&first),
            Kind::Single => {}
            Kind::AbSplit => match winner(found).and_then(|at| first.variants.get(at)) {
                Some(variant) => message.fields = overlaid(&message.fields, &variant.message.fields),
                None if resend.message.is_some() => {}
                None => return Err(ResendError::WhichMessage.into()),
            },
            _ if resend.message.is_some() => {}
            _ => return Err(ResendError::WhichMessage.into()),
        }
        let until = first.follow_up.send_until.filter(|_| of_follow_up).or(first.send_until);
        let base = first.name.clone().unwrap_or_default();
        let spec = CampaignSpec {
            name: Some(resend.name.clone().unwrap_or_else(|| free_name(&state, &base))),
            kind: Some(Kind::Single),
            mode: first.mode,
            same_address: first.same_address,
            retry_deadline_hours: first.retry_deadline_hours,
            audience: AudienceSpec::default(),
            message,
            // An offer that is over is sent again only by who says so anew.
            send_until: until.filter(|until| *until > self.book.now()),
            limits: first.limits,
            auto_pause: first.auto_pause,
            caps: first.caps,
            resend: ResendSpec { run: Some(run.0), set: Some(resend.set.clone()) },
            ..CampaignSpec::default()
        };
        drop(state);
        match &resend.message {
            None => Ok(spec),
            Some(patch) => {
                let patch = serde_json::json!({ "message": patch }).to_string();
                Ok(campaigns::merge_patch(&spec, &patch, Format::Json)?)
            }
        }
    }
}

/// The message of a campaign's follow-up: what it says differently, over the campaign's.
fn follow_up_of(first: &CampaignSpec) -> MessageSpec {
    let (base, own) = (&first.message, &first.follow_up.message);
    MessageSpec {
        channel: own.channel.or(base.channel),
        connector: own.connector.clone().or_else(|| base.connector.clone()),
        topic: own.topic.clone().or_else(|| base.topic.clone()),
        fields: overlaid(&base.fields, &own.fields),
        ..base.clone()
    }
}

/// The place of the winning variant of a decided test in the spec.
fn winner(run: &Run) -> Option<usize> {
    let decided = run.flow.tests.values().find_map(|test| test.decided.as_ref())?;
    let exit = decided.winner.as_ref()?;
    run.graph.nodes().find_map(|node| match &node.kind {
        NodeKind::AbTest(test) => test.arms.iter().position(|arm| arm.exit == *exit),
        _ => None,
    })
}

/// `spring resend 1`, or the first number that is free.
fn free_name(state: &State, base: &str) -> String {
    let named = |number: usize| {
        let tail = format!(" resend {number}");
        let mut base = base.to_owned();
        while base.len() + tail.len() > NAME_BYTES_MAX {
            base.pop();
        }
        format!("{}{tail}", base.trim_end())
    };
    let free = (1..RESEND_NAMES_MAX).map(named).find(|name| find(state, name).is_none());
    free.unwrap_or_else(|| named(RESEND_NAMES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testbase::TestEngine;
    use crate::segments::skip::SkipReason;

    #[test]
    fn who_failed_in_the_follow_up_alone_is_not_sent_the_first_message_again() {
        let root = tempfile::tempdir().expect("a folder");
        let base = TestEngine::open(root.path());
        for key in ["a", "b"] {
            base.contact(key);
        }
        // Nobody has a zone: the follow-up skips everybody, and the first message nobody.
        let message = serde_json::json!({"subject": "Again, {{ contact.zone }}", "missing": "skip"});
        let follow_up = serde_json::json!({"on": "not_opened", "after": "1s", "message": message});
        let run = base.start(serde_json::json!({ "follow_up": follow_up }));
        base.until_finished(run);
        let state = base.engine.book.read();
        let [first, second] = state.runs[&run].deliveries.as_slice() else { panic!("two deliveries") };
        assert_eq!(first.accepted.len(), 2, "what another message needs skips nobody of this one: {:?}", first.skipped);
        assert_eq!(second.skipped[&SkipReason::MissingAttribute].len(), 2, "of the follow-up");
        let refused = rows(&state, run, "skipped").expect_err("only the follow-up failed").to_string();
        assert!(refused.contains("follow_up:skipped"), "{refused}");
        assert_eq!(rows(&state, run, "follow_up:skipped").expect("a set").0.len(), 2, "of the follow-up");
        assert!(rows(&state, run, "follow_up:nothing").is_err(), "no such set");
        assert!(rows(&state, run, "rejected").expect("nobody failed anywhere").0.is_empty(), "an empty set stays one");
        assert_eq!(rows(&state, run, "not_opened").expect("a set").0.len(), 2, "of the first message");
        drop(state);
        let patched = Resend { set: "follow_up:skipped".into(), ..Resend::default() };
        let again = base.engine.resend_spec(run, &patched).expect("a spec");
        assert_eq!(again.message.fields["subject"], "Again, {{ contact.zone }}", "the follow-up's message");
        assert!(again.message.fields.contains_key("html"), "over that of the campaign");
        let without = base.start(serde_json::json!({"name": "plain"}));
        base.until_finished(without);
        let refused = rows(&base.engine.book.read(), without, "follow_up:rejected").expect_err("refused").to_string();
        assert!(refused.contains("no follow-up"), "{refused}");
    }
}
