//! A provider that takes only so many messages a second and does not say how many: its rate is kept, and whom it refused for
//! the moment is not made to wait for longer than the provider does.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::json;

use crate::served::Served;

const CONTACTS: usize = 600;
const PER_SECOND: u32 = 60;

/// What a provider saw.
struct Provider {
    began: Instant,
    second: u64,
    taken_in_second: u32,
    /// Times that a message to an address was taken and refused.
    taken: BTreeMap<String, u32>,
    refused: BTreeMap<String, u32>,
}

impl Provider {
    fn answer(&mut self, address: &str) -> &'static str {
        let second = self.began.elapsed().as_secs();
        if second != self.second {
            (self.second, self.taken_in_second) = (second, 0);
        }
        if self.taken_in_second >= PER_SECOND {
            *self.refused.entry(address.to_owned()).or_default() += 1;
            return "450 4.7.28 our system has detected an unusual rate of unsolicited mail";
        }
        self.taken_in_second += 1;
        *self.taken.entry(address.to_owned()).or_default() += 1;
        "250 taken"
    }
}

fn converse(stream: TcpStream, provider: &Mutex<Provider>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    out.write_all(b"220 relay ready\r\n")?;
    let mut recipient = String::new();
    while let Some(line) = lines.next() {
        let line = line?;
        let answer = match line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "EHLO" => "250-relay\r\n250 PIPELINING",
            "HELO" | "MAIL" | "RSET" => "250 ok",
            "RCPT" => {
                recipient = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                "250 ok"
            }
            "DATA" => {
                out.write_all(b"354 go on\r\n")?;
                while lines.next().transpose()?.is_some_and(|line| line != ".") {}
                provider.lock().expect("a lock").answer(&recipient)
            }
            "QUIT" => return out.write_all(b"221 bye\r\n"),
            _ => "500 what",
        };
        out.write_all(format!("{answer}\r\n").as_bytes())?;
    }
    Ok(())
}

fn throttling_relay() -> (u16, Arc<Mutex<Provider>>) {
    let (taken, refused) = (BTreeMap::new(), BTreeMap::new());
    let provider = Provider { began: Instant::now(), second: 0, taken_in_second: 0, taken, refused };
    let provider = Arc::new(Mutex::new(provider));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let shared = Arc::clone(&provider);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let provider = Arc::clone(&shared);
            // The engine may close a connection whenever it likes.
            std::thread::spawn(move || drop(converse(stream, &provider)));
        }
    });
    (port, provider)
}

#[test]
fn a_provider_that_throttles_is_heard_at_once_and_everybody_gets_the_mail() {
    let (port, provider) = throttling_relay();
    // The schedule is that of a connector as it comes: minutes to hours, which nobody here waits for.
    let server = Served::start(&format!(
        "[[connectors]]\nname = \"relay\"\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n\
         connections_max = 8\n"
    ));
    server.people("p", CONTACTS, "x.test");
    server.campaign("c", "relay", "p", &json!({}));
    server.act("c", "start").expect(200);
    server.await_state("c", "finished");
    let ledger = server.report("c")["ledger"].clone();
    assert_eq!(ledger["accepted"], CONTACTS, "{ledger}");
    let provider = provider.lock().unwrap();
    assert_eq!(provider.taken.len(), CONTACTS, "everybody");
    assert!(provider.taken.values().all(|times| *times == 1), "and nobody twice");
    let refused: u32 = provider.refused.values().sum();
    assert!(refused > 0, "the provider had to say something");
    // All were claimed before there was a limit: rows of those claims are held by it, too.
    assert!(refused < CONTACTS as u32 / 3, "{refused} attempts were refused, of {CONTACTS} contacts");
}
