//! Delivery status notifications: what a per-recipient group says (RFC 3464 sections 2.3.3 to 2.3.6).

use super::fields::Group;
use super::{Happened, Ignored};
use crate::channels::RejectClass;
use crate::channels::smtp::classify::{ForMessage, Stage, classify};
use crate::channels::smtp::reply::{Enhanced, Reply};

/// The word on the recipient that matters most: our mails have one each, so that several groups are about the same mail.
pub(super) fn judge(groups: &[Group]) -> Result<(Happened, String), Ignored> {
    let with = |action: &str| {
        groups
            .iter()
            .find(|group| group.get("action").is_some_and(|found| first_word(found).eq_ignore_ascii_case(action)))
    };
    if let Some(failed) = with("failed") {
        return Ok((bounce(failed), words(failed)));
    }
    if let Some(delivered) = with("delivered") {
        return Ok((Happened::Delivered, words(delivered)));
    }
    if with("delayed").is_some() {
        return Err(Ignored::Delayed);
    }
    // `expanded` is a mailing list's word: nobody knows what becomes of it.
    if with("relayed").or(with("expanded")).is_some() {
        return Err(Ignored::Relayed);
    }
    Err(Ignored::NotAReport)
}

fn first_word(text: &str) -> &str {
    text.split([' ', '(', ';']).next().unwrap_or_default()
}

/// The relay's reply, as the report quotes it, ruled on by the same table as replies to ourselves.
fn bounce(group: &Group) -> Happened {
    let status = group.get("status").and_then(enhanced);
    let (_, text) = group.typed("diagnostic-code").unwrap_or_default();
    let (quoted, text) = code(text);
    // "5.0.0" says nothing; what the quoted reply says is more.
    let own = enhanced(text.trim_start_matches(['-', ' ']));
    let enhanced = match status {
        Some(Enhanced(class, 0, 0)) => own.or(Some(Enhanced(class, 0, 0))),
        status => status.or(own),
    };
    let class = quoted.map(|code| code / 100).or(enhanced.map(|e| u16::from(e.0))).unwrap_or(5);
    let gave_up = class == 4 || enhanced.is_some_and(|e| e.0 == 4);
    if gave_up {
        return Happened::SoftBounce;
    }
    let reply = Reply { code: quoted.filter(|code| *code >= 500).unwrap_or(550), enhanced, text: text.to_owned() };
    match classify(Stage::Rcpt, &reply).message {
        ForMessage::Reject(RejectClass::HardBounce) => Happened::HardBounce,
        ForMessage::Reject(RejectClass::SoftBounce | RejectClass::RetryDeadline | RejectClass::Other) => {
            Happened::SoftBounce
        }
        ForMessage::Defer { .. } => Happened::SoftBounce,
        ForMessage::Reject(RejectClass::Policy | RejectClass::TooLarge | RejectClass::Protocol)
        | ForMessage::Good
        | ForMessage::Unharmed
        | ForMessage::Protocol => Happened::PolicyBounce,
    }
}

/// The reply code at the beginning of a text, and the rest.
fn code(text: &str) -> (Option<u16>, &str) {
    let text = text.trim();
    match text.get(..3).and_then(|digits| digits.parse::<u16>().ok()) {
        Some(code) if (200..600).contains(&code) => (Some(code), text.get(3..).unwrap_or_default()),
        _ => (None, text),
    }
}

/// `5.1.1 (bad mailbox)` → 5, 1, 1.
fn enhanced(text: &str) -> Option<Enhanced> {
    let mut numbers = first_word(text.trim()).split('.');
    let class: u8 = numbers.next()?.parse().ok().filter(|class| matches!(class, 2 | 4 | 5))?;
    let (subject, detail) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    numbers.next().is_none().then_some(Enhanced(class, subject, detail))
}

fn words(group: &Group) -> String {
    let status = group.get("status").unwrap_or_default();
    let (_, text) = group.typed("diagnostic-code").unwrap_or_default();
    format!("{status} {text}").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::fields::groups;
    use super::*;

    fn judged(fields: &str) -> Result<Happened, Ignored> {
        judge(&groups(&format!("Reporting-MTA: dns; relay.test\n\nFinal-Recipient: rfc822; a@b.test\n{fields}\n")))
            .map(|j| j.0)
    }

    #[test]
    fn the_reply_that_a_report_quotes_is_ruled_on_like_a_reply() {
        let rows = [
            ("5.1.1", "smtp; 550 5.1.1 <a@b.test>: Recipient address rejected: User unknown", Happened::HardBounce),
            ("5.1.1", "X-Postfix; unknown user: \"a\"", Happened::HardBounce),
            ("5.0.0", "smtp; 550-5.1.1 The email account does not exist", Happened::HardBounce),
            ("5.1.10", "smtp; 556 Recipient address has null MX", Happened::HardBounce),
            ("5.2.1", "smtp; 550 mailbox is disabled", Happened::HardBounce),
            ("5.0.0", "smtp; 550 no such user here", Happened::HardBounce),
            ("5.2.2", "smtp; 552 5.2.2 Mailbox full", Happened::SoftBounce),
            ("4.4.1", "X-Postfix; connect to b.test[192.0.2.1]:25: Connection timed out", Happened::SoftBounce),
            ("4.2.2", "smtp; 452 4.2.2 over quota", Happened::SoftBounce),
            ("5.7.1", "smtp; 550 5.7.1 rejected by policy", Happened::PolicyBounce),
            ("5.7.26", "smtp; 550 5.7.26 unauthenticated email", Happened::PolicyBounce),
            ("5.3.4", "smtp; 552 5.3.4 message too big", Happened::PolicyBounce),
            ("5.0.0", "smtp; 550 blocked using a block list", Happened::PolicyBounce),
        ];
        for (status, diagnostic, expected) in rows {
            let fields = format!("Action: failed\nStatus: {status}\nDiagnostic-Code: {diagnostic}");
            assert_eq!(judged(&fields), Ok(expected), "{fields}");
        }
        assert_eq!(judged("Action: failed\nStatus: 5.1.1"), Ok(Happened::HardBounce), "without words");
        assert_eq!(judged("Action: Failed (bad)\nStatus: 5.1.1 (bad)"), Ok(Happened::HardBounce), "with comments");
    }

    #[test]
    fn only_failures_and_deliveries_are_events() {
        assert_eq!(judged("Action: delivered\nStatus: 2.0.0"), Ok(Happened::Delivered));
        assert_eq!(judged("Action: delayed\nStatus: 4.4.1"), Err(Ignored::Delayed));
        assert_eq!(judged("Action: relayed\nStatus: 2.0.0"), Err(Ignored::Relayed));
        assert_eq!(judged("Action: expanded\nStatus: 2.0.0"), Err(Ignored::Relayed));
        assert_eq!(judged("Status: 5.1.1"), Err(Ignored::NotAReport), "no action, no word");
        assert_eq!(
            judged("Action: delayed\n\nAction: failed\nStatus: 5.1.1"),
            Ok(Happened::HardBounce),
            "the worst one"
        );
    }
}
