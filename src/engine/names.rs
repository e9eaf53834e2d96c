//! What a campaign's spec is checked against: connectors, lists, segments, other campaigns, templates.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::campaigns::kinds::grid;
use crate::campaigns::one_shot::UploadName;
use crate::campaigns::schedule::fields::Ahead;
use crate::campaigns::{self, CampaignSpec, MessageFields, Names, Problem, faults, problems};
use crate::clock::Timestamp;
use crate::contacts::Schema;
use crate::contacts::record::RecordBuilder;
use crate::content::{CompileContext, ContentProblem, MessageSource};
use crate::engine::glance::{Glance, Wanted};
use crate::engine::sequences::enter::general_field;
use crate::engine::{Engine, EngineError, messages, one_shot};
use crate::flow::nodes::{Delay, Metric, NotProven, Test, WaitEvent};
use crate::flow::{Node, NodeKind};
use crate::ids::{CampaignId, Channel};
use crate::segments::{self, EvaluateError};

/// One check; `own` is the campaign that is checked, whose name is its own. The book is asked shortly, question by question.
struct Checked<'e> {
    engine: &'e Engine,
    now: Timestamp,
    own: Option<CampaignId>,
    campaign: String,
    /// The upload that the spec names.
    upload: Option<String>,
    /// Names that a grid's cells have, with examples of their values.
    cell: BTreeMap<String, String>,
}

impl Names for Checked<'_> {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn ahead(&self) -> Ahead {
        self.engine.ahead_of(self.own)
    }

    fn connectors(&self) -> Vec<(String, Channel)> {
        self.engine.lines.iter().map(|(name, wired)| (name.clone(), wired.channel)).collect()
    }

    fn lists(&self) -> Vec<String> {
        self.engine.book.read().lists.keys().cloned().collect()
    }

    fn uploads(&self) -> Vec<UploadName> {
        one_shot::names(&self.engine.book.read())
    }

    fn campaign_name_taken(&self, name: &str) -> bool {
        find(&self.engine.book.read(), name).is_some_and(|id| Some(id) != self.own)
    }

    fn expression_problems(&self, path: &str, expression: &str) -> Vec<Problem> {
        let problem = |error: &segments::SegmentError| {
            let (line, column) = place(expression, error.span.start);
            let (code, help) = match error.code() {
                "segment_unknown_campaign" => ("unknown_campaign", "name a campaign that exists: its history is meant"),
                "segment_details_removed" => ("details_removed", "leave the campaign out, or name one that is younger"),
                _ => ("invalid_segment", "see the grammar of segment expressions in the documentation"),
            };
            Problem::error(code, path, error.render(expression), help).at(line, column)
        };
        let parsed = match segments::parse(expression) {
            Ok(parsed) => parsed,
            Err(error) => return vec![problem(&error)],
        };
        let scope = if self.upload.is_some() { segments::Scope::OneShot } else { segments::Scope::Base };
        // An upload that is not there has a problem of its own.
        let Ok(schema) = self.engine.schema_of(self.upload.as_deref()) else { return Vec::new() };
        let mut faults = segments::check(&parsed, &schema, scope).err().unwrap_or_default();
        let types_are_sound = faults.is_empty();
        if self.upload.is_none() {
            if self.engine.options.aggregate_only {
                faults.extend(segments::needing_tracking(&parsed));
            }
            match self.unknown_names(&parsed, types_are_sound) {
                Ok(unknown) => faults.extend(unknown),
                Err(error) => {
                    return vec![Problem::error("segment_not_evaluated", path, error.to_string(), "try again")];
                }
            }
        }
        faults.sort_by_key(|fault| fault.span.start);
        faults.iter().map(problem).collect()
    }

    fn started_steps(&self) -> BTreeSet<String> {
        self.own.map(|id| self.engine.started_steps(id)).unwrap_or_default()
    }

    fn measured_start(&self) -> Option<Duration> {
        let state = self.engine.book.read();
        let tested = state.sequences.get(&self.own?)?.tested?;
        Some(Duration::from_millis(tested.milliseconds))
    }

    fn attribute_problems(&self, path: &str, attribute: &str, value: &serde_json::Value) -> Vec<Problem> {
        let schema = self.engine.store.schema();
        let general = ["language", "zone"].contains(&attribute);
        match schema.by_name(attribute) {
            None => {
                let message = format!("no attribute is named {attribute:?}");
                vec![Problem::error("unknown_attribute", path, message, "add the attribute, or name another")]
            }
            Some(known) if known.id.is_built_in() && !general => {
                let message = format!("{attribute:?} is no general field: keys, addresses, consent and state stay");
                let fix = "name an attribute of your own, language or zone";
                vec![Problem::error("not_a_general_field", path, message, fix)]
            }
            Some(_) => {
                let input = general_field(attribute, value);
                let refused = input.apply(&schema, &mut RecordBuilder::new()).err();
                let problem = |error: crate::contacts::input::InputError| {
                    Problem::error("bad_value", path, error.to_string(), "set a value of the attribute's type")
                };
                refused.map(problem).into_iter().collect()
            }
        }
    }

    fn message_problems(&self, _: Channel, fields: &MessageFields) -> Vec<Problem> {
        let context = CompileContext { cell: self.cell.clone(), ..self.engine.compile_context(&self.campaign) };
        let Ok(schema) = self.engine.schema_of(self.upload.as_deref()) else { return Vec::new() };
        let read = source_of(fields);
        let mut found: Vec<Problem> = read.faults.iter().map(key_problem).collect();
        let Some(source) = read.value else { return found };
        let wrong = crate::content::compile(&source, &schema, &context).err().unwrap_or_default();
        let told = wrong.iter().map(content_problem);
        let is_unread = |path: &str| path.strip_prefix("message.").is_some_and(|key| read.left_out.covers(key));
        found.extend(told.filter(|problem| !is_unread(&problem.path)));
        found
    }

    fn links(&self, fields: &MessageFields) -> Option<Vec<String>> {
        let schema = self.engine.schema_of(self.upload.as_deref()).ok()?;
        let message = self.engine.compile_with(fields, &self.engine.compile_context(&self.campaign), &schema).ok()?;
        Some(message.links().iter().map(|link| link.url.clone()).collect())
    }
}

impl Checked<'_> {
    /// Unknown lists, segments and campaigns, each of them, and cycles; if the types are sound, also what only the whole
    /// shows. No contact is read.
    fn unknown_names(
        &self,
        expression: &segments::Expression,
        types_are_sound: bool,
    ) -> Result<Vec<segments::SegmentError>, EvaluateError> {
        use segments::expression::Kind::{History, InList, InSegment};
        let wanted = Wanted { expressions: vec![expression], own: Some(&self.campaign), ..Wanted::default() };
        let glance = Glance::new(&self.engine.store, &self.engine.book, &wanted)?;
        let mut parts: Vec<&segments::Expression> = Vec::new();
        expression.walk(&mut |part| {
            if matches!(part.kind, InList(_) | InSegment(_) | History { .. }) {
                parts.push(part);
            }
        });
        let mut found = Vec::new();
        let whole = types_are_sound.then_some(expression);
        for part in parts.into_iter().chain(whole) {
            match glance.check(part) {
                Ok(()) => {}
                Err(EvaluateError::Segment(error)) if found.contains(&error) => {}
                Err(EvaluateError::Segment(error)) => found.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

/// Whether a node goes by opens or clicks of single contacts. A test that waits for a person goes by totals.
fn asks_who_engaged(node: &Node) -> bool {
    match &node.kind {
        NodeKind::AbTest(test) => {
            matches!(test.metric, Metric::Opens | Metric::Clicks) && !matches!(test.not_proven, NotProven::Wait)
        }
        NodeKind::Delay(delay) => {
            matches!(delay, Delay::Event { event: WaitEvent::Opened(_) | WaitEvent::Clicked(_), .. })
        }
        kind => {
            let by_name = |test: &&Test| {
                matches!(test, Test::Opened(_) | Test::Clicked(_) | Test::ClickedLinks { .. } | Test::Engaged(_))
            };
            kind.tests().iter().any(by_name)
        }
    }
}

/// Line and column of a byte of a text, from 1; columns in characters.
fn place(text: &str, at: usize) -> (u32, u32) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

fn content_problem(problem: &ContentProblem) -> Problem {
    let path = format!("message.{}", problem.field);
    let made = Problem::error(problem.code, path, problem.message.clone(), problem.help.clone());
    if problem.line > 0 { made.at(problem.line, problem.column) } else { made }
}

/// The content of a message as far as it can be read, and all that cannot.
pub fn source_of(fields: &MessageFields) -> faults::Read<MessageSource> {
    faults::read(serde_json::Value::Object(fields.clone()), |_| None)
}

/// What of a message cannot be read.
pub fn key_problem(fault: &faults::Fault) -> Problem {
    let path = if fault.path.is_empty() { "message".to_owned() } else { format!("message.{}", fault.path) };
    Problem::error(fault.code, path, fault.message.clone(), fault.fix.clone())
}

/// The campaign of a name.
pub fn find(state: &crate::ledger::State, name: &str) -> Option<CampaignId> {
    state.campaigns.iter().find(|(_, campaign)| campaign.name.as_deref() == Some(name)).map(|(id, _)| *id)
}

/// Codes of problems that say that a message lacks something, which a saved one may say.
fn says_a_lack(code: &str) -> bool {
    code.starts_with("no_") || ["bad_sender", "invalid_message"].contains(&code)
}

impl Engine {
    /// All that would stop a start, and warnings.
    pub fn problems(&self, spec: &CampaignSpec, own: Option<CampaignId>) -> Vec<Problem> {
        let campaign = spec.name.clone().unwrap_or_default();
        let (spec, unknown) = messages::with_those_saved(&self.book.read(), spec);
        let spec = &spec;
        let cell = grid::examples(spec);
        let upload = spec.audience.upload.clone();
        let mut found = problems(spec, &Checked { engine: self, now: self.book.now(), own, campaign, cell, upload });
        for unknown in unknown {
            // What it would say is not known, so that nothing is missing but it.
            let table = unknown.path.strip_suffix(".saved").unwrap_or_default().to_owned();
            found.retain(|problem| !faults::is_within(&problem.path, &table) || !says_a_lack(problem.code));
            found.push(unknown);
        }
        found.extend(self.resend_problems(spec));
        found.extend(self.untracked(spec));
        found.extend(self.uncounted(spec));
        found
    }

    /// A flow that asks who opened or clicked, where nobody's opens and clicks are kept: it would wait for what never comes.
    fn untracked(&self, spec: &CampaignSpec) -> Option<Problem> {
        if !campaigns::parts(spec).nodes.iter().any(asks_who_engaged) {
            return None;
        }
        if self.options.aggregate_only {
            let fix =
                "have a person decide (if_not_proven = \"wait\"), leave the follow-up out, or change the configuration";
            let message = "it asks who opened or clicked, and the configuration says [tracking] aggregate_only = true";
            return Some(Problem::error("tracks_nobody", "kind", message, fix));
        }
        let names_nobody = |plan: &campaigns::MessagePlan| {
            plan.fields.get("track").is_some_and(|track| *track == false || *track == "aggregate")
        };
        let compiled = campaigns::compile(spec).ok()?;
        let message = compiled.messages.iter().find(|plan| names_nobody(plan))?;
        let text = format!("it asks who opened or clicked, and message {:?} tracks nobody", message.name);
        Some(Problem::warning(
            "tracks_nobody",
            "message.track",
            text,
            "leave out track, so that links name their contact",
        ))
    }

    pub(crate) fn compile_context(&self, campaign: &str) -> CompileContext {
        CompileContext {
            public_url: self.options.public_url.clone(),
            campaign_name: campaign.to_owned(),
            cell: BTreeMap::new(),
            return_path_domain: self.options.return_path_domain.clone(),
            unsubscribe_mailbox: self.options.unsubscribe_mailbox.clone(),
        }
    }

    /// Compiles fields whose variables are the attributes of contacts.
    pub(crate) fn compile_fields(
        &self,
        fields: &MessageFields,
        context: &CompileContext,
    ) -> Result<crate::content::CompiledMessage, EngineError> {
        self.compile_with(fields, context, &self.store.schema())
    }

    /// Compiles fields whose variables are those of a schema.
    pub(crate) fn compile_with(
        &self,
        fields: &MessageFields,
        context: &CompileContext,
        schema: &Schema,
    ) -> Result<crate::content::CompiledMessage, EngineError> {
        let read = source_of(fields);
        let told = read.faults.first().map(|fault| format!("{}: {}", fault.path, fault.message));
        let source = match (read.value, told) {
            (Some(source), None) => source,
            (_, told) => return Err(EngineError::MessageFields { reason: told.unwrap_or_default() }),
        };
        crate::content::compile(&source, schema, context).map_err(EngineError::Content)
    }
}
