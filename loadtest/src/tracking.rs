//! `loadtest tracking`: clicks and opens a second through the real endpoints, beside an empty actix-web handler, alternating.
//!
//! Owns the engine, the empty handler's process and the client's connections. The tokens are those of mails that the engine
//! sent to its embedded inbox. Invariants: 1. the same client, with the same connections and the same request headers,
//! asks both; 2. an answer that is not the expected one ends the measurement; 3. every event that was answered is counted
//! by the engine, or the loss is told.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::base::{Base, Columns};
use crate::findings::{Axes, Better, Findings, Latency, Measure, Scale};
use crate::message::small_campaign;
use crate::openloop::arrivals::Arrivals;
use crate::openloop::http::{self, read_answer};
use crate::openloop::{self, LoopOptions, LoopResult};
use crate::options::RunOptions;
use crate::proc::{self, MachineWatch};
use crate::prometheus::{sum, sum_with};
use crate::scenario::drivers::{Drive, Extras};
use crate::scene::{Scene, everybody};
use crate::server::{Connectors, ServerPlan, find_binary};
use crate::text::{cells, grouped, median};

#[derive(Args, Clone, Debug, Serialize)]
pub struct TrackingOptions {
    /// Contacts whose links are followed (the inbox keeps 2 000 mails)
    #[arg(long, default_value_t = 1_000)]
    pub contacts: u64,
    /// Keep-alive connections of the client
    #[arg(long, default_value_t = 256)]
    pub connections: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4)]
    pub seconds: u64,
    /// Rounds; each measures the empty handler twice, clicks and opens
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Clicks a second of the open loop, which gives the latencies [default: half of what the closed loop reached]
    #[arg(long, value_name = "N")]
    pub open_rate: Option<u64>,
    /// Seconds of the open loop, two of warm-up among them; 0 leaves it out
    #[arg(long, default_value_t = 10)]
    pub open_seconds: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
}

/// One measurement.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    pub per_second: f64,
    /// CPU of the server's process per request.
    pub cpu_microseconds: f64,
    pub answered: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct TrackingResult {
    pub empty: Vec<Rate>,
    pub clicks: Vec<Rate>,
    pub opens: Vec<Rate>,
    /// Median fdatasync of the journal: the upper end of its bucket.
    pub fsync_p50_seconds: f64,
    /// Answered and not counted.
    pub dropped: f64,
    /// Clicks at a given rate, latencies from the planned time on: the engine's, and the empty handler's.
    pub open_loops: Vec<LoopResult>,
}

fn rate(of: &[Rate]) -> f64 {
    median(&of.iter().map(|r| r.per_second).collect::<Vec<_>>())
}

const CLICKS: Measure = Measure::new("clicks", "requests/s", Better::Higher, "clicks a second, each answered with 302");
const OPENS: Measure =
    Measure::new("opens", "requests/s", Better::Higher, "opens a second, each answered with a pixel");
const EMPTY: Measure =
    Measure::new("empty", "requests/s", Better::Neither, "the same requests to an empty actix-web handler");
const CLICKS_RATIO: Measure =
    Measure::ratio("clicks_ratio", Better::Higher, "clicks a second over the empty handler's just before");
const OPENS_RATIO: Measure =
    Measure::ratio("opens_ratio", Better::Higher, "opens a second over the empty handler's just before");
const DROPPED: Measure =
    Measure::promise("dropped", "events", Better::Lower, "answered and not in the campaign's figures");
const FSYNC: Measure =
    Measure::new("fsync_p50", "ms", Better::Lower, "median fdatasync of the journal, the upper end of its bucket");
const CLICK_P50: Measure = Measure::new(
    "click_p50",
    "ms",
    Better::Lower,
    "median latency of a click at the open loop's rate, from its planned time",
);
const CLICK_P99: Measure = Measure::new("click_p99", "ms", Better::Lower, "99th percentile of the same");
/// An event is in the ledger as soon as its group is written, which takes milliseconds.
const COUNTED_WITHIN: Duration = Duration::from_secs(10);
const PER_ROUND: Axes = Axes { title: "Rate per round", x: "round", y: "requests a second", scale: Scale::Linear };

impl Drive for TrackingOptions {
    const MEASURES: &'static [Measure] =
        &[CLICKS, OPENS, EMPTY, CLICKS_RATIO, OPENS_RATIO, DROPPED, FSYNC, CLICK_P50, CLICK_P99];

    fn drive(&self, _: &Extras, findings: &Findings) -> anyhow::Result<()> {
        let scene = scene(self)?;
        let paths = paths(self, &scene)?;
        let public = std::fs::read_to_string(scene.plan.data.join("public.addr")).context("the public address")?;
        let public: SocketAddr = public.trim().parse().context("the public address")?;
        let empty = EmptyHandler::start()?;
        let watch = MachineWatch::start(&[scene.server.pid(), empty.child.id()]);
        let mut result = TrackingResult::default();
        let (clicks, opens) = (requests(&paths.clicks), requests(&paths.opens));
        for _ in 0..self.rounds.max(1) {
            for (asked, status, rates, measure_of, ratio) in [
                (&clicks, "302", &mut result.clicks, &CLICKS, &CLICKS_RATIO),
                (&opens, "200", &mut result.opens, &OPENS, &OPENS_RATIO),
            ] {
                let bare = measure(self, empty.address, empty.child.id(), asked, "200")?;
                let ours = measure(self, public, scene.server.pid(), asked, status)?;
                findings.sample(&EMPTY, bare.per_second);
                findings.sample(measure_of, ours.per_second);
                findings.sample(ratio, ours.per_second / bare.per_second.max(1e-9));
                result.empty.push(bare);
                rates.push(ours);
            }
        }
        if self.open_seconds > 0 {
            let rate = self.open_rate.map_or_else(|| (rate(&result.clicks) / 2.0).max(1.0), |rate| rate as f64);
            for (name, address, status) in [("empty handler", empty.address, "200"), ("clicks", public, "302")] {
                let seen = open_loop(self, rate, address, &clicks, status)?;
                tell_open_loop(findings, name, &seen);
                result.open_loops.push(seen);
            }
        }
        let (metrics, uncounted) = uncounted(&scene, &result)?;
        result.fsync_p50_seconds = fsync_p50(&metrics);
        result.dropped = uncounted.max(sum(&metrics, "estafette_tracking_dropped_total"));
        findings.disturbance(watch.finish(0.0));
        findings.sample(&DROPPED, result.dropped);
        findings.sample(&FSYNC, result.fsync_p50_seconds * 1e3);
        scene.server.terminate().context("ending the engine")?;
        tell(self, findings, &result);
        findings.detail(&result);
        Ok(())
    }
}

/// The metrics once the ledger has every click and open that was answered, or has not got them in time, and how many it lacks.
fn uncounted(scene: &Scene, result: &TrackingResult) -> anyhow::Result<(String, f64)> {
    let rounds = |rates: &[Rate]| rates.iter().map(|rate| rate.answered).sum::<u64>();
    // The second loop is the engine's, and has only clicks.
    let open: u64 = result.open_loops.iter().skip(1).flat_map(|seen| &seen.series).map(|s| s.answered).sum();
    let (clicks, opens) = (rounds(&result.clicks) + open, rounds(&result.opens));
    let until = Instant::now() + COUNTED_WITHIN;
    loop {
        let metrics = scene.api().metrics()?;
        let of = |event| sum_with(&metrics, "estafette_campaign_message_events", &[("event", event)]).unwrap_or(0.0);
        let lacking = (clicks as f64 - of("click")).max(0.0) + (opens as f64 - of("open")).max(0.0);
        if lacking == 0.0 || Instant::now() > until {
            return Ok((metrics, lacking));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// An engine that sends to its own inbox and believes the client's forwarding header.
fn scene(options: &TrackingOptions) -> anyhow::Result<Scene> {
    let folder = match &options.run.folder {
        Some(parent) => tempfile::TempDir::new_in(parent),
        None => tempfile::TempDir::new(),
    }
    .context("making a folder for the data")?;
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).context("a free port")?;
    let config = format!(
        "[server]\napi_listen = \"127.0.0.1:0\"\npublic_listen = \"127.0.0.1:0\"\ninbox_listen = \"{free}\"\n\
         public_url = \"http://127.0.0.1:8026\"\ntrusted_proxies = [\"127.0.0.1\"]\n\n\
         [[connectors]]\nname = \"inbox\"\nkind = \"inbox\"\n"
    );
    let binary = find_binary(options.run.engine.as_deref())?;
    let plan = ServerPlan::new(&binary, folder.path(), &Connectors::default())?;
    std::fs::write(&plan.config, config).context("writing the configuration")?;
    std::fs::write(folder.path().join("inbox.addr"), free.to_string()).context("noting the inbox's address")?;
    let server = plan.start(Duration::from_secs(60))?;
    Ok(Scene { server, plan, folder })
}

/// Paths of the tracked links and pixels in the mails that were sent.
struct Paths {
    clicks: Vec<String>,
    opens: Vec<String>,
}

fn paths(options: &TrackingOptions, scene: &Scene) -> anyhow::Result<Paths> {
    scene.declare(Columns::Full)?;
    let base =
        Base { contacts: options.contacts, seed: options.run.seed, prefix: "c", batch: "base", columns: Columns::Full };
    let file = scene.generate(&base)?;
    scene.import(&file, options.contacts)?;
    let spec = small_campaign("tracking", "inbox", &everybody(), None);
    scene.run_campaign(&spec, options.contacts, "sending")?;
    let inbox = std::fs::read_to_string(scene.folder.path().join("inbox.addr")).context("the inbox's address")?;
    let http = reqwest::blocking::Client::builder().no_proxy().build().context("building the HTTP client")?;
    let get = |path: &str| -> anyhow::Result<String> {
        let answer = http.get(format!("http://{inbox}{path}")).send()?.error_for_status()?;
        Ok(String::from_utf8_lossy(&answer.bytes()?).into_owned())
    };
    let mut found = Paths { clicks: Vec::new(), opens: Vec::new() };
    let mut offset = 0;
    loop {
        let list: Value = serde_json::from_str(&get(&format!("/mails.json?offset={offset}"))?)?;
        let mails = list["mails"].as_array().cloned().unwrap_or_default();
        for mail in &mails {
            let source = get(&format!("/mails/{}/source", mail["id"])).context("a mail's source")?;
            let text = decode(&source);
            found.clicks.extend(links(&text, "/c/"));
            found.opens.extend(links(&text, "/o/"));
        }
        offset += mails.len();
        if mails.is_empty() {
            break;
        }
    }
    let wanted = usize::try_from(options.contacts.min(2_000)).unwrap_or(0);
    let enough = found.clicks.len() >= wanted && found.opens.len() >= wanted;
    ensure!(enough, "{} links and {} pixels in {wanted} mails", found.clicks.len(), found.opens.len());
    Ok(found)
}

/// Quoted-printable, as far as URLs go: soft line breaks and the equals sign.
fn decode(source: &str) -> String {
    source.replace("=\r\n", "").replace("=\n", "").replace("=3D", "=")
}

/// The paths of URLs that contain `mark`, each once, in order.
fn links(text: &str, mark: &str) -> Vec<String> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let mut found: Vec<String> = Vec::new();
    for (at, _) in text.match_indices(mark) {
        let path: String = text[at..].chars().take_while(|c| is_path(*c)).collect();
        if text[..at].ends_with(":8026") && path.len() > 20 && !found.contains(&path) {
            found.push(path);
        }
    }
    found
}

/// Whole requests, as a mail provider's proxy hands on those of its users' browsers.
fn requests(paths: &[String]) -> Vec<Vec<u8>> {
    let one = |(n, path): (usize, &String)| {
        let (b, c) = (n / 250 % 250, n % 250);
        format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8026\r\n\
             User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
             Accept: */*\r\nAccept-Language: en-GB,en;q=0.8\r\nX-Forwarded-For: 198.51.{b}.{c}\r\n\r\n"
        )
        .into_bytes()
    };
    paths.iter().enumerate().map(one).collect()
}

fn measure(
    options: &TrackingOptions,
    address: SocketAddr,
    pid: u32,
    requests: &[Vec<u8>],
    status: &str,
) -> anyhow::Result<Rate> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let before = proc::cpu_of(pid).context("the server has ended")?;
    let began = Instant::now();
    let answered = tokio::task::LocalSet::new().block_on(&runtime, ask_all(options, address, requests, status))?;
    let seconds = began.elapsed().as_secs_f64();
    let cpu = proc::cpu_of(pid).context("the server has ended")?.since(before);
    let cpu_microseconds = cpu.total() * 1e6 / answered.max(1) as f64;
    Ok(Rate { per_second: answered as f64 / seconds, cpu_microseconds, answered })
}

/// Clicks at a rate, as they were planned; one that fails is an error.
fn open_loop(
    options: &TrackingOptions,
    per_second: f64,
    address: SocketAddr,
    requests: &[Vec<u8>],
    status: &str,
) -> anyhow::Result<LoopResult> {
    let (requests, wanted): (Rc<[Vec<u8>]>, Rc<str>) = (requests.into(), format!("HTTP/1.1 {status}").into());
    let driven = LoopOptions {
        arrivals: Arrivals::Poisson { per_second },
        seconds: options.open_seconds as f64,
        in_flight: options.connections.max(1),
        seed: options.run.seed,
        ..LoopOptions::default()
    };
    let result = openloop::run(&driven, |_| http::worker(address, Rc::clone(&requests), Rc::clone(&wanted)))?;
    let (failed, given_up) = (result.failed, result.given_up);
    ensure!(failed + given_up == 0, "{failed} requests failed, {given_up} were given up: {:?}", result.errors);
    Ok(result)
}

fn tell_open_loop(findings: &Findings, name: &str, seen: &LoopResult) {
    let rate = grouped(seen.planned_per_second);
    let about = format!("at {rate} a second, planned ahead (Poisson), from the planned time to the answer");
    findings.latency(Latency::of(&format!("{name}, open loop"), &about, &seen.response));
    if name == "clicks" {
        findings.sample(&CLICK_P50, seen.response.p50_ms);
        findings.sample(&CLICK_P99, seen.response.p99_ms);
    }
    let (line, late) = (seen.response.line(), seen.lateness.p99_ms);
    findings.remark(format!("{name} at {rate}/s, open loop: {line}; the generator was late by p99 {late:.2} ms"));
}

async fn ask_all(
    options: &TrackingOptions,
    address: SocketAddr,
    requests: &[Vec<u8>],
    status: &str,
) -> anyhow::Result<u64> {
    let until = Instant::now() + Duration::from_secs(options.seconds.max(1));
    let requests: Rc<[Vec<u8>]> = requests.into();
    let (next, answered) = (Rc::new(Cell::new(0usize)), Rc::new(Cell::new(0u64)));
    let wanted: Rc<str> = format!("HTTP/1.1 {status}").into();
    let mut tasks = Vec::new();
    for _ in 0..options.connections.max(1) {
        let (requests, next, answered, wanted) =
            (Rc::clone(&requests), Rc::clone(&next), Rc::clone(&answered), Rc::clone(&wanted));
        tasks.push(tokio::task::spawn_local(async move {
            let mut stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
            stream.set_nodelay(true)?;
            let mut buffer = vec![0u8; 8_192];
            while Instant::now() < until {
                let at = next.get();
                next.set(at + 1);
                stream.write_all(&requests[at % requests.len()]).await?;
                read_answer(&mut stream, &mut buffer, wanted.as_bytes()).await?;
                answered.set(answered.get() + 1);
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await.context("a connection's task")??;
    }
    Ok(answered.get())
}

/// The upper end of the bucket that holds the median fdatasync.
fn fsync_p50(metrics: &str) -> f64 {
    let buckets = metrics.lines().filter_map(|line| {
        let (end, count) = line.strip_prefix("estafette_journal_fsync_seconds_bucket{le=\"")?.split_once("\"} ")?;
        Some((end.parse::<f64>().unwrap_or(f64::INFINITY), count.parse::<f64>().ok()?))
    });
    let buckets: Vec<(f64, f64)> = buckets.collect();
    let all = buckets.last().map_or(0.0, |(_, count)| *count);
    buckets.iter().find(|(_, count)| *count * 2.0 >= all).map_or(0.0, |(end, _)| *end)
}

fn tell(options: &TrackingOptions, findings: &Findings, result: &TrackingResult) {
    let row = |name: &str, rates: &[Rate]| {
        let cpu = median(&rates.iter().map(|r| r.cpu_microseconds).collect::<Vec<_>>());
        let ratio = rate(rates) / rate(&result.empty).max(1e-9);
        let each = rates.iter().map(|r| grouped(r.per_second)).collect::<Vec<_>>().join(" · ");
        cells([name, &grouped(rate(rates)), &format!("{ratio:.2}"), &format!("{cpu:.1}"), &each])
    };
    let rows = vec![
        cells(["requests", "median/s", "ratio", "CPU µs", "each"]),
        row("empty actix-web handler", &result.empty),
        row("clicks (302)", &result.clicks),
        row("opens (pixel)", &result.opens),
    ];
    findings.table("Tracking endpoints beside an empty handler, alternating", rows);
    let per_second = |rates: &[Rate]| rates.iter().map(|r| r.per_second).collect::<Vec<_>>();
    // Of the empty handler's two measurements a round, each stands before one of ours.
    let before = |which: usize| per_second(&result.empty).into_iter().skip(which).step_by(2).collect::<Vec<_>>();
    for (name, values) in [
        ("empty handler, before the clicks", before(0)),
        ("clicks", per_second(&result.clicks)),
        ("empty handler, before the opens", before(1)),
        ("opens", per_second(&result.opens)),
    ] {
        findings.repetitions(&PER_ROUND, name, &values);
    }
    findings.peer("empty handler", "actix-web with two routes that answer 200 and nothing, in a process of its own");
    findings.remark(format!(
        "{} connections; fdatasync p50 ≤ {:.2} ms; answered and not counted: {}",
        options.connections,
        result.fsync_p50_seconds * 1e3,
        result.dropped
    ));
}

/// The peer, in a process of its own as the engine is.
struct EmptyHandler {
    child: Child,
    address: SocketAddr,
}

impl EmptyHandler {
    fn start() -> anyhow::Result<EmptyHandler> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(program);
        let command = command.arg("empty-handler").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting the empty handler")?;
        let mut line = String::new();
        let out = child.stdout.take().context("its output")?;
        BufReader::new(out).read_line(&mut line).context("reading the empty handler's address")?;
        let address = line.trim().parse().with_context(|| format!("{line:?} is no address"))?;
        Ok(EmptyHandler { child, address })
    }
}

impl Drop for EmptyHandler {
    fn drop(&mut self) {
        // Both fail only when the child is gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Serves the empty handler until it is killed; prints its address first.
pub fn serve_empty() -> anyhow::Result<()> {
    actix_web::rt::System::new().block_on(async {
        let empty = || async { HttpResponse::Ok().finish() };
        let app = move || {
            App::new().route("/c/{token}/{link}", web::get().to(empty)).route("/o/{token}", web::get().to(empty))
        };
        let server = HttpServer::new(app).bind("127.0.0.1:0").context("binding")?;
        let address = server.addrs().first().copied().context("its address")?;
        let mut out = std::io::stdout();
        writeln!(out, "{address}")?;
        out.flush()?;
        server.run().await.context("serving")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_across_soft_breaks_and_once() {
        let mail = "<a href=3D\"http://127.0.0.1:8026/c/AAAAAAAAAAAAAAAAAAAA=\r\nBB/0\">x</a> http://127.0.0.1:8026/c/AAAAAAAAAAAAAAAAAAAABB/0\r\n\
                    <img src=3D\"http://127.0.0.1:8026/o/AAAAAAAAAAAAAAAAAAAACC.gif\"> https://shop.example.test/c/not-ours-at-all-whatever\r\n";
        let text = decode(mail);
        assert_eq!(links(&text, "/c/"), ["/c/AAAAAAAAAAAAAAAAAAAABB/0"], "ours, once");
        assert_eq!(links(&text, "/o/"), ["/o/AAAAAAAAAAAAAAAAAAAACC.gif"]);
    }

    #[test]
    fn the_median_sync_is_read_off_the_histogram() {
        let text = "estafette_journal_fsync_seconds_bucket{le=\"0.001\"} 4\n\
                    estafette_journal_fsync_seconds_bucket{le=\"0.005\"} 6\n\
                    estafette_journal_fsync_seconds_bucket{le=\"+Inf\"} 10\n";
        assert_eq!(fsync_p50(text), 0.005);
        assert_eq!(sum("a_total{x=\"1\"} 2\na_total{x=\"2\"} 3\n", "a_total"), 5.0);
    }
}
