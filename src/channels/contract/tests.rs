use std::collections::BTreeSet;

use super::peer::{Fault, OTHER, Peer, PeerScript, RELAY, Security, Verb, start};
use super::*;
use crate::channels::RejectClass;
use crate::channels::null::NullConnector;
use crate::channels::simulated::SimulatedConnector;
use crate::channels::smtp::SmtpConnector;
use crate::config::connectors::{
    NullSettings, RateLimits, RetrySettings, Secret, SimulatedSettings, SmtpSettings, SmtpTimeouts, TlsMode,
};

const ALL: &[&str] = &[
    "PIPELINING",
    "CHUNKING",
    "8BITMIME",
    "SMTPUTF8",
    "ENHANCEDSTATUSCODES",
    "SIZE 100000000",
];
const PLAIN: &[&str] = &["SIZE 100000000"];

fn compose() -> Compose {
    Box::new(|ticket, message| {
        message.return_path.push_str("bounce@x.test");
        message.recipient.push_str(&format!("r{ticket}@y.test"));
        message
            .body
            .extend_from_slice(format!("X-Ticket: {ticket}\r\nSubject: s\r\n\r\nhello {ticket}\r\n").as_bytes());
    })
}

/// How lanes talk to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavour {
    Pipelined,
    Lockstep,
    Chunked,
    /// The relay offers PIPELINING and the configuration says no.
    SwitchedOff,
}

const FLAVOURS: [Flavour; 4] = [
    Flavour::Pipelined,
    Flavour::Lockstep,
    Flavour::Chunked,
    Flavour::SwitchedOff,
];

fn settings(port: u16, flavour: Flavour) -> SmtpSettings {
    let short = Duration::from_millis(300);
    SmtpSettings {
        pipelining: flavour != Flavour::SwitchedOff,
        chunking: flavour == Flavour::Chunked,
        timeouts: SmtpTimeouts {
            connect: Duration::from_secs(5),
            tls: Duration::from_secs(5),
            greeting: short,
            command: short,
            mail: short,
            rcpt: short,
            data: short,
            block: Duration::from_secs(5),
            answer: short,
            idle: Duration::from_secs(5),
        },
        ..SmtpSettings::loopback("peer", port, 1)
    }
}

fn peer_script(feed: &ScriptedFeed, offers: &'static [&'static str], fault: Fault) -> PeerScript {
    PeerScript {
        offers,
        fault,
        security: Security::None,
        certificate: RELAY,
        marks: Arc::clone(&feed.marks),
    }
}

async fn run_smtp(feed: &mut ScriptedFeed, settings: SmtpSettings) {
    let connector = SmtpConnector::new(settings).expect("settings work");
    tokio::time::timeout(Duration::from_secs(120), connector.run_lane(feed))
        .await
        .expect("MUST 8: the lane returns");
}

/// Runs one lane against a peer with a fault, and checks what holds whatever happens.
async fn against(flavour: Flavour, messages: u64, script: Script, fault: Fault) -> (Record, Peer) {
    let mut feed = ScriptedFeed::new(messages, script, compose());
    let offers = if flavour == Flavour::Lockstep { PLAIN } else { ALL };
    let peer = start(peer_script(&feed, offers, fault.clone())).await;
    run_smtp(&mut feed, settings(peer.port, flavour)).await;
    let marks = Arc::clone(&feed.marks);
    let record = feed.finish();
    check(&record, &peer, &marks, &format!("{flavour:?} {fault:?}"));
    (record, peer)
}

fn check(record: &Record, peer: &Peer, marks: &Mutex<HashSet<u64>>, what: &str) {
    assert_eq!(record.violations, Vec::<String>::new(), "{what}: the contract");
    let seen = peer.seen.lock();
    assert_eq!(
        seen.unmarked,
        Vec::<u64>::new(),
        "{what}: MUST 1, nothing arrives unmarked"
    );
    assert_eq!(seen.strange, 0, "{what}: no empty or garbled mail");
    let received: BTreeSet<u64> = seen.received.iter().copied().collect();
    assert_eq!(received.len(), seen.received.len(), "{what}: nobody gets a mail twice");
    for (ticket, endings) in &record.endings {
        let last = endings.last();
        let accepted = last == Some(&Ending::Answered(Outcome::Accepted));
        if accepted {
            assert!(
                received.contains(ticket),
                "{what}: ticket {ticket} is called accepted and never arrived"
            );
        }
        if received.contains(ticket) {
            assert!(
                !matches!(last, Some(Ending::Back(_))),
                "{what}: ticket {ticket} arrived and came back"
            );
            assert!(
                marks.lock().contains(ticket),
                "{what}: ticket {ticket} arrived unmarked"
            );
        }
    }
}

fn accepted(record: &Record) -> usize {
    record.count(|e| *e == Ending::Answered(Outcome::Accepted))
}

#[tokio::test]
async fn everything_is_accepted_in_every_flavour() {
    for flavour in FLAVOURS {
        let (record, peer) = against(flavour, 300, Script::default(), Fault::None).await;
        assert_eq!(accepted(&record), 300, "{flavour:?}");
        assert_eq!(
            peer.seen.lock().connections,
            1,
            "{flavour:?}: one connection carries all"
        );
        let attached = record.attached > 250;
        assert_eq!(
            attached,
            flavour == Flavour::Pipelined,
            "{flavour:?}: envelopes attached: {}",
            record.attached
        );
        let order = peer.seen.lock().received.clone();
        assert_eq!(order, (1..=300).collect::<Vec<_>>(), "{flavour:?}: in order");
    }
}

#[tokio::test]
async fn withdrawn_messages_never_arrive() {
    let script = Script {
        withdraw_every: 7,
        ..Script::default()
    };
    for flavour in FLAVOURS {
        let (record, _peer) = against(flavour, 100, script.clone(), Fault::None).await;
        assert_eq!(accepted(&record), 86, "{flavour:?}: all but every seventh");
        assert_eq!(
            record.count(|e| matches!(e, Ending::Back(_))),
            14,
            "{flavour:?}: those came back"
        );
    }
}

#[tokio::test]
async fn held_messages_go_when_their_permit_comes_or_come_back() {
    let short = Script {
        hold_every: 3,
        ..Script::default()
    };
    let long = Script {
        hold_every: 10,
        hold: Duration::from_secs(3_600),
        ..Script::default()
    };
    for flavour in FLAVOURS {
        let (record, _peer) = against(flavour, 30, short.clone(), Fault::None).await;
        assert_eq!(accepted(&record), 30, "{flavour:?}: a short hold costs nothing");
        let (record, _peer) = against(flavour, 30, long.clone(), Fault::None).await;
        if flavour == Flavour::Chunked {
            // Asked again as the next window's first, where this feed marks it.
            assert!(accepted(&record) >= 27, "{flavour:?}: {}", accepted(&record));
        } else {
            assert_eq!(accepted(&record), 27, "{flavour:?}: three were held for too long");
        }
    }
}

#[tokio::test]
async fn without_leave_no_envelope_is_attached() {
    let script = Script {
        attach: false,
        ..Script::default()
    };
    let (record, peer) = against(Flavour::Pipelined, 50, script, Fault::None).await;
    assert_eq!(accepted(&record), 50, "all go all the same");
    assert_eq!(peer.seen.lock().connections, 1, "on one connection");
}

#[tokio::test]
async fn a_closing_feed_ends_the_lane_with_empty_hands() {
    for flavour in FLAVOURS {
        let script = Script {
            close_after_pulls: Some(20),
            ..Script::default()
        };
        let (record, _peer) = against(flavour, 1_000, script, Fault::None).await;
        assert_eq!(record.endings.len(), 20, "{flavour:?}: what was pulled was given back");
        assert!(
            accepted(&record) >= 15,
            "{flavour:?}: and most of it sent: {}",
            accepted(&record)
        );
    }
}

#[tokio::test]
async fn a_quota_per_connection_is_kept() {
    for flavour in FLAVOURS {
        let mut feed = ScriptedFeed::new(50, Script::default(), compose());
        let peer = start(peer_script(
            &feed,
            if flavour == Flavour::Lockstep { PLAIN } else { ALL },
            Fault::None,
        ))
        .await;
        let settings = SmtpSettings {
            messages_per_connection_max: Some(20),
            ..settings(peer.port, flavour)
        };
        run_smtp(&mut feed, settings).await;
        let record = feed.finish();
        assert_eq!(
            (accepted(&record), peer.seen.lock().connections),
            (50, 3),
            "{flavour:?}: 20, 20, 10"
        );
        assert_eq!(record.violations, Vec::<String>::new(), "{flavour:?}");
    }
}

#[tokio::test]
async fn a_relay_that_hangs_after_each_command_costs_no_message_anything() {
    let runs = FLAVOURS.into_iter().flat_map(|flavour| {
        [Verb::Greeting, Verb::Ehlo, Verb::Mail, Verb::Rcpt, Verb::Data].map(|verb| async move {
            // BDAT has no DATA to hang at.
            if flavour == Flavour::Chunked && verb == Verb::Data {
                return;
            }
            let (record, peer) = against(flavour, 2, Script::default(), Fault::Hang(verb)).await;
            assert_eq!(
                peer.seen.lock().received.len(),
                0,
                "{flavour:?} {verb:?}: nothing arrived"
            );
            let unknown = record.count(|e| *e == Ending::Answered(Outcome::Unknown));
            let wanted = if flavour == Flavour::Chunked && matches!(verb, Verb::Mail | Verb::Rcpt) {
                2
            } else {
                0
            };
            assert_eq!(
                unknown, wanted,
                "{flavour:?} {verb:?}: unknown is only what was written to its end"
            );
            assert_eq!(record.endings.len(), 2, "{flavour:?} {verb:?}: every message came back");
        })
    });
    futures_util::future::join_all(runs).await;
}

#[tokio::test]
async fn a_relay_that_hangs_or_closes_after_the_dot_makes_unknown() {
    for flavour in FLAVOURS {
        for fault in [Fault::Hang(Verb::Dot), Fault::Close(Verb::Dot)] {
            let (record, _peer) = against(flavour, 1, Script::default(), fault.clone()).await;
            let unknown = record.count(|e| *e == Ending::Answered(Outcome::Unknown));
            assert_eq!(unknown, 1, "{flavour:?} {fault:?}: marked and never answered");
        }
    }
}

#[tokio::test]
async fn connections_that_break_lose_nobody_and_double_nobody() {
    for flavour in FLAVOURS {
        let script = Script {
            retries: 50,
            ..Script::default()
        };
        let (record, _peer) = against(flavour, 40, script, Fault::CloseAfterMessages(10)).await;
        let unknown = record.count(|e| *e == Ending::Answered(Outcome::Unknown));
        assert_eq!(accepted(&record) + unknown, 40, "{flavour:?}: all were sent");
        assert!(
            unknown <= 4 * 4,
            "{flavour:?}: at most a window for each break, got {unknown}"
        );
    }
}

#[tokio::test]
async fn a_relay_that_closes_in_mid_body() {
    for flavour in FLAVOURS {
        let (record, peer) = against(flavour, 3, Script::default(), Fault::CloseInBody(20)).await;
        assert_eq!(peer.seen.lock().received.len(), 0, "{flavour:?}: nothing arrived whole");
        assert_eq!(accepted(&record), 0, "{flavour:?}: nothing is called accepted");
        assert_eq!(record.endings.len(), 3, "{flavour:?}: each has an ending");
    }
}

#[tokio::test]
async fn a_large_body_that_breaks_off_is_no_unknown() {
    let large: Compose = Box::new(|ticket, message| {
        compose()(ticket, message);
        message
            .body
            .extend_from_slice(&b"0123456789012345678901234567890123456789\r\n".repeat(50_000));
    });
    let mut feed = ScriptedFeed::new(2, Script::default(), large);
    let peer = start(peer_script(&feed, ALL, Fault::CloseInBody(100_000))).await;
    run_smtp(&mut feed, settings(peer.port, Flavour::Pipelined)).await;
    let record = feed.finish();
    assert_eq!(record.violations, Vec::<String>::new(), "the contract");
    assert_eq!(
        record.count(|e| matches!(e, Ending::Back(_))),
        2,
        "definite: the mark was not made"
    );
}

#[tokio::test]
async fn large_and_dotted_bodies_arrive_as_they_are() {
    for flavour in FLAVOURS {
        let odd: Compose = Box::new(|ticket, message| {
            compose()(ticket, message);
            message.needs_dot_stuffing = true;
            message.body.extend_from_slice(b".\r\n..x\r\n.end");
            if ticket == 2 {
                message
                    .body
                    .extend_from_slice(&b"\r\n.23456789012345678901234567890123456789".repeat(20_000));
            }
        });
        let mut feed = ScriptedFeed::new(3, Script::default(), odd);
        let peer = start(peer_script(
            &feed,
            if flavour == Flavour::Lockstep { PLAIN } else { ALL },
            Fault::None,
        ))
        .await;
        run_smtp(&mut feed, settings(peer.port, flavour)).await;
        let record = feed.finish();
        assert_eq!((accepted(&record), record.violations), (3, Vec::new()), "{flavour:?}");
        let bodies = peer.seen.lock().bodies.clone();
        assert!(
            bodies[0].ends_with(b"hello 1\r\n.\r\n..x\r\n.end\r\n"),
            "{flavour:?}: dots and the line end"
        );
        assert_eq!(
            bodies[1].len(),
            bodies[0].len() + 20_000 * 41,
            "{flavour:?}: nothing lost of a large one"
        );
    }
}

#[tokio::test]
async fn a_relay_that_answers_4xx_to_everything_defers_everything() {
    for flavour in FLAVOURS {
        for verb in [Verb::Mail, Verb::Rcpt, Verb::Data, Verb::Dot] {
            if flavour == Flavour::Chunked && verb == Verb::Data {
                continue;
            }
            let fault = Fault::Reply(verb, "451 4.3.0 later", 1);
            let (record, peer) = against(flavour, 20, Script::default(), fault).await;
            let deferred = record.count(|e| matches!(e, Ending::Answered(Outcome::Deferred { .. })));
            assert_eq!(deferred, 20, "{flavour:?} {verb:?}: each has the provider's word");
            assert_eq!(
                peer.seen.lock().connections,
                1,
                "{flavour:?} {verb:?}: and no connection was lost over it"
            );
        }
    }
}

#[tokio::test]
async fn refused_recipients_in_between_harm_nobody_else() {
    for flavour in FLAVOURS {
        let fault = Fault::Reply(Verb::Rcpt, "550 5.1.1 no such user", 5);
        let (record, peer) = against(flavour, 100, Script::default(), fault).await;
        let bounced = record.count(|e| {
            matches!(
                e,
                Ending::Answered(Outcome::Rejected {
                    class: RejectClass::HardBounce,
                    ..
                })
            )
        });
        assert_eq!(
            (accepted(&record), bounced),
            (80, 20),
            "{flavour:?}: every fifth does not exist"
        );
        assert_eq!(peer.seen.lock().connections, 1, "{flavour:?}: on one connection");
    }
}

#[tokio::test]
async fn ten_megabytes_of_reply_end_the_connection_and_nothing_else() {
    for verb in [
        Verb::Greeting,
        Verb::Ehlo,
        Verb::Mail,
        Verb::Rcpt,
        Verb::Data,
        Verb::Dot,
    ] {
        let (record, _peer) = against(Flavour::Pipelined, 2, Script::default(), Fault::LongLine(verb)).await;
        let unknown = record.count(|e| *e == Ending::Answered(Outcome::Unknown));
        assert_eq!(
            unknown,
            if verb == Verb::Dot { 2 } else { 0 },
            "{verb:?}: unknown only after the dot"
        );
        assert_eq!(record.endings.len(), 2, "{verb:?}: each has an ending");
    }
}

#[tokio::test]
async fn refusals_of_the_session_are_told_and_harm_no_message() {
    for (line, wanted) in [
        ("554 5.7.1 go away", "sender"),
        ("421 4.7.0 too many connections", "connections"),
    ] {
        let (record, _peer) = against(
            Flavour::Pipelined,
            2,
            Script::default(),
            Fault::Reply(Verb::Greeting, line, 1),
        )
        .await;
        assert_eq!(
            record.count(|e| matches!(e, Ending::Back(_))),
            2,
            "{line}: nothing was tried"
        );
        let told = record.events.iter().any(|e| match wanted {
            "sender" => matches!(e, LaneEvent::SenderRefused { .. }),
            _ => matches!(e, LaneEvent::TooManyConnections { .. }),
        });
        assert!(told, "{line}: {:?}", record.events);
    }
}

#[tokio::test]
async fn a_421_in_mid_session_requeues_what_has_no_answer() {
    for flavour in FLAVOURS {
        let script = Script {
            retries: 5,
            ..Script::default()
        };
        let fault = Fault::Reply(Verb::Mail, "421 4.3.2 shutting down", 10);
        let (record, _peer) = against(flavour, 30, script, fault).await;
        let deferred = record.count(|e| matches!(e, Ending::Answered(Outcome::Deferred { .. })));
        let unknown = record.count(|e| *e == Ending::Answered(Outcome::Unknown));
        assert_eq!(
            accepted(&record) + deferred + unknown,
            30,
            "{flavour:?}: all have an answer in the end"
        );
        if flavour != Flavour::Chunked {
            assert_eq!(deferred + unknown, 0, "{flavour:?}: 421 says nothing about a message");
        }
        assert!(
            record
                .events
                .iter()
                .any(|e| matches!(e, LaneEvent::TooManyConnections { .. })),
            "{flavour:?}: told"
        );
    }
}

#[tokio::test]
async fn a_fault_of_the_dialogue_is_tried_once_without_pipelining() {
    let script = Script {
        retries: 3,
        ..Script::default()
    };
    let fault = Fault::Reply(Verb::Rcpt, "503 5.5.1 bad sequence", 1);
    let (record, peer) = against(Flavour::Pipelined, 3, script, fault).await;
    let rejected = record.count(|e| {
        matches!(
            e,
            Ending::Answered(Outcome::Rejected {
                class: RejectClass::Protocol,
                ..
            })
        )
    });
    assert_eq!(
        rejected, 3,
        "in the end it is a protocol rejection, which suppresses nobody"
    );
    assert!(peer.seen.lock().connections >= 2, "after another try");
}

#[tokio::test]
async fn nobody_listens() {
    let mut feed = ScriptedFeed::new(3, Script::default(), compose());
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a port")
        .port();
    run_smtp(&mut feed, settings(port, Flavour::Pipelined)).await;
    let record = feed.finish();
    assert_eq!(
        record.count(|e| *e == Ending::Back(HandBack::ConnectionLost)),
        3,
        "all come back unharmed"
    );
    assert!(
        matches!(&record.events[0], LaneEvent::ConnectFailed { reason } if reason.contains("127.0.0.1")),
        "and it is said"
    );
}

async fn secured(
    security: Security,
    mode: TlsMode,
    certificate: (&'static str, &'static str),
    trusted: &str,
) -> Record {
    let mut feed = ScriptedFeed::new(5, Script::default(), compose());
    let mut script = peer_script(&feed, &["PIPELINING", "STARTTLS", "AUTH PLAIN"], Fault::None);
    (script.security, script.certificate) = (security, certificate);
    let peer = start(script).await;
    let dir = tempfile::tempdir().expect("a directory");
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, trusted).expect("written");
    let settings = SmtpSettings {
        tls: mode,
        ca_file: Some(ca_file),
        username: Some("user".into()),
        password: Some(Secret::new("secret")),
        ..settings(peer.port, Flavour::Pipelined)
    };
    run_smtp(&mut feed, settings).await;
    let leaked = peer.seen.lock().commands.iter().any(|c| c.starts_with("AUTH"));
    let record = feed.finish();
    assert_eq!(record.violations, Vec::<String>::new(), "the contract");
    assert!(accepted(&record) == 5 || !leaked, "no password goes where no mail goes");
    record
}

#[tokio::test]
async fn tls_protects_both_ways_in() {
    assert_eq!(
        accepted(&secured(Security::Starttls, TlsMode::Starttls, RELAY, RELAY.0).await),
        5,
        "STARTTLS and AUTH"
    );
    assert_eq!(
        accepted(&secured(Security::Implicit, TlsMode::Implicit, RELAY, RELAY.0).await),
        5,
        "implicit TLS"
    );
}

#[tokio::test]
async fn wrong_certificates_are_refused() {
    for (certificate, trusted, what) in [(RELAY, OTHER.0, "not trusted"), (OTHER, OTHER.0, "another name")] {
        let record = secured(Security::Starttls, TlsMode::Starttls, certificate, trusted).await;
        assert_eq!(
            record.count(|e| matches!(e, Ending::Back(_))),
            5,
            "{what}: nothing leaves"
        );
        assert!(
            matches!(&record.events[0], LaneEvent::ConnectFailed { reason } if reason.contains("TLS")),
            "{what}: {:?}",
            record.events
        );
    }
}

#[tokio::test]
async fn a_relay_without_starttls_gets_nothing() {
    let mut feed = ScriptedFeed::new(2, Script::default(), compose());
    let peer = start(peer_script(&feed, &["PIPELINING"], Fault::None)).await;
    let dir = tempfile::tempdir().expect("a directory");
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, RELAY.0).expect("written");
    let settings = SmtpSettings {
        tls: TlsMode::Starttls,
        ca_file: Some(ca_file),
        ..settings(peer.port, Flavour::Pipelined)
    };
    run_smtp(&mut feed, settings).await;
    assert_eq!(
        feed.finish().count(|e| matches!(e, Ending::Back(_))),
        2,
        "nothing leaves in the clear"
    );
    assert!(
        !peer.seen.lock().commands.iter().any(|c| c.starts_with("MAIL")),
        "not even an address"
    );
}

#[tokio::test]
async fn a_wrong_password_is_the_senders_fault() {
    let mut feed = ScriptedFeed::new(2, Script::default(), compose());
    let peer = start(peer_script(&feed, &["PIPELINING", "AUTH PLAIN"], Fault::None)).await;
    let settings = SmtpSettings {
        username: Some("user".into()),
        password: Some(Secret::new("wrong")),
        ..settings(peer.port, Flavour::Pipelined)
    };
    let connector = SmtpConnector::new(settings.clone()).expect("settings work");
    assert!(connector.test().await.is_err(), "the connection test says so too");
    run_smtp(&mut feed, settings).await;
    let record = feed.finish();
    assert!(
        record
            .events
            .iter()
            .any(|e| matches!(e, LaneEvent::SenderRefused { .. })),
        "{:?}",
        record.events
    );
    assert_eq!(
        record.count(|e| matches!(e, Ending::Back(_))),
        2,
        "MUST 7: and no message's"
    );
}

#[tokio::test]
async fn the_connection_test_reports() {
    let feed = ScriptedFeed::new(0, Script::default(), compose());
    let peer = start(peer_script(&feed, ALL, Fault::None)).await;
    let connector = SmtpConnector::new(settings(peer.port, Flavour::Pipelined)).expect("settings work");
    let report = connector.test().await.expect("it answers");
    assert!(
        report.pipelining && report.chunking && report.smtputf8 && !report.tls,
        "{report:?}"
    );
    assert_eq!(report.size_max_bytes, Some(100_000_000), "{report:?}");
}

fn null() -> NullConnector {
    NullConnector::new(NullSettings {
        name: "null".into(),
        connections_max: 1,
        rate: RateLimits::default(),
        domains: Vec::new(),
        retry: RetrySettings::default(),
        credits_batches: 8,
    })
}

fn simulated(lost: f64) -> SimulatedConnector {
    SimulatedConnector::new(SimulatedSettings {
        name: "simulated".into(),
        seed: 3,
        connections_max: 1,
        rate: RateLimits::default(),
        domains: Vec::new(),
        retry: RetrySettings::default(),
        credits_batches: 8,
        latency_min: Duration::ZERO,
        latency_max: Duration::from_micros(50),
        defer_share: lost,
        hard_bounce_share: lost,
        soft_bounce_share: lost,
        policy_share: lost,
        lost_before_share: lost,
        lost_after_share: lost,
        suppress_after_hard_bounces: 1,
    })
}

#[tokio::test]
async fn null_and_simulated_keep_the_contract() {
    for script in [
        Script::default(),
        Script {
            withdraw_every: 3,
            ..Script::default()
        },
        Script {
            hold_every: 20,
            ..Script::default()
        },
        Script {
            hold_every: 20,
            hold: Duration::from_secs(3_600),
            ..Script::default()
        },
        Script {
            close_after_pulls: Some(100),
            ..Script::default()
        },
        Script {
            retries: 100,
            ..Script::default()
        },
    ] {
        let mut feed = ScriptedFeed::new(500, script.clone(), compose());
        null().run_lane(&mut feed).await;
        let record = feed.finish();
        assert_eq!(record.violations, Vec::<String>::new(), "null: {script:?}");
        let wanted = script.close_after_pulls.unwrap_or(500) as usize;
        assert_eq!(record.endings.len(), wanted, "null: {script:?}");
        for lost in [0.0, 0.1] {
            let mut feed = ScriptedFeed::new(500, script.clone(), compose());
            simulated(lost).run_lane(&mut feed).await;
            let record = feed.finish();
            assert_eq!(record.violations, Vec::<String>::new(), "simulated: {script:?}");
            assert_eq!(record.endings.len(), wanted, "simulated: {script:?}");
        }
    }
}
