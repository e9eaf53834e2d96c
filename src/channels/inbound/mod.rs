//! Mail that comes back: one delivery status notification (RFC 3464) or feedback report (RFC 5965) → what happened to which
//! message.
//!
//! Which message it is says a token that stands in the return path (VERP) and in the Message-ID; it carries a MAC that only the
//! server can check. So what is read here are *candidates*, in the order in which they are to be believed: the address that the
//! report was sent to, then what it says of the original mail. A report without a token is about nobody: no address that stands in a report
//! is ever suppressed for its own sake.
//!
//! Owns no state. Invariants: IN-1 any bytes give an answer, in bounded time and memory; IN-2 an automatic reply, a delay and a
//! notice of relaying are no events; IN-3 a refusal for what the *sender* did (policy, size, the dialogue) never counts against
//! the address: the same table says so as for replies of a relay.
//!
//! Must not know: the network, tokens' keys, campaigns.

mod arf;
mod dsn;
mod fields;

use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders, PartType};

use crate::content::RETURN_PATH_PREFIX;
use crate::content::tokens::RETURN_PATH_CHARS;
use crate::limits::{INBOUND_BYTES_MAX, INBOUND_PARTS_MAX, REPLY_SAMPLE_BYTES};
use fields::Group;

/// What a report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    Delivered,
    /// The address does not exist or is disabled.
    HardBounce,
    /// The address may work another time.
    SoftBounce,
    /// Refused for what the sender did.
    PolicyBounce,
    Complained,
}

impl Happened {
    /// Type and class of the event that it is.
    pub fn event(self) -> (&'static str, Option<&'static str>) {
        match self {
            Happened::Delivered => ("delivered", None),
            Happened::HardBounce => ("bounced", Some("hard")),
            Happened::SoftBounce => ("bounced", Some("soft")),
            Happened::PolicyBounce => ("bounced", Some("policy")),
            Happened::Complained => ("complained", None),
        }
    }
}

/// One report about one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub happened: Happened,
    /// Return paths or Message-IDs that may carry our token, those to be believed first at the beginning; each once.
    pub message_ids: Vec<String>,
    /// The words of the report, for people: one line.
    pub words: String,
}

/// Mail that is no event, and why. It is taken in and dropped: answering it would only bother somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    #[error("it is no report: an automatic reply, or a mail from a person")]
    NotAReport,
    #[error("it says that the mail is late, and is still being tried")]
    Delayed,
    #[error("it says that the mail went on to a system that sends no reports")]
    Relayed,
    #[error("it is feedback of a kind that is no complaint")]
    NoComplaint,
    #[error("it names no message of ours")]
    NoMessage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbound {
    Report(Report),
    Ignored(Ignored),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InboundError {
    #[error("the input is empty")]
    Empty,
    #[error("the input has more than {INBOUND_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the input is no mail")]
    NoMail,
    #[error("the mail has more than {INBOUND_PARTS_MAX} parts")]
    TooManyParts,
    #[error("the report has no part that a machine can read")]
    NoFields,
}

/// Reads one mail as an MTA pipes it. `recipient` is the address that it was sent to, if the MTA says so.
pub fn read(bytes: &[u8], recipient: Option<&str>) -> Result<Inbound, InboundError> {
    if bytes.trim_ascii().is_empty() {
        return Err(InboundError::Empty);
    }
    if bytes.len() > INBOUND_BYTES_MAX {
        return Err(InboundError::TooLarge);
    }
    // Nested mails are taken apart, and dropped, level by level: there is a bound on levels.
    if declared_parts(bytes) > INBOUND_PARTS_MAX {
        return Err(InboundError::TooManyParts);
    }
    let bytes = without_envelope_line(bytes);
    // Builds with assertions stop at a mail whose parts are nested in a way that the parser holds for impossible.
    let parsed = std::panic::catch_unwind(|| MessageParser::default().parse(bytes));
    let mail = parsed.ok().flatten().ok_or(InboundError::NoMail)?;
    if mail.headers().is_empty() {
        return Err(InboundError::NoMail);
    }
    let kind = report_type(&mail);
    let mut candidates = Candidates::default();
    candidates.add(recipient.unwrap_or_default());
    candidates.add_recipients(&mail);
    let (happened, words) = match kind.as_deref() {
        Some("delivery-status") => match dsn::judge(&groups(&mail, "delivery-status")?) {
            Ok(judged) => judged,
            Err(ignored) => return Ok(Inbound::Ignored(ignored)),
        },
        Some("feedback-report") => {
            let groups = groups(&mail, "feedback-report")?;
            for name in ["original-mail-from", "original-envelope-id"] {
                groups.iter().filter_map(|group| group.get(name)).for_each(|value| candidates.add(value));
            }
            match arf::judge(&groups) {
                Ok(judged) => judged,
                Err(ignored) => return Ok(Inbound::Ignored(ignored)),
            }
        }
        _ => return Ok(Inbound::Ignored(Ignored::NotAReport)),
    };
    candidates.add_original(&mail);
    if candidates.0.is_empty() {
        return Ok(Inbound::Ignored(Ignored::NoMessage));
    }
    Ok(Inbound::Report(Report { happened, message_ids: candidates.0, words: one_line(&words) }))
}

/// Takes mail apart and never fails: for fuzzing.
pub fn fuzz_inbound(bytes: &[u8]) {
    let answers = [read(bytes, None), read(bytes, Some("bounce+aaaa@b.test"))];
    for answer in answers {
        if let Ok(Inbound::Report(report)) = answer {
            assert!(!report.message_ids.is_empty() && report.message_ids.len() <= CANDIDATES_MAX, "{report:?}");
            assert!(report.message_ids.iter().all(|id| is_candidate(id)), "{report:?}");
            assert!(report.words.len() <= REPLY_SAMPLE_BYTES && !report.words.contains('\n'), "{report:?}");
        }
    }
}

/// Mailboxes of the mbox kind begin with a line `From sender date`, and so do some pipes.
fn without_envelope_line(bytes: &[u8]) -> &[u8] {
    match bytes.strip_prefix(b"From ").and_then(|rest| rest.iter().position(|b| *b == b'\n').map(|at| &rest[at + 1..]))
    {
        Some(rest) => rest,
        None => bytes,
    }
}

fn declared_parts(bytes: &[u8]) -> usize {
    const NAME: &[u8] = b"content-type";
    memchr::memchr2_iter(b'c', b'C', bytes)
        .filter(|at| bytes.get(*at..*at + NAME.len()).is_some_and(|word| word.eq_ignore_ascii_case(NAME)))
        .count()
}

/// The kind of a `multipart/report`, lower case (RFC 6522).
fn report_type(mail: &Message<'_>) -> Option<String> {
    let content = mail.root_part().content_type()?;
    let is_report = content.ctype().eq_ignore_ascii_case("multipart")
        && content.subtype().is_some_and(|sub| sub.eq_ignore_ascii_case("report"));
    content.attribute("report-type").filter(|_| is_report).map(str::to_ascii_lowercase)
}

fn is_of_type(part: &MessagePart<'_>, subtypes: &[&str]) -> bool {
    part.content_type().is_some_and(|content| {
        let subtype = content.subtype().unwrap_or_default();
        let known = subtypes.iter().any(|wanted| wanted.eq_ignore_ascii_case(subtype));
        known && (content.ctype().eq_ignore_ascii_case("message") || content.ctype().eq_ignore_ascii_case("text"))
    })
}

/// The fields of the part that is for machines; also in its form for addresses beyond ASCII (RFC 6533).
fn groups(mail: &Message<'_>, subtype: &str) -> Result<Vec<Group>, InboundError> {
    let global = format!("global-{subtype}");
    let part = mail.parts.iter().find(|part| is_of_type(part, &[subtype, &global])).ok_or(InboundError::NoFields)?;
    Ok(fields::groups(&String::from_utf8_lossy(part.contents())))
}

/// Ids that are tried of one report.
const CANDIDATES_MAX: usize = 4;

#[derive(Default)]
struct Candidates(Vec<String>);

impl Candidates {
    /// Takes whatever has the form of our token out of an address, or a list of them.
    fn add(&mut self, text: &str) {
        for word in text.split([' ', ',', ';', '<', '>', '\t', '\r', '\n', '"', '(', ')']) {
            let known = self.0.iter().any(|present| present.eq_ignore_ascii_case(word));
            if is_candidate(word) && !known && self.0.len() < CANDIDATES_MAX {
                self.0.push(word.to_owned());
            }
        }
    }

    /// Where the mail went to, by the headers that MTAs write at delivery.
    fn add_recipients(&mut self, mail: &Message<'_>) {
        for wanted in ["X-Original-To", "Delivered-To", "Envelope-To", "To"] {
            for (_, value) in mail.headers_raw().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)) {
                self.add(value);
            }
        }
    }

    /// What the original mail, or its headers, say of it.
    fn add_original(&mut self, mail: &Message<'_>) {
        for part in &mail.parts {
            match &part.body {
                PartType::Message(original) => {
                    self.add(original.return_address().unwrap_or_default());
                    self.add(original.message_id().unwrap_or_default());
                }
                _ if is_of_type(part, &["rfc822-headers", "global-headers", "rfc822", "global"]) => {
                    let groups = fields::groups(&String::from_utf8_lossy(part.contents()));
                    let Some(headers) = groups.first() else { continue };
                    for name in ["return-path", "message-id"] {
                        self.add(headers.get(name).unwrap_or_default());
                    }
                }
                _ => {}
            }
        }
    }
}

/// Whether a word has the form of a token, bare, in a Message-ID or in a return path.
fn is_candidate(word: &str) -> bool {
    let local = word.split('@').next().unwrap_or_default();
    let token = match local.get(..RETURN_PATH_PREFIX.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(RETURN_PATH_PREFIX) => &local[RETURN_PATH_PREFIX.len()..],
        _ => local,
    };
    let of_base32 = |b: u8| b.is_ascii_alphabetic() || (b'2'..=b'7').contains(&b);
    token.len() == RETURN_PATH_CHARS && token.bytes().all(of_base32) && word.len() <= 320
}

fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let cut = (0..=line.len().min(REPLY_SAMPLE_BYTES)).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    line.truncate(cut);
    line
}

#[cfg(test)]
mod tests;
