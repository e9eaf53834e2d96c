//! Whether a spec can be sent: everything that is missing or wrong, at once.
//!
//! A draft may be saved with problems; it cannot be started with one that blocks. Problems of the message itself and of
//! expressions are asked of [`Names`], because what knows them (content, segments, the connectors, the lists) is not
//! known here.
//!
//! | code | what |
//! |---|---|
//! | `no_name`, `bad_name`, `name_taken` | a campaign has a name of its own |
//! | `no_audience`, `several_audiences`, `unknown_list`, `bad_segment` | exactly one audience, and it exists |
//! | `no_channel`, `no_topic`, `bad_topic` | how and under which consent |
//! | `no_connector`, `unknown_connector`, `wrong_channel` | through which account |
//! | `no_sender`, `bad_sender`, `no_subject`, `no_body` | the least that a message has (see [`basic_message_problems`]) |
//! | those of schedules | see `schedule::ScheduleError` and `kinds::planned` |
//! | `wrong_kind` and those of the kind's own tables | see `kinds` |
//! | `unknown_upload`, `consent_not_confirmed` and others of uploaded files | see `one_shot` |
//! | `bad_resend` | a set of a run that has ended |
//! | `bad_not_contacted`, `bad_hold_out`, `bad_cap` | who is left out |
//! | `empty_audience` | a warning: nobody matches it now |
//! | `tracks_nobody` | the flow asks who opened or clicked, and nobody's opens and clicks are kept |
//! | `bad_auto_pause` | shares of `[auto_pause]` as per cent, or "off" |
//! | `unknown_key`, `unknown_word`, `missing_key`, `wrong_type`, `unreadable`, `syntax` | what cannot be read: see `faults` |
//! | `bad_rate`, `bad_weight`, `bad_retry_deadline`, `send_until_past` | limits within their bounds |
//! | `send_until_before_start`, `follow_up_too_late` and others that only the whole shows | see `whole` |

use std::collections::BTreeSet;

use lettre::message::Mailbox;
use serde::Serialize;

use super::one_shot::{self, UploadName};
use super::schedule::fields::Ahead;
use super::spec::{CampaignSpec, Kind, LimitsSpec, MessageFields, MessageSpec, Starter, TestSpec, auto_pause};
use super::suggest::did_you_mean;
use super::{kinds, languages};
use crate::clock::Timestamp;
use crate::ids::Channel;
use crate::limits;

mod parts;
mod whole;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The campaign cannot be started.
    Error,
    /// It can, and somebody should know.
    Warning,
}

/// One thing that is missing or wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Never reworded: programs match on it.
    pub code: &'static str,
    pub severity: Severity,
    /// Where in the spec: keys joined by dots, `message.subject`.
    pub path: String,
    /// The id of the node of a flow that was written by hand, or of the step of a sequence, that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Where within the text at `path`, from 1; for expressions and templates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// Where `path`, or what it would stand in, stands in the text of the spec, from 1; while the text is at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec_line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec_column: Option<u32>,
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

impl Problem {
    pub fn error(
        code: &'static str,
        path: impl Into<String>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Problem {
        let (path, message, fix) = (path.into(), message.into(), fix.into());
        let (line, column, spec_line, spec_column) = (None, None, None, None);
        Problem {
            code,
            severity: Severity::Error,
            path,
            node: None,
            line,
            column,
            spec_line,
            spec_column,
            message,
            fix,
        }
    }

    pub fn warning(
        code: &'static str,
        path: impl Into<String>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(code, path, message, fix) }
    }

    pub fn of_node(self, id: &str) -> Problem {
        Problem { node: (!id.is_empty()).then(|| id.to_owned()), ..self }
    }

    pub fn at(self, line: u32, column: u32) -> Problem {
        Problem { line: Some(line), column: Some(column), ..self }
    }

    pub fn at_text(self, line: u32, column: u32) -> Problem {
        Problem { spec_line: Some(line), spec_column: Some(column), ..self }
    }

    pub fn blocks(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// What the rest of the engine knows, as far as a spec names it.
pub trait Names {
    fn now(&self) -> Timestamp;
    /// From when on the schedule must start something: later than the launches that were made already.
    fn ahead(&self) -> Ahead {
        Ahead::now(self.now())
    }
    /// Every configured connector with its channel.
    fn connectors(&self) -> Vec<(String, Channel)>;
    fn lists(&self) -> Vec<String>;
    /// Every one-shot upload that is there.
    fn uploads(&self) -> Vec<UploadName> {
        Vec::new()
    }
    /// Whether another campaign than the one at hand has this name.
    fn campaign_name_taken(&self, name: &str) -> bool;
    /// What is wrong with a segment expression: syntax, attributes, types, unknown lists and segments. `path` is where it
    /// stands in the spec, for the problems' own.
    fn expression_problems(&self, path: &str, expression: &str) -> Vec<Problem>;
    /// Ids of the steps of the campaign at hand that have started.
    fn started_steps(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }
    /// How long the start of the campaign at hand was measured to take.
    fn measured_start(&self) -> Option<std::time::Duration> {
        None
    }
    /// Whether an attribute is there, is a general field, and takes the value.
    fn attribute_problems(&self, _path: &str, _attribute: &str, _value: &serde_json::Value) -> Vec<Problem> {
        Vec::new()
    }
    /// What is wrong with the content. The default knows no templates.
    fn message_problems(&self, channel: Channel, fields: &MessageFields) -> Vec<Problem> {
        basic_message_problems(channel, fields)
    }
    /// The tracked links of a message, as they stand in it; `None` if it does not compile, or nobody can say.
    fn links(&self, _fields: &MessageFields) -> Option<Vec<String>> {
        None
    }
}

/// All that is missing or wrong, in the order of the spec. Empty: it can be sent.
pub fn problems(spec: &CampaignSpec, names: &dyn Names) -> Vec<Problem> {
    let mut found = Vec::new();
    name(spec.name.as_deref(), names, &mut found);
    times(spec, names, &mut found);
    kinds::planned::problems(spec, names.ahead(), &mut found);
    one_shot::problems(spec, names, &mut found);
    if spec.kind() == Kind::Sequence {
        sequence(spec, names, &mut found);
    } else {
        audience(spec, names, &mut found);
        super::resend::problems(spec, &mut found);
        let needs_topic = !one_shot::is_wanted(spec);
        match spec.kind() {
            // It is only what the sends have in common; each is looked at as a whole.
            Kind::Flow => way(&spec.message, needs_topic, names, &mut found),
            _ => message(&spec.message, needs_topic, names, &mut found),
        }
    }
    rates(&spec.limits, &mut found);
    auto_pause::problems(&spec.auto_pause, &mut found);
    super::restraint::problems(spec, &mut found);
    of_the_kind(spec, names, &mut found);
    whole::problems(spec, names, &mut found);
    for problem in &mut found {
        problem.node = problem.node.take().or_else(|| step_of(spec, &problem.path));
    }
    found
}

/// The id of the step that a path is about.
fn step_of(spec: &CampaignSpec, path: &str) -> Option<String> {
    let at: usize = path.strip_prefix("steps.")?.split('.').next()?.parse().ok()?;
    spec.steps.get(at)?.id.clone().filter(|id| !id.is_empty())
}

/// Audience and messages of a sequence: list and segment may both be there, and each send is looked at as it is sent.
fn sequence(spec: &CampaignSpec, names: &dyn Names, found: &mut Vec<Problem>) {
    if spec.starter != Some(Starter::Api) {
        let mut both = spec.clone();
        let segment = both.audience.segment.take_if(|_| both.audience.list.is_some());
        audience(&both, names, found);
        if let Some(segment) = segment {
            expression_problems("audience.segment", &segment, names, found);
        }
    }
    for (path, own, sent) in kinds::sequence::messages(spec) {
        let mut wrong = Vec::new();
        message(&sent, true, names, &mut wrong);
        let own = own.to_keys();
        let placed = wrong.into_iter().map(|problem| parts::placed(problem, &path, &own, &spec.message));
        for problem in placed.collect::<Vec<_>>() {
            parts::push_new(problem, found);
        }
    }
}

/// Nobody matches the audience at this moment. It stops nothing: contacts may be imported before the start.
pub fn empty_audience() -> Problem {
    let fix = "import contacts or change the audience; a start counts it again, and sends to nobody if nobody matches";
    Problem::warning("empty_audience", "audience", "nobody matches the audience now", fix)
}

/// Tables that belong to the kind, and those that belong to another.
fn of_the_kind(spec: &CampaignSpec, names: &dyn Names, found: &mut Vec<Problem>) {
    let kind = spec.kind();
    let tables = [
        ("variants", !spec.variants.is_empty(), Kind::AbSplit),
        ("test", spec.test != TestSpec::default(), Kind::AbSplit),
        ("dimensions", !spec.dimensions.is_empty(), Kind::MultiSegment),
        ("cells", !spec.cells.is_empty(), Kind::MultiSegment),
        ("nodes", !spec.nodes.is_empty(), Kind::Flow),
        ("steps", !spec.steps.is_empty(), Kind::Sequence),
        ("starter", spec.starter.is_some(), Kind::Sequence),
        ("split_on_open", spec.split_on_open.is_some(), Kind::Single),
    ];
    for (table, given, owner) in tables.into_iter().filter(|(_, _, owner)| *owner != kind) {
        if given {
            let message =
                format!("[{table}] belongs to campaigns of the kind {}, and this one is {}", owner.name(), kind.name());
            let fix = format!("set kind = \"{}\", or remove the table", owner.name());
            found.push(Problem::error("wrong_kind", table, message, fix));
        }
    }
    match kind {
        Kind::Single => {}
        Kind::Sequence => return kinds::sequence::problems(spec, names, found),
        Kind::AbSplit => kinds::ab_split::problems(spec, names.now(), found),
        Kind::MultiSegment => {
            kinds::multi_segment::problems(spec, found);
            for (path, text) in kinds::grid::expressions(spec) {
                found.extend(names.expression_problems(&path, text));
            }
        }
        Kind::Flow => kinds::flow::problems(spec, names, found),
    }
    if kind == Kind::Flow && kinds::follow_up::wanted(spec) {
        let message = "[follow_up] belongs to other kinds of campaigns; a flow says it with nodes";
        let fix = "remove it, and give the send split_on_open";
        found.push(Problem::error("wrong_kind", "follow_up", message, fix));
    } else {
        kinds::follow_up::problems(spec, names.now(), found);
    }
    languages::problems_of(spec, found);
    parts::problems(spec, names, found);
}

fn name(name: Option<&str>, names: &dyn Names, found: &mut Vec<Problem>) {
    let Some(name) = name.filter(|n| !n.trim().is_empty()) else {
        found.push(Problem::error("no_name", "name", "the campaign has no name", "set name"));
        return;
    };
    if let Some(fault) = name_fault(name) {
        found.push(Problem::error("bad_name", "name", format!("the name {fault}"), "choose another name"));
    } else if names.campaign_name_taken(name) {
        let message = format!("another campaign is named {name:?}");
        found.push(Problem::error("name_taken", "name", message, "choose another name"));
    }
}

fn name_fault(name: &str) -> Option<String> {
    if name.len() > limits::NAME_BYTES_MAX {
        return Some(format!("has {} bytes, and {} is the most", name.len(), limits::NAME_BYTES_MAX));
    }
    (name.trim() != name).then(|| "begins or ends with a space".to_owned())
}

fn times(spec: &CampaignSpec, names: &dyn Names, found: &mut Vec<Problem>) {
    if let Some(hours) = spec.retry_deadline_hours {
        let max = limits::RETRY_DEADLINE_HOURS_MAX;
        within("bad_retry_deadline", "retry_deadline_hours", hours, max, found);
    }
    if let Some(until) = spec.send_until.filter(|until| *until <= names.now()) {
        let message = format!("send_until, {until}, is past: nothing would be sent");
        found.push(Problem::error("send_until_past", "send_until", message, "set a later instant, or remove it"));
    }
}

fn audience(spec: &CampaignSpec, names: &dyn Names, found: &mut Vec<Problem>) {
    let audience = &spec.audience;
    let all = audience.all == Some(true);
    let (segment, list, upload) = (audience.segment.is_some(), audience.list.is_some(), audience.upload.is_some());
    let resend = super::resend::wanted(spec);
    let given: Vec<&str> =
        [("segment", segment), ("list", list), ("all", all), ("upload", upload), ("[resend]", resend)]
            .into_iter()
            .filter_map(|(key, given)| given.then_some(key))
            .collect();
    match given.as_slice() {
        [] => {
            let fix = "set audience.segment to an expression, audience.list to a list, or audience.all to true";
            found.push(Problem::error("no_audience", "audience", "the campaign has no audience", fix));
        }
        [_] => {}
        several => {
            let message = format!("the audience has {} at once", several.join(" and "));
            let fix = "keep one (in a patch, set the others to null); an expression can say: in list \"…\" and …";
            found.push(Problem::error("several_audiences", "audience", message, fix));
        }
    }
    if let Some(expression) = &audience.segment {
        expression_problems("audience.segment", expression, names, found);
    }
    if let Some(expression) = &audience.exclude {
        expression_problems("audience.exclude", expression, names, found);
    }
    if let Some(list) = &audience.list {
        let lists = names.lists();
        if !lists.contains(list) {
            let near = did_you_mean(list, lists.iter().map(String::as_str));
            let message = format!("no list is named {list:?}{near}");
            found.push(Problem::error("unknown_list", "audience.list", message, "make the list, or name another"));
        }
    }
}

fn expression_problems(path: &str, expression: &str, names: &dyn Names, found: &mut Vec<Problem>) {
    if expression.trim().is_empty() {
        let fix = "write an expression, or remove the key";
        found.push(Problem::error("bad_segment", path, "the expression is empty", fix));
    } else {
        found.extend(names.expression_problems(path, expression));
    }
}

fn message(message: &MessageSpec, needs_topic: bool, names: &dyn Names, found: &mut Vec<Problem>) {
    way(message, needs_topic, names, found);
    found.extend(names.message_problems(message.channel.unwrap_or(Channel::Email), &message.fields));
}

/// How and under which consent a message goes out, without its content.
fn way(message: &MessageSpec, needs_topic: bool, names: &dyn Names, found: &mut Vec<Problem>) {
    if message.channel.is_none() {
        let fix = format!("set message.channel to one of: {}", Channel::ALL.map(Channel::name).join(", "));
        found.push(Problem::error("no_channel", "message.channel", "the message has no channel", fix));
    }
    connector(message, names, found);
    match message.topic.as_deref() {
        None | Some("") if !needs_topic => {}
        None | Some("") => {
            let fix = "set message.topic to what its contacts subscribed to, such as \"news\"";
            found.push(Problem::error("no_topic", "message.topic", "the message has no topic", fix));
        }
        Some(topic) => {
            if let Some(fault) = name_fault(topic) {
                found.push(Problem::error(
                    "bad_topic",
                    "message.topic",
                    format!("the topic {fault}"),
                    "choose another",
                ));
            }
        }
    }
}

fn connector(message: &MessageSpec, names: &dyn Names, found: &mut Vec<Problem>) {
    const PATH: &str = "message.connector";
    let connectors = names.connectors();
    let fitting: Vec<&str> = connectors
        .iter()
        .filter(|(_, channel)| message.channel.is_none_or(|wanted| wanted == *channel))
        .map(|(name, _)| name.as_str())
        .collect();
    let fix = if fitting.is_empty() {
        "configure a connector of this channel".to_owned()
    } else {
        format!("set it to one of: {}", fitting.join(", "))
    };
    let Some(name) = message.connector.as_deref().filter(|n| !n.is_empty()) else {
        found.push(Problem::error("no_connector", PATH, "the message has no connector", fix));
        return;
    };
    match (connectors.iter().find(|(known, _)| known == name), message.channel) {
        (None, _) => {
            let near = did_you_mean(name, fitting.iter().copied());
            found.push(Problem::error("unknown_connector", PATH, format!("no connector is named {name:?}{near}"), fix));
        }
        (Some((_, has)), Some(wanted)) if *has != wanted => {
            let message = format!("connector {name:?} is for {has}, and the message for {wanted}");
            found.push(Problem::error("wrong_channel", PATH, message, fix));
        }
        _ => {}
    }
}

fn rates(limits: &LimitsSpec, found: &mut Vec<Problem>) {
    if let Some(rate) = limits.messages_per_second {
        within("bad_rate", "limits.messages_per_second", rate, limits::CAMPAIGN_RATE_MAX, found);
    }
    if let Some(weight) = limits.weight {
        within("bad_weight", "limits.weight", weight, limits::CAMPAIGN_WEIGHT_MAX, found);
    }
}

fn within(code: &'static str, path: &str, value: u32, max: u32, found: &mut Vec<Problem>) {
    if !(1..=max).contains(&value) {
        let message = format!("{path} is {value}, and must be from 1 to {max}");
        found.push(Problem::error(code, path, message, "set it within these bounds, or remove it"));
    }
}

/// The least that a message has, without looking into templates: a mail has a sender that is an address, a subject and a
/// body; on any other channel it has a text.
pub fn basic_message_problems(channel: Channel, fields: &MessageFields) -> Vec<Problem> {
    let text = |key: &str| fields.get(key).and_then(|v| v.as_str()).filter(|t| !t.trim().is_empty());
    let mut found = Vec::new();
    if channel != Channel::Email {
        if text("text").is_none() {
            found.push(Problem::error("no_body", "message.text", "the message has no text", "set message.text"));
        }
        return found;
    }
    match text("from") {
        None => {
            let fix = "set message.from, such as \"News <news@example.com>\"";
            found.push(Problem::error("no_sender", "message.from", "the message has no sender", fix));
        }
        Some(from) => {
            if let Err(fault) = from.parse::<Mailbox>() {
                let message = format!("{from:?} is no address: {fault}");
                let fix = "write it as \"Name <name@example.com>\" or \"name@example.com\"";
                found.push(Problem::error("bad_sender", "message.from", message, fix));
            }
        }
    }
    if text("subject").is_none() {
        let message = "the message has no subject, or an empty one";
        found.push(Problem::error("no_subject", "message.subject", message, "set message.subject"));
    }
    if ["html", "mjml", "text"].into_iter().all(|key| text(key).is_none()) {
        let fix = "set message.html, message.mjml or message.text";
        found.push(Problem::error("no_body", "message", "the message has no body", fix));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Format, parse};
    use super::*;

    struct Known;

    impl Names for Known {
        fn now(&self) -> Timestamp {
            Timestamp(1_800_000_000_000)
        }
        fn connectors(&self) -> Vec<(String, Channel)> {
            vec![("relay".into(), Channel::Email), ("backup".into(), Channel::Email), ("texts".into(), Channel::Sms)]
        }
        fn lists(&self) -> Vec<String> {
            vec!["staff".into(), "customers".into()]
        }
        fn campaign_name_taken(&self, name: &str) -> bool {
            name == "winter"
        }
        fn expression_problems(&self, path: &str, expression: &str) -> Vec<Problem> {
            if expression.contains('!') {
                return vec![Problem::error("bad_segment", path, "unexpected \"!\"", "write not").at(1, 3)];
            }
            Vec::new()
        }
    }

    const GOOD: &str = r#"
name = "spring"
retry_deadline_hours = 24
send_until = 2030-01-01T00:00:00Z
[audience]
segment = 'age >= 18'
exclude = 'in list "staff"'
[message]
channel = "email"
connector = "relay"
topic = "news"
from = "News <news@example.test>"
subject = "Hello"
text = "…"
[limits]
messages_per_second = 500
weight = 2
"#;

    fn found(text: &str) -> Vec<Problem> {
        problems(&parse(text, Format::Toml).expect(text), &Known)
    }

    fn codes(text: &str) -> Vec<(&'static str, String)> {
        found(text).into_iter().map(|p| (p.code, p.path)).collect()
    }

    #[test]
    fn a_whole_spec_has_no_problem() {
        assert_eq!(found(GOOD), []);
    }

    #[test]
    fn an_empty_draft_lists_all_that_is_missing_at_once() {
        let all: Vec<&str> = found("").into_iter().map(|p| p.code).collect();
        assert_eq!(
            all,
            ["no_name", "no_audience", "no_channel", "no_connector", "no_topic", "no_sender", "no_subject", "no_body"]
        );
    }

    #[test]
    fn each_fault_alone_has_its_code_and_its_path() {
        let long = format!("name = \"{}\"", "a".repeat(limits::NAME_BYTES_MAX + 1));
        let cases: &[(&str, &str, &str, &str)] = &[
            ("name = \"spring\"", "name = \" \"", "no_name", "name"),
            ("name = \"spring\"", "name = \" spring\"", "bad_name", "name"),
            ("name = \"spring\"", &long, "bad_name", "name"),
            ("name = \"spring\"", "name = \"winter\"", "name_taken", "name"),
            ("= 24", "= 0", "bad_retry_deadline", "retry_deadline_hours"),
            ("= 24", "= 9999", "bad_retry_deadline", "retry_deadline_hours"),
            ("2030-", "2020-", "send_until_past", "send_until"),
            ("segment = 'age >= 18'", "", "no_audience", "audience"),
            ("segment = 'age >= 18'", "all = false", "no_audience", "audience"),
            ("segment = 'age >= 18'", "segment = 'age >= 18'\nall = true", "several_audiences", "audience"),
            ("segment = 'age >= 18'", "list = 'custmers'", "unknown_list", "audience.list"),
            ("segment = 'age >= 18'", "segment = ' '", "bad_segment", "audience.segment"),
            ("segment = 'age >= 18'", "segment = 'a!'", "bad_segment", "audience.segment"),
            ("exclude = 'in list \"staff\"'", "exclude = '!'", "bad_segment", "audience.exclude"),
            ("channel = \"email\"", "", "no_channel", "message.channel"),
            ("connector = \"relay\"", "", "no_connector", "message.connector"),
            ("\"relay\"", "\"realy\"", "unknown_connector", "message.connector"),
            ("\"relay\"", "\"texts\"", "wrong_channel", "message.connector"),
            ("topic = \"news\"", "topic = \"\"", "no_topic", "message.topic"),
            ("topic = \"news\"", "topic = \"news \"", "bad_topic", "message.topic"),
            ("News <news@example.test>", "", "no_sender", "message.from"),
            ("News <news@example.test>", "News", "bad_sender", "message.from"),
            ("subject = \"Hello\"", "subject = \"  \"", "no_subject", "message.subject"),
            ("text = \"…\"", "", "no_body", "message"),
            ("= 500", "= 0", "bad_rate", "limits.messages_per_second"),
            ("= 500", "= 4000000000", "bad_rate", "limits.messages_per_second"),
            ("weight = 2", "weight = 101", "bad_weight", "limits.weight"),
        ];
        for (right, wrong, code, path) in cases {
            assert!(GOOD.contains(right), "{right}");
            let text = GOOD.replacen(right, wrong, 1);
            assert_eq!(codes(&text), [(*code, (*path).to_owned())], "{wrong:?}");
        }
    }

    #[test]
    fn every_problem_says_what_to_do_and_offers_what_is_near() {
        let wrong = GOOD.replace("\"relay\"", "\"realy\"").replace("segment = 'age >= 18'", "list = 'custmers'");
        let all = found(&wrong);
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all[0].message.contains("did you mean \"customers\"?"), "{:?}", all[0]);
        assert!(all[1].message.contains("did you mean \"relay\"?"), "{:?}", all[1]);
        assert_eq!(all[1].fix, "set it to one of: relay, backup", "only connectors of the channel");
        for problem in found("").into_iter().chain(all) {
            assert!(!problem.message.is_empty() && !problem.fix.is_empty() && problem.blocks(), "{problem:?}");
        }
    }

    #[test]
    fn a_text_message_needs_no_subject() {
        let text = "name = \"a\"\n[audience]\nall = true\n[message]\nchannel = \"sms\"\nconnector = \"texts\"\ntopic = \"news\"\ntext = \"hi\"";
        assert_eq!(found(text), []);
        assert_eq!(codes(&text.replace("hi", "")), [("no_body", "message.text".to_owned())]);
    }
}
