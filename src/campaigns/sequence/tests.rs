//! Steps as they are read, dated, locked and compiled.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::locks::{content_changes, keep_numbers, refusals};
use super::plan::{Origin, read};
use super::timing::{effective, small_gaps};
use super::*;
use crate::campaigns::kinds::sequence::{action_of, ended_offers, gate_of, number_of};
use crate::campaigns::{CampaignSpec, Format, compile, parse};
use crate::clock::Timestamp;
use crate::flow::NodeKind;

fn utc(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().expect(text).as_millisecond())
}

const NOW: &str = "2026-11-30T12:00:00Z";

fn spec(steps: &str) -> CampaignSpec {
    let head = r#"
name = "winter"
kind = "sequence"
zone = "Europe/Paris"
[audience]
list = "customers"
segment = 'country = "FR"'
[message]
channel = "email"
connector = "relay"
topic = "news"
from = "News <news@example.test>"
subject = "Hello"
text = "…"
"#;
    let text = format!("{head}{steps}");
    parse(&text, Format::Toml).unwrap_or_else(|error| panic!("{error}: {text}"))
}

const STEPS: &str = r#"
[[steps]]
id = "hello"
kind = "send"
at = "2026-12-01T09:00"
[[steps]]
id = "who"
kind = "split"
by = "engagement"
at = "2026-12-02T09:00"
branches = [{ name = "read", on = "opened" }, { name = "idle", on = "not_clicked", of = "hello" }]
[[steps]]
id = "thanks"
kind = "send"
after = "who.read"
at = 2026-12-02T09:00:00
message = { subject = "Thank you" }
[[steps]]
id = "mark"
kind = "set_attribute"
after = "thanks"
at = "2026-12-03T09:00"
attribute = "plan"
value = "gold"
[[steps]]
id = "again"
kind = "send"
after = ["who.idle", "who.remaining"]
at = "2026-12-04T09:00"
"#;

fn codes(spec: &CampaignSpec, now: &str) -> Vec<(&'static str, String)> {
    let (plan, mut found) = read(spec);
    found.extend(alerts::alerts(&plan, utc(now), &BTreeSet::new()));
    found.into_iter().map(|problem| (problem.code, problem.path)).collect()
}

#[test]
fn steps_hang_together_as_they_are_written() {
    let spec = spec(STEPS);
    let (plan, found) = read(&spec);
    assert_eq!(found, [], "sound");
    assert_eq!(codes(&spec, NOW), [], "no alert");
    let ids: Vec<_> = plan.steps.iter().map(|s| (s.id.as_str(), s.kind.name(), s.number)).collect();
    let expected = [
        ("hello", "send", 0),
        ("who", "split", 1),
        ("thanks", "send", 2),
        ("mark", "set_attribute", 3),
        ("again", "send", 4),
    ];
    assert_eq!(ids, expected);
    assert_eq!(plan.steps[0].planned, Some(utc("2026-12-01T08:00:00Z")), "nine in Paris");
    assert_eq!(plan.steps[0].origins, [Origin::Start], "the first stands at the start");
    assert_eq!(plan.steps[4].origins.len(), 2, "branches merge");
    assert_eq!(plan.send_before(&plan.steps[1], None).map(|s| s.id.as_str()), Some("hello"), "asked about by default");
}

#[test]
fn a_sequence_compiles_to_gates_deliveries_and_ends_of_their_own() {
    let compiled = compile(&spec(STEPS)).expect("it compiles");
    assert_eq!(compiled.deliveries.iter().map(|d| d.index).collect::<Vec<_>>(), [0, 2, 4], "a delivery per send");
    assert!(compiled.deliveries.iter().all(|d| d.on_arrival && d.sends.len() == 1), "entered on arrival");
    let subject = |index: u16| {
        let send = compiled.delivery(index).expect("a delivery").sends[0];
        compiled.message(send.message).expect("a message").fields["subject"].clone()
    };
    assert_eq!((subject(0), subject(2)), ("Hello".into(), "Thank you".into()), "the step's own over the campaign's");
    for number in 0..5 {
        let gate = compiled.graph.node(gate_of(number)).expect("a gate per dated step");
        assert!(matches!(gate.kind, NodeKind::Step(_)), "{gate:?}");
        assert_eq!(compiled.graph.target(gate.id, &crate::flow::Exit::NEXT), Some(action_of(number)));
        assert_eq!(number_of(gate.id), Some(number));
    }
    let ends = compiled.graph.nodes().filter(|n| matches!(n.kind, NodeKind::End { .. })).count();
    assert_eq!(ends, 2, "behind mark and behind again");
    let audience = format!("{:?}", compiled.audience.source);
    assert!(audience.contains(r#"in list \"customers\" and (country = \"FR\")"#), "list and segment: {audience}");
}

#[test]
fn a_number_stays_with_its_step_and_is_never_given_again() {
    let first = keep_numbers(&spec(STEPS), None, 0, Timestamp(0));
    let numbers = |spec: &CampaignSpec| spec.steps.iter().map(|s| s.number.unwrap_or(99)).collect::<Vec<_>>();
    assert_eq!(numbers(&first), [0, 1, 2, 3, 4], "in order");
    let mut later = first.clone();
    later.steps.remove(3);
    later.steps.insert(2, crate::campaigns::spec::StepSpec { id: Some("new".into()), ..Default::default() });
    later.steps.iter_mut().for_each(|step| step.number = None);
    assert_eq!(
        numbers(&keep_numbers(&later, Some(&first), 5, Timestamp(0))),
        [0, 1, 5, 2, 4],
        "by their ids, and a new one for the new"
    );
}

#[test]
fn each_fault_alone_has_its_code_and_its_path() {
    let cases = [
        ("zone = \"Europe/Paris\"", "", "no_zone", "zone"),
        ("Europe/Paris", "Mars/Base", "unknown_zone", "zone"),
        ("id = \"hello\"", "id = \"hel lo\"", "bad_step_id", "steps.0.id"),
        ("id = \"again\"", "id = \"mark\"", "step_twice", "steps.4.id"),
        ("kind = \"set_attribute\"", "kind = \"delay\"", "wait_in_sequence", "steps.3.kind"),
        ("kind = \"set_attribute\"", "kind = \"teleport\"", "unknown_step_kind", "steps.3.kind"),
        ("by = \"engagement\"", "by = \"taste\"", "unknown_split", "steps.1.by"),
        ("after = \"thanks\"", "after = \"thx\"", "unknown_step", "steps.3.after"),
        ("after = \"who.read\"", "after = \"who\"", "after_split", "steps.2.after"),
        ("after = \"who.read\"", "after = \"who.reed\"", "unknown_branch", "steps.2.after"),
        ("after = [\"who.idle\", \"who.remaining\"]", "after = \"who.read\"", "exit_taken", "steps.4.after"),
        ("2026-12-03T09:00", "tomorrow", "bad_time", "steps.3.at"),
        ("on = \"opened\"", "on = \"felt\"", "bad_branch", "steps.1.branches.0"),
        ("on = \"opened\"", "weight = 1", "bad_branch", "steps.1.branches.0"),
        ("of = \"hello\"", "of = \"thanks\"", "asks_about_no_send", "steps.1.branches.1"),
        ("value = \"gold\"", "", "no_attribute", "steps.3.value"),
    ];
    let whole = spec_text();
    for (right, wrong, code, path) in cases {
        assert!(whole.contains(right), "{right}");
        let spec = parse(&whole.replacen(right, wrong, 1), Format::Toml).expect(wrong);
        let found = codes(&spec, NOW);
        assert!(found.contains(&(code, path.to_owned())), "{wrong:?}: {found:?}");
        assert!(found.iter().all(|(code, _)| *code != "step_not_dated"), "each has a date: {wrong:?}: {found:?}");
    }
}

#[test]
fn a_send_that_starts_when_its_offer_has_ended_is_named() {
    let offered =
        STEPS.replacen("at = \"2026-12-01T09:00\"", "at = \"2026-12-01T09:00\"\nsend_until = 2026-12-01T08:00:00Z", 1);
    let problems = |spec: &CampaignSpec, started: &[&str]| -> Vec<String> {
        let (mut found, started) = (Vec::new(), started.iter().map(|id| (*id).to_owned()).collect());
        ended_offers(spec, &read(spec).0, &started, &mut found);
        found.into_iter().map(|problem| format!("{} {}", problem.code, problem.path)).collect()
    };
    let none: [&str; 0] = [];
    assert_eq!(problems(&spec(STEPS), &[]), none, "no offers");
    assert_eq!(problems(&spec(&offered), &[]), ["send_until_past steps.0.send_until"], "nine in Paris is eight");
    assert_eq!(problems(&spec(&offered), &["hello"]), none, "it has started");
    let mut whole = spec(STEPS);
    whole.send_until = Some(utc("2026-12-02T00:00:00Z"));
    let later = ["send_until_past steps.2.send_until", "send_until_past steps.4.send_until"];
    assert_eq!(problems(&whole, &[]), later, "the campaign's is that of each step without one");
}

fn spec_text() -> String {
    let head = "name = \"winter\"\nkind = \"sequence\"\nzone = \"Europe/Paris\"\n";
    format!("{head}{STEPS}")
}

#[test]
fn every_wrong_date_is_listed_and_equal_dates_are_allowed() {
    let late = spec(&STEPS.replace("at = \"2026-12-01T09:00\"", "at = \"2026-12-05T09:00\""));
    let found = codes(&late, NOW);
    assert_eq!(
        found,
        [("date_after_next", "steps.0.at".into()), ("date_before_previous", "steps.1.at".into())]
            .into_iter()
            .rev()
            .collect::<Vec<(&str, String)>>(),
        "both steps of the pair; `who` and `thanks` have one date, and may"
    );
    let past = codes(&spec(STEPS), "2026-12-02T10:00:00Z");
    let expected: Vec<_> = (0..3).map(|at| ("date_past", format!("steps.{at}.at"))).collect();
    assert_eq!(past, expected, "all that are past, together");
    let (plan, _) = read(&spec(STEPS));
    let started = ["hello", "who", "thanks"].map(str::to_owned).into();
    assert_eq!(alerts::alerts(&plan, utc("2026-12-02T10:00:00Z"), &started), [], "what has started keeps its date");
}

#[test]
fn only_steps_at_the_beginning_of_a_requested_campaign_go_without_a_date() {
    let undated = STEPS.replace("at = \"2026-12-01T09:00\"\n", "");
    assert_eq!(codes(&spec(&undated), NOW), [("step_not_dated", "steps.0.at".into())], "not by its audience");
    let mut by_request = spec(&undated);
    by_request.starter = Some(crate::campaigns::spec::Starter::Api);
    assert_eq!(codes(&by_request, NOW), [], "by request it may");
    by_request.steps[3].at = None;
    assert_eq!(codes(&by_request, NOW), [("undated_after_dated", "steps.3.at".into())], "not behind a dated one");
}

#[test]
fn switching_to_requests_clears_the_first_date_and_no_other() {
    let before = spec(STEPS);
    let mut after = before.clone();
    after.starter = Some(crate::campaigns::spec::Starter::Api);
    let cleared = switched(&before, after.clone());
    assert_eq!((cleared.steps[0].at.is_none(), &cleared.steps[1..]), (true, &before.steps[1..]), "cleared");
    let again = switched(&cleared, after.clone());
    assert_eq!(again.steps[0].at, before.steps[0].at, "set again, it stays");
    assert_eq!(codes(&cleared, NOW), [], "and may stay cleared");
}

#[test]
fn activated_at_10_01_and_planned_for_10_05_it_starts_at_10_06() {
    let at = |time: &str| utc(&format!("2026-12-01T{time}:00Z"));
    let grace = Duration::from_secs(300);
    assert_eq!(effective(at("10:05"), at("10:01"), grace), at("10:06"));
    assert_eq!(effective(at("10:06"), at("10:01"), grace), at("10:06"));
    assert_eq!(effective(at("12:00"), at("10:01"), grace), at("12:00"));
}

#[test]
fn a_gap_that_the_start_does_not_fit_in_is_warned_of() {
    let (plan, _) = read(&spec(STEPS));
    let day = Duration::from_secs(86_400);
    assert_eq!(small_gaps(&plan, Duration::from_millis(1)).len(), 1, "`who` and `thanks` start together");
    assert_eq!(small_gaps(&plan, day).len(), 1, "a day is enough for a day");
    let wide = small_gaps(&plan, 2 * day + Duration::from_secs(1));
    assert_eq!(wide.len(), 5, "two branches of `who` lead to `again`: {wide:?}");
    assert!(wide.iter().all(|warning| !warning.blocks()), "warnings");
}

type Change = fn(&mut CampaignSpec);

#[test]
fn locks_hold_what_they_say() {
    let old = spec(STEPS);
    // Everybody waits for `who`; `hello` is through.
    let lock_of = |id: &str| match id {
        "hello" => Lock::Executed,
        "who" => Lock::Current,
        _ => Lock::Unreached,
    };
    let cases: [(&str, Change, &[&str]); 11] = [
        ("nothing", |_| {}, &[]),
        ("the date of the current step", |s| s.steps[1].at = s.steps[2].at.clone(), &[]),
        ("the kind of the current step", |s| s.steps[1].branches[0].on = Some("clicked".into()), &[]),
        ("a step that nobody reached is removed", |s| drop(s.steps.remove(3)), &[]),
        ("content of one ahead", |s| drop(s.steps[4].message.fields.insert("subject".into(), "New".into())), &[]),
        (
            "content of the executed one",
            |s| drop(s.steps[0].message.fields.insert("subject".into(), "New".into())),
            &["hello"],
        ),
        (
            "content that the executed one takes over",
            |s| drop(s.message.fields.insert("subject".into(), "New".into())),
            &["hello"],
        ),
        ("the date of the executed one", |s| s.steps[0].at = s.steps[1].at.clone(), &["hello"]),
        (
            "the executed one is removed",
            |s| {
                s.steps.remove(0);
            },
            &["hello", "who"],
        ),
        ("the audience", |s| s.audience.list = Some("others".into()), &["audience"]),
        ("the zone, and with it dates", |s| s.zone = Some("UTC".into()), &["hello"]),
    ];
    for (what, change, refused) in cases {
        let mut new = old.clone();
        change(&mut new);
        let found: Vec<String> = refusals(&old, &new, true, &lock_of).into_iter().map(|r| r.step).collect();
        assert_eq!(found, refused, "{what}");
    }
    let mut moved = old.clone();
    moved.steps.insert(
        1,
        crate::campaigns::spec::StepSpec {
            id: Some("x".into()),
            kind: Some("send".into()),
            at: old.steps[0].at.clone(),
            ..Default::default()
        },
    );
    let found = refusals(&old, &moved, true, &lock_of);
    assert_eq!(found.len(), 1, "a step before the current one moves it: {found:?}");
    assert!(found[0].message.contains("\"who\" is current"), "{found:?}");
}

#[test]
fn content_alone_can_be_told_from_the_rest() {
    let old = spec(STEPS);
    let mut new = old.clone();
    new.steps[4].message.fields.insert("subject".into(), "New".into());
    assert_eq!(content_changes(&old, &new), Some(vec!["again".to_owned()]));
    new.message.fields.insert("subject".into(), "All".into());
    assert_eq!(
        content_changes(&old, &new),
        Some(vec!["hello".to_owned(), "again".to_owned()]),
        "where it is taken over"
    );
    new.steps[4].at = None;
    assert_eq!(content_changes(&old, &new), None, "a date is none");
}

proptest! {
    #[test]
    fn alerts_are_empty_exactly_if_no_pair_is_out_of_order(days in proptest::collection::vec(1i8..20, 1..8)) {
        let steps: String = days.iter().enumerate().map(|(at, day)| {
            format!("[[steps]]\nid = \"s{at}\"\nkind = \"send\"\nat = \"2026-12-{day:02}T09:00\"\n")
        }).collect();
        let found = codes(&spec(&steps), "2026-11-01T00:00:00Z");
        let wrong = days.windows(2).filter(|pair| pair[0] > pair[1]).count();
        prop_assert_eq!(found.len(), 2 * wrong, "each wrong pair names both of its steps: {:?}", found);
        prop_assert_eq!(days.is_sorted(), found.is_empty());
    }

    #[test]
    fn nothing_starts_early_and_nothing_later_than_both_reasons(
        planned in 0i64..10_000_000, published in 0i64..10_000_000, grace in 0u64..1_000,
    ) {
        let (planned, published, grace) = (Timestamp(planned), Timestamp(published), Duration::from_secs(grace));
        let start = effective(planned, published, grace);
        prop_assert!(start >= planned && start >= published.plus(grace));
        prop_assert!(start == planned || start == published.plus(grace));
    }
}
