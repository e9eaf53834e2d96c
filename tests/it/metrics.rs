//! Every series of the catalogue on `/metrics` of an engine at work, and none beside it; ledger gauges equal the report.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web;
use estafette::actors::tracker::TrackedEvent;
use estafette::api::adapter::Adapter;
use estafette::api::keys::KeyHash;
use estafette::api::port::{
    Action, CampaignsPort, EnginePort, ImportOptions, ImportState, Ledger, Ref, Report, RunRef, SpecFormat, SpecText,
};
use estafette::api::server::{Servers, bind};
use estafette::api::state::ApiState;
use estafette::api::tracking::TrackingState;
use estafette::channels::connector::Connector;
use estafette::clock::SystemClock;
use estafette::config::Config;
use estafette::config::connectors::ConnectorSettings;
use estafette::content::TokenId;
use estafette::flow::NodeId;
use estafette::ids::{ContactRow, MessageId, RowSpace, RunId};
use estafette::ledger::tracking::{EventClass, TrackedKind};
use estafette::metrics::{CATALOGUE, Kind, Source};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::harness::{TestEngine, import_options};

/// Only a broken engine takes it.
const PATIENCE: Duration = Duration::from_secs(60);

const CONFIG: &str = r#"
[server]
metrics_open = true

[[connectors]]
name = "fast"
kind = "simulated"
hard_bounce_share = 0.2
latency_max_millis = 2

[[connectors]]
name = "slow"
kind = "simulated"
messages_per_second = 2

[[connectors]]
name = "quiet"
kind = "simulated"
"#;

fn config() -> Config {
    Config::parse(CONFIG, Path::new("test.toml")).unwrap()
}

fn connectors() -> Vec<(ConnectorSettings, Connector)> {
    let open = |settings: ConnectorSettings| (settings.clone(), Connector::open(settings).unwrap());
    config().connectors.into_iter().map(open).collect()
}

/// Both listeners, on a thread and an actix system of their own.
struct Listeners {
    api: SocketAddr,
    public: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Listeners {
    fn start(engine: &TestEngine, recorder: PrometheusHandle) -> Listeners {
        let folder = tempfile::tempdir().unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let (api, public) = (bind("server.api_listen", any).unwrap(), bind("server.public_listen", any).unwrap());
        let addresses = (api.address, public.address);
        let port: Arc<dyn EnginePort> = Arc::new(Adapter::new(Arc::clone(&engine.adapter.engine)));
        let admin = KeyHash::of("the-admin-key-of-this-test");
        let clock = Arc::new(SystemClock::new());
        let state =
            ApiState::new(Arc::clone(&port), &config(), admin, clock.clone(), Some(recorder), folder.path()).unwrap();
        let tracking = TrackingState::new(port, clock, config().server.trusted_proxies);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let mut servers = Servers::none();
                servers.serve_api(api, web::Data::new(state), Duration::from_secs(1)).unwrap();
                servers.serve_public(public, web::Data::new(tracking), Duration::from_secs(1)).unwrap();
                stopped.await.ok();
                servers.stop(Duration::from_secs(1)).await;
            });
        });
        let (api, public) = addresses;
        Listeners { api, public, stop: Some(stop), thread: Some(thread), _folder: folder }
    }

    fn scrape(&self) -> Scrape {
        let (status, text) = http(self.api, "GET", "/metrics", "");
        assert_eq!(status, 200, "{text}");
        Scrape::parse(&text)
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the listeners end well");
        }
    }
}

/// One request on a connection of its own: status and body.
fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let browser = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: {browser}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap(), body.to_owned())
}

/// The samples of one scrape: `name{labels}` as it stands, and its value.
#[derive(Debug, Default)]
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn parse(text: &str) -> Scrape {
        let mut samples = BTreeMap::new();
        for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let twice = samples.insert(series.to_owned(), value.parse().unwrap());
            assert!(twice.is_none(), "{series} stands twice");
        }
        Scrape(samples)
    }

    /// The catalogue's names that are there; panics on one that the catalogue does not know.
    fn names(&self) -> BTreeSet<&'static str> {
        let known = |series: &str| {
            let name = series.split('{').next().unwrap_or(series);
            let of = |metric: &&&estafette::metrics::Metric| {
                let suffixes: &[&str] =
                    if metric.kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
                suffixes.iter().any(|suffix| name.strip_suffix(suffix) == Some(metric.name))
            };
            CATALOGUE.iter().find(of).unwrap_or_else(|| panic!("{series} is not in the catalogue")).name
        };
        self.0.keys().map(|series| known(series)).collect()
    }

    /// The sum of the samples of a name that have this label.
    fn sum(&self, name: &str, label: &str) -> f64 {
        let of = |series: &str| series.split('{').next() == Some(name) && series.contains(label);
        self.0.iter().filter(|(series, _)| of(series)).map(|(_, value)| value).sum()
    }

    fn has(&self, name: &str, label: &str) -> bool {
        self.0.keys().any(|series| series.split('{').next() == Some(name) && series.contains(label))
    }
}

fn start(engine: &TestEngine, name: &str, connector: &str, segment: &str) {
    let spec = format!(
        "name = \"{name}\"\nkind = \"single\"\nsend_until = 2099-01-01T00:00:00Z\n[audience]\nsegment = '{segment}'\n[message]\nchannel = \"email\"\n\
         connector = \"{connector}\"\ntopic = \"news\"\nfrom = \"News <news@example.test>\"\nsubject = \"Hello\"\n\
         html = '<p><a href=\"https://shop.example.test/a\">a</a> <a href=\"https://shop.example.test/b\">b</a></p>'\n"
    );
    let view =
        engine.adapter.create_campaign(SpecText { format: SpecFormat::Toml, text: spec, request: None }).unwrap();
    assert_eq!(view.problems, [], "{name} can start");
    engine.adapter.act(&Ref::Name(name.to_owned()), Action::Start).unwrap();
}

/// A test of two subjects on all contacts of a segment, decided by one click of a person: by its leader, at the deadline.
fn split(engine: &TestEngine, segment: &str) {
    let spec = format!(
        "name = \"split\"\nkind = \"ab_split\"\n[audience]\nsegment = '{segment}'\n[message]\nchannel = \"email\"\n\
         connector = \"quiet\"\ntopic = \"news\"\nfrom = \"News <news@example.test>\"\nsubject = \"One\"\n\
         html = '<p><a href=\"https://shop.example.test/a\">a</a></p>'\n[[variants]]\nname = \"A\"\n[[variants]]\n\
         name = \"B\"\nsubject = \"Two\"\n[test]\nsample = \"50%\"\ndecide_after = \"6s\"\nwindow = \"3s\"\n"
    );
    let view =
        engine.adapter.create_campaign(SpecText { format: SpecFormat::Toml, text: spec, request: None }).unwrap();
    assert_eq!(view.problems, [], "it can start");
    let run = RunId(engine.adapter.act(&Ref::Id(view.summary.id), Action::Start).unwrap().run.unwrap());
    let row = await_some("an accepted contact of A", || {
        let state = engine.engine().book.read();
        let delivery = &state.runs[&run].deliveries[0];
        (&delivery.accepted & delivery.assigned(NodeId(10))).min()
    });
    let click = TrackedEvent {
        run,
        message: MessageId(0),
        row: ContactRow(row),
        kind: TrackedKind::Clicked { link: 0 },
        class: EventClass::Human,
        was: None,
        done: None,
    };
    engine.engine().record(click).expect("taken").blocking_recv().expect("recorded");
    await_some("the decision", || report(engine, "split").tests[0].decision.clone());
}

fn report(engine: &TestEngine, name: &str) -> Report {
    engine.adapter.report(&RunRef::LatestOf(Ref::Name(name.to_owned()))).unwrap()
}

fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// 300 contacts of two countries; some opted out, one has no address, one row is broken, one key comes twice.
fn import(engine: &TestEngine) {
    let mut text = "id,email,country,unsubscribed\n".to_owned();
    for row in 0..300 {
        let (country, out) = (if row < 60 { "DE" } else { "FR" }, if row % 50 == 0 { "true" } else { "" });
        text.push_str(&format!("{row},a{row}@x.test,{country},{out}\n"));
    }
    text.push_str("300,,FR,\n301,not an address,FR,\n1,b1@x.test,DE,\n");
    let options = ImportOptions { subscribe: vec!["email:news".into()], ..import_options("id") };
    let done = engine.import(options, &text);
    assert_eq!((done.state, done.merged, done.rejected), (ImportState::Finished, 1, 1), "{done:?}");
}

/// What people, machines and strangers do with the links of a run.
fn visit(engine: &TestEngine, public: SocketAddr, run: u32) {
    let token = |key: &str| TokenId {
        space: RowSpace::BASE,
        run: RunId(run),
        message: MessageId(0),
        row: engine.engine().row_of(key).unwrap(),
    };
    let keys = &engine.engine().tokens;
    let link = keys.make_link(token("100")).as_str().to_owned();
    let status = |method: &str, path: &str, body: &str| http(public, method, path, body).0;
    assert_eq!(status("GET", &format!("/c/{link}/0"), ""), 302, "a click");
    assert_eq!(status("HEAD", &format!("/c/{link}/1"), ""), 302, "a machine's");
    assert_eq!(status("GET", &format!("/o/{link}"), ""), 200, "an open");
    let out = keys.make_unsubscribe(token("101")).as_str().to_owned();
    assert_eq!(status("POST", &format!("/u/{out}"), "List-Unsubscribe=One-Click"), 200, "an opt-out");
    let strangers = estafette::content::TokenKeys::new(&[7; 32]).make_link(token("100"));
    let tampered: String = link.chars().rev().collect();
    let wrong_link = format!("/c/{link}/900");
    let (cut, foreign) = (format!("/c/{}/0", &link[..20]), format!("/c/{}/0", strangers.as_str()));
    for path in [format!("/c/{tampered}/0"), cut, foreign, wrong_link, format!("/o/{out}"), format!("/u/{link}")] {
        assert_eq!(status("GET", &path, ""), 404, "{path}");
    }
}

fn ledger_gauges(scrape: &Scrape, campaign: &str) -> BTreeMap<&'static str, u64> {
    let sets = ["pending", "claimed", "deferred", "accepted", "rejected", "skipped", "unknown"];
    let value = |set: &str| scrape.0[&format!("estafette_campaign_contacts{{campaign=\"{campaign}\",set=\"{set}\"}}")];
    let mut all: BTreeMap<&str, u64> = sets.into_iter().map(|set| (set, value(set) as u64)).collect();
    all.insert("audience", scrape.sum("estafette_campaign_audience_contacts", &format!("\"{campaign}\"")) as u64);
    all
}

fn ledger_sets(ledger: &Ledger) -> BTreeMap<&'static str, u64> {
    let Ledger { audience, pending, claimed, deferred, accepted, rejected, skipped, unknown, .. } = *ledger;
    [
        ("audience", audience),
        ("pending", pending),
        ("claimed", claimed),
        ("deferred", deferred),
        ("accepted", accepted),
        ("rejected", rejected),
        ("skipped", skipped),
        ("unknown", unknown),
    ]
    .into()
}

#[test]
fn every_series_of_the_catalogue_is_fed_and_the_ledger_is_the_reports() {
    // Process-wide, and before the engine, which makes series known at its start.
    let recorder = estafette::metrics::install().expect("no other test of this program installs a recorder");
    let engine = TestEngine::with(connectors);
    let listeners = Listeners::start(&engine, recorder);
    import(&engine);
    start(&engine, "slow", "slow", "country = \"DE\"");
    start(&engine, "fast", "fast", "country = \"FR\"");
    let fast = await_some("the end of the fast campaign", || {
        Some(report(&engine, "fast")).filter(|report| report.state == "finished")
    });
    visit(&engine, listeners.public, fast.run);

    // while one runs: why it is no faster, and when it will be done
    let running = await_some("a stall reason and a time left", || {
        let scrape = listeners.scrape();
        let label = "campaign=\"slow\"";
        let told = ["estafette_campaign_stalled", "estafette_campaign_eta_seconds"];
        told.iter().all(|name| scrape.has(name, label)).then_some(scrape)
    });
    let reasons: Vec<_> = running.0.keys().filter(|s| s.starts_with("estafette_campaign_stalled")).collect();
    assert_eq!(reasons, ["estafette_campaign_stalled{campaign=\"slow\",reason=\"connector_limit\"}"], "the reason");
    assert!(running.sum("estafette_campaign_eta_seconds", "slow") > 0.0, "some of 60 are left at 2 a second");
    assert!(running.sum("estafette_campaign_messages_per_second", "slow") > 0.0, "it moves");
    assert!(running.sum("estafette_connections", "slow") > 0.0, "over connections");
    assert_eq!(running.sum("estafette_limit_messages_per_second", "slow"), 2.0, "the limit in force");

    split(&engine, "country = \"DE\"");
    let judged = listeners.scrape();
    await_some("the winner's way to the rest", || {
        Some(report(&engine, "split").ledger).filter(|ledger| ledger.pending + ledger.claimed == 0)
    });
    engine.adapter.act(&Ref::Name("slow".into()), Action::Pause).unwrap();
    let slow = await_some("the pause", || Some(report(&engine, "slow")).filter(|report| report.ledger.claimed == 0));
    engine.engine().book.snapshot().unwrap();
    let ended = await_some("the end of what was claimed, and all credits back", || {
        Some(listeners.scrape()).filter(|scrape| scrape.sum("estafette_credits_used", "") == 0.0)
    });
    for (name, report) in [("fast", &fast), ("slow", &slow)] {
        assert!(report.ledger.balanced, "{name}: {:?}", report.ledger);
        assert_eq!(ledger_gauges(&ended, name), ledger_sets(&report.ledger), "{name}: gauges are the ledger");
    }
    assert!(ended.has("estafette_campaign_stalled", "reason=\"paused\""), "a paused campaign says so");
    assert!(ended.has("estafette_campaign_state", "\"slow\",state=\"paused\""), "and is in that state");
    assert!(ended.has("estafette_campaign_state", "\"fast\",state=\"finished\""), "the other is done");
    assert!(!ended.has("estafette_campaign_window_left_seconds", "\"fast\""), "what is over has no window");
    assert!(ended.has("estafette_campaign_link_contacts", "\"fast\""), "its links were clicked");

    let seen: BTreeSet<&str> = [&running, &judged, &ended].into_iter().flat_map(Scrape::names).collect();
    let missing: Vec<_> = CATALOGUE.iter().map(|m| m.name).filter(|name| !seen.contains(name)).collect();
    assert_eq!(missing, Vec::<&str>::new(), "in the catalogue and never fed");
    plausible(&ended, &fast.ledger);
}

/// Values that this run must have left. Other tests of this program import, too, into engines of their own.
fn plausible(scrape: &Scrape, ledger: &Ledger) {
    let exact = [
        ("estafette_messages_total", "\"fast\",outcome=\"accepted\"", ledger.accepted),
        ("estafette_rejections_total", "\"fast\",class=\"hard_bounce\"", ledger.rejected),
        ("estafette_batch_contacts_sum", "\"fast\"", ledger.accepted + ledger.rejected),
        ("estafette_campaign_rejected_contacts", "\"fast\"", ledger.rejected),
        ("estafette_campaign_skipped_contacts", "\"fast\"", ledger.skipped),
        ("estafette_contacts", "", 301),
        ("estafette_tracking_events_total", "", 3),
        ("estafette_tracking_machine_total", "head", 1),
        ("estafette_tracking_refused_total", "", 6),
        ("estafette_unsubscribes_total", "one_click", 1),
        ("estafette_unsubscribe_seconds_count", "", 1),
        ("estafette_campaign_unique_contacts", "\"fast\",event=\"unsubscribe\"", 1),
        ("estafette_recovered_unknown_contacts", "", 0),
        ("estafette_journal_failed", "", 0),
        ("estafette_disk_full", "", 0),
        ("estafette_circuit_open", "", 0),
        ("estafette_imports_running", "", 0),
    ];
    for (name, label, wanted) in exact {
        assert_eq!(scrape.sum(name, label), wanted as f64, "{name} {label}");
    }
    for (name, label) in [
        ("estafette_round_trip_seconds_count", "\"fast\""),
        ("estafette_message_bytes_total", "\"fast\""),
        ("estafette_credits_limit", "\"fast\""),
        ("estafette_limit_wait_seconds_total", "\"slow\""),
        ("estafette_batch_claim_seconds_sum", "\"fast\""),
        ("estafette_batch_send_seconds_sum", "\"fast\""),
        ("estafette_claims_returned_total", "pause"),
        ("estafette_import_rows_total", "accepted"),
        ("estafette_import_rows_total", "merged"),
        ("estafette_import_rows_total", "rejected"),
        ("estafette_journal_fsync_seconds_sum", ""),
        ("estafette_journal_commit_frames_sum", ""),
        ("estafette_journal_frames_total", "settled"),
        ("estafette_journal_bytes_total", ""),
        ("estafette_journal_segments", ""),
        ("estafette_snapshot_age_seconds", ""),
        ("estafette_snapshot_seconds_sum", ""),
        ("estafette_recovery_seconds", ""),
        ("estafette_disk_free_bytes", ""),
        ("estafette_import_chunk_seconds_sum", ""),
        ("estafette_segment_evaluation_seconds_count", ""),
        ("estafette_unsubscribe_seconds_sum", ""),
        ("estafette_http_requests_total", "public"),
        ("estafette_http_requests_total", "api"),
        ("estafette_http_request_seconds_count", "public"),
        ("estafette_build", env!("CARGO_PKG_VERSION")),
        ("estafette_resident_memory_bytes", "anonymous"),
        ("estafette_cpu_seconds_total", ""),
        ("estafette_uptime_seconds", ""),
        ("estafette_open_files", ""),
        ("estafette_open_files_limit", ""),
        ("estafette_threads", ""),
        ("estafette_disk_size_bytes", ""),
        ("estafette_storage_bytes", "journal"),
        ("estafette_storage_bytes", "contacts"),
        ("estafette_journal_waiting_limit", ""),
        ("estafette_connections_max", "\"slow\""),
        ("estafette_refusals_total", "\"fast\",reply=\"5xx\",about=\"undefined\""),
        ("estafette_runs", "paused"),
        ("estafette_campaign_window_left_seconds", "\"slow\""),
    ] {
        assert!(scrape.sum(name, label) > 0.0, "{name} {label} is {}", scrape.sum(name, label));
    }
}

#[test]
fn each_series_has_a_source_that_can_name_it() {
    for metric in CATALOGUE {
        let campaign = metric.labels.first() == Some(&"campaign");
        assert_eq!(campaign, metric.source == Source::Campaign, "{}: {:?}", metric.name, metric.source);
    }
}
