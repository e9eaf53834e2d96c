//! Relays that hang, close, refuse, or talk nonsense.

use super::*;
use crate::channels::RejectClass;
use crate::channels::contract::peer::Verb;

#[tokio::test]
async fn a_relay_that_hangs_after_each_command_costs_no_message_anything() {
    let runs = FLAVOURS.into_iter().flat_map(|flavour| {
        [Verb::Greeting, Verb::Ehlo, Verb::Mail, Verb::Rcpt, Verb::Data].map(|verb| async move {
            // BDAT has no DATA to hang at.
            if flavour == Flavour::Chunked && verb == Verb::Data {
                return;
            }
            let (record, peer) = against(flavour, 2, Script::default(), Fault::Hang(verb)).await;
            assert_eq!(peer.seen.lock().received.len(), 0, "{flavour:?} {verb:?}: nothing arrived");
            let unknown = record.count(|e| *e == Ending::Answered(Outcome::Unknown));
            let wanted = if flavour == Flavour::Chunked && matches!(verb, Verb::Mail | Verb::Rcpt) { 2 } else { 0 };
            assert_eq!(unknown, wanted, "{flavour:?} {verb:?}: unknown is only what was written to its end");
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
        let script = Script { retries: 50, ..Script::default() };
        let (record, _peer) = against(flavour, 40, script, Fault::CloseAfterMessages(10)).await;
        let unknown = record.count(|e| *e == Ending::Answered(Outcome::Unknown));
        assert_eq!(accepted(&record) + unknown, 40, "{flavour:?}: all were sent");
        assert!(unknown <= 4 * 4, "{flavour:?}: at most a window for each break, got {unknown}");
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
        message.body.extend_from_slice(&b"0123456789012345678901234567890123456789\r\n".repeat(500_000));
    });
    let mut feed = ScriptedFeed::new(2, Script::default(), large);
    let peer = start(peer_script(&feed, ALL, Fault::CloseInBody(100_000))).await;
    run_smtp(&mut feed, settings(peer.port, Flavour::Pipelined)).await;
    let record = feed.finish();
    assert_eq!(record.violations, Vec::<String>::new(), "the contract");
    assert_eq!(record.count(|e| matches!(e, Ending::Back(_))), 2, "definite: the mark was not made");
}

#[tokio::test]
async fn large_and_dotted_bodies_arrive_as_they_are() {
    for flavour in FLAVOURS {
        let odd: Compose = Box::new(|ticket, message| {
            compose()(ticket, message);
            message.needs_dot_stuffing = true;
            message.body.extend_from_slice(b".\r\n..x\r\n.end");
            if ticket == 2 {
                message.body.extend_from_slice(&b"\r\n.23456789012345678901234567890123456789".repeat(20_000));
            }
        });
        let mut feed = ScriptedFeed::new(3, Script::default(), odd);
        let peer = start(peer_script(&feed, if flavour == Flavour::Lockstep { PLAIN } else { ALL }, Fault::None)).await;
        run_smtp(&mut feed, settings(peer.port, flavour)).await;
        let record = feed.finish();
        assert_eq!((accepted(&record), record.violations), (3, Vec::new()), "{flavour:?}");
        let bodies = peer.seen.lock().bodies.clone();
        assert!(bodies[0].ends_with(b"hello 1\r\n.\r\n..x\r\n.end\r\n"), "{flavour:?}: dots and the line end");
        assert_eq!(bodies[1].len(), bodies[0].len() + 20_000 * 41, "{flavour:?}: nothing lost of a large one");
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
            assert_eq!(peer.seen.lock().connections, 1, "{flavour:?} {verb:?}: and no connection was lost over it");
        }
    }
}

#[tokio::test]
async fn refused_recipients_in_between_harm_nobody_else() {
    for flavour in FLAVOURS {
        let fault = Fault::Reply(Verb::Rcpt, "550 5.1.1 no such user", 5);
        let (record, peer) = against(flavour, 100, Script::default(), fault).await;
        let bounced =
            record.count(|e| matches!(e, Ending::Answered(Outcome::Rejected { class: RejectClass::HardBounce, .. })));
        assert_eq!((accepted(&record), bounced), (80, 20), "{flavour:?}: every fifth does not exist");
        assert_eq!(peer.seen.lock().connections, 1, "{flavour:?}: on one connection");
    }
}

#[tokio::test]
async fn ten_megabytes_of_reply_end_the_connection_and_nothing_else() {
    for verb in [Verb::Greeting, Verb::Ehlo, Verb::Mail, Verb::Rcpt, Verb::Data, Verb::Dot] {
        let (record, _peer) = against(Flavour::Pipelined, 2, Script::default(), Fault::LongLine(verb)).await;
        let unknown = record.count(|e| *e == Ending::Answered(Outcome::Unknown));
        assert_eq!(unknown, usize::from(verb == Verb::Dot), "{verb:?}: unknown only after the dot");
        assert_eq!(record.endings.len(), 2, "{verb:?}: each has an ending");
    }
}

#[tokio::test]
async fn refusals_of_the_session_are_told_and_harm_no_message() {
    for (line, wanted) in [("554 5.7.1 go away", "sender"), ("421 4.7.0 too many connections", "connections")] {
        let (record, _peer) =
            against(Flavour::Pipelined, 2, Script::default(), Fault::Reply(Verb::Greeting, line, 1)).await;
        assert_eq!(record.count(|e| matches!(e, Ending::Back(_))), 2, "{line}: nothing was tried");
        let told = record.events.iter().any(|e| match wanted {
            "sender" => matches!(e, LaneEvent::SenderRefused { .. }),
            _ => matches!(e, LaneEvent::TooManyConnections { .. }),
        });
        assert!(told, "{line}: {:?}", record.events);
    }
}

/// Forty lanes that a relay turns away must not open the circuit for the ten that it serves.
#[tokio::test]
async fn too_many_connections_are_no_failure_to_reach_the_relay() {
    let fault = Fault::Reply(Verb::Greeting, "421 4.7.0 too many connections", 1);
    let (record, _peer) = against(Flavour::Pipelined, 2, Script::default(), fault).await;
    let failed = record.events.iter().any(|e| matches!(e, LaneEvent::ConnectFailed { .. }));
    assert!(!failed, "lanes shrink, and nothing else: {:?}", record.events);
}

#[tokio::test]
async fn what_is_beyond_the_announced_size_is_not_offered() {
    for offers in [&["PIPELINING", "SIZE 10"][..], &["SIZE 10"], &["PIPELINING", "CHUNKING", "SIZE 10"]] {
        let mut feed = ScriptedFeed::new(3, Script::default(), compose());
        let peer = start(peer_script(&feed, offers, Fault::None)).await;
        let settings = SmtpSettings { chunking: true, ..settings(peer.port, Flavour::Pipelined) };
        run_smtp(&mut feed, settings).await;
        let too_large =
            |e: &Ending| matches!(e, Ending::Answered(Outcome::Rejected { class: RejectClass::TooLarge, .. }));
        assert_eq!(feed.finish().count(too_large), 3, "{offers:?}: each is answered");
        assert!(!peer.seen.lock().commands.iter().any(|c| c.starts_with("MAIL")), "{offers:?}: nothing is offered");
    }
}

/// RFC 6531 3.4 and RFC 6152: parameters where they are offered and needed; else the message is no use to this relay.
#[tokio::test]
async fn smtputf8_and_8bit_are_said_or_the_message_is_refused() {
    for (offers, accepted) in [(&["PIPELINING", "SMTPUTF8", "8BITMIME"][..], 2), (&["PIPELINING"][..], 0)] {
        let compose: Compose = Box::new(|ticket, out| {
            out.recipient = format!("jürgen{ticket}@example.test");
            out.return_path = "b@example.test".to_owned();
            out.body = format!("X-Ticket: {ticket}\r\nSubject: Grüße\r\n\r\nhello\r\n").into_bytes();
            (out.needs_smtputf8, out.needs_8bit) = (true, true);
        });
        let mut feed = ScriptedFeed::new(2, Script::default(), compose);
        let peer = start(peer_script(&feed, offers, Fault::None)).await;
        run_smtp(&mut feed, settings(peer.port, Flavour::Pipelined)).await;
        let record = feed.finish();
        assert_eq!(super::accepted(&record), accepted, "{offers:?}: {:?}", record.endings);
        let commands = peer.seen.lock().commands.clone();
        let said = commands
            .iter()
            .filter(|c| c.starts_with("MAIL") && c.contains(" BODY=8BITMIME") && c.contains(" SMTPUTF8"));
        assert_eq!(said.count(), accepted, "{offers:?}: {commands:?}");
        let other = |e: &Ending| matches!(e, Ending::Answered(Outcome::Rejected { class: RejectClass::Other, .. }));
        assert_eq!(record.count(other), 2 - accepted, "{offers:?}: refused, and nobody is suppressed for it");
    }
}

#[tokio::test]
async fn a_421_in_mid_session_requeues_what_has_no_answer() {
    for flavour in FLAVOURS {
        let script = Script { retries: 5, ..Script::default() };
        let fault = Fault::Reply(Verb::Mail, "421 4.3.2 shutting down", 10);
        let (record, _peer) = against(flavour, 30, script, fault).await;
        let deferred = record.count(|e| matches!(e, Ending::Answered(Outcome::Deferred { .. })));
        let unknown = record.count(|e| *e == Ending::Answered(Outcome::Unknown));
        assert_eq!(accepted(&record) + deferred + unknown, 30, "{flavour:?}: all have an answer in the end");
        if flavour != Flavour::Chunked {
            assert_eq!(deferred + unknown, 0, "{flavour:?}: 421 says nothing about a message");
        }
        assert!(record.events.iter().any(|e| matches!(e, LaneEvent::TooManyConnections { .. })), "{flavour:?}: told");
    }
}

#[tokio::test]
async fn a_fault_of_the_dialogue_is_tried_once_without_pipelining() {
    let script = Script { retries: 3, ..Script::default() };
    let fault = Fault::Reply(Verb::Rcpt, "503 5.5.1 bad sequence", 1);
    let (record, peer) = against(Flavour::Pipelined, 3, script, fault).await;
    let rejected =
        record.count(|e| matches!(e, Ending::Answered(Outcome::Rejected { class: RejectClass::Protocol, .. })));
    assert_eq!(rejected, 3, "in the end it is a protocol rejection, which suppresses nobody");
    assert!(peer.seen.lock().connections >= 2, "after another try");
}

#[tokio::test]
async fn nobody_listens() {
    let mut feed = ScriptedFeed::new(3, Script::default(), compose());
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    run_smtp(&mut feed, settings(port, Flavour::Pipelined)).await;
    let record = feed.finish();
    assert_eq!(record.count(|e| *e == Ending::Back(HandBack::ConnectionLost)), 3, "all come back unharmed");
    assert!(
        matches!(&record.events[0], LaneEvent::ConnectFailed { reason } if reason.contains("127.0.0.1")),
        "and it is said"
    );
}
