//! Specs from text and back: TOML, JSON, merge patches, and the stored form.
//!
//! Errors name line and column, both from 1, columns in characters. The parsers bound the depth themselves (TOML 80,
//! JSON 128); the size is bounded here.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::spec::{CampaignSpec, Table, plain};
use super::suggest;
use crate::clock::Timestamp;
use crate::limits;

/// Version of the stored form; a reader refuses what it does not know.
const STORED_VERSION: u64 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Toml,
    Json,
}

/// Why a text is no spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct SpecError {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl SpecError {
    fn at_start(message: impl Into<String>) -> SpecError {
        SpecError { line: 1, column: 1, message: message.into() }
    }
}

/// A spec from its text. It may be incomplete; what is there must have the right keys and types.
pub fn parse(text: &str, format: Format) -> Result<CampaignSpec, SpecError> {
    if text.len() > limits::SPEC_BYTES_MAX {
        let max = limits::SPEC_BYTES_MAX;
        return Err(SpecError::at_start(format!("the spec has {} bytes, and {max} is the most", text.len())));
    }
    match format {
        Format::Toml => toml::from_str(text).map(|Table(spec)| spec).map_err(|e| from_toml(text, &e)),
        Format::Json => serde_json::from_str(without_mark(text)).map(|Table(spec)| spec).map_err(|e| from_json(&e)),
    }
}

/// A spec with a JSON merge patch applied (RFC 7396): a key set to `null` is removed, tables are merged, everything else
/// is replaced. The patch may be written in TOML too, which has no `null`.
pub fn merge_patch(spec: &CampaignSpec, patch: &str, format: Format) -> Result<CampaignSpec, SpecError> {
    // A patch has the shape of a spec, so that reading it as one finds its faults where they stand.
    parse(patch, format)?;
    let patch: Value = match format {
        Format::Toml => toml::from_str(patch).map_err(|e| from_toml(patch, &e))?,
        Format::Json => serde_json::from_str(without_mark(patch)).map_err(|e| from_json(&e))?,
    };
    let mut target = spec.to_value();
    merge(&mut target, plain(patch));
    let merged: CampaignSpec =
        serde_json::from_value(target).map_err(|e| SpecError::at_start(reword(&e.to_string())))?;
    let size = merged.to_json().len();
    if size > limits::SPEC_BYTES_MAX {
        let max = limits::SPEC_BYTES_MAX;
        return Err(SpecError::at_start(format!("the patched spec would have {size} bytes, and {max} is the most")));
    }
    Ok(merged)
}

/// The stored form: the canonical JSON under its version.
pub fn to_stored(spec: &CampaignSpec) -> String {
    json!({ "version": STORED_VERSION, "spec": spec.to_value() }).to_string()
}

/// [`to_stored`] with the name of the request that makes it, so that the same request can be told when it comes again.
pub fn to_stored_for(spec: &CampaignSpec, request: &str) -> String {
    json!({ "version": STORED_VERSION, "spec": spec.to_value(), "request": request }).to_string()
}

/// Who said when that the people of an uploaded file agreed to be written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// The name of the key that the word came with.
    pub by: String,
    pub at: Timestamp,
    /// The id of that key; empty if it came without a request.
    #[serde(default)]
    pub key: String,
    /// `api`, `cli` or `library`.
    #[serde(default)]
    pub via: String,
}

/// [`to_stored`] with the word for an upload, and the name of the request, if there is one.
pub fn to_stored_confirmed(spec: &CampaignSpec, request: Option<&str>, confirmed: &Confirmed) -> String {
    let mut stored = json!({ "version": STORED_VERSION, "spec": spec.to_value(), "confirmed": confirmed });
    if let Some(request) = request {
        stored["request"] = request.into();
    }
    stored.to_string()
}

/// The stored form of a spec that takes the place of `old`: its request and the word for its upload stay.
pub fn to_stored_like(spec: &CampaignSpec, old: &str) -> String {
    let request = request_of(old);
    match (confirmed_of(old), &request) {
        (Some(confirmed), request) => to_stored_confirmed(spec, request.as_deref(), &confirmed),
        (None, Some(request)) => to_stored_for(spec, request),
        (None, None) => to_stored(spec),
    }
}

/// The word that a stored spec was saved with.
pub fn confirmed_of(text: &str) -> Option<Confirmed> {
    let mut value: Value = serde_json::from_str(text).ok()?;
    serde_json::from_value(value["confirmed"].take()).ok()
}

/// The name of the request that made a stored spec, if it had one.
pub fn request_of(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    value["request"].as_str().map(str::to_owned)
}

pub fn from_stored(text: &str) -> Result<CampaignSpec, SpecError> {
    let mut value: Value = serde_json::from_str(text).map_err(|e| from_json(&e))?;
    if value["version"] != STORED_VERSION {
        let found = &value["version"];
        return Err(SpecError::at_start(format!(
            "stored spec of version {found}; this program reads {STORED_VERSION}"
        )));
    }
    serde_json::from_value(value["spec"].take()).map_err(|e| SpecError::at_start(reword(&e.to_string())))
}

/// RFC 7396, section 2. The depth is that of the patch, which its parser bounds.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(target) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(&key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

pub(super) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

pub(super) fn from_toml(text: &str, error: &toml::de::Error) -> SpecError {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    SpecError {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        message: reword(error.message()),
    }
}

pub(super) fn from_json(error: &serde_json::Error) -> SpecError {
    let full = error.to_string();
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    let message = full.strip_suffix(&suffix).unwrap_or(&full);
    SpecError { line: error.line().max(1), column: error.column().max(1), message: reword(message) }
}

/// Keys of the spec by the table that they stand in.
const PLACES: [(&str, &[&str]); 7] = [
    (
        "",
        &[
            "name",
            "kind",
            "mode",
            "same_address",
            "retry_deadline_hours",
            "send_until",
            "split_on_open",
            "audience",
            "message",
            "limits",
            "schedule",
            "variants",
            "test",
            "follow_up",
            "dimensions",
            "cells",
            "nodes",
            "zone",
            "starter",
            "steps",
            "caps",
            "resend",
            "auto_pause",
        ],
    ),
    ("audience", &["segment", "list", "all", "exclude", "not_contacted", "hold_out", "upload", "consent_confirmed"]),
    (
        "message",
        &[
            "channel",
            "connector",
            "topic",
            "saved",
            "default_language",
            "languages",
            "from",
            "reply_to",
            "subject",
            "html",
            "mjml",
            "text",
        ],
    ),
    ("limits", &["messages_per_second", "weight"]),
    (
        "test",
        &[
            "sample",
            "winner_by",
            "goal",
            "zone",
            "decide_after",
            "window",
            "looks",
            "if_not_proven",
            "min_delivered",
            "min_events",
        ],
    ),
    ("follow_up", &["on", "after", "send_until"]),
    ("schedule", &["at", "dates", "every", "until", "zone", "default_zone", "too_late"]),
];

/// In which table a key belongs.
pub(super) fn elsewhere(key: &str) -> Option<String> {
    let (place, _) = PLACES.iter().find(|(_, keys)| keys.contains(&key))?;
    Some(if place.is_empty() {
        "it stands at the top, before the first table".to_owned()
    } else {
        format!("it stands in [{place}]")
    })
}

fn reword(message: &str) -> String {
    suggest::reword(message, elsewhere)
}

/// For the fuzz run: any bytes are a spec or an error, and a spec reads back equal.
pub fn fuzz_spec(text: &str) {
    for format in [Format::Toml, Format::Json] {
        if let Ok(spec) = parse(text, format) {
            let again = from_stored(&to_stored(&spec));
            assert_eq!(again.as_ref(), Ok(&spec), "a spec reads back equal");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::spec::{Kind, Mode, SameAddress};
    use super::*;
    use crate::ids::Channel;

    const FULL: &str = r#"
name = "spring"
kind = "single"
mode = "at_least_once"
same_address = "oldest"
retry_deadline_hours = 24
send_until = 2026-12-01T18:00:00+01:00
[audience]
segment = 'country = "FR" and age >= 18'
exclude = 'in list "staff"'
[message]
channel = "email"
connector = "relay"
topic = "news"
from = "News <news@example.test>"
subject = "Hello {{ contact.first_name }}"
html = """
<p>offer</p>
"""
[message.headers]
X-Mark = "1"
[limits]
messages_per_second = 500
weight = 3
"#;

    fn toml(text: &str) -> Result<CampaignSpec, SpecError> {
        parse(text, Format::Toml)
    }

    fn json(text: &str) -> Result<CampaignSpec, SpecError> {
        parse(text, Format::Json)
    }

    #[test]
    fn a_full_spec_is_read_from_toml_and_its_json_reads_back_equal() {
        let spec = toml(FULL).expect("spec");
        assert_eq!(spec.kind(), Kind::Single, "kind");
        assert_eq!(spec.mode, Some(Mode::AtLeastOnce), "mode");
        assert_eq!(spec.same_address, Some(SameAddress::Oldest), "same_address");
        assert_eq!(
            spec.send_until.map(|t| t.to_string()).as_deref(),
            Some("2026-12-01T17:00:00Z"),
            "TOML's own date-time"
        );
        assert_eq!(spec.message.channel, Some(Channel::Email), "channel");
        assert_eq!(spec.message.fields["html"], "<p>offer</p>\n", "content");
        assert_eq!(spec.message.fields["headers"]["X-Mark"], "1", "nested content");
        assert!(!spec.message.fields.contains_key("topic"), "our keys are not content");
        assert_eq!(spec.limits.messages_per_second, Some(500), "limit");
        assert_eq!(json(&spec.to_json()), Ok(spec.clone()), "canonical JSON");
        assert_eq!(from_stored(&to_stored(&spec)), Ok(spec), "stored form");
    }

    #[test]
    fn a_draft_may_lack_anything() {
        for (text, format) in [("", Format::Toml), ("{}", Format::Json), ("\u{feff}{}", Format::Json)] {
            assert_eq!(parse(text, format), Ok(CampaignSpec::default()), "{text:?}");
        }
        let nulls = r#"{"name":null,"audience":null,"message":{"html":null,"channel":null},"limits":{"weight":null},"send_until":null}"#;
        assert_eq!(json(nulls), Ok(CampaignSpec::default()), "null is missing");
    }

    /// Text, format, line and column (0: not held against), part of the message.
    const FAULTS: &[(&str, Format, (usize, usize), &str)] = &[
        ("name = \"a\"\nnmae = 1", Format::Toml, (2, 1), "unknown key \"nmae\"; did you mean \"name\"?"),
        ("[audience]\nsegmnet = 'a'", Format::Toml, (2, 1), "did you mean \"segment\"?"),
        ("[limits]\nmode = \"strict\"", Format::Toml, (2, 1), "it stands at the top"),
        ("[limits]\nlist = \"a\"", Format::Toml, (2, 1), "it stands in [audience]"),
        ("subject = \"a\"", Format::Toml, (1, 1), "it stands in [message]"),
        ("[message]\nchanel = \"email\"", Format::Toml, (2, 10), "did you mean \"channel\"?"),
        ("mode = \"stric\"", Format::Toml, (1, 8), "unknown value \"stric\"; did you mean \"strict\"?"),
        ("kind = \"ab\"", Format::Toml, (1, 8), "unknown value \"ab\""),
        ("[message]\nchannel = \"fax\"", Format::Toml, (2, 11), "allowed: email, sms"),
        ("[limits]\nmessages_per_second = -5", Format::Toml, (2, 23), "-5"),
        ("send_until = 2026-12-01T18:00:00", Format::Toml, (1, 14), "write it with an offset"),
        ("send_until = \"tomorrow\"", Format::Toml, (1, 14), "no instant"),
        ("name = \"é\" \"", Format::Toml, (1, 12), "unexpected"),
        ("name = \"a\"\nname = \"b\"", Format::Toml, (2, 1), "duplicate"),
        ("name = \"a\\u0001\"", Format::Toml, (1, 8), "control character U+0001"),
        ("[message]\nhtml = \"a\\u0002\"", Format::Toml, (2, 8), "control character U+0002"),
        ("[message]\npriority = 1.5", Format::Toml, (2, 12), "must be whole"),
        ("{\n \"nmae\": 1}", Format::Json, (2, 7), "did you mean \"name\"?"),
        ("{\"name\": \"a\", \"name\": \"b\"}", Format::Json, (1, 20), "duplicate"),
        ("{\"message\": {\"html\": \"a\", \"html\": \"b\"}}", Format::Json, (1, 38), "stands twice"),
        ("{\"message\": {\"topic\": \"a\", \"topic\": \"b\"}}", Format::Json, (1, 0), "stands twice"),
        ("{\"name\": ", Format::Json, (1, 9), "EOF"),
        ("[1]", Format::Json, (1, 0), "expected a table"),
        ("null", Format::Json, (1, 0), "expected a table"),
        ("{\"limits\": [500]}", Format::Json, (1, 0), "expected a table"),
        ("limits = [500]", Format::Toml, (1, 10), "expected a table"),
        ("{} x", Format::Json, (1, 4), "trailing"),
    ];

    #[test]
    fn each_fault_is_told_with_its_place_and_the_way_out() {
        for (text, format, (line, column), part) in FAULTS {
            let error = parse(text, *format).expect_err(text);
            assert!(error.message.contains(part), "{text:?}: {error}");
            assert_eq!(error.line, *line, "line of {text:?}: {error}");
            if *column > 0 {
                assert_eq!(error.column, *column, "column of {text:?}: {error}");
            }
        }
    }

    #[test]
    fn deep_and_large_texts_are_refused() {
        let deep = format!("{{\"message\":{{\"x\":{}{}}}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(json(&deep).is_err(), "deep JSON");
        let deep = format!("[message]\nx = {}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(toml(&deep).is_err(), "deep TOML");
        let large = format!("{{\"name\":\"{}\"}}", "a".repeat(limits::SPEC_BYTES_MAX));
        assert!(json(&large).expect_err("large").message.contains("is the most"), "large");
    }

    #[test]
    fn a_patch_merges_tables_replaces_values_and_removes_nulls() {
        let spec = toml(FULL).expect("spec");
        let patch = r#"{"name":"summer","audience":{"segment":null,"list":"vip"},"message":{"subject":"Hi","headers":{"X-Mark":null,"X-New":"2"}},"limits":null}"#;
        let patched = merge_patch(&spec, patch, Format::Json).expect("patched");
        assert_eq!(patched.name.as_deref(), Some("summer"), "replaced");
        assert_eq!(
            (patched.audience.segment.as_deref(), patched.audience.list.as_deref()),
            (None, Some("vip")),
            "audience"
        );
        assert_eq!(patched.audience.exclude, spec.audience.exclude, "kept");
        assert_eq!(patched.message.fields["subject"], "Hi", "content");
        assert_eq!(patched.message.fields["headers"], serde_json::json!({ "X-New": "2" }), "nested content");
        assert_eq!(patched.limits, Default::default(), "a table removed");
        assert_eq!(merge_patch(&spec, "{}", Format::Json), Ok(spec.clone()), "an empty patch");
        let toml_patch = merge_patch(&spec, "send_until = 2027-01-01T00:00:00Z", Format::Toml).expect("patched");
        assert_eq!(toml_patch.send_until.map(|t| t.to_string()).as_deref(), Some("2027-01-01T00:00:00Z"), "TOML");
    }

    #[test]
    fn a_bad_patch_is_refused_with_its_place() {
        let spec = CampaignSpec::default();
        let error = merge_patch(&spec, "{\n\"limits\": {\"wieght\": 1}}", Format::Json).expect_err("unknown key");
        assert_eq!(error.line, 2, "{error}");
        assert!(error.message.contains("did you mean \"weight\"?"), "{error}");
        assert!(merge_patch(&spec, "[]", Format::Json).is_err(), "no object");
        assert!(merge_patch(&spec, "null", Format::Json).is_err(), "nothing");
        assert!(merge_patch(&spec, "{\"limits\": 3}", Format::Json).is_err(), "wrong type");
    }

    #[test]
    fn patches_cannot_grow_a_spec_beyond_its_bound() {
        let half = "a".repeat(limits::SPEC_BYTES_MAX / 2);
        let patch = |key: &str| format!("{{\"message\":{{\"{key}\":\"{half}\"}}}}");
        let once = merge_patch(&CampaignSpec::default(), &patch("html"), Format::Json).expect("fits");
        let error = merge_patch(&once, &patch("text"), Format::Json).expect_err("does not fit");
        assert!(error.message.contains("patched spec"), "{error}");
    }

    #[test]
    fn a_stored_spec_of_another_version_is_refused() {
        for text in ["{\"version\":2,\"spec\":{}}", "{\"spec\":{}}"] {
            assert!(from_stored(text).expect_err(text).message.contains("version"), "{text}");
        }
        assert!(from_stored("nonsense").is_err(), "no JSON");
    }

    /// The merge of RFC 7396, its examples of appendix A.
    #[test]
    fn merging_follows_the_examples_of_the_rfc() {
        let examples = [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ];
        let value = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        for (target, patch, expected) in examples {
            let mut merged = value(target);
            merge(&mut merged, value(patch));
            assert_eq!(merged, value(expected), "{target} with {patch}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_spec_or_an_error(text in "\\PC{0,80}", noise in proptest::collection::vec((0usize..600, any::<char>()), 0..4)) {
            fuzz_spec(&text);
            let mut full: Vec<char> = FULL.chars().collect();
            for (at, c) in noise {
                let at = at % full.len();
                full[at] = c;
            }
            fuzz_spec(&full.into_iter().collect::<String>());
        }

        #[test]
        fn the_canonical_form_reads_back_equal(
            name in prop::option::of("[ -~é]{0,20}"), all in prop::option::of(any::<bool>()),
            rate in prop::option::of(any::<u32>()), until in prop::option::of(-60_000_000_000_000i64..250_000_000_000_000),
            fields in proptest::collection::btree_map("[a-z_]{6,9}", "[ -~\n\t]{0,30}", 0..4),
        ) {
            let mut spec = CampaignSpec { name, send_until: until.map(crate::clock::Timestamp), ..CampaignSpec::default() };
            spec.audience.all = all;
            spec.limits.messages_per_second = rate;
            for (key, value) in fields {
                // "connector" and "channel" are ours, and what is near them is refused.
                if suggest::nearest(&key, ["connector", "channel"]).is_none() {
                    spec.message.fields.insert(key, Value::String(value));
                }
            }
            prop_assert_eq!(json(&spec.to_json()), Ok(spec.clone()));
            let patched = merge_patch(&CampaignSpec::default(), &spec.to_json(), Format::Json);
            prop_assert_eq!(patched, Ok(spec), "as a patch on nothing");
        }
    }
}
