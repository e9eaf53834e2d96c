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
//! run, nor does deleting it. Messages of follow-ups, cells and steps refer to saved ones alike, in one language. Owns no state. Invariant: LA-1 each contact is in exactly one language.

use std::collections::BTreeMap;

use super::compile::{CompileError, MessagePlan, SendPlan};
use super::kinds::{self, Built};
use super::spec::kinds::overlaid;
use super::spec::{CampaignSpec, Kind, MessageFields, MessageSpec};
use super::validate::Problem;
use crate::contacts::addresses::normalise_language;
use crate::flow::nodes::{Split, split};
use crate::flow::{EndKind, Exit, GraphParts, NodeId, NodeKind};
use crate::ids::MessageId;
use crate::limits::MESSAGE_LANGUAGES_MAX;

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
    tables
}

/// The tables of [`tables`], to be changed.
pub fn tables_mut(spec: &mut CampaignSpec) -> impl Iterator<Item = &mut MessageSpec> {
    let cells = spec.cells.iter_mut().map(|cell| &mut cell.message);
    let steps = spec.steps.iter_mut().map(|step| &mut step.message);
    [&mut spec.message, &mut spec.follow_up.message].into_iter().chain(cells).chain(steps)
}

/// What a spec cannot have beside languages.
pub(super) fn problems_of(spec: &CampaignSpec, found: &mut Vec<Problem>) {
    problems(&spec.message, "message", found);
    for (path, _) in tables(spec).into_iter().skip(1).filter(|(_, table)| !table.languages.is_empty()) {
        let text = "this message goes out in one language; only that of a single campaign can have several so far";
        let fix = "name a saved message without languages, or write the content itself";
        found.push(Problem::error("languages_of_single", path, text, fix));
    }
    if spec.message.languages.is_empty() {
        return;
    }
    if spec.kind() != Kind::Single || kinds::follow_up::wanted(spec) {
        let text = "languages go with a single campaign without follow-up; other kinds take one language so far";
        let fix = "make a campaign a language, with language = \"…\" in its audience, or remove the languages";
        found.push(Problem::error("languages_of_single", "message.languages", text, fix));
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
        assert_eq!(codes(&format!("kind = \"ab_split\"\n{SPEC}")), ["languages_of_single"]);
    }
}
