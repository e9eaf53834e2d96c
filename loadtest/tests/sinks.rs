//! The sinks as processes, with senders that know nothing of them: openssl, curl, reqwest, and a bare socket.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use loadtest::peers::http::{HttpClientOptions, reqwest_alone};
use loadtest::sink::SinkOptions;
use loadtest::sink::faults::{Faults, Stage};
use loadtest::sink::http::faults::HttpFaults;
use loadtest::sink::http::profile::Profile;
use loadtest::sink::http::{self, HttpSinkOptions, HttpSinkProcess};
use loadtest::sink::mails::MailReader;
use loadtest::sink::process::{SinkProcess, to_args};
use loadtest::sink::replies::Provider;

fn program(name: &str, args: Vec<String>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.arg(name).args(args);
    command
}

fn smtp(options: &SinkOptions) -> SinkProcess {
    SinkProcess::from_command(program("sink", to_args(options))).expect("the sink starts")
}

fn http(options: &HttpSinkOptions) -> HttpSinkProcess {
    HttpSinkProcess::from_command(program("http-sink", http::to_args(options))).expect("the sink starts")
}

/// What the sink says to these lines; the connection's end ends it.
fn say(sink: &SinkProcess, lines: &[u8]) -> String {
    let mut stream = TcpStream::connect(sink.address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    stream.write_all(lines).expect("written");
    let mut said = Vec::new();
    // A reset is an end, too.
    stream.read_to_end(&mut said).ok();
    String::from_utf8(said).expect("text")
}

const ONE: &[u8] =
    b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@gmail.com>\r\nDATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n";

#[test]
fn openssl_speaks_starttls_with_the_sink_and_its_mail_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let mails = folder.path().join("mails");
    let options =
        SinkOptions { starttls: true, demand_tls: true, mails: Some(mails.clone()), ..SinkOptions::default() };
    let mut sink = smtp(&options);
    assert!(say(&sink, ONE).contains("530 5.7.0"), "without TLS no mail is taken");
    let certificate = sink.certificate.clone().expect("a certificate to trust");
    let mut client = Command::new("openssl")
        .args(["s_client", "-starttls", "smtp", "-crlf", "-quiet", "-verify_return_error", "-CAfile"])
        .arg(&certificate)
        .arg("-connect")
        .arg(sink.address.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl starts (Debian package openssl)");
    let script = "EHLO x\nMAIL FROM:<a@b.test>\nRCPT TO:<c@d.test>\nDATA\nSubject: x\n\n..dot\n.\nquit\n";
    client.stdin.take().expect("its input").write_all(script.as_bytes()).expect("written");
    let out = client.wait_with_output().expect("openssl ends");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(
        said.contains("250 2.0.0 accepted") && said.contains("221"),
        "{said} {}",
        String::from_utf8_lossy(&out.stderr)
    );
    let seen = sink.report().expect("a report").counts;
    assert_eq!((seen.accepted, seen.secured), (1, 1), "{seen:?}");
    let kept = MailReader::open(&mails).expect("the mails").next_mails().expect("readable");
    assert_eq!((kept.len(), &*kept[0].recipient), (1, "c@d.test"));
    assert_eq!(kept[0].source, b"Subject: x\r\n\r\n.dot\r\n", "as it would lie in a mailbox");
}

#[test]
fn refusals_come_in_the_providers_words_and_drops_come_without() {
    let faults = Faults { fail_5xx: 1.0, fail_at: Stage::Rcpt, provider: Provider::ByDomain, ..Faults::default() };
    let mut sink = smtp(&SinkOptions { faults, ..SinkOptions::default() });
    let said = say(&sink, ONE);
    assert!(said.contains("550-5.") && said.contains("gsmtp"), "Gmail's words for a Gmail address: {said}");
    assert_eq!(sink.report().expect("a report").counts.replies.values().sum::<u64>(), 1);

    let faults = Faults { drop_before_body: 1.0, ..Faults::default() };
    let mut sink = smtp(&SinkOptions { faults, ..SinkOptions::default() });
    let said = say(&sink, ONE);
    assert!(!said.contains("354") && !said.contains("221"), "nothing in answer to DATA: {said}");
    assert_eq!(sink.report().expect("a report").counts.dropped_before_body, 1);
}

#[test]
fn a_slow_reader_is_felt_by_the_sender() {
    let faults = Faults { read_per_second: Some(200_000), ..Faults::default() };
    let mut sink = smtp(&SinkOptions { faults, ..SinkOptions::default() });
    let mut message = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n".to_vec();
    message.extend(
        std::iter::repeat_n(b"0123456789012345678901234567890123456789012345678901234567890123456789\r\n", 5_000)
            .flatten(),
    );
    message.extend_from_slice(b".\r\nQUIT\r\n");
    let started = std::time::Instant::now();
    assert!(say(&sink, &message).contains("221"), "it is taken in the end");
    let least = Duration::from_secs_f64(message.len() as f64 / 200_000.0 * 0.8);
    assert!(started.elapsed() >= least, "360 kB at 200 kB/s: {:?}", started.elapsed());
    assert_eq!(sink.report().expect("a report").counts.accepted, 1);
}

#[test]
fn curl_gets_a_providers_answers_over_http_1_and_2_and_over_tls() {
    let faults = HttpFaults {
        statuses: vec!["429=1".parse().expect("a status")],
        retry_after: Some(7),
        ..HttpFaults::default()
    };
    let options = HttpSinkOptions { profile: Profile::Fcm, tls: true, faults, ..HttpSinkOptions::default() };
    let mut sink = http(&options);
    let certificate = sink.certificate.clone().expect("a certificate to trust");
    let url = format!("https://localhost:{}/v1/projects/p/messages:send", sink.address.port());
    let body = r#"{"message": {"token": "t"}}"#;
    for (flag, version) in [("--http1.1", "HTTP/1.1 429"), ("--http2", "HTTP/2 429")] {
        let out = Command::new("curl")
            .args(["-sS", "-i", flag, "--cacert"])
            .arg(&certificate)
            .args(["-d", body, &url])
            .output()
            .expect("curl starts (Debian package curl)");
        let said = String::from_utf8_lossy(&out.stdout).to_lowercase();
        assert!(
            said.starts_with(&version.to_lowercase()),
            "{version}: {said} {}",
            String::from_utf8_lossy(&out.stderr)
        );
        assert!(said.contains("retry-after: 7") && said.contains("quota_exceeded"), "{said}");
    }
    let seen = sink.report().expect("a report").counts;
    assert_eq!((seen.requests, seen.over_http2, seen.accepted), (2, 1, 0), "{seen:?}");
    assert_eq!(seen.statuses.get("429"), Some(&2), "{seen:?}");
}

#[test]
fn reqwest_and_the_http_sink_agree_on_what_was_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = folder.path().join("record");
    let options = HttpSinkOptions { profile: Profile::Fcm, record: Some(record.clone()), ..HttpSinkOptions::default() };
    let mut sink = http(&options);
    for http2 in [false, true] {
        let client = HttpClientOptions {
            url: format!("http://{}/v1/projects/p/messages:send", sink.address),
            requests: 600,
            clients: 2,
            in_flight: 4,
            http2,
            ..HttpClientOptions::default()
        };
        assert_eq!(reqwest_alone(&client).expect("all are answered").requests, 600);
        let seen = sink.report().expect("a report").counts;
        assert_eq!((seen.accepted, seen.over_http2), (600, if http2 { 600 } else { 0 }), "{seen:?}");
        if http2 {
            assert_eq!(seen.connections, 2, "one connection a client");
        }
        sink.reset().expect("a reset");
    }
    let lines = std::fs::read_to_string(&record).expect("the record");
    assert_eq!(lines.lines().filter(|line| *line == "200\tceiling").count(), 1_200, "a line a request");
}

#[test]
fn after_a_goaway_the_client_comes_back_and_no_request_is_lost() {
    let faults = HttpFaults { goaway_after: Some(50), ..HttpFaults::default() };
    let mut sink = http(&HttpSinkOptions { faults, ..HttpSinkOptions::default() });
    // One at a time: what reqwest has in its queue when the GOAWAY comes fails, which is the sender's to mend.
    let client = HttpClientOptions {
        url: format!("http://{}/", sink.address),
        requests: 400,
        clients: 1,
        in_flight: 1,
        http2: true,
        ..HttpClientOptions::default()
    };
    assert_eq!(reqwest_alone(&client).expect("all are answered").requests, 400);
    let seen = sink.report().expect("a report").counts;
    assert_eq!((seen.accepted, seen.over_http2), (400, 400), "{seen:?}");
    assert!(seen.goaways >= 2 && seen.connections >= seen.goaways, "after each GOAWAY a new connection: {seen:?}");
}

#[test]
fn a_connection_has_no_more_streams_than_it_is_allowed() {
    let faults = HttpFaults { streams: Some(5), ..HttpFaults::default() };
    let latency = "20".parse().expect("a latency");
    let mut sink = http(&HttpSinkOptions { faults, latency, ..HttpSinkOptions::default() });
    let client = HttpClientOptions {
        url: format!("http://{}/", sink.address),
        requests: 200,
        clients: 1,
        in_flight: 20,
        http2: true,
        ..HttpClientOptions::default()
    };
    assert_eq!(reqwest_alone(&client).expect("all are answered").requests, 200);
    let seen = sink.report().expect("a report").counts;
    assert_eq!((seen.accepted, seen.connections), (200, 1), "{seen:?}");
    // A client begins with a hundred of its own until the server's settings are there (RFC 9113 section 6.5.3).
    assert!((5..=20).contains(&seen.in_flight_peak), "{seen:?}");
}

#[test]
fn resets_have_no_answer_and_are_told_apart() {
    for (http2, before) in [(false, 1.0), (false, 0.0), (true, 1.0), (true, 0.0)] {
        let faults = HttpFaults { reset_before: before, reset_after: 1.0, ..HttpFaults::default() };
        let mut sink = http(&HttpSinkOptions { faults, ..HttpSinkOptions::default() });
        let client = HttpClientOptions {
            url: format!("http://{}/", sink.address),
            requests: 1,
            clients: 1,
            in_flight: 1,
            http2,
            ..HttpClientOptions::default()
        };
        let error = reqwest_alone(&client).expect_err("no answer");
        assert!(format!("{error:#}").contains("sending a request"), "{error:#}");
        let seen = sink.report().expect("a report").counts;
        let wanted = if before > 0.0 { 0 } else { seen.reset_after };
        assert_eq!((seen.accepted, seen.statuses.len()), (wanted, 0), "http2 {http2}: {seen:?}");
        assert!(seen.reset_before + seen.reset_after >= 1, "{seen:?}");
    }
}
