//! The accounts find every lie that books can tell, of each kind of campaign.

use serde_json::json;

use super::KillResult;
use super::campaign::{Campaign, Script};
use super::kinds::{Group, Kind, cell_of, is_one, subject};
use super::sequence::Sequence;
use super::split::Split;
use super::verify::{Account, DeliverySets, RunSets, accounts};
use crate::api::Ledger;
use crate::sink::record::Accepted;

const NAME: &str = "k0000";

fn ledger(places: &[&'static str]) -> Ledger {
    let count = |set: &str| places.iter().filter(|place| **place == set).count() as u64;
    Ledger {
        audience: places.iter().filter(|place| !place.is_empty()).count() as u64,
        accepted: count("accepted"),
        rejected: count("rejected"),
        skipped: count("skipped"),
        unknown: count("unknown"),
        pending: count("pending"),
        balanced: true,
        ..Ledger::default()
    }
}

/// Contact i is in the set `places[i]`; in none if that is empty.
fn delivery(places: &[&'static str]) -> DeliverySets {
    let named = (0u64..).zip(places).filter(|(_, place)| !place.is_empty());
    let places_of = named.map(|(contact, place)| (contact, vec![*place])).collect();
    DeliverySets { ledger: ledger(places), places: places_of, ..DeliverySets::default() }
}

fn account(kind: Kind, deliveries: &[&[&'static str]]) -> Account {
    let group = Group::of_base("f", deliveries[0].len() as u64);
    let script = match kind {
        Kind::AbSplit => Script::Split(Split::default()),
        Kind::Sequence => Script::Sequence(Box::new(Sequence::new(NAME, 0))),
        _ => Script::None,
    };
    let campaign = Campaign { script, ..Campaign::of(kind, NAME, "1", group) };
    let each = (0u16..).zip(deliveries).map(|(index, places)| (index, delivery(places))).collect();
    Account { campaign, view: json!({}), runs: vec![RunSets { run: 1, deliveries: each, ..RunSets::default() }] }
}

/// One mail each: delivery, contact, version.
fn record(mails: &[(u16, u64, &str)]) -> Vec<Accepted> {
    let group = Group::of_base("f", 1_000);
    let one = |(at, (delivery, contact, version)): (usize, &(u16, u64, &str))| Accepted {
        recipient: group.email(*contact),
        message_id: format!("<{at}@x>"),
        subject: subject(NAME, *delivery, version),
    };
    mails.iter().enumerate().map(one).collect()
}

fn judged(one: &Account, mails: &[Accepted]) -> KillResult {
    let mut result = KillResult { unknown_bound: 1, ..KillResult::default() };
    accounts(std::slice::from_ref(one), mails, &mut result);
    result
}

fn of_single(places: &[&'static str], mailed: &[u64]) -> KillResult {
    let mails: Vec<_> = mailed.iter().map(|contact| (0, *contact, "only")).collect();
    judged(&account(Kind::Single, &[places]), &record(&mails))
}

#[test]
fn true_books_pass() {
    let result = of_single(&["accepted", "unknown", "rejected", "skipped", "accepted"], &[0, 1, 4]);
    assert_eq!(result.problems, [] as [String; 0], "nothing is wrong");
    assert_eq!((result.accepted, result.unknown, result.recorded), (2, 1, 3), "sums");
    assert_eq!(of_single(&["unknown"], &[]).problems, [] as [String; 0], "an unknown may not have arrived");
}

#[test]
fn every_lie_of_one_message_is_found() {
    let lies: [(&str, &[&'static str], &[u64]); 7] = [
        ("twice", &["accepted"], &[0, 0]),
        ("accepted and never recorded", &["accepted"], &[]),
        ("rejected and yet recorded", &["rejected"], &[0]),
        ("skipped and yet recorded", &["skipped"], &[0]),
        ("left pending at the end", &["pending"], &[]),
        ("more unknown than were in flight", &["unknown", "unknown"], &[]),
        ("in no set", &["accepted", ""], &[0]),
    ];
    for (lie, places, mailed) in lies {
        assert!(!of_single(places, mailed).problems.is_empty(), "{lie} was not found");
    }
    assert_eq!(of_single(&["accepted"], &[0, 0]).twice, 1, "counted as twice");
    assert_eq!(of_single(&["accepted"], &[]).unaccounted, 1, "counted as unaccounted");
}

#[test]
fn a_contact_in_two_sets_and_a_stranger_are_found() {
    let mut one = account(Kind::Single, &[&["accepted", "accepted"]]);
    let sets = one.runs[0].deliveries.get_mut(&0).unwrap();
    sets.places.get_mut(&1).unwrap().push("unknown");
    sets.ledger.unknown = 1;
    let mut mails = record(&[(0, 0, "only"), (0, 1, "only"), (0, 1, "only")]);
    mails[2].recipient = "other@example.test".to_owned();
    let text = judged(&one, &mails).problems.join("\n");
    assert!(text.contains("unaccounted") && text.contains("final ledger"), "two sets: {text}");
    assert!(text.contains("other@example.test"), "a stranger: {text}");
    let nobody = Accepted { subject: "k9999 0.only hello".to_owned(), ..record(&[(0, 0, "only")]).remove(0) };
    assert!(judged(&account(Kind::Single, &[&["unknown"]]), &[nobody]).problems[0].contains("of no campaign"));
}

#[test]
fn two_mails_of_two_runs_are_not_twice_and_one_mail_twice_is() {
    let mut one = account(Kind::Scheduled, &[&["accepted"]]);
    one.runs.push(RunSets { run: 2, ..one.runs[0].clone() });
    one.view = json!({"schedule": {"made": 2, "skipped": 1}});
    let mut mails = record(&[(0, 0, "only"), (0, 0, "only")]);
    assert_eq!(judged(&one, &mails).problems, [] as [String; 0], "one a run");
    mails[1].message_id = mails[0].message_id.clone();
    assert_eq!(judged(&one, &mails).twice, 1, "the same mail again");
    for run in &mut one.runs {
        run.delivered = Some([0].into_iter().collect());
    }
    one.runs[1].delivered = Some([].into_iter().collect());
    let text = judged(&one, &record(&[(0, 0, "only"), (0, 0, "only")])).problems.join("\n");
    assert!(text.contains("of another run"), "both mails are of run 1: {text}");
}

#[test]
fn a_follow_up_is_of_those_whose_first_message_was_accepted() {
    let first: &[&'static str] = &["accepted", "rejected", "unknown"];
    let good = account(Kind::FollowUp, &[first, &["accepted", "", ""]]);
    let mails = record(&[(0, 0, "only"), (1, 0, "again")]);
    assert_eq!(judged(&good, &mails).problems, [] as [String; 0], "two messages are two deliveries");
    for second in [["", "", ""], ["skipped", "skipped", ""], ["skipped", "", "skipped"]] {
        let text = judged(&account(Kind::FollowUp, &[first, &second]), &record(&[(0, 0, "only")])).problems.join("\n");
        assert!(text.contains("follow-up"), "{second:?}: {text}");
    }
}

#[test]
fn cells_and_ways_are_known_by_the_contacts_number() {
    let places = ["accepted"; 20];
    let right: Vec<_> = (0..20).map(|contact| (0, contact, cell_of(contact))).collect();
    assert_eq!(judged(&account(Kind::MultiSegment, &[&places]), &record(&right)).problems, [] as [String; 0]);
    let mut wrong = right;
    wrong[7].2 = "w";
    assert!(judged(&account(Kind::MultiSegment, &[&places]), &record(&wrong)).problems[0].contains("another cell"));

    let again: Vec<&'static str> = (0..20).map(|i| if is_one(i) { "skipped" } else { "" }).collect();
    let fourth: Vec<&'static str> = (0..20).map(|i| if is_one(i) { "" } else { "skipped" }).collect();
    let mails: Vec<_> = (0..20).map(|contact| (0, contact, "first")).collect();
    let good = account(Kind::Flow, &[&places, &again, &fourth]);
    assert_eq!(judged(&good, &record(&mails)).problems, [] as [String; 0], "one way each");
    let both = account(Kind::Flow, &[&places, &again, &["skipped"; 20]]);
    assert!(judged(&both, &record(&mails)).problems.join("\n").contains("ways"), "two ways");
}

#[test]
fn a_split_without_a_decision_and_a_version_too_many_are_found() {
    let mut one = account(Kind::AbSplit, &[&["accepted", "accepted"]]);
    one.runs[0].deliveries.get_mut(&0).unwrap().messages = vec![("a".to_owned(), 1), ("b".to_owned(), 1)];
    let mails = record(&[(0, 0, "a"), (0, 1, "b")]);
    assert!(judged(&one, &mails).problems.join("\n").contains("undecided"), "nothing was decided");
    one.runs[0].decision = Some(json!({"winner": "a"}));
    assert_eq!(judged(&one, &mails).problems, [] as [String; 0], "each got one");
    let text = judged(&one, &record(&[(0, 0, "a"), (0, 1, "a")])).problems.join("\n");
    assert!(text.contains("a version's mails"), "{text}");
}

#[test]
fn a_sequence_that_loses_its_cohort_or_mixes_versions_is_found() {
    let (all, none): (&[&'static str], &[&'static str]) = (&["accepted", "accepted"], &["", ""]);
    let good = account(Kind::Sequence, &[all, none, &["accepted", ""], none, all]);
    let mails = [(0, 0, "one"), (0, 1, "one"), (2, 0, "two"), (4, 0, "bye"), (4, 1, "bye")];
    assert_eq!(judged(&good, &record(&mails)).problems, [] as [String; 0], "edited by nobody");
    let lost = account(Kind::Sequence, &[all, none, &["accepted", ""], none, &["accepted", ""]]);
    assert!(judged(&lost, &record(&mails[..4])).problems.join("\n").contains("unaccounted"), "one never came on");
    let mut other = mails;
    other[2].2 = "two-v3";
    assert!(judged(&good, &record(&other)).problems.join("\n").contains("versions"), "a version of nobody");
}
