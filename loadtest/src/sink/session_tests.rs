//! Cases of the sink's session: what is said, what is answered, whatever the cuts.

use super::super::faults::{Dice, Faults, Stage};
use super::super::hub::Offers;
use super::super::mails::{MailReader, MailWriter};
use super::super::record::Recorder;
use super::super::replies::Provider;
use super::*;
use crate::rng::Rng;

fn hub(faults: Faults) -> Hub {
    Hub::new(Dice::new(faults), None, Offers { chunking: true, starttls: true, demands_tls: false })
}

/// Feeds the script cut at the given places; the answers' codes, and how it ended.
fn run(hub: &mut Hub, script: &[u8], cuts: impl Fn(usize) -> usize) -> (Vec<String>, Step) {
    let (mut session, mut replies, mut at, mut step) = (Session::default(), Vec::new(), 0, Step::Continue);
    while at < script.len() && step == Step::Continue {
        let end = (at + cuts(at).max(1)).min(script.len());
        step = session.feed(&script[at..end], hub, &mut replies);
        at = end;
    }
    let text = String::from_utf8(replies).unwrap();
    (text.lines().map(|l| l[..4].trim_end().to_owned()).collect(), step)
}

const TWO: &[u8] = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: x\r\n\r\n..dot\r\n.x\r\n.\r\nMAIL FROM:<a@b>\r\nRCPT TO:<e@f>\r\nDATA\r\n.\r\nQUIT\r\n";

#[test]
fn answers_do_not_depend_on_how_the_bytes_arrive() {
    let expected = ["250", "250", "354", "250", "250", "250", "354", "250", "221"];
    for size in 1..TWO.len() {
        let mut hub = hub(Faults::default());
        let (codes, step) = run(&mut hub, TWO, |_| size);
        assert_eq!((codes, step), (expected.map(str::to_owned).to_vec(), Step::Close), "cut every {size} bytes");
        assert_eq!(hub.counts.accepted, 2, "an empty body is a message too (cut every {size})");
    }
    for seed in 0..200 {
        let (mut hub, rng) = (hub(Faults::default()), std::cell::RefCell::new(Rng::new(seed)));
        let cut = |_| usize::try_from(rng.borrow_mut().below(9)).unwrap();
        assert_eq!(run(&mut hub, TWO, cut).0, expected, "random cuts, seed {seed}");
    }
}

#[test]
fn chunks_are_counted_and_need_recipients() {
    let script = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 5\r\nhelloBDAT 4 LAST\r\n\r\n.\rBDAT 2 LAST\r\nxx";
    for size in 1..script.len() {
        let mut hub = hub(Faults::default());
        let (codes, _) = run(&mut hub, script, |_| size);
        assert_eq!(codes, ["250", "250", "250", "250", "554"], "cut every {size}: no dot is looked for in chunks");
        assert_eq!((hub.counts.accepted, hub.counts.bytes), (1, 11), "one message, all bytes (cut every {size})");
    }
}

#[test]
fn a_refused_recipient_takes_its_data_with_it() {
    let mut hub = hub(Faults { fail_5xx: 1.0, fail_at: Stage::Rcpt, ..Faults::default() });
    let (codes, _) = run(&mut hub, b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nRSET\r\n", |_| 99);
    assert_eq!(codes, ["250", "550", "554", "250"], "RFC 2920: DATA after a refused RCPT is refused");
    assert_eq!((hub.counts.accepted, hub.counts.refused_5xx), (0, 1), "counted as refused");
}

#[test]
fn faults_at_the_dot() {
    let one = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\n";
    let (codes, _) = run(&mut hub(Faults { fail_4xx: 1.0, ..Faults::default() }), one, |_| 99);
    assert_eq!(codes, ["250", "250", "354", "451"], "temporary refusal of the message");

    let mut dropping = hub(Faults { drop_after_dot: 1.0, ..Faults::default() });
    let (codes, step) = run(&mut dropping, one, |_| 99);
    assert_eq!((codes.len(), step), (3, Step::Reset), "no answer to the dot");
    assert_eq!((dropping.counts.accepted, dropping.counts.dropped_after_dot), (1, 1), "but it was accepted");

    let mut cutting = hub(Faults { drop_in_body: 1.0, ..Faults::default() });
    assert_eq!(run(&mut cutting, one, |_| 99).1, Step::Close, "closed in the body");
    assert_eq!((cutting.counts.accepted, cutting.counts.dropped_in_body), (0, 1), "and nothing accepted");

    let mut tired = hub(Faults { close_after: Some(1), ..Faults::default() });
    let twice = [&one[..], b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"].concat();
    assert_eq!(run(&mut tired, &twice, |_| 500).0, ["250", "250", "354", "250", "421"], "421 after one message");

    let mut slow = hub(Faults { throttle_per_second: Some(1), ..Faults::default() });
    assert_eq!(run(&mut slow, &twice, |_| 500).0, ["250", "250", "354", "250", "451", "503"], "one a second");
}

#[test]
fn a_message_is_in_the_record_before_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    let mut hub = Hub::new(Dice::new(Faults::default()), Some(Recorder::open(&path).unwrap()), Offers::default());
    let script = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: x\r\nMessage-ID: <1@b>\r\n\r\nbody\r\n.\r\n";
    run(&mut hub, script, |_| 3);
    hub.flush().unwrap();
    let read = super::super::record::read(&path).unwrap();
    assert_eq!(read.len(), 1, "one message");
    assert_eq!((&*read[0].recipient, &*read[0].message_id, &*read[0].subject), ("c@d", "<1@b>", "x"), "its fields");
}

#[test]
fn mails_are_kept_whole_however_they_came() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mails");
    for size in [1, 7, 400] {
        let mut hub = hub(Faults::default());
        hub.mails = Some(MailWriter::open(&path).unwrap());
        let mut reader = MailReader::open(&path).unwrap();
        reader.next_mails().unwrap();
        run(&mut hub, TWO, |_| size);
        run(&mut hub, b"MAIL FROM:<a@b>\r\nRCPT TO:<g@h>\r\nBDAT 9 LAST\r\n..x\r\n.\r\ny", |_| size);
        hub.flush().unwrap();
        let mails: Vec<(String, Vec<u8>)> =
            reader.next_mails().unwrap().into_iter().map(|m| (m.recipient, m.source)).collect();
        let wanted: [(&str, &[u8]); 3] =
            [("c@d", b"Subject: x\r\n\r\n.dot\r\nx\r\n"), ("e@f", b""), ("g@h", b"..x\r\n.\r\ny")];
        assert_eq!(mails, wanted.map(|(to, source)| (to.to_owned(), source.to_vec())), "cut every {size} bytes");
    }
}

#[test]
fn refusals_are_a_providers_and_counted_by_code() {
    let one = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@gmail.com>\r\nDATA\r\nx\r\n.\r\n";
    let faults = |faults: Faults| Faults { provider: Provider::Gmail, ..faults };
    let mut gone = hub(faults(Faults { fail_5xx: 1.0, fail_at: Stage::Rcpt, ..Faults::default() }));
    let (codes, _) = run(&mut gone, one, |_| 99);
    assert!(codes.iter().filter(|code| *code == "550-").count() >= 1, "several lines, as Gmail speaks: {codes:?}");
    assert_eq!(gone.counts.replies.values().sum::<u64>(), 1, "and one reply: {:?}", gone.counts.replies);

    let mut policy = hub(faults(Faults { fail_policy: 1.0, ..Faults::default() }));
    run(&mut policy, one, |_| 99);
    assert_eq!(
        (policy.counts.refused_policy, policy.counts.refused_5xx),
        (1, 0),
        "the sender's fault is counted apart"
    );

    let mut slow = hub(faults(Faults { throttle_per_second: Some(1), ..Faults::default() }));
    let twice = [&one[..], one].concat();
    let (codes, step) = run(&mut slow, &twice, |_| 500);
    assert_eq!((codes.last().map(String::as_str), step), (Some("421"), Step::Close), "Gmail closes: {codes:?}");
    assert_eq!((slow.counts.accepted, slow.counts.throttled), (1, 1));
}

#[test]
fn drops_before_the_body_have_no_answer() {
    let one = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\n";
    let mut dropping = hub(Faults { drop_before_body: 1.0, ..Faults::default() });
    let (codes, step) = run(&mut dropping, one, |_| 99);
    assert_eq!((codes.len(), step), (2, Step::Reset), "nothing after RCPT");
    assert_eq!((dropping.counts.accepted, dropping.counts.dropped_before_body), (0, 1));
    let chunk = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 1 LAST\r\nx";
    assert_eq!(run(&mut dropping, chunk, |_| 99).1, Step::Reset, "nor by chunks");
    let mut cutting = hub(Faults { drop_in_body: 1.0, ..Faults::default() });
    assert_eq!(run(&mut cutting, chunk, |_| 99).1, Step::Close, "closed in the chunk");
    assert_eq!((cutting.counts.accepted, cutting.counts.dropped_in_body), (0, 1));
}

#[test]
fn starttls_is_offered_once_and_takes_nothing_along() {
    let mut hub = hub(Faults::default());
    hub.offers.demands_tls = true;
    let hello = b"EHLO x\r\nMAIL FROM:<a@b>\r\nSTARTTLS\r\nRCPT TO:<injected@x>\r\n";
    let mut replies = Vec::new();
    assert_eq!(Session::default().feed(hello, &mut hub, &mut replies), Step::StartTls);
    let text = String::from_utf8(replies).unwrap();
    assert!(text.contains("250-STARTTLS\r\n") && text.contains("530 5.7.0"), "offered and demanded: {text}");
    assert!(text.ends_with("220 2.0.0 go ahead\r\n"), "what came after it is not answered: {text}");
    let mut replies = Vec::new();
    Session::secured().feed(b"EHLO x\r\nSTARTTLS\r\nMAIL FROM:<a@b>\r\n", &mut hub, &mut replies);
    let text = String::from_utf8(replies).unwrap();
    assert!(!text.contains("250-STARTTLS") && text.contains("\r\n502 "), "not again: {text}");
    assert!(text.ends_with("250 2.1.0 ok\r\n"), "and mail is taken: {text}");
}

#[test]
fn a_line_without_end_is_cut_short() {
    let mut hub = hub(Faults::default());
    let (codes, step) = run(&mut hub, &vec![b'x'; 10_000], |_| 100);
    assert_eq!((codes, step), (vec!["500".to_owned()], Step::Close), "the line buffer is bounded");
}
