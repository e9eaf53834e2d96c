//! TLS, certificates, passwords.

use super::*;
use crate::channels::contract::peer::OTHER;
use crate::config::connectors::{Secret, TlsMode};

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
    assert_eq!(accepted(&secured(Security::Starttls, TlsMode::Starttls, RELAY, RELAY.0).await), 5, "STARTTLS and AUTH");
    assert_eq!(accepted(&secured(Security::Implicit, TlsMode::Implicit, RELAY, RELAY.0).await), 5, "implicit TLS");
}

#[tokio::test]
async fn wrong_certificates_are_refused() {
    for (certificate, trusted, what) in [(RELAY, OTHER.0, "not trusted"), (OTHER, OTHER.0, "another name")] {
        let record = secured(Security::Starttls, TlsMode::Starttls, certificate, trusted).await;
        assert_eq!(record.count(|e| matches!(e, Ending::Back(_))), 5, "{what}: nothing leaves");
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
    let settings =
        SmtpSettings { tls: TlsMode::Starttls, ca_file: Some(ca_file), ..settings(peer.port, Flavour::Pipelined) };
    run_smtp(&mut feed, settings).await;
    assert_eq!(feed.finish().count(|e| matches!(e, Ending::Back(_))), 2, "nothing leaves in the clear");
    assert!(!peer.seen.lock().commands.iter().any(|c| c.starts_with("MAIL")), "not even an address");
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
    assert!(record.events.iter().any(|e| matches!(e, LaneEvent::SenderRefused { .. })), "{:?}", record.events);
    assert_eq!(record.count(|e| matches!(e, Ending::Back(_))), 2, "MUST 7: and no message's");
}

#[tokio::test]
async fn the_connection_test_reports() {
    let feed = ScriptedFeed::new(0, Script::default(), compose());
    let peer = start(peer_script(&feed, ALL, Fault::None)).await;
    let connector = SmtpConnector::new(settings(peer.port, Flavour::Pipelined)).expect("settings work");
    let report = connector.test().await.expect("it answers");
    assert!(report.pipelining && report.chunking && report.smtputf8 && !report.tls, "{report:?}");
    assert_eq!(report.size_max_bytes, Some(100_000_000), "{report:?}");
}
