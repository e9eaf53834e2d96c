//! Saved messages: kept under a name with a version, put into a campaign when it starts.
//!
//! Owns nothing. Invariants: SM-1 a saved message compiles in each of its languages; SM-2 one that a campaign may still start
//! with is not deleted; SM-3 a run executes what its spec held when it started.

use crate::campaigns::spec::MessageSpec;
use crate::campaigns::{self, CampaignSpec, Problem, languages};
use crate::engine::runs::campaign_state;
use crate::engine::{Engine, EngineError};
use crate::ids::CampaignId;
use crate::ledger::state::SavedMessage;
use crate::ledger::{Fact, State};
use crate::limits::{NAME_BYTES_MAX, SAVED_MESSAGES_MAX};
use crate::segments::error::Hint;

/// Why a message is not saved, found or deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("there is no saved message {name:?}{hint}")]
    Unknown { name: String, hint: Hint },
    #[error("the name {name:?} is empty, too long, or has a space at an end or a control character")]
    BadName { name: String },
    #[error("the message has {} problems", .0.len())]
    Wrong(Vec<Problem>),
    #[error("message {name:?} is used by {}: change or archive that first", .by.join(", "))]
    InUse { name: String, by: Vec<String> },
    #[error("{SAVED_MESSAGES_MAX} messages are saved, and that is the most")]
    TooMany,
    #[error("message {name:?} can't be read: {reason}")]
    Damaged { name: String, reason: String },
}

fn unknown(state: &State, name: &str) -> MessageError {
    let hint = Hint::nearest(name, state.messages.keys().map(String::as_str));
    MessageError::Unknown { name: name.to_owned(), hint }
}

/// A saved message as it was written.
pub fn read(name: &str, saved: &SavedMessage) -> Result<MessageSpec, MessageError> {
    let damaged = |error: serde_json::Error| MessageError::Damaged { name: name.to_owned(), reason: error.to_string() };
    serde_json::from_str(&saved.message).map_err(damaged)
}

impl Engine {
    pub fn saved_message(&self, name: &str) -> Result<(SavedMessage, MessageSpec), EngineError> {
        let state = self.book.read();
        let saved = state.messages.get(name).cloned().ok_or_else(|| unknown(&state, name))?;
        drop(state);
        let message = read(name, &saved)?;
        Ok((saved, message))
    }

    /// Saves a message under a name, as its first or next version. Answers whether the name is new.
    pub fn save_message(&self, name: &str, message: &MessageSpec) -> Result<bool, EngineError> {
        let bad =
            name.is_empty() || name.len() > NAME_BYTES_MAX || name.trim() != name || name.chars().any(char::is_control);
        if bad {
            return Err(MessageError::BadName { name: name.chars().take(40).collect() }.into());
        }
        let problems = self.problems_of_message(message);
        if problems.iter().any(Problem::blocks) {
            return Err(MessageError::Wrong(problems).into());
        }
        // Keys in order: equal messages are equal text.
        let text =
            CampaignSpec { message: message.clone(), ..CampaignSpec::default() }.to_value()["message"].to_string();
        let mut new = false;
        self.book.commit_durable_by::<EngineError>(|state| {
            new = !state.messages.contains_key(name);
            if new && state.messages.len() >= SAVED_MESSAGES_MAX {
                return Err(MessageError::TooMany.into());
            }
            let same = state.messages.get(name).is_some_and(|saved| saved.message == text);
            let fact = Fact::MessageSaved { name: name.to_owned(), message: text, at: self.book.now() };
            Ok((!same).then_some(fact))
        })?;
        Ok(new)
    }

    /// Everything that is wrong with a message as it would be saved: it is whole, in each of its languages.
    pub fn problems_of_message(&self, message: &MessageSpec) -> Vec<Problem> {
        let mut found = Vec::new();
        if message.channel.is_none() {
            let fix = "set channel, as \"email\"";
            found.push(Problem::error("no_channel", "channel", "the message has no channel", fix));
        }
        if message.saved.is_some() || message.saved_version.is_some() {
            let fix = "write the content itself";
            found.push(Problem::error("saved_in_saved", "saved", "a saved message refers to none itself", fix));
        }
        languages::problems(message, "message", &mut found);
        let context = self.compile_context("");
        for (tag, fields) in languages::versions(message) {
            let place = if tag.is_empty() { "message".to_owned() } else { format!("message.languages.{tag}") };
            match self.compile_fields(&fields, &context) {
                Ok(_) => {}
                Err(EngineError::Content(problems)) => found.extend(problems.into_iter().map(|problem| {
                    let path = format!("{place}.{}", problem.field);
                    Problem::error(problem.code, path, problem.message, problem.help)
                })),
                Err(error) => {
                    let help = "see the keys of [message] in the documentation";
                    found.push(Problem::error("invalid_message", place, error.to_string(), help));
                }
            }
        }
        found
    }

    pub fn delete_message(&self, name: &str) -> Result<(), EngineError> {
        self.book.commit_durable_by::<EngineError>(|state| {
            if !state.messages.contains_key(name) {
                return Err(unknown(state, name).into());
            }
            let by = users(state, name);
            if !by.is_empty() {
                return Err(MessageError::InUse { name: name.to_owned(), by }.into());
            }
            Ok(Some(Fact::MessageDeleted { name: name.to_owned() }))
        })?;
        Ok(())
    }

    /// A spec with its saved messages put in, as they are now; as it is, without one.
    pub fn with_saved(&self, spec: &CampaignSpec) -> Result<CampaignSpec, EngineError> {
        with_saved_of(&self.book.read(), spec)
    }

    /// The newest version of a campaign as a start or a publication executes it. Changes nothing: what is refused, or taken
    /// back, leaves a draft that still goes by the name of its message.
    pub(super) fn pinned(&self, id: CampaignId) -> Result<Pinned, EngineError> {
        let state = self.book.read();
        let campaign = state.campaigns.get(&id).ok_or(EngineError::NoCampaign { id })?;
        let (newest, stored) = campaign.newest().ok_or(EngineError::NoCampaign { id })?;
        let spec = campaigns::parse::from_stored(stored)?;
        let pinned = with_saved_of(&state, &spec)?;
        if pinned == spec {
            return Ok(Pinned { version: newest, spec, texts: None });
        }
        let text = campaigns::parse::to_stored_like(&pinned, stored);
        Ok(Pinned { version: newest + 1, spec: pinned, texts: Some((text, stored.to_owned())) })
    }
}

/// A version of a campaign with its saved messages put in.
pub(super) struct Pinned {
    pub version: u32,
    pub spec: CampaignSpec,
    /// Where it is no version of the campaign yet: its text, and that of the draft.
    pub texts: Option<(String, String)>,
}

/// A spec with its saved messages put in, as a state has them.
pub(super) fn with_saved_of(state: &State, spec: &CampaignSpec) -> Result<CampaignSpec, EngineError> {
    let mut resolved = spec.clone();
    for table in languages::tables_mut(&mut resolved) {
        let Some(name) = table.saved.as_deref().filter(|_| table.saved_version.is_none()) else { continue };
        let saved = state.messages.get(name).ok_or_else(|| unknown(state, name))?;
        *table = languages::resolved(&read(name, saved)?, saved.version, table);
    }
    languages::keep_variants_content(&mut resolved);
    Ok(resolved)
}

/// [`with_saved_of`] as far as the saved messages can be had, and a problem for each that cannot.
pub(super) fn with_those_saved(state: &State, spec: &CampaignSpec) -> (CampaignSpec, Vec<Problem>) {
    let mut resolved = spec.clone();
    let paths: Vec<String> = languages::tables(spec).into_iter().map(|(path, _)| path).collect();
    let mut wrong = Vec::new();
    for (path, table) in paths.iter().zip(languages::tables_mut(&mut resolved)) {
        let Some(name) = table.saved.clone().filter(|_| table.saved_version.is_none()) else { continue };
        let found = state.messages.get(&name).ok_or_else(|| unknown(state, &name));
        match found.and_then(|saved| Ok((read(&name, saved)?, saved.version))) {
            Ok((saved, version)) => *table = languages::resolved(&saved, version, table),
            Err(error) => {
                let fix = "save the message (message save), or name another";
                wrong.push(Problem::error("unknown_message", format!("{path}.saved"), error.to_string(), fix));
            }
        }
    }
    languages::keep_variants_content(&mut resolved);
    (resolved, wrong)
}

/// Campaigns that may still start with a message, or are at work with it, in words.
fn users(state: &State, name: &str) -> Vec<String> {
    use crate::campaigns::State::{Archived, Finished, Stopped};
    let named = |text: &str| {
        // Most specs name no saved message, and need not be read.
        let spec = text.contains("\"saved\"").then(|| campaigns::parse::from_stored(text).ok()).flatten();
        spec.filter(|spec| languages::tables(spec).iter().any(|(_, table)| table.saved.as_deref() == Some(name)))
    };
    let live = state.campaigns.iter().filter(|(id, _)| {
        campaign_state(state, **id).is_some_and(|stands| !matches!(stands, Finished | Stopped | Archived))
    });
    let specs = live.filter_map(|(_, campaign)| named(campaign.newest()?.1));
    specs.map(|spec| format!("campaign {:?}", spec.name.unwrap_or_default())).collect()
}
