//! Who is in, who can be sent to, and why the others cannot: a campaign's audience over the store and the folded state.
//!
//! Owns nothing. Invariant: AE-1 the book is read once, to copy what the campaign names, and not held while the audience
//! is evaluated: a scan over millions of records delays nobody's claim.

use std::collections::BTreeSet;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::actors::book::Book;
use crate::campaigns::compile::{AudienceSource, Compiled, DeliveryPlan};
use crate::contacts::{AttributeSets, Store};
use crate::engine::glance::{CapsWanted, Glance, Wanted};
use crate::engine::uploads::{TwinsByChannel, UploadsError};
use crate::engine::{Engine, EngineError, one_shot, resend, same_address};
use crate::ids::{AttributeId, Channel, MessageId, RowSpace, RunId};
use crate::ledger::State;
use crate::segments::audience::{self, AudienceInput, AudienceSummary, Eligibility, LackingSet, SuppressedSet};
use crate::segments::skip::SkipReason;
use crate::segments::{Expression, World, parse};

/// An expression and the text that it was parsed from.
struct Parsed<'c> {
    text: &'c str,
    expression: Expression,
}

impl<'c> Parsed<'c> {
    fn new(text: &'c str) -> Result<Parsed<'c>, EngineError> {
        let expression = parse(text).map_err(|source| EngineError::Segment { text: text.to_owned(), source })?;
        Ok(Parsed { text, expression })
    }
}

/// Everything that decides about a campaign's audience, as it was at one moment.
pub struct Audience<'c> {
    source: &'c AudienceSource,
    segment: Option<Parsed<'c>>,
    exclude: Option<Parsed<'c>>,
    glance: Glance,
    /// Of rows of an upload: every topic of each channel. Their sender's word stands in for their consent.
    topics: Option<Vec<(Channel, String)>>,
    linked: Option<Linked>,
}

/// The set of another run that the audience is.
struct Linked {
    run: RunId,
    rows: RoaringBitmap,
    /// Resends of that run which were looked at.
    resends: usize,
}

impl<'c> Audience<'c> {
    /// Copies out of the book what the campaign's audience and its deliveries name.
    pub fn look(store: &Store, book: &Book, compiled: &'c Compiled) -> Result<Audience<'c>, EngineError> {
        Audience::look_of(store, book, compiled, None)
    }

    /// [`Audience::look`] for a run that has begun.
    pub fn look_of(
        store: &Store,
        book: &Book,
        compiled: &'c Compiled,
        run: Option<RunId>,
    ) -> Result<Audience<'c>, EngineError> {
        if let AudienceSource::Upload(named) = &compiled.audience.source {
            return Err(UploadsError::Unknown { named: named.clone() }.into());
        }
        Audience::copy(store, book, compiled, run, None)
    }

    /// The same over the rows of an upload, where opt-outs and suppressions of `twins` hold too.
    pub fn look_among(
        store: &Store,
        book: &Book,
        compiled: &'c Compiled,
        run: Option<RunId>,
        twins: TwinsByChannel,
    ) -> Result<Audience<'c>, EngineError> {
        let topics = {
            let state = book.read();
            state.consent.topics().map(|(channel, topic, _)| (channel, topic.to_owned())).collect()
        };
        let mut audience = Audience::copy(store, book, compiled, run, Some(topics))?;
        audience.glance.map_contacts(twins);
        Ok(audience)
    }

    fn copy(
        store: &Store,
        book: &Book,
        compiled: &'c Compiled,
        run: Option<RunId>,
        topics: Option<Vec<(Channel, String)>>,
    ) -> Result<Audience<'c>, EngineError> {
        let source = &compiled.audience.source;
        let segment = match source {
            AudienceSource::Segment(text) => Some(Parsed::new(text)?),
            AudienceSource::List(_)
            | AudienceSource::All
            | AudienceSource::Upload(_)
            | AudienceSource::Resend { .. } => None,
        };
        let exclude = compiled.audience.exclude.as_deref().map(Parsed::new).transpose()?;
        let named = compiled.deliveries.iter().map(|plan| (plan.channel, plan.topic.as_str()));
        let all = topics.iter().flatten().map(|(channel, topic)| (*channel, topic.as_str()));
        let wanted = Wanted {
            expressions: segment.iter().chain(&exclude).map(|parsed| &parsed.expression).collect(),
            draft: None,
            lists: if let AudienceSource::List(name) = source { vec![name] } else { Vec::new() },
            topics: named.chain(all).collect(),
            suppressed: compiled.deliveries.iter().map(|plan| plan.channel).collect(),
            own: Some(&compiled.name),
            caps: Some(CapsWanted {
                caps: &compiled.caps,
                channels: compiled.deliveries.iter().map(|plan| plan.channel).collect(),
                run,
            }),
        };
        let glance = Glance::new(store, book, &wanted)?;
        let linked = match source {
            AudienceSource::Resend { run, set } => {
                let (rows, resends) = resend::rows(&book.read(), RunId(*run), set)?;
                Some(Linked { run: RunId(*run), rows, resends })
            }
            _ => None,
        };
        Ok(Audience { source, segment, exclude, glance, topics, linked })
    }

    fn evaluate(&self, parsed: &Parsed<'_>) -> Result<RoaringBitmap, EngineError> {
        let found = self.glance.evaluate(&parsed.expression);
        let found = found.map_err(|source| EngineError::Evaluate { text: parsed.text.to_owned(), source })?;
        Ok((*found.rows).clone())
    }

    /// What the rows count in.
    pub fn space(&self) -> RowSpace {
        self.glance.reader.store().space()
    }

    /// Whether what the audience was cut from is still what it was; to be asked in the step that starts the run.
    pub fn is_still(&self, state: &State) -> Result<(), EngineError> {
        one_shot::must_be_there(state, self.space())?;
        match &self.linked {
            Some(linked) => Ok(resend::is_still(state, linked.run, linked.resends)?),
            None => Ok(()),
        }
    }

    /// Rows that match.
    pub fn matched(&self) -> Result<RoaringBitmap, EngineError> {
        let mut rows = match (&self.segment, self.source) {
            (None, AudienceSource::Resend { .. }) => {
                let linked = self.linked.as_ref().map(|linked| linked.rows.clone()).unwrap_or_default();
                linked & &*self.glance.reader.universe()?
            }
            (Some(segment), _) => self.evaluate(segment)?,
            (None, AudienceSource::List(name)) => {
                let list = self.glance.list(name)?.ok_or_else(|| EngineError::NoList { name: name.clone() })?;
                &*list & &*self.glance.reader.universe()?
            }
            (None, _) => (*self.glance.reader.universe()?).clone(),
        };
        if let Some(exclude) = &self.exclude {
            rows -= self.evaluate(exclude)?;
        }
        Ok(rows)
    }

    /// The audience summary and the partition of the matched rows for one delivery. Who lacks an attribute in `required` is
    /// skipped; who lacks one in `used` is only counted.
    pub fn assess(
        &self,
        plan: &DeliveryPlan,
        matched: &RoaringBitmap,
        used: &[AttributeId],
        required: &[AttributeId],
    ) -> Result<(AudienceSummary, Eligibility), EngineError> {
        let (reader, channel) = (&self.glance.reader, plan.channel);
        let universe = reader.universe()?;
        let active = reader.value(AttributeId::ACTIVE, "false").map(|inactive| &*universe - &*inactive)?;
        let reachable = reader.reachable(channel)?;
        let subscribed = self.glance.subscribed(channel, &plan.topic);
        let unsubscribed = self.unsubscribed(channel, &plan.topic);
        let mut elsewhere = RoaringBitmap::new();
        for other in Channel::ALL.into_iter().filter(|c| *c != channel && *c != Channel::Webhook) {
            elsewhere |= &*reader.reachable(other)?;
        }
        let causes = self.glance.suppressed_by_cause(channel).iter();
        let suppressed: Vec<SuppressedSet<'_>> =
            causes.map(|c| SuppressedSet { cause: c.name, reason: c.skip, rows: &c.rows }).collect();
        let mut lacking_rows: Vec<(String, RoaringBitmap, bool)> = Vec::new();
        for id in used {
            let name = self.glance.schema().by_id(*id).map_or_else(|| id.to_string(), |a| a.name.clone());
            lacking_rows.push((name, matched - &*reader.present(*id)?, required.contains(id)));
        }
        let lacking: Vec<LackingSet<'_>> =
            lacking_rows.iter().map(|(attribute, rows, skip)| LackingSet { attribute, rows, skip: *skip }).collect();
        let reached = self.glance.reached(channel, matched);
        let input = AudienceInput {
            matched,
            existing: Some(&universe),
            active: &active,
            reachable: &reachable,
            reachable_elsewhere: Some(&elsewhere),
            subscribed: (!plan.topic.is_empty() && self.topics.is_none()).then_some(&*subscribed),
            unsubscribed: &unsubscribed,
            suppressed: &suppressed,
            reached: &reached,
            lacking: &lacking,
        };
        let candidates = audience::candidates(&input);
        let duplicates = same_address::duplicates(reader, channel, &candidates, plan.same_address)?;
        Ok(audience::assess(&input, &duplicates))
    }

    /// Who has opted out of a topic; of rows of an upload that are written to under no topic, out of any.
    fn unsubscribed(&self, channel: Channel, topic: &str) -> Arc<RoaringBitmap> {
        let all = self.topics.iter().flatten().filter(|(of, _)| *of == channel && topic.is_empty());
        let own = self.glance.unsubscribed(channel, topic);
        all.fold(own, |all, (channel, topic)| Arc::new(&*all | &*self.glance.unsubscribed(*channel, topic)))
    }
}

impl Engine {
    /// Who of some rows may not be sent to by a delivery, by reason.
    pub(super) fn ineligible(
        &self,
        compiled: &Compiled,
        plan: &DeliveryPlan,
        rows: &RoaringBitmap,
        run: RunId,
    ) -> Result<Vec<(SkipReason, RoaringBitmap)>, EngineError> {
        let (used, required) = self.used_attributes(compiled, plan);
        let audience = self.look(compiled, Some(run))?;
        Ok(audience.assess(plan, rows, &used, &required)?.1.skipped)
    }

    /// Who of a campaign's audience a start at this moment would send to; everybody, if nobody could be sent to.
    pub fn eligible(&self, compiled: &Compiled) -> Result<RoaringBitmap, EngineError> {
        let audience = self.look(compiled, None)?;
        let matched = audience.matched()?;
        let Some(plan) = compiled.deliveries.first() else { return Ok(matched) };
        let (used, required) = self.used_attributes(compiled, plan);
        let eligible = audience.assess(plan, &matched, &used, &required)?.1.eligible;
        Ok(if eligible.is_empty() { matched } else { eligible })
    }

    /// Attributes that the messages of a delivery use, and those that every one of them needs: who lacks one of these gets
    /// nothing of the delivery, whichever message it would be. An audience can be looked at before there is content.
    pub(super) fn used_attributes(
        &self,
        compiled: &Compiled,
        plan: &DeliveryPlan,
    ) -> (Vec<AttributeId>, Vec<AttributeId>) {
        let (mut used, mut required) = (Vec::new(), None::<Vec<AttributeId>>);
        let messages: BTreeSet<MessageId> = plan.sends.iter().map(|send| send.message).collect();
        for id in messages {
            let Ok(message) = self.message(compiled, id) else {
                required = Some(Vec::new());
                continue;
            };
            used.extend_from_slice(message.used_attributes());
            let own = message.required_attributes();
            required = Some(match required {
                None => own,
                Some(all) => all.into_iter().filter(|id| own.contains(id)).collect(),
            });
        }
        used.sort_unstable();
        used.dedup();
        (used, required.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaigns::{self, Format};
    use crate::engine::testbase::{NOW, TestBase};
    use crate::ledger::Fact;

    const SPEC: &str = r#"
name = "spring"
[audience]
segment = 'in segment "all" and not suppressed'
exclude = 'in list "staff"'
[message]
channel = "email"
connector = "relay"
topic = ""
from = "News <news@example.test>"
subject = "Hello"
text = "Hello"
"#;

    fn compiled() -> Compiled {
        let spec = campaigns::parse(SPEC, Format::Toml).expect("it parses");
        campaigns::compile(&spec).expect("it compiles")
    }

    #[test]
    fn an_audience_is_of_one_moment_and_does_not_hold_the_book() {
        let root = tempfile::tempdir().expect("a folder");
        let base = TestBase::open(root.path());
        let rows = ["a", "b", "c"].map(|key| base.contact(key, &format!("{key}@x.test")));
        let saved = Fact::SegmentSaved { name: "all".into(), text: r#"key != "b""#.into(), at: NOW };
        base.book.commit_durable(&saved).expect("a fact");
        let staff =
            Fact::ListCreated { name: "staff".into(), source: "test".into(), at: NOW, rows: Default::default() };
        base.book.commit_durable(&staff).expect("a fact");
        let compiled = compiled();
        let audience = Audience::look(&base.store, &base.book, &compiled).expect("a look");
        // On the thread that looks: it would wait for itself if the look held the book.
        base.suppress(None, &[rows[0]], Vec::new());
        let matched = audience.matched().expect("it evaluates");
        assert_eq!(matched.iter().collect::<Vec<_>>(), [rows[0].0, rows[2].0], "as it was at the look");
        let (summary, eligible) = audience.assess(&compiled.deliveries[0], &matched, &[], &[]).expect("assessed");
        assert_eq!((summary.matched, summary.final_count, eligible.eligible.len()), (2, 2, 2), "the summary too");
        let later = Audience::look(&base.store, &base.book, &compiled).expect("a look");
        assert_eq!(later.matched().expect("it evaluates").iter().collect::<Vec<_>>(), [rows[2].0], "and as it is now");
    }

    #[test]
    fn a_list_that_is_gone_is_said() {
        let root = tempfile::tempdir().expect("a folder");
        let base = TestBase::open(root.path());
        let text = SPEC.replace("segment = 'in segment \"all\" and not suppressed'", "list = \"members\"");
        let spec = campaigns::parse(&text, Format::Toml).expect("it parses");
        let compiled = campaigns::compile(&spec).expect("it compiles");
        let audience = Audience::look(&base.store, &base.book, &compiled).expect("a look");
        assert!(matches!(audience.matched(), Err(EngineError::NoList { name }) if name == "members"), "no such list");
    }
}
