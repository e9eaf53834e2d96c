//! What a reply means: for the message, for the provider, for the connection. One table, one test a row.
//!
//! Owns no state. Sources: RFC 5321 4.2.1, RFC 3463; the reaction table of KumoMTA's bounce classification; texts of
//! large receivers. Invariants: CL-1 the basic code decides between deferral and rejection, whatever the enhanced code
//! says; CL-2 authentication and policy never become a class that suppresses a contact; CL-3 a refusal of the session is
//! no word about the message.
//!
//! Must not know sockets, lanes or feeds.

use std::time::Duration;

use super::reply::{Enhanced, Reply};
use crate::channels::RejectClass;

/// Which command a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Mail,
    Rcpt,
    Data,
    /// The final dot, or the last BDAT chunk.
    Body,
}

/// What becomes of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForMessage {
    /// The command was accepted.
    Good,
    Reject(RejectClass),
    Defer {
        after: Option<Duration>,
    },
    /// Nothing was said about the message: it goes back as if it had not been tried.
    Unharmed,
    /// A fault of the dialogue: once more without pipelining, then rejected as `protocol`.
    Protocol,
}

/// What the reply says about us at this provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForProvider {
    #[default]
    Nothing,
    /// Slow down.
    Throttled,
    /// Fewer connections.
    TooManyConnections,
    /// This message was refused by policy; many of these are a sender's fault.
    PolicyRefused,
    /// The sender itself was refused: authentication, block list, missing DKIM or SPF.
    SenderRefused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub message: ForMessage,
    pub provider: ForProvider,
    /// The connection is of no more use.
    pub close: bool,
}

/// Wait after "mailbox full": a person has to tidy up first.
const MAILBOX_FULL_WAIT: Duration = Duration::from_secs(3_600);
/// First wait after "slow down". The limit is slowed at the same time, and it is what spares the provider: a row that comes
/// back takes a permit of it like any other. So the wait has to be longer than that takes to bite, and no more; a row that
/// hears it again waits twice as long each time ([`crate::channels::retry`]).
const THROTTLED_WAIT: Duration = Duration::from_secs(2);

const THROTTLE_TEXTS: &[&str] = &[
    "[tss04]",
    "[ts01]",
    "[ts02]",
    "[ts03]",
    "rate limited",
    "rate limit",
    "rate exceeded",
    "unusual rate",
    "too many messages",
    "too many emails",
    "sending too fast",
    "slow down",
    "throttl",
    "rp-001",
    "rp-002",
    "rp-003",
];
const CONNECTION_TEXTS: &[&str] =
    &["too many connections", "too many concurrent", "connection limit", "too many sessions"];
const SENDER_TEXTS: &[&str] =
    &["s3150", "s3140", "[bl", "block list", "blocklist", "blacklist", "unauthenticated email"];
const POLICY_TEXTS: &[&str] =
    &["spam", "policy", "relay", "denied", "rejected", "reputation", "not allowed", "blocked", "prohibited"];
/// Limits of the recipient, not of ours: only this one waits.
const RECIPIENT_RATE_TEXTS: &[&str] = &["receivingrate", "receiving mail at a rate", "receiving mail too quickly"];

/// The verdict on a reply that answers `stage`.
pub fn classify(stage: Stage, reply: &Reply) -> Verdict {
    match reply.code {
        code if (200..300).contains(&code) && stage != Stage::Data => verdict(ForMessage::Good, ForProvider::Nothing),
        354 if stage == Stage::Data => verdict(ForMessage::Good, ForProvider::Nothing),
        421 => closing(stage, reply),
        code if (400..500).contains(&code) => transient(reply),
        code if code >= 500 => permanent(stage, reply),
        // 250 to DATA, 354 to anything else: the dialogue is out of step.
        _ => Verdict { message: ForMessage::Unharmed, provider: ForProvider::Nothing, close: true },
    }
}

/// Codes that `classify` would call out of step: after a mark the outcome is then unknown.
pub fn out_of_step(stage: Stage, reply: &Reply) -> bool {
    let good = if stage == Stage::Data { reply.code == 354 } else { reply.is_positive() };
    !good && reply.code < 400
}

fn verdict(message: ForMessage, provider: ForProvider) -> Verdict {
    Verdict { message, provider, close: false }
}

fn closing(stage: Stage, reply: &Reply) -> Verdict {
    let text = reply.text.to_ascii_lowercase();
    let provider = if has(&text, THROTTLE_TEXTS) { ForProvider::Throttled } else { ForProvider::TooManyConnections };
    // After the dot 421 is an answer to the message: it was not taken.
    let message = if stage == Stage::Body { ForMessage::Defer { after: None } } else { ForMessage::Unharmed };
    Verdict { message, provider, close: true }
}

fn transient(reply: &Reply) -> Verdict {
    let text = reply.text.to_ascii_lowercase();
    let defer = |after| ForMessage::Defer { after };
    if has(&text, RECIPIENT_RATE_TEXTS) {
        return verdict(defer(None), ForProvider::Nothing);
    }
    if has(&text, CONNECTION_TEXTS) {
        return Verdict {
            message: defer(Some(THROTTLED_WAIT)),
            provider: ForProvider::TooManyConnections,
            close: true,
        };
    }
    let throttle_code = matches!(
        reply.enhanced,
        Some(Enhanced(4, 7, 28 | 650 | 651)) | Some(Enhanced(4, 4, 5)) | Some(Enhanced(4, 7, 32))
    );
    if throttle_code || has(&text, THROTTLE_TEXTS) {
        return verdict(defer(Some(THROTTLED_WAIT)), ForProvider::Throttled);
    }
    match reply.enhanced {
        Some(Enhanced(_, 2, 2)) => verdict(defer(Some(MAILBOX_FULL_WAIT)), ForProvider::Nothing),
        Some(Enhanced(_, 7, 8 | 9)) => {
            Verdict { message: ForMessage::Unharmed, provider: ForProvider::SenderRefused, close: true }
        }
        _ if reply.code == 454 && has(&text, &["tls", "auth"]) => {
            Verdict { message: ForMessage::Unharmed, provider: ForProvider::Nothing, close: true }
        }
        _ => verdict(defer(None), ForProvider::Nothing),
    }
}

fn permanent(stage: Stage, reply: &Reply) -> Verdict {
    let text = reply.text.to_ascii_lowercase();
    let reject = ForMessage::Reject;
    // Refusals of the session: nothing was said about the message.
    if matches!(reply.code, 530 | 534 | 535 | 538) || matches!(reply.enhanced, Some(Enhanced(_, 7, 8 | 9 | 14))) {
        let message = if stage == Stage::Body { reject(RejectClass::Policy) } else { ForMessage::Unharmed };
        return Verdict { message, provider: ForProvider::SenderRefused, close: true };
    }
    if matches!(reply.enhanced, Some(Enhanced(_, 7, 26 | 27 | 515 | 606..=649))) || has(&text, SENDER_TEXTS) {
        return verdict(reject(RejectClass::Policy), ForProvider::SenderRefused);
    }
    if let Some(class) = by_enhanced(stage, reply.enhanced) {
        return match class {
            RejectClass::Protocol => protocol(),
            RejectClass::Policy => verdict(reject(class), ForProvider::PolicyRefused),
            _ => verdict(reject(class), ForProvider::Nothing),
        };
    }
    by_code(stage, reply, &text)
}

fn protocol() -> Verdict {
    Verdict { message: ForMessage::Protocol, provider: ForProvider::Nothing, close: true }
}

fn by_enhanced(stage: Stage, enhanced: Option<Enhanced>) -> Option<RejectClass> {
    let Enhanced(_, subject, detail) = enhanced?;
    match (subject, detail) {
        (1, 7 | 8) => Some(RejectClass::Policy),
        (1, 1 | 2 | 3 | 6 | 10) | (2, 1) if stage != Stage::Mail => Some(RejectClass::HardBounce),
        (1 | 2, _) if stage == Stage::Mail => Some(RejectClass::Policy),
        (2, 2) => Some(RejectClass::SoftBounce),
        (3, 4) | (2, 3) => Some(RejectClass::TooLarge),
        (5, _) => Some(RejectClass::Protocol),
        (6, _) | (7, _) => Some(RejectClass::Policy),
        (4, _) | (2, _) => Some(RejectClass::SoftBounce),
        _ => None,
    }
}

fn by_code(stage: Stage, reply: &Reply, text: &str) -> Verdict {
    let policy = verdict(ForMessage::Reject(RejectClass::Policy), ForProvider::PolicyRefused);
    let reject = |class| verdict(ForMessage::Reject(class), ForProvider::Nothing);
    match (stage, reply.code) {
        // With an enhanced code of another subject it is not the dialogue that is at fault.
        (_, 500..=504 | 555) if reply.enhanced.is_none() => protocol(),
        (_, 552) if text.contains("full") || text.contains("quota") => reject(RejectClass::SoftBounce),
        (_, 552) => reject(RejectClass::TooLarge),
        (Stage::Rcpt, 550 | 551 | 553 | 556) if has(text, POLICY_TEXTS) => policy,
        (Stage::Rcpt, 550 | 551 | 553 | 556) => reject(RejectClass::HardBounce),
        (Stage::Mail | Stage::Data | Stage::Body, 550 | 551 | 553 | 554) => policy,
        (Stage::Rcpt, 554) => policy,
        _ => reject(RejectClass::Other),
    }
}

fn has(text: &str, needles: &[&str]) -> bool {
    needles.iter().any(|needle| text.contains(needle))
}

#[cfg(test)]
mod tests {
    use super::super::reply::ReplyReader;
    use super::*;

    fn judge(stage: Stage, line: &str) -> Verdict {
        let mut reader = ReplyReader::default();
        let bytes = format!("{line}\r\n");
        reader.space()[..bytes.len()].copy_from_slice(bytes.as_bytes());
        reader.filled(bytes.len());
        assert_eq!(reader.advance(), Ok(true), "{line} is a reply");
        classify(stage, reader.reply())
    }

    /// One test a row: stage, reply, verdict.
    macro_rules! rows {
        ($($name:ident: $stage:ident, $line:literal => $message:expr, $provider:ident, close $close:literal;)*) => {
            $(#[test]
            fn $name() {
                let wanted = Verdict { message: $message, provider: ForProvider::$provider, close: $close };
                assert_eq!(judge(Stage::$stage, $line), wanted, "{}", $line);
            })*
        };
    }

    use ForMessage::{Defer, Good, Protocol, Reject, Unharmed};
    use RejectClass::{HardBounce, Other, Policy, SoftBounce, TooLarge};

    rows! {
        mail_accepted: Mail, "250 2.1.0 Ok" => Good, Nothing, close false;
        rcpt_forwarded: Rcpt, "251 will forward" => Good, Nothing, close false;
        data_go_ahead: Data, "354 go ahead" => Good, Nothing, close false;
        body_accepted: Body, "250 2.0.0 queued" => Good, Nothing, close false;
        data_250_is_out_of_step: Data, "250 ok" => Unharmed, Nothing, close true;
        rcpt_354_is_out_of_step: Rcpt, "354 go ahead" => Unharmed, Nothing, close true;
        closing_mid_session: Mail, "421 4.3.2 shutting down" => Unharmed, TooManyConnections, close true;
        closing_for_throttle: Rcpt, "421 4.7.0 [TSS04] Messages temporarily deferred" => Unharmed, Throttled, close true;
        closing_after_the_dot: Body, "421 4.3.0 later" => Defer { after: None }, TooManyConnections, close true;
        busy_mailbox: Rcpt, "450 4.2.0 busy" => Defer { after: None }, Nothing, close false;
        local_error: Body, "451 4.3.0 local error" => Defer { after: None }, Nothing, close false;
        storage: Body, "452 4.3.1 insufficient system storage" => Defer { after: None }, Nothing, close false;
        greylisted: Rcpt, "451 4.7.1 Greylisting in action, please come back later" => Defer { after: None }, Nothing, close false;
        mailbox_full_for_now: Rcpt, "452 4.2.2 mailbox full" => Defer { after: Some(MAILBOX_FULL_WAIT) }, Nothing, close false;
        throttle_tss04: Mail, "451 [TSS04] unexpected volume" => Defer { after: Some(THROTTLED_WAIT) }, Throttled, close false;
        throttle_reputation: Body, "451 4.7.650 The mail server has been temporarily rate limited due to IP reputation" => Defer { after: Some(THROTTLED_WAIT) }, Throttled, close false;
        throttle_rp001: Mail, "451 RP-001 exceeded the rate" => Defer { after: Some(THROTTLED_WAIT) }, Throttled, close false;

        throttle_4_7_28: Body, "450 4.7.28 unusual rate of unsolicited mail" => Defer { after: Some(THROTTLED_WAIT) }, Throttled, close false;
        receiving_rate_is_one_recipients: Rcpt, "450 4.2.1 The user is receiving mail at a rate that prevents ReceivingRate" => Defer { after: None }, Nothing, close false;
        too_many_connections: Mail, "450 4.7.0 too many connections from your host" => Defer { after: Some(THROTTLED_WAIT) }, TooManyConnections, close true;
        unknown_user: Rcpt, "550 5.1.1 no such user" => Reject(HardBounce), Nothing, close false;
        unknown_host: Rcpt, "550 5.1.2 bad destination system" => Reject(HardBounce), Nothing, close false;
        bad_syntax: Rcpt, "501 5.1.3 bad recipient address syntax" => Reject(HardBounce), Nothing, close false;
        moved: Rcpt, "551 5.1.6 mailbox has moved" => Reject(HardBounce), Nothing, close false;
        null_mx: Rcpt, "556 5.1.10 null MX" => Reject(HardBounce), Nothing, close false;
        disabled: Rcpt, "550 5.2.1 mailbox disabled" => Reject(HardBounce), Nothing, close false;
        no_such_user_after_the_dot: Body, "550 5.1.1 no such user" => Reject(HardBounce), Nothing, close false;
        plain_550: Rcpt, "550 mailbox unavailable" => Reject(HardBounce), Nothing, close false;
        plain_550_with_policy_text: Rcpt, "550 rejected as spam" => Reject(Policy), PolicyRefused, close false;
        plain_553: Rcpt, "553 mailbox name invalid" => Reject(HardBounce), Nothing, close false;
        full: Rcpt, "552 5.2.2 over quota" => Reject(SoftBounce), Nothing, close false;
        plain_full: Body, "552 mailbox full" => Reject(SoftBounce), Nothing, close false;
        too_large: Body, "552 5.3.4 message too big" => Reject(TooLarge), Nothing, close false;
        too_large_by_size: Mail, "552 size exceeds fixed limit" => Reject(TooLarge), Nothing, close false;
        too_large_for_mailbox: Rcpt, "552 5.2.3 length exceeds limit" => Reject(TooLarge), Nothing, close false;
        policy: Body, "550 5.7.1 message refused" => Reject(Policy), PolicyRefused, close false;
        relay_denied: Rcpt, "554 5.7.1 relay access denied" => Reject(Policy), PolicyRefused, close false;
        unauthenticated: Body, "550 5.7.26 unauthenticated email" => Reject(Policy), SenderRefused, close false;
        outlook_515: Body, "550 5.7.515 Access denied, sending domain" => Reject(Policy), SenderRefused, close false;
        block_list: Mail, "553 5.7.1 [BL21] Connections will not be accepted" => Reject(Policy), SenderRefused, close false;
        banned_ip: Mail, "550 5.7.606 Access denied, banned sending IP" => Reject(Policy), SenderRefused, close false;
        sender_address_refused: Mail, "550 5.1.8 bad sender's system address" => Reject(Policy), PolicyRefused, close false;
        user_code_at_mail_is_ours: Mail, "550 5.1.1 unknown sender" => Reject(Policy), PolicyRefused, close false;
        auth_required: Mail, "530 5.7.0 authentication required" => Unharmed, SenderRefused, close true;
        auth_failed: Mail, "535 5.7.8 authentication failed" => Unharmed, SenderRefused, close true;
        bad_sequence: Rcpt, "503 5.5.1 need MAIL" => Protocol, Nothing, close true;
        failed_and_not_the_dialogue: Body, "500 5.3.0 Error: command failed" => Reject(Other), Nothing, close false;
        syntax: Data, "500 what" => Protocol, Nothing, close true;
        content_after_the_dot: Body, "554 transaction failed" => Reject(Policy), PolicyRefused, close false;
        other_permanent: Body, "571 odd" => Reject(Other), Nothing, close false;
        basic_code_decides_4: Rcpt, "450 5.1.1 contradictory" => Defer { after: None }, Nothing, close false;
        basic_code_decides_5: Rcpt, "550 4.2.2 contradictory" => Reject(SoftBounce), Nothing, close false;
    }

    #[test]
    fn no_policy_or_sender_fault_ever_suppresses() {
        for code in 400..600 {
            for text in
                ["5.7.1 x", "5.7.26 x", "5.7.8 x", "blocked for spam", "[BL21] x", "4.7.28 x", "relay access denied"]
            {
                for stage in [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Body] {
                    let verdict = judge(stage, &format!("{code} {text}"));
                    assert_ne!(verdict.message, Reject(HardBounce), "{stage:?} {code} {text}");
                }
            }
        }
    }
}
