//! The program itself: a server in a process of its own, driven over HTTP and by the command line, as its users do.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use loadtest::server::{ADMIN_KEY, Connectors, Server, ServerPlan};
use reqwest::Method;
use reqwest::blocking::Client;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

/// Longest wait for anything; only a broken server takes it.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The program under test.
pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_estafette"))
}

/// A file of this repository.
pub fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub struct Served {
    pub folder: TempDir,
    pub plan: ServerPlan,
    server: Option<Server>,
    pub http: Client,
}

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub text: String,
}

impl Answer {
    /// The body, of an answer with this status.
    pub fn expect(self, status: u16) -> Json {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() { Json::Null } else { self.json() }
    }

    pub fn json(&self) -> Json {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text))
    }

    /// A refusal with this code, whose message names what is wrong.
    pub fn refused(self, code: &str, names: &str) -> Json {
        let body = self.json();
        assert_eq!(body["code"], code, "{} {body}", self.status);
        let text = body.to_string();
        assert!(text.contains(names), "{names:?} is named in {text}");
        assert!(body["message"].as_str().is_some_and(|m| m.len() > 10), "in words: {text}");
        body
    }
}

/// What a run of the command line left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).expect("UTF-8 on standard output"),
            err: String::from_utf8(output.stderr).expect("UTF-8 on standard error"),
        }
    }

    /// Standard output of a run that ended with this code.
    pub fn expect(self, code: i32) -> String {
        assert_eq!(self.code, code, "out: {}\nerr: {}", self.out, self.err);
        self.out
    }

    /// Standard output as one JSON document.
    pub fn json(self, code: i32) -> Json {
        let text = self.expect(code);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("not one JSON document ({error}): {text}"))
    }

    /// Standard error of a run that ended with this code; nothing may be on standard output.
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "out: {}\nerr: {}", self.out, self.err);
        assert_eq!(self.out, "", "errors go to standard error");
        self.err
    }
}

/// Runs the program without a server.
pub fn estafette(args: &[&str]) -> Ran {
    let mut command = Command::new(program());
    command.args(args).env_remove("ESTAFETTE_KEY").env_remove("ESTAFETTE_URL").env_remove("ESTAFETTE_ADMIN_KEY");
    Ran::from(command.stdin(Stdio::null()).output().expect("the program runs"))
}

impl Served {
    /// A server with these connector tables; all its ports are free ones.
    pub fn start(connectors: &str) -> Served {
        Served::start_after(connectors, |_| ())
    }

    /// [`Served::start`], once `prepare` has done with the plan what it wants.
    pub fn start_after(connectors: &str, prepare: impl FnOnce(&mut ServerPlan)) -> Served {
        let folder = tempfile::tempdir().expect("a folder");
        let mut plan = ServerPlan::new(&program(), folder.path(), &Connectors::default()).expect("a plan");
        let listen =
            "[server]\napi_listen = \"127.0.0.1:0\"\npublic_listen = \"127.0.0.1:0\"\ninbox_listen = \"127.0.0.1:0\"\n";
        fs::write(&plan.config, format!("{listen}{connectors}")).expect("the configuration");
        prepare(&mut plan);
        let server = plan.start(PATIENCE).unwrap_or_else(|error| panic!("the server starts: {error:#}"));
        let http = Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
        Served { folder, plan, server: Some(server), http }
    }

    /// SIGTERM, and the same data and configuration again.
    pub fn restart(&mut self) {
        self.end();
        self.server = Some(self.plan.start(PATIENCE).unwrap_or_else(|error| panic!("it starts again: {error:#}")));
    }

    /// SIGKILL.
    pub fn kill_for_good(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill().unwrap_or_else(|error| panic!("it is killed: {error:#}"));
        }
    }

    /// What starts the server after these lines of shell and with more arguments; the plan itself knows neither.
    pub fn through(lines: &str, arguments: &str) -> Option<String> {
        Some(format!("{lines}\nexec \"$0\" \"$@\" {arguments}"))
    }

    /// SIGKILL, and the same data and configuration again.
    pub fn kill(&mut self) {
        self.kill_for_good();
        self.server = Some(self.plan.start(PATIENCE).unwrap_or_else(|error| panic!("it starts again: {error:#}")));
    }

    /// SIGTERM; it must drain and exit with 0.
    pub fn end(&mut self) {
        if let Some(server) = self.server.take() {
            server.terminate().unwrap_or_else(|error| panic!("it drains: {error:#}"));
        }
    }

    /// Where the API listens.
    pub fn api(&self) -> String {
        let address = fs::read_to_string(self.plan.data.join("api.addr")).expect("its address");
        format!("http://{}", address.trim())
    }

    /// What the server said on its standard error, after this word.
    pub fn said(&self, word: &str) -> String {
        let log = fs::read_to_string(&self.plan.log).expect("the log");
        let line =
            log.lines().rev().find(|l| l.starts_with(word)).unwrap_or_else(|| panic!("{word:?} is not in {log}"));
        line[word.len()..].trim().to_owned()
    }

    pub fn call(&self, method: Method, path: &str, body: &Json) -> Answer {
        let request = self.http.request(method, format!("{}{path}", self.api())).bearer_auth(ADMIN_KEY);
        let request = if body.is_null() { request } else { request.json(body) };
        Served::answer(request.send().expect("an answer"))
    }

    fn answer(response: reqwest::blocking::Response) -> Answer {
        Answer { status: response.status().as_u16(), text: response.text().expect("the body") }
    }

    pub fn get(&self, path: &str) -> Json {
        self.call(Method::GET, path, &Json::Null).expect(200)
    }

    pub fn post(&self, path: &str, body: &Json) -> Answer {
        self.call(Method::POST, path, body)
    }

    /// A body of another type than JSON.
    pub fn post_text(&self, path: &str, media_type: &str, body: impl Into<reqwest::blocking::Body>) -> Answer {
        let request = self.http.post(format!("{}{path}", self.api())).bearer_auth(ADMIN_KEY);
        Served::answer(request.header("content-type", media_type).body(body).send().expect("an answer"))
    }

    /// Imports CSV and waits for its end.
    pub fn import(&self, query: &str, csv: impl Into<reqwest::blocking::Body>) -> Json {
        let id = self.post_text(&format!("/v1/imports?{query}"), "text/csv", csv).expect(202)["id"].clone();
        self.until("the import ends", || {
            let report = self.get(&format!("/v1/imports/{id}"));
            (report["state"] != "running").then_some(report)
        })
    }

    /// Contacts 0 to `count`, subscribed to `email:news`, each at `{prefix}{i}@{domain}`.
    pub fn people(&self, prefix: &str, count: usize, domain: &str) {
        let mut csv = String::from("id,email\n");
        for i in 0..count {
            csv.push_str(&format!("{prefix}{i:06},{prefix}{i:06}@{domain}\n"));
        }
        let report = self.import(&format!("key=id&subscribe=email:news&list={prefix}"), csv);
        assert_eq!(report["accepted"], count, "{report}");
    }

    /// Creates a campaign to a list over a connector; `more` is merged into the spec's top level.
    pub fn campaign(&self, name: &str, connector: &str, list: &str, more: &Json) {
        let mut spec = json!({
            "name": name, "kind": "single", "audience": {"list": list},
            "message": {
                "channel": "email", "connector": connector, "topic": "news", "from": "News <news@example.test>",
                "subject": format!("{name} hello"),
                "html": "<p><a href=\"https://shop.example.test/a\">offer</a> <a href=\"{{ unsubscribe_url }}\">no more</a></p>",
                "text": "https://shop.example.test/a {{ unsubscribe_url }}",
            },
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        let made = self.post("/v1/campaigns", &spec).expect(201);
        assert_eq!(made["problems"], json!([]), "{made}");
    }

    pub fn act(&self, campaign: &str, action: &str) -> Answer {
        self.post(&format!("/v1/campaigns/{campaign}/{action}"), &json!({}))
    }

    /// The report, whose ledger must balance.
    pub fn report(&self, campaign: &str) -> Json {
        let report = self.get(&format!("/v1/campaigns/{campaign}/report"));
        let ledger = &report["ledger"];
        let of = |set: &str| ledger[set].as_u64().unwrap_or(u64::MAX);
        let sets = ["pending", "claimed", "deferred", "accepted", "rejected", "skipped", "unknown"];
        assert_eq!(sets.iter().map(|s| of(s)).sum::<u64>(), of("audience"), "{ledger}");
        assert_eq!(ledger["balanced"], true, "{ledger}");
        report
    }

    pub fn count(&self, campaign: &str, set: &str) -> u64 {
        self.report(campaign)["ledger"][set].as_u64().unwrap_or(u64::MAX)
    }

    /// Waits for the campaign to be in this state; its report then.
    pub fn await_state(&self, campaign: &str, state: &str) -> Json {
        self.until(&format!("{campaign} is {state}"), || {
            let report = self.report(campaign);
            (report["state"] == state).then_some(report)
        })
    }

    /// [`Served::await_state`] for a campaign that may have no run yet.
    pub fn await_state_of_run(&self, campaign: &str, state: &str) -> Json {
        self.until(&format!("{campaign} has a run that is {state}"), || {
            let found = self.call(Method::GET, &format!("/v1/campaigns/{campaign}/report"), &Json::Null);
            (found.status == 200).then(|| found.json()).filter(|report| report["state"] == state)
        })
    }

    /// Keys of a set, sorted.
    pub fn keys(&self, campaign: &str, set: &str) -> Vec<String> {
        let path = format!("/v1/campaigns/{campaign}/contacts?set={set}&format=ndjson");
        let answer = self.call(Method::GET, &path, &Json::Null);
        assert_eq!(answer.status, 200, "{}", answer.text);
        let key =
            |line: &str| serde_json::from_str::<Json>(line).expect("a line")["contact"].as_str().map(str::to_owned);
        let mut keys: Vec<String> = answer.text.lines().map(|line| key(line).expect("a key")).collect();
        keys.sort_unstable();
        keys
    }

    /// Asks again and again until there is an answer.
    pub fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let since = Instant::now();
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(since.elapsed() < PATIENCE, "in vain: {what}; its log: {}", self.plan.log_tail());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The command line against this server.
    pub fn cli(&self, args: &[&str]) -> Ran {
        self.cli_with_key(ADMIN_KEY, args)
    }

    pub fn cli_with_key(&self, key: &str, args: &[&str]) -> Ran {
        let mut command = Command::new(program());
        command.args(args).env("ESTAFETTE_URL", self.api()).env("ESTAFETTE_KEY", key).stdin(Stdio::null());
        Ran::from(command.output().expect("the program runs"))
    }

    /// A file in the test's folder.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path.to_str().expect("a path").to_owned()
    }

    /// The whole mails of the embedded inbox to an address, newest first.
    pub fn mails_to(&self, address: &str) -> Vec<String> {
        let inbox = self.said("inbox ");
        let list: Json = self.http.get(format!("{inbox}/mails.json?search={address}")).send().unwrap().json().unwrap();
        let ids = list["mails"].as_array().expect("mails").iter().map(|m| m["id"].clone());
        ids.map(|id| self.http.get(format!("{inbox}/mails/{id}/source")).send().unwrap().text().unwrap()).collect()
    }
}
