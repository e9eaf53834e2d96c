//! What providers really say: refusals of Gmail, Outlook and Yahoo, by what they mean.
//!
//! Owns no state. Invariants: 1. every text is a whole SMTP reply, its last line ends with CRLF and all its lines have one
//! code (RFC 5321 section 4.2.1; tested); 2. a text is data: nothing here decides when it is spoken; 3. names, addresses and session
//! ids in the texts are reserved ones (RFC 5737, RFC 2606).
//!
//! Sources of the texts: Google's "Gmail SMTP errors and codes" (support.google.com/a/answer/3726730); Yahoo's "SMTP error
//! codes" (senders.yahooinc.com/smtp-error-codes); Microsoft's postmaster pages (sendersupport.olc.protection.outlook.com/pm)
//! and bounces that senders quote in public; KumoMTA's list of provider replies (examples/smart-sink-docker).

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Whose words the sink uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// Short texts of our own.
    #[default]
    Plain,
    Gmail,
    Outlook,
    Yahoo,
    /// By the recipient's domain, as a relay hands their words on; plain for all others.
    ByDomain,
    /// Drawn anew for each refusal.
    Mixed,
}

/// What a refusal means to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Meaning {
    /// Later, for this message: a full mailbox, a hiccup.
    Later,
    /// Slower, for this site: too many messages, too little reputation.
    Throttle,
    /// Never, for this address.
    NoSuchUser,
    /// The sender's fault: authentication, content, reputation. Says nothing about the recipient.
    Policy,
    /// Enough messages on this connection.
    Enough,
}

const PLAIN: &[(Meaning, &str)] = &[
    (Meaning::Later, "451 4.3.0 try again later\r\n"),
    (Meaning::Throttle, "451 4.7.1 too many messages, slow down\r\n"),
    (Meaning::NoSuchUser, "550 5.1.1 no such user here\r\n"),
    (Meaning::Policy, "550 5.7.1 refused by policy\r\n"),
    (Meaning::Enough, "421 4.3.2 enough for this connection\r\n"),
];

const GMAIL: &[(Meaning, &str)] = &[
    (
        Meaning::Later,
        "450-4.2.1 The user you are trying to contact is receiving mail at a rate that\r\n\
         450-4.2.1 prevents additional messages from being delivered. Please resend your\r\n\
         450-4.2.1 message at a later time. If the user is able to receive mail at that\r\n\
         450-4.2.1 time, your message will be delivered. For more information, go to\r\n\
         450 4.2.1  https://support.google.com/mail/?p=ReceivingRate - gsmtp\r\n",
    ),
    (Meaning::Later, "451 4.3.0 Mail server temporarily rejected message. - gsmtp\r\n"),
    (
        Meaning::Later,
        "452-4.2.2 The recipient's inbox is out of storage space. Please direct the\r\n\
         452-4.2.2 recipient to\r\n\
         452 4.2.2  https://support.google.com/mail/?p=OverQuotaTemp - gsmtp\r\n",
    ),
    (
        Meaning::Throttle,
        "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating\r\n\
         421-4.7.28 from your IP address [203.0.113.10]. To protect our users from spam,\r\n\
         421-4.7.28 mail sent from your IP address has been temporarily rate limited. For\r\n\
         421 4.7.28  more information, go to https://support.google.com/mail/?p=UnsolicitedRateLimitError - gsmtp\r\n",
    ),
    (Meaning::Throttle, "421 4.7.0 Try again later, closing connection. - gsmtp\r\n"),
    (
        Meaning::NoSuchUser,
        "550-5.1.1 The email account that you tried to reach does not exist. Please try\r\n\
         550-5.1.1 double-checking the recipient's email address for typos or\r\n\
         550-5.1.1 unnecessary spaces. For more information, go to\r\n\
         550 5.1.1  https://support.google.com/mail/?p=NoSuchUser - gsmtp\r\n",
    ),
    (
        Meaning::NoSuchUser,
        "550-5.2.1 The email account that you tried to reach is inactive. For more\r\n\
         550 5.2.1 information, go to https://support.google.com/mail/?p=DisabledUser - gsmtp\r\n",
    ),
    (
        Meaning::Policy,
        "550-5.7.26 Your email has been blocked because the sender is unauthenticated.\r\n\
         550-5.7.26 Gmail requires all senders to authenticate with either SPF or DKIM.\r\n\
         550 5.7.26  https://support.google.com/mail/answer/81126#authentication - gsmtp\r\n",
    ),
    (
        Meaning::Policy,
        "550-5.7.1 [203.0.113.10] Gmail has detected that this message is likely\r\n\
         550-5.7.1 unsolicited mail. To reduce the amount of spam sent to Gmail, this\r\n\
         550 5.7.1 message has been blocked. https://support.google.com/mail/?p=UnsolicitedMessageError - gsmtp\r\n",
    ),
    (Meaning::Enough, "421 4.7.0 Try again later, closing connection. - gsmtp\r\n"),
];

const OUTLOOK: &[(Meaning, &str)] = &[
    (Meaning::Later, "451 4.3.2 Temporary server error. Please try again later ATTR5 [host.prod.outlook.com]\r\n"),
    (Meaning::Later, "452 4.3.1 Insufficient system resources (TSTE) [host.prod.outlook.com]\r\n"),
    (
        Meaning::Throttle,
        "451 4.7.650 The mail server [203.0.113.10] has been temporarily rate limited due to IP reputation. For e-mail \
         delivery information, see https://aka.ms/postmaster (S775) [host.prod.outlook.com]\r\n",
    ),
    (
        Meaning::Throttle,
        "421 RP-001 Unfortunately, some messages from 203.0.113.10 weren't sent. Please try again. We have limits for how \
         many messages can be sent per hour and per day.\r\n",
    ),
    (
        Meaning::NoSuchUser,
        "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302). [host.prod.outlook.com]\r\n",
    ),
    (
        Meaning::NoSuchUser,
        "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup [host.prod.outlook.com]\r\n",
    ),
    (
        Meaning::Policy,
        "550 5.7.515 Access denied, sending domain EXAMPLE.TEST does not meet the required authentication level. \
         [host.prod.outlook.com]\r\n",
    ),
    (
        Meaning::Policy,
        "550 5.7.1 Unfortunately, messages from [203.0.113.10] weren't sent. Please contact your Internet service provider \
         since part of their network is on our block list (S3150). [host.prod.outlook.com]\r\n",
    ),
    (Meaning::Enough, "421 4.3.2 Service not active, closing transmission channel [host.prod.outlook.com]\r\n"),
];

const YAHOO: &[(Meaning, &str)] = &[
    (Meaning::Later, "451 4.3.2 Internal server error\r\n"),
    (
        Meaning::Later,
        "451 mta4001.mail.example.test Resources temporarily unavailable. Please try again later [#4.16.1].\r\n",
    ),
    (
        Meaning::Throttle,
        "421 4.7.0 [TSS04] Messages from 203.0.113.10 temporarily deferred due to unexpected volume or user complaints - \
         4.16.55.1; see https://postmaster.yahooinc.com/error-codes\r\n",
    ),
    (Meaning::Throttle, "451 Message temporarily deferred - [170]\r\n"),
    (
        Meaning::NoSuchUser,
        "554 delivery error: dd This user doesn't have a yahoo.com account [-9] - mta4001.mail.example.test\r\n",
    ),
    (Meaning::NoSuchUser, "552 1 Requested mail action aborted, mailbox not found\r\n"),
    (
        Meaning::Policy,
        "554 5.7.9 Message not accepted for policy reasons. See https://postmaster.yahooinc.com/error-codes\r\n",
    ),
    (
        Meaning::Policy,
        "553 5.7.1 [BL21] Connections will not be accepted from 203.0.113.10, because the ip is in Spamhaus's list; see \
         https://postmaster.yahooinc.com/error-codes\r\n",
    ),
    (Meaning::Enough, "421 Max message per connection reached, closing transmission channel\r\n"),
];

impl Provider {
    /// The provider whose words are spoken to this recipient; `draw` in 0.0 to 1.0 decides where it is mixed.
    fn speaking(self, recipient: &[u8], draw: f64) -> Provider {
        match self {
            Provider::ByDomain => of_domain(recipient),
            Provider::Mixed if draw < 1.0 / 3.0 => Provider::Gmail,
            Provider::Mixed if draw < 2.0 / 3.0 => Provider::Outlook,
            Provider::Mixed => Provider::Yahoo,
            named => named,
        }
    }

    fn texts(self) -> &'static [(Meaning, &'static str)] {
        match self {
            Provider::Gmail => GMAIL,
            Provider::Outlook => OUTLOOK,
            Provider::Yahoo => YAHOO,
            Provider::Plain | Provider::ByDomain | Provider::Mixed => PLAIN,
        }
    }

    /// A whole reply of this meaning; `draw` in 0.0 to 1.0 chooses among several, so that the same draw gives the same text.
    pub fn reply(self, meaning: Meaning, recipient: &[u8], draw: f64) -> &'static str {
        let texts = self.speaking(recipient, draw).texts();
        let fitting = || texts.iter().filter(|(of, _)| *of == meaning);
        // The bits below those that chose the provider choose the text.
        let nth = ((draw * 3_000.0).fract() * fitting().count() as f64) as usize;
        fitting().nth(nth).map_or("451 4.3.0 try again later\r\n", |(_, text)| text)
    }
}

fn of_domain(recipient: &[u8]) -> Provider {
    let at = memchr::memrchr(b'@', recipient).map_or(recipient.len(), |at| at + 1);
    let domain = recipient[at..].to_ascii_lowercase();
    match &domain[..] {
        b"gmail.com" | b"googlemail.com" => Provider::Gmail,
        b"outlook.com" | b"hotmail.com" | b"live.com" | b"msn.com" => Provider::Outlook,
        b"yahoo.com" | b"aol.com" | b"ymail.com" | b"rocketmail.com" => Provider::Yahoo,
        _ => Provider::Plain,
    }
}

/// Code and enhanced code of a reply (`550 5.1.1`), or the code alone, as the counts name it.
pub fn short(reply: &str) -> String {
    let (code, rest) = reply.split_at(reply.len().min(3));
    let enhanced = rest.get(1..).unwrap_or_default().split([' ', '\r']).next().unwrap_or_default();
    let is_enhanced = enhanced.split('.').count() == 3 && enhanced.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if is_enhanced { format!("{code} {enhanced}") } else { code.to_owned() }
}

/// Whether the server closes the connection with this reply (RFC 5321 section 3.8).
pub fn closes(reply: &str) -> bool {
    reply.starts_with("421")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMED: [Provider; 4] = [Provider::Plain, Provider::Gmail, Provider::Outlook, Provider::Yahoo];
    const MEANINGS: [Meaning; 5] =
        [Meaning::Later, Meaning::Throttle, Meaning::NoSuchUser, Meaning::Policy, Meaning::Enough];

    #[test]
    fn every_text_is_one_whole_reply_of_its_class() {
        for provider in NAMED {
            for meaning in MEANINGS {
                assert!(provider.texts().iter().any(|(of, _)| *of == meaning), "{provider:?} has {meaning:?}");
            }
            for (meaning, text) in provider.texts() {
                let lines: Vec<&str> = text.strip_suffix("\r\n").expect(text).split("\r\n").collect();
                let (last, before) = lines.split_last().expect(text);
                assert!(before.iter().all(|line| line[..4] == format!("{}-", &text[..3])), "continued lines: {text:?}");
                assert_eq!(last[..4], format!("{} ", &text[..3]), "the last line: {text:?}");
                assert!(lines.iter().all(|line| line.len() <= 510 && !line.contains(['\r', '\n'])), "line: {text:?}");
                let class = if matches!(meaning, Meaning::NoSuchUser | Meaning::Policy) { '5' } else { '4' };
                assert!(text.starts_with(class), "{meaning:?} is of class {class}: {text:?}");
                assert_eq!(closes(text), text.starts_with("421"));
            }
        }
    }

    #[test]
    fn a_relay_speaks_with_the_words_of_the_recipients_provider() {
        let reply = |to: &str| Provider::ByDomain.reply(Meaning::NoSuchUser, to.as_bytes(), 0.1);
        assert!(reply("a@gmail.com").contains("gsmtp"));
        assert!(reply("a@Hotmail.com").contains("outlook.com"));
        assert!(reply("a@aol.com").starts_with("55"));
        assert_eq!(reply("a@example.test"), "550 5.1.1 no such user here\r\n");
    }

    #[test]
    fn all_texts_of_a_meaning_are_spoken() {
        for provider in NAMED.into_iter().chain([Provider::Mixed]) {
            let mut rng = crate::rng::Rng::new(1);
            let mut heard: Vec<&str> =
                (0..4_000).map(|_| provider.reply(Meaning::Throttle, b"a@b.test", rng.unit())).collect();
            heard.sort_unstable();
            heard.dedup();
            let of = |p: Provider| p.texts().iter().filter(|(of, _)| *of == Meaning::Throttle).count();
            let wanted =
                if provider == Provider::Mixed { NAMED[1..].iter().map(|p| of(*p)).sum() } else { of(provider) };
            assert_eq!(heard.len(), wanted, "{provider:?}: {heard:?}");
        }
    }

    #[test]
    fn replies_are_counted_by_their_codes() {
        assert_eq!(short("550-5.1.1 The email\r\n550 5.1.1 x\r\n"), "550 5.1.1");
        assert_eq!(short("451 Message temporarily deferred\r\n"), "451", "no enhanced code");
        assert_eq!(short("421 RP-001 Unfortunately\r\n"), "421");
        assert_eq!(short("552 1 Requested\r\n"), "552");
    }
}
