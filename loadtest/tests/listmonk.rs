//! The listmonk client against the shapes of its real answers: recorded from listmonk 911e0b77 (after v6.2.0) with PostgreSQL 15,
//! and played back by a server that also sends the mails, so that the whole of `loadtest peer` is run.
//!
//! It proves the client and what it leaves behind, and nothing of listmonk's speed.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// What is the matter with the listmonk that is played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Matter {
    #[default]
    Nothing,
    /// A campaign of the user's is being sent.
    Busy,
    /// Somebody has the addresses of the base.
    Taken,
    /// It pauses our campaign half-way, as it does after too many errors.
    Pauses,
    /// It stores settings and does not take them in at once.
    Slow,
}

/// What the player remembers.
#[derive(Debug, Default)]
struct Player {
    matter: Matter,
    /// Writes of settings that were stored only.
    stored: u64,
    asked: Vec<String>,
    imported: u64,
    settings: Value,
    sent: u64,
}

fn start(matter: Matter) -> (SocketAddr, Arc<Mutex<Player>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let user = json!({"name": "", "uuid": "u1", "enabled": true, "host": "smtp.yoursite.com", "port": 25, "password": "••••••••"});
    let settings = json!({"app.concurrency": 10, "app.message_rate": 10, "app.batch_size": 1000, "smtp": [user]});
    let player = Arc::new(Mutex::new(Player { matter, settings, ..Player::default() }));
    let theirs = Arc::clone(&player);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let player = Arc::clone(&theirs);
            std::thread::spawn(move || serve(stream, &player));
        }
    });
    (address, player)
}

fn serve(stream: TcpStream, player: &Mutex<Player>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut stream = stream;
    loop {
        let (mut head, mut length) = (String::new(), 0usize);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line.trim().is_empty() {
                break;
            }
            let lower = line.to_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            head.push_str(&line);
        }
        assert!(head.contains("token loadtest:secret"), "every request has the token: {head}");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("the body");
        let mut words = head.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let answer =
            player.lock().unwrap().answer(method, path.split('?').next().unwrap_or_default(), &body).to_string();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
        stream.write_all(format!("{head}{answer}").as_bytes()).expect("answered");
    }
}

impl Player {
    fn answer(&mut self, method: &str, path: &str, body: &[u8]) -> Value {
        self.asked.push(format!("{method} {path}"));
        let read = || -> Value { serde_json::from_slice(body).expect("JSON") };
        match (method, path) {
            ("GET", "/api/about") => json!({"version": "v6.2.0", "system": {"num_cpu": 2, "memory_from_os_mb": 17}}),
            ("GET", "/api/settings") => json!({"data": self.settings}),
            ("PUT", "/api/settings") => {
                self.settings = read();
                if self.matter == Matter::Slow && self.stored < 2 {
                    self.stored += 1;
                    return json!({"data": {"needs_restart": true}});
                }
                json!({"data": true})
            }
            ("GET", "/api/campaigns") => {
                json!({"data": {"results": [], "query": "", "total": u64::from(self.matter == Matter::Busy), "per_page": 1}})
            }
            ("GET", "/api/subscribers") => {
                json!({"data": {"results": [], "query": "", "total": u64::from(self.matter == Matter::Taken), "per_page": 1}})
            }
            ("POST", "/api/lists") => {
                json!({"data": {"id": 3, "uuid": "316e384b", "name": read()["name"], "subscriber_count": 0}})
            }
            ("POST", "/api/templates") => {
                assert_eq!(read()["body"], "{{ template \"content\" . }}", "listmonk demands the placeholder");
                json!({"data": {"id": 5, "type": "campaign"}})
            }
            ("POST", "/api/import/subscribers") => {
                let text = String::from_utf8_lossy(body);
                assert!(
                    text.contains("name=\"params\"") && text.contains("filename=\"base.csv\""),
                    "a form: {text:.200}"
                );
                assert!(text.contains("email,name,attributes"), "its header");
                self.imported = text.matches("@mail").count() as u64;
                json!({"data": {"name": "base.csv", "total": 0, "imported": 0, "status": "importing"}})
            }
            ("GET", "/api/import/subscribers") => {
                json!({"data": {"name": "base.csv", "total": self.imported, "imported": self.imported, "status": "finished"}})
            }
            ("POST", "/api/subscribers/query/delete") => {
                assert!(
                    read()["query"].as_str().is_some_and(|query| !query.is_empty()),
                    "listmonk refuses an empty query"
                );
                json!({"data": true})
            }
            ("POST", "/api/campaigns") => {
                let campaign = read();
                assert_eq!((&campaign["lists"], &campaign["template_id"]), (&json!([3]), &json!(5)), "{campaign}");
                assert_eq!(campaign["body"].as_str().expect("a body").matches("@TrackLink").count(), 8);
                json!({"data": {"id": 9, "status": "draft", "to_send": 0, "sent": 0}})
            }
            ("PUT", "/api/campaigns/9/status") => {
                let status = read()["status"].clone();
                match (status.as_str(), self.matter) {
                    (Some("running"), Matter::Pauses) => {}
                    (Some("running"), _) => self.send(),
                    _ => self.asked.push(format!("the campaign is {status}")),
                }
                json!({"data": {"id": 9, "status": status}})
            }
            ("GET", "/api/campaigns/9") => json!({"data": {
                "id": 9, "status": if self.matter == Matter::Pauses { "paused" } else { "finished" }, "to_send": self.imported, "sent": self.sent,
                "started_at": "2026-11-22T13:43:10.808247Z", "updated_at": "2026-11-22T13:43:11.808247Z",
            }}),
            _ => json!({"data": true}),
        }
    }

    /// Sends what was imported to the server that the settings enable.
    fn send(&mut self) {
        let servers = self.settings["smtp"].as_array().expect("servers");
        let enabled: Vec<&Value> = servers.iter().filter(|server| server["enabled"] == true).collect();
        assert_eq!(enabled.len(), 1, "the sink and nothing else: {servers:?}");
        let address = format!("{}:{}", enabled[0]["host"].as_str().unwrap(), enabled[0]["port"]);
        let connect = address.parse().expect("an address");
        let options = loadtest::client::ClientOptions { connect, connections: 2, messages: self.imported, bytes: 500 };
        loadtest::client::run(&options).expect("the sink takes them");
        self.sent = self.imported;
    }
}

fn peer(address: SocketAddr, more: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["peer", "--peer", "listmonk", "--token", "loadtest:secret", "--contacts", "200"])
        .args(["--url", &format!("http://{address}")])
        .args(more)
        .output()
        .expect("loadtest starts")
}

/// Whether the settings are those of before.
fn is_as_before(player: &Player) -> bool {
    let servers = player.settings["smtp"].as_array().expect("servers");
    servers.len() == 1 && servers[0]["enabled"] == true && player.settings["app.concurrency"] == 10
}

#[test]
fn a_listmonk_is_prepared_driven_and_left_as_it_was() {
    let (address, player) = start(Matter::Nothing);
    let out = peer(address, &["--peer-settings"]);
    let (said, told) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{told}");
    assert!(said.contains("v6.2.0 round 1"), "the table names the version: {said}");
    let player = player.lock().unwrap();
    assert_eq!((player.imported, player.sent), (200, 200), "everybody was imported and mailed");
    for undone in [
        "DELETE /api/campaigns/9",
        "DELETE /api/templates/5",
        "POST /api/subscribers/query/delete",
        "DELETE /api/lists/3",
    ] {
        assert!(player.asked.iter().any(|asked| asked == undone), "{undone} in {:?}", player.asked);
    }
    assert!(is_as_before(&player), "the user's server is back: {}", player.settings);
    assert_eq!(player.settings["smtp"][0]["password"], "", "and its password was not overwritten with the mask");
}

#[test]
fn nothing_is_changed_where_a_campaign_is_sent_or_the_addresses_are_somebodys() {
    for (matter, why) in [(Matter::Busy, "1 campaigns are being sent"), (Matter::Taken, "1 subscribers")] {
        let (address, player) = start(matter);
        let out = peer(address, &["--peer-settings"]);
        let told = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && told.contains(why), "{matter:?}: {told}");
        let player = player.lock().unwrap();
        assert!(player.asked.iter().all(|asked| asked.starts_with("GET ")), "{matter:?}: {:?}", player.asked);
    }
}

#[test]
fn a_campaign_that_fails_is_stopped_before_settings_are_put_back() {
    let (address, player) = start(Matter::Pauses);
    let out = peer(address, &["--peer-settings"]);
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && told.contains("listmonk's campaign is paused"), "{told}");
    let player = player.lock().unwrap();
    let last = |what: &str| player.asked.iter().rposition(|asked| asked == what).unwrap_or_else(|| panic!("no {what}"));
    assert!(last("the campaign is \"cancelled\"") < last("DELETE /api/campaigns/9"), "{:?}", player.asked);
    assert!(last("DELETE /api/campaigns/9") < last("PUT /api/settings"), "{:?}", player.asked);
    assert!(last("PUT /api/settings") < last("DELETE /api/lists/3"), "{:?}", player.asked);
    assert!(is_as_before(&player), "{}", player.settings);
}

#[test]
fn settings_that_are_only_stored_are_written_until_they_are_taken_in() {
    let (address, player) = start(Matter::Slow);
    let out = peer(address, &["--peer-settings"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let player = player.lock().unwrap();
    assert_eq!((player.stored, player.sent), (2, 200), "it was asked again, and then the campaign was sent");
    assert!(is_as_before(&player), "{}", player.settings);
}

#[test]
fn without_leave_settings_are_not_touched() {
    let (address, player) = start(Matter::Nothing);
    let out = peer(address, &[]);
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && told.contains("--peer-settings"), "it says what to do: {told}");
    let player = player.lock().unwrap();
    assert!(player.asked.iter().all(|asked| asked.starts_with("GET ")), "nothing was made: {:?}", player.asked);
}
