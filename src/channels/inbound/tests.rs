//! Whole mails: reports as MTAs and mailbox providers send them, and what is none.

use super::*;

/// A word with the form of a token; what it says is the server's business.
const TOKEN: &str = "abbbbbbbbbbbbbbbbbbbbbbbbcccccccccccccccccccc2222";

fn dsn(to: &str, fields: &str, original: &str) -> String {
    format!(
        "Received: by relay.test (Postfix)\r\nFrom: MAILER-DAEMON@relay.test\r\nSubject: Undelivered Mail Returned to Sender\r\n\
         To: {to}\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"xx\"\r\n\r\n\
         --xx\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nSorry.\r\n\
         --xx\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; relay.test\r\n\r\n\
         Final-Recipient: rfc822; a@b.test\r\n{fields}\r\n\
         --xx\r\n{original}\r\n--xx--\r\n"
    )
}

const FAILED: &str = "Action: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 no such\r\n    user\r\n";

fn original(message_id: &str) -> String {
    format!(
        "Content-Type: message/rfc822\r\n\r\nReturn-Path: <bounce@x.test>\r\nMessage-ID: <{message_id}>\r\nSubject: s\r\n\r\nbody\r\n"
    )
}

fn report(bytes: &str, recipient: Option<&str>) -> Report {
    match read(bytes.as_bytes(), recipient) {
        Ok(Inbound::Report(report)) => report,
        other => panic!("{other:?} of {bytes}"),
    }
}

#[test]
fn the_address_that_it_came_to_is_believed_first() {
    let other = TOKEN.replace('2', "3");
    let verp = format!("bounce+{TOKEN}@bounces.test");
    let mail = dsn(&verp, FAILED, &original(&format!("{other}@x.test")));
    let found = report(&mail, None);
    assert_eq!(found.happened, Happened::HardBounce);
    assert_eq!(found.message_ids, [verp.clone(), format!("{other}@x.test")], "then what it says of the mail");
    assert_eq!(found.words, "5.1.1 550 5.1.1 no such user", "unfolded");
    let told = report(&mail, Some(&format!("bounce+{other}@bounces.test")));
    assert_eq!(told.message_ids[0], format!("bounce+{other}@bounces.test"), "what the MTA says comes before headers");
    let mbox = format!("From MAILER-DAEMON Sun Nov 22 00:00:00 2026\n{mail}");
    assert_eq!(report(&mbox, None), found, "with an mbox line");
    assert_eq!(report(&mail.replace("\r\n", "\n"), None), found, "with lines as pipes write them");
}

#[test]
fn headers_alone_name_the_message() {
    let headers =
        format!("Content-Type: text/rfc822-headers\r\n\r\nSubject: s\r\nMessage-ID: <{TOKEN}@x.test>\r\n\r\n");
    assert_eq!(report(&dsn("news@x.test", FAILED, &headers), None).message_ids, [format!("{TOKEN}@x.test")]);
}

#[test]
fn a_complaint_is_read_from_a_feedback_report() {
    let mail = |kind: &str| {
        format!(
            "From: <abusedesk@example.test>\r\nSubject: FW: Earn money\r\nTo: <fbl@x.test>\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=feedback-report;\r\n     boundary=\"part1_13d.2e68ed54_boundary\"\r\n\r\n\
             --part1_13d.2e68ed54_boundary\r\nContent-Type: text/plain; charset=\"US-ASCII\"\r\n\r\nThis is a report.\r\n\
             --part1_13d.2e68ed54_boundary\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: {kind}\r\n\
             User-Agent: SomeGenerator/1.0\r\nVersion: 1\r\nOriginal-Mail-From: <bounce+{TOKEN}@bounces.test>\r\n\r\n\
             --part1_13d.2e68ed54_boundary\r\nContent-Type: message/rfc822\r\nContent-Disposition: inline\r\n\r\n\
             From: <news@x.test>\r\nMessage-ID: <{TOKEN}@x.test>\r\nSubject: Hello\r\n\r\nSpam?\r\n\
             --part1_13d.2e68ed54_boundary--\r\n"
        )
    };
    let found = report(&mail("abuse"), None);
    assert_eq!(found.happened.event(), ("complained", None));
    assert_eq!(found.message_ids, [format!("bounce+{TOKEN}@bounces.test"), format!("{TOKEN}@x.test")], "both");
    assert_eq!(found.words, "abuse SomeGenerator/1.0");
    assert_eq!(read(mail("not-spam").as_bytes(), None), Ok(Inbound::Ignored(Ignored::NoComplaint)));
}

#[test]
fn what_is_no_event_is_taken_in_and_dropped() {
    let verp = format!("bounce+{TOKEN}@bounces.test");
    let away =
        format!("From: a@b.test\r\nTo: {verp}\r\nSubject: away\r\nAuto-Submitted: auto-replied\r\n\r\nI am away.\r\n");
    assert_eq!(read(away.as_bytes(), Some(&verp)), Ok(Inbound::Ignored(Ignored::NotAReport)), "out of office");
    let late = dsn(&verp, "Action: delayed\r\nStatus: 4.4.1\r\n", &original("x@x.test"));
    assert_eq!(read(late.as_bytes(), None), Ok(Inbound::Ignored(Ignored::Delayed)));
    let foreign = dsn("news@x.test", FAILED, &original("somebody.else@x.test"));
    assert_eq!(
        read(foreign.as_bytes(), None),
        Ok(Inbound::Ignored(Ignored::NoMessage)),
        "nobody is suppressed by name"
    );
}

#[test]
fn what_is_no_mail_is_an_error() {
    assert_eq!(read(b" \n", None), Err(InboundError::Empty));
    assert_eq!(read(&vec![b'a'; INBOUND_BYTES_MAX + 1], None), Err(InboundError::TooLarge));
    let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(INBOUND_PARTS_MAX + 1);
    assert_eq!(read(nested.as_bytes(), None), Err(InboundError::TooManyParts));
    let most = "Content-Type: message/rfc822\r\n\r\n".repeat(INBOUND_PARTS_MAX);
    assert_eq!(read(most.as_bytes(), None), Ok(Inbound::Ignored(Ignored::NotAReport)), "at the bound it still answers");
    let hollow =
        "Content-Type: multipart/report; report-type=delivery-status; boundary=x\r\n\r\n--x\r\n\r\nSorry\r\n--x--\r\n";
    assert_eq!(read(hollow.as_bytes(), None), Err(InboundError::NoFields));
}
