//! Steps of sequences in several languages, on the real program against a sink in another process: checked, shown, edited
//! before their hour, killed, extended, entered by requests, skipped.

use std::path::Path;
use std::time::Duration;

use loadtest::sink::SinkOptions;
use loadtest::sink::process::SinkProcess;
use loadtest::sink::record;
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::sequences::{accepted, create, finished, patch, publish, report, send, soon, spec, step};
use crate::served::Served;
use crate::sink;

/// The test that is the sink when asked to.
const SINK: &str = "sequences_languages::each_contact_gets_each_step_in_its_language_also_after_edits_and_kills";

/// Three each who speak German, French and Italian, in the list `everyone`; what they get is recorded.
fn served(record: &Path) -> (Served, SinkProcess) {
    let sink = sink::start(SINK, &SinkOptions { record: Some(record.to_owned()), ..SinkOptions::default() });
    let server = Served::start(&format!(
        "schedule_safety_minutes = 0\n[[connectors]]\nname = \"relay\"\nkind = \"smtp\"\nhost = \"127.0.0.1\"\n\
         port = {}\ntls = \"none\"\n",
        sink.address.port()
    ));
    let mut csv = String::from("id,email,language,region\n");
    for (at, language) in ["de", "fr-CA", "it"].iter().enumerate() {
        (at * 3..at * 3 + 3).for_each(|n| csv.push_str(&format!("p{n},p{n}@x.test,{language},north\n")));
    }
    let report = server.import("key=id&subscribe=email:news&list=everyone", csv);
    assert_eq!(report["accepted"], 9, "{report}");
    (server, sink)
}

/// Speaks English, and French where a step says nothing else.
fn bilingual(steps: Json) -> Json {
    let mut spec = spec(steps);
    spec["message"]["connector"] = json!("relay");
    spec["message"]["default_language"] = json!("en");
    spec["message"]["languages"] = json!({"fr": {"subject": "Bonjour"}});
    spec
}

/// A send with the campaign's message.
fn plain(id: &str, at: i64, languages: &Json) -> Json {
    json!({"id": id, "kind": "send", "at": soon(at), "message": {"languages": languages}})
}

/// The subjects that somebody got, in order.
fn got(record: &Path, contact: usize) -> Vec<String> {
    let mails = record::read(record).unwrap();
    let own = mails.into_iter().filter(|mail| mail.recipient == format!("p{contact}@x.test"));
    own.map(|mail| mail.subject).collect()
}

fn preview(server: &Served, contact: &str) -> Json {
    server.post("/v1/campaigns/winter/preview", &json!({"contact": contact})).expect(200)["subject"].clone()
}

fn refused(server: &Served, code: &str, names: &str) -> Json {
    server.post("/v1/campaigns/winter/publish?confirm=true", &json!({})).refused(code, names)
}

/// The offer that is saved under that name.
fn save_offer(server: &Served, german: &str) {
    let message = json!({
        "channel": "email", "from": "News <news@example.test>", "subject": "Offer", "text": "T {{ unsubscribe_url }}",
        "default_language": "en", "languages": {"de": {"subject": german}},
    });
    let answer = server.call(Method::PUT, "/v1/messages/offer", &message);
    assert!([200, 201].contains(&answer.status), "{}", answer.text);
}

#[test]
fn each_contact_gets_each_step_in_its_language_also_after_edits_and_kills() {
    if sink::be_the_sink_if_asked() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    let (mut server, _sink) = served(&record);
    save_offer(&server, "Angebot");
    let offer = json!({"id": "offer", "kind": "send", "at": soon(3_600_000), "message": {"saved": "offer"}});
    let whole = bilingual(json!([plain("hello", 4_000, &json!({"de": {"subject": "Hallo"}})), offer]));

    // What is wrong in one language is told where it stands.
    let mut wrong = whole.clone();
    wrong["steps"][0]["message"]["languages"] =
        json!({"de": {"text": "{{ contact.nothing }}"}, "German": {"subject": "x"}});
    let check = server.post("/v1/campaigns/check", &wrong).expect(200);
    let paths: Vec<&str> = check["problems"].as_array().unwrap().iter().map(|p| p["path"].as_str().unwrap()).collect();
    assert!(paths.contains(&"steps.0.message.languages"), "{check:#}");
    assert!(paths.iter().any(|path| path.starts_with("steps.0.message.languages.de")), "{check:#}");
    wrong["message"].as_object_mut().unwrap().remove("default_language");
    let check = server.post("/v1/campaigns/check", &wrong).expect(200);
    assert!(check.to_string().contains("no_default_language"), "{check:#}");

    let made = create(&server, &whole);
    assert_eq!(made["problems"], json!([]), "{made:#}");
    assert_eq!(["p0", "p3", "p6"].map(|p| preview(&server, p)), ["Hallo", "Bonjour", "Hello"].map(Json::from));
    let dry = server.post("/v1/campaigns/winter/dry-run", &json!({})).expect(200);
    assert_eq!(dry["entered"], 9, "{dry:#}");
    let graph = server.cli(&["campaign", "graph", "winter"]).expect(0);
    assert!(graph.contains("hello (de)") && graph.contains("offer (fr)"), "{graph}");
    publish(&server);
    // What is saved under the name later is not what was published.
    save_offer(&server, "Angebot zwei");
    server.kill();
    let all_wait = |server: &Served| (step(&report(server), "offer")["waiting"] == 9).then_some(());
    server.until("all have the first", || all_wait(&server));
    let shown = report(&server);
    for name in ["hello", "hello (de)", "hello (fr)"] {
        assert_eq!(accepted(&shown, name), 3, "{name}: {shown:#}");
    }
    let first = step(&shown, "hello");
    assert_eq!((&first["reached"], &first["lock"]), (&json!(9), &json!("executed")), "{first}");

    // A language of what was sent is locked; one of what is ahead is free until its hour.
    let view = server.post("/v1/campaigns/winter/edit", &json!({})).expect(200);
    let steps = view["working_copy"]["spec"]["steps"].clone();
    assert_eq!(steps[1]["message"]["saved_version"], 1, "{view:#}");
    let mut changed = steps.clone();
    changed[0]["message"]["languages"]["de"]["subject"] = json!("Guten Tag");
    patch(&server, &json!({"steps": changed}));
    refused(&server, "step_locked", "\"hello\"");
    let mut later = steps.clone();
    later[1]["at"] = json!(soon(6_000));
    later[1]["message"]["languages"]["fr"] = json!({"subject": "Offre"});
    patch(&server, &json!({"steps": later}));
    publish(&server);
    server.kill();
    finished(&server);

    // Who ended goes on in the same language; steps that ran name their saved message as a file would.
    server.post("/v1/campaigns/winter/extend", &json!({})).expect(200);
    let mut offer = later[1].clone();
    offer["message"] = json!({"saved": "offer", "languages": {"fr": {"subject": "Offre"}}});
    let bye = send("bye", 2_500);
    patch(&server, &json!({"steps": [steps[0], offer, bye]}));
    let mut bye = bye;
    bye["message"]["languages"] = json!({"it": {"subject": "ciao"}, "de": {"subject": "ade"}});
    patch(&server, &json!({"steps": [steps[0], offer, bye]}));
    assert_eq!(publish(&server)["state"], "running", "finished, and running again");
    let shown = finished(&server);
    assert_eq!(accepted(&shown, "bye (it)"), 3, "{shown:#}");
    for (people, subjects) in
        [(0..3, ["Hallo", "Angebot", "ade"]), (3..6, ["Bonjour", "Offre", "bye"]), (6..9, ["Hello", "Offer", "ciao"])]
    {
        for contact in people {
            assert_eq!(got(&record, contact), subjects, "p{contact}, once each");
        }
    }
}

#[test]
fn steps_by_request_and_steps_that_are_skipped_are_one_in_all_their_languages() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    let (mut server, _sink) = served(&record);
    let mut late = plain("late", 6_000, &json!({"de": {"subject": "Spät"}}));
    late["too_late"] = json!("1s");
    let now = json!({"id": "now", "kind": "send", "message": {"languages": {"de": {"subject": "Jetzt"}}}});
    let mut spec = bilingual(json!([now, late]));
    spec["starter"] = json!("api");
    spec.as_object_mut().unwrap().remove("audience");
    let made = create(&server, &spec);
    assert_eq!(made["problems"], json!([]), "{made:#}");
    publish(&server);
    let lock = |server: &Served| step(&report(server), "now")["lock"].clone();
    assert_eq!(lock(&server), "unreached", "nobody came");
    // Nobody who speaks the default language is among them.
    let entrants = json!({"contacts": ["p0", "p3"], "idempotency_key": "r1"});
    assert_eq!(server.post("/v1/campaigns/winter/enter", &entrants).expect(200)["entered"], 2);
    server.until("both have it", || (step(&report(&server), "late")["waiting"] == 2).then_some(()));
    assert_eq!((lock(&server), step(&report(&server), "now")["reached"].as_u64()), (json!("executed"), Some(2)));
    server.end();
    std::thread::sleep(Duration::from_secs(7));
    server.restart();
    server.until("it is held back", || (step(&report(&server), "late")["held"] == true).then_some(()));
    server.cli(&["campaign", "skip-step", "winter", "late"]).expect(0);
    let shown = finished(&server);
    assert_eq!(step(&shown, "late")["skipped"], true, "{shown:#}");
    assert_eq!((got(&record, 0), got(&record, 3)), (vec!["Jetzt".to_owned()], vec!["Bonjour".to_owned()]), "no more");
    assert_eq!(record::read(&record).unwrap().len(), 2, "nobody else");
}
