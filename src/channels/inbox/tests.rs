use super::*;
use crate::channels::contract::{Compose, Script, ScriptedFeed};
use crate::channels::smtp::SmtpConnector;
use crate::config::connectors::SmtpSettings;

fn compose() -> Compose {
    Box::new(|ticket, message| {
        message.return_path.push_str("bounce@x.test");
        message.recipient.push_str(&format!("r{ticket}@y.test"));
        message.needs_dot_stuffing = true;
        let body = format!(
            "From: News <news@x.test>\r\nTo: r{ticket}@y.test\r\nSubject: =?utf-8?q?Caf=C3=A9_{ticket}?=\r\n\
             MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n\
             --b\r\nContent-Type: text/plain\r\n\r\n.dotted {ticket}\r\n\
             --b\r\nContent-Type: text/html\r\n\r\n<p>hello {ticket}</p>\r\n--b--\r\n"
        );
        message.body.extend_from_slice(body.as_bytes());
    })
}

async fn fill(inbox: &Inbox, mails: u64, chunking: bool) {
    let settings = SmtpSettings { chunking, ..SmtpSettings::loopback("inbox", inbox.port(), 1) };
    let mut feed = ScriptedFeed::new(mails, Script::default(), compose());
    SmtpConnector::new(settings).expect("settings work").run_lane(&mut feed).await;
    let record = feed.finish();
    assert_eq!((record.accepted, record.violations), (mails, Vec::new()), "all taken");
}

#[tokio::test]
async fn mails_can_be_listed_found_and_read() {
    for chunking in [false, true] {
        let inbox = Inbox::start(100).expect("started");
        fill(&inbox, 30, chunking).await;
        let page = inbox.list(0, 10, "");
        assert_eq!((page.matching, page.mails.len()), (30, 10), "a page of all");
        assert_eq!(page.mails[0].recipient, "r30@y.test", "newest first");
        assert_eq!(page.mails[0].subject, "Café 30", "subject decoded");
        let found = inbox.list(0, 10, "CAFÉ 17");
        assert_eq!(found.matching, 1, "found by subject");
        let mail = inbox.get(found.mails[0].id).expect("it is there");
        assert_eq!(mail.text.as_deref().map(str::trim), Some(".dotted 17"), "text, dots as they were");
        assert_eq!(mail.html.as_deref().map(str::trim), Some("<p>hello 17</p>"), "html");
        assert!(mail.headers.iter().any(|(n, v)| n == "From" && v == "News <news@x.test>"), "{:?}", mail.headers);
        assert_eq!(mail.return_path, "bounce@x.test", "envelope sender");
        assert_eq!(inbox.get(1_000), None, "no such mail");
    }
}

#[tokio::test]
async fn memory_is_bounded_and_everything_is_counted() {
    let inbox = Inbox::start(10).expect("started");
    fill(&inbox, 500, false).await;
    let totals = inbox.totals();
    assert_eq!((totals.taken, totals.kept), (500, 10), "kept up to the bound, counted beyond");
    assert!(inbox.get(10).is_some() && inbox.get(11).is_none(), "the first ones are kept");
}

#[tokio::test]
async fn odd_clients_get_an_answer() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let inbox = Inbox::start(10).expect("started");
    for (said, wanted) in [
        ("DATA\r\nQUIT\r\n", "503"),
        ("RCPT TO:<a@b>\r\nQUIT\r\n", "503"),
        ("MAIL FROM:a@b\r\nQUIT\r\n", "501"),
        ("MAIL FROM:<>\r\nMAIL FROM:<>\r\nQUIT\r\n", "503 5.5.1 nested"),
        ("PIGEON\r\nQUIT\r\n", "502"),
        ("BDAT x\r\n", "501"),
        ("BDAT 99999999999\r\n", "552"),
        ("MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n.\r\nQUIT\r\n", "250 2.0.0 taken"),
        (&"x".repeat(10_000), "500"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", inbox.port())).await.expect("connected");
        stream.write_all(said.as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer and the end");
        assert!(answer.contains(wanted), "{said:.40}: {answer}");
    }
}
