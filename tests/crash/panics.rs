//! A panic in the engine ends the process, and the next start recovers as after a kill.
//!
//! Nothing in the released program panics on request, so the engine that panics is the library's, opened by this test program
//! run a second time on the data directory of a server that has ended. The panic is one in a task under the guard that
//! actors and lanes hold.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use estafette::actors::AbortOnPanic;
use estafette::api::adapter::Adapter;
use estafette::api::port::{Action, CampaignsPort, Ref};
use estafette::channels::connector::Connector;
use estafette::config::Config;
use estafette::engine::{Engine, EngineOptions};
use loadtest::base::{self, Base, Columns};
use loadtest::kill::KillResult;
use loadtest::kill::campaign::Campaign;
use loadtest::kill::kinds::{Group, Kind, subject};
use loadtest::kill::verify;
use loadtest::message::{SUBSCRIBE, small_campaign};
use loadtest::server::{Connectors, ServerPlan};
use loadtest::sink::SinkOptions;
use loadtest::sink::record;
use serde_json::json;

/// Folder of the scenario, when this program is to be the engine that panics.
const PANIC: &str = "ESTAFETTE_TEST_PANIC";
const PATIENCE: Duration = Duration::from_secs(120);
const CONTACTS: u64 = 2_000;
const CONNECTIONS: u64 = 10;
/// The campaign; its name begins the subject, by which the record knows it.
const NAME: &str = "k0000";

#[test]
fn a_panic_ends_the_process_and_the_next_start_goes_on() {
    if let Ok(folder) = std::env::var(PANIC) {
        panic_under_load(Path::new(&folder));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let record = folder.path().join("record");
    let sink = crate::sink_process(&SinkOptions { record: Some(record.clone()), ..SinkOptions::default() });
    let connectors =
        Connectors { relay_port: Some(sink.address.port()), connections: CONNECTIONS, ..Connectors::default() };
    let plan = ServerPlan::new(&crate::engine(), folder.path(), &connectors).expect("a plan");
    set_up(&plan, folder.path());

    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["panics::a_panic_ends_the_process_and_the_next_start_goes_on", "--exact", "--nocapture"])
        .env(PANIC, folder.path())
        .output()
        .expect("the engine that panics");
    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.signal(), Some(6), "SIGABRT: {said}{}", String::from_utf8_lossy(&child.stdout));
    assert!(said.contains("a fault of the program"), "by that very panic: {said}");
    let sent = record::read(&record).expect("the record").len() as u64;
    assert!((100..CONTACTS).contains(&sent), "in the middle of it: {sent} of {CONTACTS} sent");

    let server = plan.start(PATIENCE).expect("it starts again");
    let until = Instant::now() + PATIENCE;
    loop {
        let report = server.api().report(NAME).expect("the report");
        assert!(report.ledger.holds(), "{:?}", report.ledger);
        if report.state == "finished" {
            break;
        }
        assert!(Instant::now() < until, "it goes on by itself: {report:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let campaign = Campaign::of(Kind::Single, NAME, NAME, Group::of_base("c", CONTACTS));
    let mut result = KillResult { unknown_bound: CONNECTIONS, ..KillResult::default() };
    let mails = record::read(&record).expect("the record");
    let account = verify::account_of(server.api(), &campaign, &mails, &mut result.problems).expect("its sets");
    server.terminate().expect("it drains");
    sink.finish().expect("the sink ends");
    verify::accounts(&[account], &mails, &mut result);
    assert_eq!(result.problems, Vec::<String>::new(), "nobody twice, nobody forgotten");
    println!("panic: {sent} sent before; accepted {}, unknown {} ≤ {CONNECTIONS}", result.accepted, result.unknown);
}

/// Contacts and a campaign that is a draft still.
fn set_up(plan: &ServerPlan, folder: &Path) {
    let server = plan.start(PATIENCE).expect("the server starts");
    for (name, kind, index) in base::ATTRIBUTES {
        server.api().add_attribute(name, kind, index).expect("an attribute");
    }
    let file = folder.join("base.csv");
    let people = Base { contacts: CONTACTS, seed: 1, prefix: "c", batch: "base", columns: Columns::Full };
    base::write_file(&people, &file, |_| {}).expect("the base");
    let id = server.api().upload(&file, "key", Some(SUBSCRIBE)).expect("the upload");
    server.api().wait_for_import(&id, PATIENCE, |_| {}).expect("the import");
    let mut spec = small_campaign(NAME, "relay", &json!({"all": true}), Some(500));
    spec["message"]["subject"] = json!(subject(NAME, 0, "only"));
    server.api().create_campaign(&spec).expect("the campaign");
    server.terminate().expect("it drains");
}

/// Opens the engine, starts the campaign, and panics when it is under way.
fn panic_under_load(folder: &Path) -> ! {
    let config = Config::load(Some(&folder.join("estafette.toml"))).expect("the configuration");
    let connectors = config.connectors.iter().map(|c| Connector::open(c.clone()).expect("a connector")).collect();
    let options = EngineOptions {
        directory: folder.join("data"),
        connectors: config.connectors.clone(),
        public_url: config.server.public_url.clone(),
        return_path_domain: None,
        unsubscribe_mailbox: None,
        lane_threads: 2,
        aggregate_only: false,
        soft_bounces: estafette::config::SoftRule::default(),
        caps: Vec::new(),
        publish_grace: estafette::limits::PUBLISH_GRACE,
        restored: false,
        tracking_kept: Duration::from_secs(86_400),
        rejected_rows_kept: config.data.rejected_rows_kept,
    };
    actix_rt::System::new().block_on(async {
        let engine = Engine::open(options, connectors).expect("the engine");
        let adapter = Adapter::new(engine);
        adapter.act(&Ref::Name(NAME.to_owned()), Action::Start).expect("the start");
        let sent = || record::read(&folder.join("record")).map_or(0, |mails| mails.len());
        while sent() < 100 {
            actix_rt::time::sleep(Duration::from_millis(5)).await;
        }
        let task = actix_rt::spawn(async {
            let _guard = AbortOnPanic;
            panic!("a fault of the program");
        });
        task.await.expect("never");
    });
    unreachable!("the guard ends the process");
}
