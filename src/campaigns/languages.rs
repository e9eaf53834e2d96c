//! Messages in several languages, and messages that are saved under a name.
//!
//! ```toml
//! [message]
//! saved = "welcome"             # optional: what the saved message says, and on top of it what stands here
//! channel = "email"
//! from = "News <news@example.test>"
//! subject = "Welcome"           # what all languages share, and what the default language says
//! default_language = "en"       # who has none of the languages, or no language
//! [message.languages.de]        # what differs
//! subject = "Willkommen"
//! ```
//!
//! A campaign in several languages is one delivery: its contacts are sorted by their attribute `language`, as sets, and each
//! language is a send with a message of its own. A contact gets its very tag (`de-AT`), or else the longest of which its own
//! begins with (`de`), or else the default. The default takes part in this with its own tag: who has `pt-BR`, the default, does
//! not get `pt`.
//!
//! A saved message is put into the spec when the campaign starts, with its version: what is saved later does not touch the
//! run, nor does deleting it. Messages of variants, follow-ups, cells, nodes and steps refer to saved ones alike, and have languages,
//! too. A step of a sequence that has not started may get other languages with a later version; one that has keeps its own.
//!
//! Owns no state. Invariants: LA-1 each contact is in exactly one language; LA-2 ids of nodes and messages that languages add
//! to a step follow from its number and the place of the language, so that those of a step that is left alone are the same
//! in every version.

use std::collections::{BTreeMap, BTreeSet};

use super::compile::{CompileError, Compiled, MessagePlan, SendPlan};
use super::kinds::{self, Built};
use super::spec::kinds::overlaid;
use super::spec::{CampaignSpec, Kind, MessageFields, MessageSpec};
use super::validate::Problem;
use crate::contacts::addresses::normalise_language;
use crate::flow::graph::Edge;
use crate::flow::nodes::{Split, split};
use crate::flow::{EndKind, Exit, GraphParts, NodeId, NodeKind};
use crate::ids::MessageId;
use crate::limits::{FLOW_NODES_MAX, MESSAGE_LANGUAGES_MAX};

/// The languages of a message besides its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Others {
    /// The tag of the default.
    default: String,
    /// Tag and fields: longer tags before those they begin with.
    versions: Vec<(String, MessageFields)>,
}

impl Others {
    pub(super) fn versions(&self) -> &[(String, MessageFields)] {
        &self.versions
    }

    /// Laid over and with nothing to be laid over: default and other languages as a message has them.
    pub(super) fn into_parts(self) -> (Option<String>, BTreeMap<String, MessageFields>) {
        let default = (!self.versions.is_empty()).then_some(self.default);
        (default, self.versions.into_iter().collect())
    }
}

/// A message that is laid over that of the campaign: its fields, and those in its other languages. What it says itself goes
/// before what the campaign's message says in any language: a variant's subject is that of all its contacts, unless the
/// variant has it in their language.
pub(super) fn laid_over(base: &MessageSpec, own: &MessageSpec) -> (MessageFields, Others) {
    let default = own.default_language.clone().or_else(|| base.default_language.clone()).unwrap_or_default();
    let none = MessageFields::new();
    let in_language = |tag: &str| {
        let of = |message: &MessageSpec| message.languages.get(tag).unwrap_or(&none).clone();
        let each = [of(base), own.fields.clone(), of(own)];
        each.iter().fold(base.fields.clone(), |fields, more| overlaid(&fields, more))
    };
    let tags: BTreeSet<&String> = base.languages.keys().chain(own.languages.keys()).collect();
    let mut tags: Vec<&String> = tags.into_iter().filter(|tag| **tag != default).collect();
    tags.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    let versions = tags.into_iter().map(|tag| (tag.clone(), in_language(tag))).collect();
    (in_language(&default), Others { default, versions })
}

/// Ids of the nodes that languages add to a graph without ids of people, from here on: each send has 64.
const ADDED: u32 = 1 << 28;

/// Ids of the nodes that languages add to one send.
const ADDED_EACH: u32 = 64;

/// Where contacts are sorted by language before a send of a graph without ids of people.
pub fn sort_of(send: NodeId) -> NodeId {
    NodeId(ADDED + send.0 * ADDED_EACH)
}

/// The send of the default language, of a node that languages added to it in a graph without ids of people; any other node
/// is itself.
pub fn send_of(node: NodeId) -> NodeId {
    if node.is_implicit() { node } else { node.0.checked_sub(ADDED).map_or(node, |at| NodeId(at / ADDED_EACH)) }
}

/// The id of a node that languages add to a send: the one that sorts, or that of a language by its place.
fn added(parts: &GraphParts, send: NodeId, at: u32, tag: &str) -> (NodeId, Option<String>) {
    match parts.keys.get(&send) {
        None => (NodeId(sort_of(send).0 + at), None),
        Some(key) => {
            let own = if tag.is_empty() { format!("{key}.language") } else { format!("{key}.language.{tag}") };
            (kinds::flow::ids::of_text(&own), Some(own))
        }
    }
}

/// Makes each language of each message a send of its own, of the same delivery: before the send, contacts are sorted by their
/// language, and behind it they go the same ways. What is asked about the send is asked about all of them.
pub(super) fn expand(built: &mut Built, kind: Kind) {
    let mut next = built.messages.iter().map(|message| message.id.0 + 1).max().unwrap_or(0);
    for at in 0..built.messages.len() {
        let others = std::mem::take(&mut built.messages[at].others);
        let base = built.messages[at].clone();
        let sends = built.deliveries.iter().flat_map(|delivery| delivery.sends.iter());
        let Some(send) = sends.clone().find(|send| send.message == base.id).map(|send| send.node) else { continue };
        if others.versions.is_empty() {
            continue;
        }
        let sort = sort_before(&mut built.parts, send, &others);
        for (place, (tag, fields)) in (1u32..).zip(others.versions) {
            let id = match kind {
                Kind::Sequence => kinds::sequence::message_in(base.id, place),
                _ => MessageId(next),
            };
            next = next.saturating_add(1);
            let node = version_of(&mut built.parts, send, (place, &tag), id);
            built.parts.edge(sort, Exit(tag.clone().into()), node);
            let name = if base.name.is_empty() { tag } else { format!("{} ({tag})", base.name) };
            built.messages.push(MessagePlan { id, name, fields, ..base.clone() });
            if let Some(delivery) = built.deliveries.iter_mut().find(|d| d.sends.iter().any(|s| s.node == send)) {
                delivery.sends.push(SendPlan { node, message: id });
                delivery.sends.sort_by_key(|send| send.node);
            }
            if built.lasts.contains(&send) {
                built.lasts.push(node);
            }
        }
    }
    if kind == Kind::Sequence {
        built.messages.sort_by_key(|message| message.id);
    }
}

/// Puts the node that sorts by language before a send, where all ways to the send then lead.
fn sort_before(parts: &mut GraphParts, send: NodeId, others: &Others) -> NodeId {
    let (sort, key) = added(parts, send, 0, "");
    let name = parts.nodes.iter().find(|node| node.id == send).map_or(String::new(), |node| node.name.clone());
    let exits = others.versions.iter().map(|(tag, _)| (Exit(tag.clone().into()), speaks(tag, &others.default)));
    let split = Split::Segments(exits.collect());
    for edge in parts.edges.iter_mut().filter(|edge| edge.to == send) {
        edge.to = sort;
    }
    parts.node(sort, format!("{name}: language"), NodeKind::Split(split));
    parts.edge(sort, split::REMAINING, send);
    parts.keys.extend(key.map(|key| (sort, key)));
    sort
}

/// A send like another, in a language.
fn version_of(parts: &mut GraphParts, send: NodeId, (place, tag): (u32, &str), message: MessageId) -> NodeId {
    let (node, key) = added(parts, send, place, tag);
    let like = parts.nodes.iter().find(|other| other.id == send).cloned();
    if let Some(mut like) = like {
        like.id = node;
        like.name = format!("{} ({tag})", like.name);
        if let NodeKind::Send { message: of, .. } = &mut like.kind {
            *of = message.0;
        }
        parts.nodes.push(like);
    }
    let ways: Vec<Edge> = parts.edges.iter().filter(|edge| edge.from == send).cloned().collect();
    parts.edges.extend(ways.into_iter().map(|edge| Edge { from: node, ..edge }));
    parts.keys.extend(key.map(|key| (node, key)));
    parts.languages.entry(send).or_default().push(node);
    node
}

/// Sorts contacts by their language.
const SORT: NodeId = NodeId(4);
/// The send of the default language; that of language i has this id plus i + 1.
const FIRST_SEND: u32 = 20;

/// Tag and fields of each message: the default language first, then the others, longer tags before those they begin with.
pub fn versions(message: &MessageSpec) -> Vec<(String, MessageFields)> {
    let default = message.default_language.clone().unwrap_or_default();
    let own = message.languages.get(&default);
    let first = own.map_or_else(|| message.fields.clone(), |fields| overlaid(&message.fields, fields));
    let mut others: Vec<(&String, &MessageFields)> =
        message.languages.iter().filter(|(tag, _)| **tag != default).collect();
    others.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    let others = others.into_iter().map(|(tag, fields)| (tag.clone(), overlaid(&message.fields, fields)));
    std::iter::once((default, first)).chain(others).collect()
}

/// Who gets the message in a language: not who is nearer to the default.
fn speaks(tag: &str, default: &str) -> String {
    let of = |tag: &str| format!("language = \"{tag}\" or language starts with \"{tag}-\"");
    if is_of(default, tag) { format!("({}) and not ({})", of(tag), of(default)) } else { of(tag) }
}

/// Whether a language is this one or a kind of it.
fn is_of(language: &str, tag: &str) -> bool {
    language == tag || language.strip_prefix(tag).is_some_and(|rest| rest.starts_with('-'))
}

/// The single kind in several languages: start → by language → a send each → end.
pub(super) fn build(spec: &CampaignSpec, base: &MessagePlan) -> Result<Built, CompileError> {
    let mut parts = GraphParts::default();
    parts.node(kinds::START, "start", NodeKind::Start);
    let versions = versions(&spec.message);
    let default = versions.first().map_or("", |(tag, _)| tag.as_str());
    let others = versions.iter().skip(1).map(|(tag, _)| (Exit(tag.clone().into()), speaks(tag, default)));
    parts.node(SORT, "language", NodeKind::Split(Split::Segments(others.collect())));
    parts.node(kinds::END, "end", NodeKind::End { kind: EndKind::Neutral });
    parts.edge(kinds::START, Exit::NEXT, SORT);
    let (mut messages, mut sends) = (Vec::new(), Vec::new());
    for (at, (tag, fields)) in versions.into_iter().enumerate() {
        let id = u16::try_from(at).unwrap_or(u16::MAX);
        let node = parts.node(NodeId(FIRST_SEND + u32::from(id)), tag.clone(), NodeKind::send(0, id));
        let exit = if at == 0 { split::REMAINING } else { Exit(tag.clone().into()) };
        parts.edge(SORT, exit, node);
        messages.push(MessagePlan { id: MessageId(id), name: tag, fields, ..base.clone() });
        sends.push(SendPlan { node, message: MessageId(id) });
    }
    let mut delivery = kinds::delivery(spec, 0, "languages", base);
    let lasts = sends.iter().map(|send| send.node).collect();
    delivery.sends = sends;
    Ok(Built { parts, deliveries: vec![delivery], messages, lasts })
}

/// Which of the messages a contact with this language gets.
pub fn message_for(message: &MessageSpec, language: Option<&str>) -> MessageId {
    let versions = versions(message);
    let default = versions.first().map_or("", |(tag, _)| tag.as_str());
    let speaks =
        |tag: &str| language.is_some_and(|own| is_of(own, tag) && !(is_of(default, tag) && is_of(own, default)));
    let found = versions.iter().skip(1).position(|(tag, _)| speaks(tag)).map_or(0, |at| at + 1);
    MessageId(u16::try_from(found).unwrap_or(0))
}

/// Which message of a campaign somebody with this language is shown: of several variants, cells or sends, the first one's.
pub fn shown_to(spec: &CampaignSpec, compiled: &Compiled, language: Option<&str>) -> MessageId {
    let first = compiled.deliveries.first().and_then(|delivery| delivery.sends.first());
    let versions = first.map(|send| compiled.graph.versions(send.node).collect::<Vec<_>>()).filter(|v| v.len() > 1);
    let Some(versions) = versions else {
        return match first {
            // Its messages have the numbers of their steps, and the first step may send nothing.
            Some(send) if spec.kind() == Kind::Sequence => send.message,
            _ => message_for(&spec.message, language),
        };
    };
    let own =
        kinds::sequence::messages(spec).into_iter().next().and_then(|first| first.own.default_language.as_deref());
    let default = own.or(spec.message.default_language.as_deref()).unwrap_or_default();
    let of = |node: &NodeId| compiled.deliveries.first().and_then(|delivery| delivery.message_at(*node));
    let tag_of = |node: &NodeId| {
        let into = compiled.graph.edges().find(|(_, _, to)| to == node);
        into.map(|(_, exit, _)| exit.name().to_owned()).unwrap_or_default()
    };
    let speaks =
        |tag: &str| language.is_some_and(|own| is_of(own, tag) && !(is_of(default, tag) && is_of(own, default)));
    let found = versions.iter().skip(1).find(|node| speaks(&tag_of(node))).or(versions.first());
    found.and_then(of).unwrap_or(MessageId(0))
}

/// What is wrong with the languages of a message at `path`, but for their content.
pub fn problems(message: &MessageSpec, path: &str, found: &mut Vec<Problem>) {
    let tags = message.languages.keys().chain(&message.default_language);
    for tag in tags {
        if normalise_language(tag).ok().as_deref() != Some(tag) {
            let text = format!("{tag:?} is no language tag in its usual form");
            let fix = "write it as \"de\" or \"pt-BR\"";
            found.push(Problem::error("bad_language", format!("{path}.languages"), text, fix));
        }
    }
    if !message.languages.is_empty() && message.default_language.is_none() {
        let fix = "set default_language to the one for contacts who have none of the languages";
        let text = "the message has languages, and none is the default";
        found.push(Problem::error("no_default_language", format!("{path}.default_language"), text, fix));
    }
    if message.languages.len() > MESSAGE_LANGUAGES_MAX {
        let text =
            format!("the message has {} languages, and {MESSAGE_LANGUAGES_MAX} is the most", message.languages.len());
        found.push(Problem::error("too_many_languages", format!("{path}.languages"), text, "remove some"));
    }
}

/// Every table of a message in a spec, with its path; that of the campaign first.
pub fn tables(spec: &CampaignSpec) -> Vec<(String, &MessageSpec)> {
    let mut tables =
        vec![("message".to_owned(), &spec.message), ("follow_up.message".to_owned(), &spec.follow_up.message)];
    tables.extend(spec.cells.iter().enumerate().map(|(at, cell)| (format!("cells.{at}.message"), &cell.message)));
    tables.extend(spec.steps.iter().enumerate().map(|(at, step)| (format!("steps.{at}.message"), &step.message)));
    tables.extend(spec.nodes.iter().enumerate().map(|(at, node)| (format!("nodes.{at}.message"), &node.message)));
    tables.extend(spec.variants.iter().enumerate().map(|(at, variant)| (format!("variants.{at}"), &variant.message)));
    tables
}

/// The tables of [`tables`], to be changed.
pub fn tables_mut(spec: &mut CampaignSpec) -> impl Iterator<Item = &mut MessageSpec> {
    let cells = spec.cells.iter_mut().map(|cell| &mut cell.message);
    let steps = spec.steps.iter_mut().map(|step| &mut step.message);
    let nodes = spec.nodes.iter_mut().map(|node| &mut node.message);
    let variants = spec.variants.iter_mut().map(|variant| &mut variant.message);
    let first = [&mut spec.message, &mut spec.follow_up.message].into_iter();
    first.chain(cells).chain(steps).chain(nodes).chain(variants)
}

/// Variants differ in content: what a saved message says of its way is that of `[message]` for all of them.
pub fn keep_variants_content(spec: &mut CampaignSpec) {
    for variant in &mut spec.variants {
        let MessageSpec { saved, saved_version, languages, fields, .. } = std::mem::take(&mut variant.message);
        variant.message = MessageSpec { saved, saved_version, languages, fields, ..MessageSpec::default() };
    }
}

/// The messages of a spec that are laid over that of the campaign, each with its path.
pub(super) fn laid_on(spec: &CampaignSpec) -> Vec<(String, &MessageSpec)> {
    if spec.kind() == Kind::Sequence {
        return kinds::sequence::messages(spec).into_iter().map(|step| (step.path, step.own)).collect();
    }
    let is_sent = |path: &str| path != "follow_up.message" || kinds::follow_up::wanted(spec);
    tables(spec).into_iter().skip(1).filter(|(path, _)| is_sent(path)).collect()
}

/// What is wrong with the languages of a spec's messages, but for their content.
pub(super) fn problems_of(spec: &CampaignSpec, found: &mut Vec<Problem>) {
    problems(&spec.message, "message", found);
    let default = || spec.message.default_language.clone();
    for (path, own) in laid_on(spec).into_iter().filter(|(_, own)| !own.languages.is_empty()) {
        let whole = MessageSpec { default_language: own.default_language.clone().or_else(default), ..own.clone() };
        problems(&whole, &path, found);
    }
    let added: Vec<(String, usize)> =
        laid_on(spec).into_iter().map(|(path, own)| (path, laid_over(&spec.message, own).1.versions.len())).collect();
    for (path, languages) in added.iter().filter(|(_, languages)| *languages > MESSAGE_LANGUAGES_MAX) {
        let text =
            format!("with those of [message] it has {languages} languages, and {MESSAGE_LANGUAGES_MAX} is the most");
        found.push(Problem::error("too_many_languages", format!("{path}.languages"), text, "remove some"));
    }
    let added: usize = added.iter().filter(|(_, languages)| *languages > 0).map(|(_, languages)| languages + 1).sum();
    let nodes = nodes_with(spec, added);
    if added > 0 && nodes > FLOW_NODES_MAX {
        let text = format!("its messages in all their languages make {nodes} nodes, and {FLOW_NODES_MAX} is the most");
        let fix = "use fewer languages, or make a campaign a language";
        found.push(Problem::error("too_many_languages", "message.languages", text, fix));
    }
}

/// Nodes of a spec with those that languages add.
fn nodes_with(spec: &CampaignSpec, added: usize) -> usize {
    match spec.kind() {
        Kind::Sequence => super::compile::parts(spec).nodes.len(),
        _ => spec.nodes.len() + spec.cells.len() + spec.variants.len() + added,
    }
}

/// A saved message with what a spec says itself on top.
pub fn resolved(saved: &MessageSpec, version: u32, own: &MessageSpec) -> MessageSpec {
    let mut languages: BTreeMap<String, MessageFields> = saved.languages.clone();
    for (tag, fields) in &own.languages {
        let merged = languages.get(tag).map_or_else(|| fields.clone(), |base| overlaid(base, fields));
        languages.insert(tag.clone(), merged);
    }
    MessageSpec {
        channel: own.channel.or(saved.channel),
        connector: own.connector.clone().or_else(|| saved.connector.clone()),
        topic: own.topic.clone().or_else(|| saved.topic.clone()),
        saved: own.saved.clone(),
        saved_version: Some(version),
        default_language: own.default_language.clone().or_else(|| saved.default_language.clone()),
        languages,
        fields: overlaid(&saved.fields, &own.fields),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Format, parse};
    use super::*;
    use crate::campaigns::compile;

    const SPEC: &str = "name = \"welcome\"\n[audience]\nall = true\n[message]\nchannel = \"email\"\nconnector = \"relay\"\n\
        topic = \"news\"\nsubject = \"Welcome\"\nfrom = \"a@x.test\"\ndefault_language = \"en\"\n\
        [message.languages.de]\nsubject = \"Willkommen\"\n[message.languages.de-AT]\nsubject = \"Servus\"\n\
        [message.languages.fr]\nsubject = \"Bienvenue\"\n";

    #[test]
    fn each_language_is_a_send_of_one_delivery_and_longer_tags_come_first() {
        let spec = parse(SPEC, Format::Toml).expect("spec");
        let compiled = compile(&spec).expect("compiles");
        assert_eq!(compiled.deliveries.len(), 1, "one delivery");
        let said: Vec<(&str, &str)> =
            compiled.messages.iter().map(|m| (m.name.as_str(), m.fields["subject"].as_str().unwrap())).collect();
        assert_eq!(said, [("en", "Welcome"), ("de-AT", "Servus"), ("de", "Willkommen"), ("fr", "Bienvenue")]);
        assert!(compiled.messages.iter().all(|m| m.fields["from"] == "a@x.test"), "what all share");
        for (language, subject) in
            [(Some("de-AT"), 1), (Some("de-CH"), 2), (Some("de"), 2), (Some("den"), 0), (Some("it"), 0), (None, 0)]
        {
            assert_eq!(message_for(&spec.message, language), MessageId(subject), "{language:?}");
        }
    }

    #[test]
    fn the_default_takes_part_with_its_own_tag() {
        let spec = SPEC.replace("\"en\"", "\"pt-BR\"").replace("languages.de]", "languages.pt]");
        let spec = parse(&spec, Format::Toml).expect("spec");
        let compiled = compile(&spec).expect("compiles");
        let names: Vec<&str> = compiled.messages.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["pt-BR", "de-AT", "fr", "pt"]);
        for (language, message) in [("pt-BR", 0), ("pt-BR-x-a", 0), ("pt", 3), ("pt-PT", 3), ("fr", 2), ("it", 0)] {
            assert_eq!(message_for(&spec.message, Some(language)), MessageId(message), "{language}");
        }
        let wanted = "(language = \"pt\" or language starts with \"pt-\") and not \
            (language = \"pt-BR\" or language starts with \"pt-BR-\")";
        assert_eq!(speaks("pt", "pt-BR"), wanted, "who goes by the shorter tag");
        crate::segments::parse(wanted).expect("a segment");
    }

    #[test]
    fn every_message_of_a_campaign_is_sorted_by_language_before_its_send() {
        let text = SPEC.replace("name = \"welcome\"", "name = \"welcome\"\nkind = \"ab_split\"");
        let text = format!(
            "{text}[[variants]]\nname = \"A\"\n[[variants]]\nname = \"B\"\nsubject = \"Hi\"\n\
             [variants.languages.fr]\nsubject = \"Salut\"\n[follow_up]\nafter = \"2d\"\n"
        );
        let compiled = compile(&parse(&text, Format::Toml).expect("spec")).expect("compiles");
        let said = |name: &str| {
            let message = compiled.messages.iter().find(|m| m.name == name).unwrap_or_else(|| panic!("{name}"));
            message.fields["subject"].as_str().unwrap().to_owned()
        };
        for (name, subject) in [
            ("A", "Welcome"),
            ("A (de)", "Willkommen"),
            ("A (de-AT)", "Servus"),
            ("B", "Hi"),
            ("B (de)", "Hi"),
            ("B (fr)", "Salut"),
            ("follow-up (fr)", "Bienvenue"),
        ] {
            assert_eq!(said(name), subject, "{name}");
        }
        assert_eq!(compiled.deliveries.len(), 2, "one of the variants, one of the follow-up");
        let sends: Vec<NodeId> = compiled.deliveries[0].sends.iter().map(|send| send.node).collect();
        assert_eq!(sends, compiled.graph.sends_of(0).collect::<Vec<_>>(), "each language is a send of it");
        let first = compiled.deliveries[0].sends[0].node;
        assert_eq!(compiled.graph.versions(first).count(), 4, "asked about as one");
    }

    #[test]
    fn a_spec_says_more_than_a_saved_message() {
        let saved: MessageSpec = serde_json::from_value(serde_json::json!({
            "channel": "email", "topic": "news", "subject": "Saved", "text": "t", "default_language": "en",
            "languages": {"de": {"subject": "Gesichert"}},
        }))
        .expect("a message");
        let own: MessageSpec = serde_json::from_value(serde_json::json!({
            "saved": "welcome", "connector": "relay", "topic": "offers", "languages": {"de": {"text": "mein"}},
        }))
        .expect("a message");
        let both = resolved(&saved, 3, &own);
        assert_eq!((both.topic.as_deref(), both.connector.as_deref()), (Some("offers"), Some("relay")), "its own");
        assert_eq!((both.saved_version, &both.fields["subject"]), (Some(3), &"Saved".into()), "and the saved one");
        assert_eq!(both.languages["de"]["subject"], "Gesichert", "in each language");
        assert_eq!(both.languages["de"]["text"], "mein", "too");
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let codes = |text: &str| {
            let mut found = Vec::new();
            problems_of(&parse(text, Format::Toml).expect(text), &mut found);
            found.iter().map(|problem| problem.code).collect::<Vec<_>>()
        };
        assert_eq!(codes(SPEC), Vec::<&str>::new(), "nothing is wrong");
        assert_eq!(codes(&SPEC.replace("default_language = \"en\"\n", "")), ["no_default_language"]);
        assert_eq!(codes(&SPEC.replace("languages.de]", "languages.German]")), ["bad_language"]);
        assert_eq!(codes(&format!("kind = \"ab_split\"\n{SPEC}")), Vec::<&str>::new(), "any kind has languages");
        let variant = format!("{SPEC}[[variants]]\nsubject = \"x\"\n[variants.languages.German]\nsubject = \"y\"\n");
        assert_eq!(codes(&variant), ["bad_language"], "and its parts");
    }
}
