//! What is wrong with a spec is told at once: one file of each kind with mistakes of every sort, on the real program.

use serde_json::Value as Json;

use crate::served::Served;

const INBOX: &str = "[[connectors]]\nname = \"relay\"\nkind = \"inbox\"\n";
const MESSAGE: &str = "[message]\nchannel = \"email\"\nconnector = \"relay\"\ntopic = \"news\"\n\
    from = \"News <news@example.test>\"\nsubject = \"Hello\"\ntext = \"Hi\"\n";

const SINGLE: &str = r#"nmae = "one"
mode = "stirct"
same_adress = "newest"
send_until = "tomorrow"
[audience]
segment = 'agge > 3 and in list "nobody" and in segment "none"'
exclude = 'age >'
hold_out = "200%"
[message]
channel = "email"
connector = "rely"
topic = "news"
form = "News <news@example.test>"
subject = 5
text = "{% if %}"
html = "<p>{{ contact.shoe }}</p>"
[limits]
weight = -1
messages_per_second = 0
[auto_pause]
complaints = "a lot"
[schedule]
at = "soon"
zone = "Europe/Pariss"
"#;

const SINGLE_PROBLEMS: &[(u64, &str, &str)] = &[
    (1, "unknown_key", "nmae"),
    (2, "unknown_word", "mode"),
    (3, "unknown_key", "same_adress"),
    (4, "unreadable", "send_until"),
    (6, "invalid_segment", "audience.segment"),
    (7, "invalid_segment", "audience.exclude"),
    (8, "bad_hold_out", "audience.hold_out"),
    (11, "unknown_connector", "message.connector"),
    (13, "unknown_key", "message.form"),
    (14, "wrong_type", "message.subject"),
    (15, "syntax", "message.text"),
    (16, "unknown_attribute", "message.html"),
    (18, "unreadable", "limits.weight"),
    (19, "bad_rate", "limits.messages_per_second"),
    (21, "bad_auto_pause", "auto_pause.complaints"),
    (22, "bad_time", "schedule"),
    (22, "unknown_zone", "schedule"),
];

const AB_SPLIT: &str = r#"name = "split"
kind = "ab_spilt"
[audience]
all = true
[[variants]]
name = "A"
channel = "email"
subject = "One"
[[variants]]
name = "A"
weight = "much"
sbject = "Two"
[test]
sample = "120%"
decide_after = "soon"
winner_by = "glances"
loks = 2
if_not_proven = "C"
"#;

const AB_SPLIT_PROBLEMS: &[(u64, &str, &str)] = &[
    (2, "unknown_word", "kind"),
    (5, "exit_twice", "variants"),
    (7, "unreadable", "variants.0.channel"),
    (11, "wrong_type", "variants.1.weight"),
    (12, "unknown_key", "variants.1.sbject"),
    (13, "unknown_variant", "test"),
    (15, "bad_length", "test.decide_after"),
    (16, "unknown_word", "test.winner_by"),
    (17, "unknown_key", "test.loks"),
];

const GRID: &str = r#"name = "grid"
kind = "multi_segment"
[audience]
list = "nobody"
[[dimensions]]
name = "age"
othres = true
[[dimensions.segments]]
name = "young"
segment = 'age <'
[[dimensions.segments]]
segment = 'age > 30'
[[cells]]
where = { agge = "young" }
nothing = "yes"
[[cells]]
where = { age = "yuong" }
[cells.message]
subject = "{{ contact.shoe }}"
[cells.schedule]
at = "2020-01-01T00:00"
zone = "contact"
every = "every friday 17:00"
"#;

const GRID_PROBLEMS: &[(u64, &str, &str)] = &[
    (4, "unknown_list", "audience.list"),
    (7, "unknown_key", "dimensions.0.othres"),
    (10, "invalid_segment", "dimensions.0.segments.0.segment"),
    (11, "unnamed_segment", "dimensions.0.segments.1"),
    (15, "wrong_type", "cells.0.nothing"),
    (19, "unknown_attribute", "cells.1.message.subject"),
    (20, "date_past", "cells.1.schedule"),
];

const SEQUENCE: &str = r#"name = "chain"
kind = "sequence"
zone = "Europe/Pariss"
starter = "audience"
[audience]
list = "nobody"
segment = 'age <'
[schedule]
at = "2027-01-01T00:00"
[[steps]]
id = "hello"
kind = "sned"
at = "2020-01-01T09:00:00Z"
late = "perhaps"
[[steps]]
id = "who"
kind = "split"
by = "segmnets"
at = "soon"
branches = [{ name = "vip", segment = 'shoe > 3' }, { nmae = "b", segment = 'age > 3' }]
[[steps]]
id = "mark"
kind = "set_attribute"
after = "who.vp"
attribute = "shoe"
value = 1.5
[steps.message]
subject = "S"
"#;

const SEQUENCE_PROBLEMS: &[(u64, &str, &str)] = &[
    (3, "unknown_zone", "zone"),
    (6, "unknown_list", "audience.list"),
    (7, "invalid_segment", "audience.segment"),
    (8, "wrong_kind", "schedule"),
    (12, "unknown_step_kind", "steps.0.kind"),
    (13, "date_past", "steps.0.at"),
    (14, "unknown_word", "steps.0.late"),
    (18, "unknown_split", "steps.1.by"),
    (19, "bad_time", "steps.1.at"),
    (20, "invalid_segment", "steps.1.branches.0.segment"),
    (20, "unknown_key", "steps.1.branches.1.nmae"),
    (24, "unknown_branch", "steps.2.after"),
    (26, "unreadable", "steps.2.value"),
    (27, "wrong_step_key", "steps.2.message"),
];

const FLOW: &str = r#"name = "flow"
kind = "flow"
[audience]
all = true
[[nodes]]
id = "start"
kind = "start"
then = "welcom"
[[nodes]]
id = "welcome"
kind = "send"
split_on_opne = "5d"
exits = { opened = "q", not_opened = "nowhere at all" }
message = { subject = "{{ contact.shoe }}", connector = "rely" }
[[nodes]]
id = "q"
kind = "condition"
test = "clickd"
of = "welcome"
at_least = "three"
exits = { true = "early" }
[[nodes]]
id = "early"
kind = "condition"
segment = 'shoe > 3'
exits = { true = "pause", maybe = "pause" }
[[nodes]]
id = "pause"
kind = "delay"
for = "soon"
[[nodes]]
id = "island"
kind = "exti"
"#;

const FLOW_PROBLEMS: &[(u64, &str, &str)] = &[
    (8, "unknown_node", "start"),
    (12, "unknown_key", "welcome"),
    (13, "unknown_node", "welcome"),
    (14, "unknown_connector", "welcome"),
    (14, "unknown_attribute", "welcome"),
    (18, "unknown_word", "q"),
    (20, "wrong_type", "q"),
    (22, "unknown_exit", "early"),
    (25, "invalid_segment", "early"),
    (30, "bad_length", "pause"),
    (31, "unreachable", "island"),
    (33, "unknown_kind", "island"),
];

/// Line, code, and path or node of each problem.
fn told(check: &Json, place: &str) -> Vec<(u64, String, String)> {
    let text = |problem: &Json, key: &str| problem[key].as_str().unwrap_or_default().to_owned();
    let problems = check["problems"].as_array().expect("problems");
    let each = problems.iter().map(|p| (p["spec_line"].as_u64().unwrap_or(0), text(p, "code"), text(p, place)));
    each.collect()
}

#[test]
fn every_mistake_of_every_kind_is_in_one_answer_in_the_order_of_the_text() {
    let server = Served::start(INBOX);
    server.import("key=id&subscribe=email:news", "id,email,age\n1,a@x.test,31\n");
    for (name, text, place, expected) in [
        ("single", SINGLE.to_owned(), "path", SINGLE_PROBLEMS),
        ("ab_split", format!("{AB_SPLIT}{MESSAGE}"), "path", AB_SPLIT_PROBLEMS),
        ("multi_segment", format!("{GRID}{MESSAGE}"), "path", GRID_PROBLEMS),
        ("sequence", format!("{SEQUENCE}{MESSAGE}"), "path", SEQUENCE_PROBLEMS),
        ("flow", format!("{FLOW}{MESSAGE}"), "node", FLOW_PROBLEMS),
    ] {
        let file = server.write(&format!("{name}.toml"), &text);
        let check = server.cli(&["campaign", "check", &file, "--json"]).json(6);
        let told = told(&check, place);
        for (line, code, at) in expected {
            let wanted = (*line, (*code).to_owned(), (*at).to_owned());
            assert!(told.contains(&wanted), "{name}: {wanted:?} is not in {told:#?}");
        }
        let lines: Vec<u64> = told.iter().map(|(line, ..)| *line).collect();
        assert!(lines.is_sorted(), "{name}: in the order of the text: {told:#?}");
        let problems = check["problems"].as_array().unwrap();
        assert!(problems.iter().all(|p| p["fix"].as_str().is_some_and(|fix| !fix.is_empty())), "{name}: {check:#}");
        let words = server.cli(&["campaign", "check", &file]).expect(6);
        for (line, code, _) in expected {
            assert!(words.contains(&format!("line {line}")) && words.contains(&format!("[{code}]")), "{name}: {words}");
        }
    }
}

#[test]
fn a_spec_that_cannot_be_read_is_not_saved_and_the_refusal_lists_the_rest_too() {
    let server = Served::start(INBOX);
    let file = server.write("single.toml", SINGLE);
    let refused = server.cli(&["campaign", "create", &file]);
    assert_ne!(refused.code, 0, "refused: {}", refused.out);
    let said = format!("{}{}", refused.out, refused.err);
    for part in ["nmae", "[unknown_connector]", "line 11, message.connector", "[bad_rate]", "more"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let answer = server.post_text("/v1/campaigns", "application/toml", SINGLE).refused("invalid_spec", "nmae");
    assert!(answer["details"]["problems"].as_array().unwrap().len() >= 12, "all of them: {answer:#}");
    assert_eq!(answer["details"]["line"], 1, "with the place of the first: {answer:#}");
    // JSON has its lines as well, and keys that stand twice.
    let json = "{\n \"name\": \"a\",\n \"mode\": \"x\",\n \"limits\": {\"weight\": \"much\"},\n \"name\": \"b\"}";
    let check = server.post_text("/v1/campaigns/check", "application/json", json).expect(200);
    let found = told(&check, "path");
    for wanted in [(3, "unknown_word", "mode"), (4, "wrong_type", "limits.weight"), (5, "unreadable", "name")] {
        let wanted = (wanted.0, wanted.1.to_owned(), wanted.2.to_owned());
        assert!(found.contains(&wanted), "{wanted:?} is not in {found:#?}");
    }
    // All errors of syntax, and nothing that only follows from them.
    let check = server.post_text("/v1/campaigns/check", "application/toml", "name = \nmode = strict\n").expect(200);
    let lines: Vec<u64> = told(&check, "path").iter().map(|(line, ..)| *line).collect();
    assert!(lines.contains(&1) && lines.contains(&2), "{check:#}");
    assert!(check["problems"].as_array().unwrap().iter().all(|p| p["code"] == "syntax"), "{check:#}");
    assert_eq!(check["ready"], false, "{check:#}");
    // A patch is read the same way.
    server.post("/v1/campaigns", &serde_json::json!({"name": "draft"})).expect(201);
    let patch = server.write("patch.toml", "mode = \"stirct\"\n[limits]\nweight = \"much\"\n");
    let refused = server.cli(&["campaign", "edit", "draft", &patch]);
    let said = format!("{}{}", refused.out, refused.err);
    assert!(said.contains("[unknown_word]") && said.contains("[wrong_type]"), "both: {said}");
}
