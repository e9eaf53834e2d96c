//! Linked resends, control groups and saved messages through the port.

use serde_json::json;

use crate::api::adapter::{Adapter, errors};
use crate::api::errors::Code;
use crate::api::port::{
    Action, CampaignsPort, ComparedBehaviour, HistoryPort, HoldOutReport, Page, PageRequest, PortError, PortResult,
    Ref, ResendDone, ResendRequest, ResendView, RunRef, SavedMessageSummary, SavedMessageView, SpecFormat, SpecText,
};
use crate::campaigns::parse::{from_stored, to_stored};
use crate::campaigns::spec::MessageSpec;
use crate::campaigns::{self, CampaignSpec};
use crate::engine::messages;
use crate::engine::names::find;
use crate::engine::resend::Resend;
use crate::engine::runs::{campaign_state, run_state};
use crate::ids::RunId;
use crate::ledger::links::{Resent, covered};
use crate::ledger::state::SavedMessage;
use crate::ledger::{Run, State};
use crate::segments::skip::SkipReason;

/// The runs that are resends of one, oldest first.
pub(super) fn resends(state: &State, run: RunId) -> Vec<ResendView> {
    let direct = state.links.iter().filter(|(_, link)| link.of == run);
    let views = direct.filter_map(|(id, link)| {
        let resend = state.runs.get(id)?;
        let text = state.campaigns.get(&resend.campaign).and_then(|campaign| campaign.newest()).map(|(_, text)| text);
        let name = text.and_then(|text| from_stored(text).ok()).and_then(|spec| spec.name).unwrap_or_default();
        let counts = resend.counts();
        Some(ResendView {
            campaign: resend.campaign.0,
            name,
            run: id.0,
            set: link.set.clone(),
            state: run_state(resend.state).name().to_owned(),
            audience: counts.audience,
            accepted: counts.accepted,
        })
    });
    views.collect()
}

/// The control group of a run, if it has one.
pub(super) fn hold_out(state: &State, run: &Run) -> Option<HoldOutReport> {
    let (held, sent) = (run.held_out()?.len(), run.deliveries.first()?.accepted.len());
    let summary = run.routes.first()?.audience.as_ref();
    let eligible = summary.map_or(held, |summary| summary.final_count + summary.hold_out);
    let percent = |count: u64, of: u64| if of == 0 { 0.0 } else { count as f64 * 100.0 / of as f64 };
    let behaviour = run.compared(&state.events.behaviour).into_iter().map(|did| ComparedBehaviour {
        event: did.event,
        held_out: did.held_out,
        held_out_percent: percent(did.held_out, held),
        sent: did.sent,
        sent_percent: percent(did.sent, sent),
    });
    Some(HoldOutReport {
        contacts: held,
        eligible,
        percent: percent(held, eligible),
        compared_with: sent,
        set: format!("skipped:{}", SkipReason::HoldOut.name()),
        behaviour: behaviour.collect(),
    })
}

impl Adapter {
    /// The run that a resend continues: the latest of the campaign, or another one of it.
    fn run_to_continue(&self, campaign: &Ref, run: Option<u32>) -> PortResult<RunId> {
        let Some(run) = run else { return self.run_id(&RunRef::LatestOf(campaign.clone())) };
        let (id, run) = (self.campaign_id(campaign)?, self.run_id(&RunRef::Run(run))?);
        let state = self.engine.book.read();
        if state.runs.get(&run).is_some_and(|found| found.campaign == id) {
            return Ok(run);
        }
        Err(PortError::new(Code::RunNotFound, format!("run {} is not one of campaign {campaign}", run.0)))
    }
}

fn summary(name: &str, saved: &SavedMessage, message: &MessageSpec) -> SavedMessageSummary {
    let default = message.default_language.as_ref();
    let subject = default.and_then(|tag| message.languages.get(tag)?.get("subject"));
    let subject = subject.or_else(|| message.fields.get("subject"));
    SavedMessageSummary {
        name: name.to_owned(),
        channel: message.channel.map(|channel| channel.name().to_owned()),
        default_language: default.cloned(),
        languages: message.languages.keys().cloned().collect(),
        subject: subject.and_then(|subject| subject.as_str()).map(str::to_owned),
        version: saved.version,
        created_at: saved.created_at.into(),
        updated_at: saved.saved_at.into(),
    }
}

/// A message as a person wrote it: the table `[message]` of a spec, or what would stand in it.
fn parsed(text: &SpecText) -> PortResult<MessageSpec> {
    let invalid = |error: &campaigns::SpecError| {
        let details = json!({"line": error.line, "column": error.column});
        PortError::new(Code::InvalidMessage, error.to_string()).with(details)
    };
    let parse = |text: &str, format| campaigns::parse(text, format).map(|spec| spec.message);
    match text.format {
        SpecFormat::Toml => match parse(&text.text, campaigns::Format::Toml) {
            Ok(message) if message != MessageSpec::default() => Ok(message),
            // Bare keys: the table's head is put before them, on their first line, so that places stay right.
            bare => parse(&bare_toml(&text.text), campaigns::Format::Toml)
                .map_err(|error| bare.err().filter(|_| text.text.contains("[message]")).unwrap_or(error))
                .map_err(|error| invalid(&error)),
        },
        SpecFormat::Json => {
            let value: serde_json::Value = serde_json::from_str(&text.text)
                .map_err(|error| PortError::new(Code::InvalidMessage, error.to_string()))?;
            let message = value.get("message").filter(|inner| inner.is_object()).unwrap_or(&value);
            let wrapped = json!({ "message": message }).to_string();
            parse(&wrapped, campaigns::Format::Json).map_err(|error| invalid(&error))
        }
    }
}

/// The keys of a message as a spec in TOML has them: its own tables become those of `message`.
fn bare_toml(text: &str) -> String {
    let Ok(table) = text.parse::<toml::Table>() else { return format!("[message]\n{text}") };
    let mut spec = toml::Table::new();
    spec.insert("message".to_owned(), toml::Value::Table(table));
    toml::to_string(&spec).unwrap_or_default()
}

impl HistoryPort for Adapter {
    fn resend(&self, campaign: &Ref, request: ResendRequest) -> PortResult<ResendDone> {
        let run = self.run_to_continue(campaign, request.run)?;
        let wanted = Resend { set: request.set.clone(), name: request.name, message: request.message };
        let spec = self.engine.resend_spec(run, &wanted)?;
        let name = spec.name.clone().unwrap_or_default();
        if find(&self.engine.book.read(), &name).is_some() {
            let message = format!("a campaign named {name:?} exists; names are unique");
            return Err(PortError::new(Code::CampaignExists, message));
        }
        let problems: Vec<_> = self.engine.problems(&spec, None).into_iter().filter(|p| p.blocks()).collect();
        if !problems.is_empty() && !request.draft {
            return Err(errors::incomplete(&problems));
        }
        let (in_set, left) = {
            let state = self.engine.book.read();
            let resent = Resent::parse(&request.set);
            let in_run = |resent: Resent| Some(resent.rows(&state, state.runs.get(&run)?));
            let rows = resent.and_then(in_run).unwrap_or_default();
            let follow_up = resent.is_some_and(|resent| resent.follow_up);
            (rows.len(), (rows - covered(&state, run, follow_up)).len())
        };
        let made = self.engine.save_campaign(None, &to_stored(&spec))?;
        let mut done = ResendDone {
            campaign: made.0,
            name,
            linked_run: run.0,
            linked_set: request.set,
            in_set,
            covered: in_set - left,
            ..ResendDone::default()
        };
        if request.draft {
            let state = self.engine.book.read();
            campaign_state(&state, made).map_or("draft", |stands| stands.name()).clone_into(&mut done.state);
            return Ok(done);
        }
        let started = self.act(&Ref::Id(made.0), Action::Start)?;
        (done.run, done.state, done.ledger) = (started.run, started.state, started.ledger);
        Ok(done)
    }

    fn messages(&self, page: &PageRequest) -> PortResult<Page<SavedMessageSummary>> {
        let state = self.engine.book.read();
        let all = state.messages.iter().filter_map(|(name, saved)| {
            let message = messages::read(name, saved).ok()?;
            Some(summary(name, saved, &message))
        });
        Ok(Page::cut(all, page, |message| message.name.clone()))
    }

    fn message(&self, name: &str) -> PortResult<SavedMessageView> {
        let (saved, message) = self.engine.saved_message(name)?;
        let spec = CampaignSpec { message, ..CampaignSpec::default() };
        let value = spec.to_value()["message"].clone();
        Ok(SavedMessageView { summary: summary(name, &saved, &spec.message), message: value })
    }

    fn put_message(&self, name: &str, message: SpecText) -> PortResult<(SavedMessageView, bool)> {
        let new = self.engine.save_message(name, &parsed(&message)?)?;
        Ok((self.message(name)?, new))
    }

    fn delete_message(&self, name: &str) -> PortResult<()> {
        Ok(self.engine.delete_message(name)?)
    }
}
