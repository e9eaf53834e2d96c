//! The contract suite: every connector kind, every flavour of SMTP, well-behaved and misbehaving relays.

use std::collections::BTreeSet;

use super::peer::{Fault, Peer, PeerScript, RELAY, Security, start};
use super::*;
use crate::channels::null::NullConnector;
use crate::channels::simulated::SimulatedConnector;
use crate::channels::smtp::SmtpConnector;
use crate::config::connectors::{
    NullSettings, RateLimits, RetrySettings, SimulatedSettings, SmtpSettings, SmtpTimeouts,
};

mod faults;
mod security;

const ALL: &[&str] = &["PIPELINING", "CHUNKING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "SIZE 100000000"];
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

const FLAVOURS: [Flavour; 4] = [Flavour::Pipelined, Flavour::Lockstep, Flavour::Chunked, Flavour::SwitchedOff];

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
    PeerScript { offers, fault, security: Security::None, certificate: RELAY, marks: Arc::clone(&feed.marks) }
}

async fn run_smtp(feed: &mut ScriptedFeed, settings: SmtpSettings) {
    let connector = SmtpConnector::new(settings).expect("settings work");
    tokio::time::timeout(Duration::from_secs(120), connector.run_lane(feed)).await.expect("MUST 8: the lane returns");
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
    assert_eq!(seen.unmarked, Vec::<u64>::new(), "{what}: MUST 1, nothing arrives unmarked");
    assert_eq!(seen.strange, 0, "{what}: no empty or garbled mail");
    let received: BTreeSet<u64> = seen.received.iter().copied().collect();
    assert_eq!(received.len(), seen.received.len(), "{what}: nobody gets a mail twice");
    for (ticket, endings) in &record.endings {
        let last = endings.last();
        let accepted = last == Some(&Ending::Answered(Outcome::Accepted));
        if accepted {
            assert!(received.contains(ticket), "{what}: ticket {ticket} is called accepted and never arrived");
        }
        if received.contains(ticket) {
            assert!(!matches!(last, Some(Ending::Back(_))), "{what}: ticket {ticket} arrived and came back");
            assert!(marks.lock().contains(ticket), "{what}: ticket {ticket} arrived unmarked");
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
        assert_eq!(peer.seen.lock().connections, 1, "{flavour:?}: one connection carries all");
        let attached = record.attached > 250;
        assert_eq!(attached, flavour == Flavour::Pipelined, "{flavour:?}: envelopes attached: {}", record.attached);
        let order = peer.seen.lock().received.clone();
        assert_eq!(order, (1..=300).collect::<Vec<_>>(), "{flavour:?}: in order");
    }
}

#[tokio::test]
async fn withdrawn_messages_never_arrive() {
    let script = Script { withdraw_every: 7, ..Script::default() };
    for flavour in FLAVOURS {
        let (record, _peer) = against(flavour, 100, script.clone(), Fault::None).await;
        assert_eq!(accepted(&record), 86, "{flavour:?}: all but every seventh");
        assert_eq!(record.count(|e| matches!(e, Ending::Back(_))), 14, "{flavour:?}: those came back");
    }
}

#[tokio::test]
async fn held_messages_go_when_their_permit_comes_or_come_back() {
    let short = Script { hold_every: 3, ..Script::default() };
    let long = Script { hold_every: 10, hold: Duration::from_secs(3_600), ..Script::default() };
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
    let script = Script { attach: false, ..Script::default() };
    let (record, peer) = against(Flavour::Pipelined, 50, script, Fault::None).await;
    assert_eq!(accepted(&record), 50, "all go all the same");
    assert_eq!(peer.seen.lock().connections, 1, "on one connection");
}

#[tokio::test]
async fn a_closing_feed_ends_the_lane_with_empty_hands() {
    for flavour in FLAVOURS {
        let script = Script { close_after_pulls: Some(20), ..Script::default() };
        let (record, _peer) = against(flavour, 1_000, script, Fault::None).await;
        assert_eq!(record.endings.len(), 20, "{flavour:?}: what was pulled was given back");
        assert!(accepted(&record) >= 15, "{flavour:?}: and most of it sent: {}", accepted(&record));
    }
}

#[tokio::test]
async fn a_quota_per_connection_is_kept() {
    for flavour in FLAVOURS {
        let mut feed = ScriptedFeed::new(50, Script::default(), compose());
        let peer = start(peer_script(&feed, if flavour == Flavour::Lockstep { PLAIN } else { ALL }, Fault::None)).await;
        let settings = SmtpSettings { messages_per_connection_max: Some(20), ..settings(peer.port, flavour) };
        run_smtp(&mut feed, settings).await;
        let record = feed.finish();
        assert_eq!((accepted(&record), peer.seen.lock().connections), (50, 3), "{flavour:?}: 20, 20, 10");
        assert_eq!(record.violations, Vec::<String>::new(), "{flavour:?}");
    }
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
        Script { withdraw_every: 3, ..Script::default() },
        Script { hold_every: 20, ..Script::default() },
        Script { hold_every: 20, hold: Duration::from_secs(3_600), ..Script::default() },
        Script { close_after_pulls: Some(100), ..Script::default() },
        Script { retries: 100, ..Script::default() },
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
