//! The fields of a message that are not bodies: sender, headers, lists, attachments, limits of size.
//!
//! Owns no state.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;

use crate::content::headers;
use crate::content::problem::Problems;
use crate::content::skeleton::File;
use crate::content::source::{AttachmentSource, CompileContext, MessageSource};
use crate::limits;

/// The sender: a template for the name, and a fixed address.
#[derive(Clone, Debug, Default)]
pub(super) struct Sender {
    pub name: String,
    pub address: String,
}

impl Sender {
    pub fn domain(&self) -> &str {
        self.address.rsplit('@').next().unwrap_or("")
    }
}

#[derive(Debug)]
pub(super) struct Checked {
    pub sender: Sender,
    /// Reply-To, List-Id, Feedback-ID.
    pub static_headers: Vec<u8>,
    pub files: Vec<File>,
}

/// Headers that the engine writes itself.
const OWN_HEADERS: [&str; 22] = [
    "bcc",
    "cc",
    "content-disposition",
    "content-id",
    "content-transfer-encoding",
    "content-type",
    "date",
    "dkim-signature",
    "feedback-id",
    "from",
    "list-id",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "message-id",
    "mime-version",
    "received",
    "reply-to",
    "return-path",
    "sender",
    "subject",
    "to",
    "x-estafette",
];

/// Checks all fields; `None` if the sender is not usable.
pub(super) fn check(source: &MessageSource, context: &CompileContext, problems: &mut Problems) -> Option<Checked> {
    sizes(source, problems);
    if source.subject.trim().is_empty() {
        problems.field("empty_subject", "subject", "the subject is empty", "give the message a subject");
    }
    for name in source.headers.keys() {
        header_name(name, problems);
    }
    public_url(context, problems);
    let mut static_headers = Vec::new();
    reply_to(source, problems, &mut static_headers);
    lists(source, problems, &mut static_headers);
    let files = source.attachments.iter().enumerate().filter_map(|(i, a)| attachment(i, a, problems)).collect();
    let sender = sender(&source.from, problems);
    return_path(context, problems);
    Some(Checked { sender: sender?, static_headers, files })
}

fn sizes(source: &MessageSource, problems: &mut Problems) {
    let texts = [&source.html, &source.mjml, &source.text, &source.preheader];
    let bodies: usize = texts.into_iter().flatten().map(String::len).sum();
    let headers: usize = source.headers.iter().map(|(n, v)| n.len() + v.len()).sum();
    let total = bodies + headers + source.subject.len() + source.from.len();
    if total > limits::MESSAGE_SOURCE_BYTES_MAX {
        let message = format!("the sources have {total} bytes; {} are allowed", limits::MESSAGE_SOURCE_BYTES_MAX);
        problems.field(
            "source_too_large",
            "html",
            message,
            "shorten the message; link to images instead of embedding them",
        );
    }
    let attached: usize = source.attachments.iter().map(|a| a.base64.len()).sum();
    if attached > limits::MESSAGE_BYTES_MAX {
        let message =
            format!("the attachments have {attached} encoded bytes; {} are allowed", limits::MESSAGE_BYTES_MAX);
        problems.field("attachments_too_large", "attachments", message, "link to the files instead");
    }
}

fn public_url(context: &CompileContext, problems: &mut Problems) {
    let is_clean = crate::content::links::split_url(&context.public_url).is_some()
        && context.public_url.is_ascii()
        && !context.public_url.ends_with('/')
        && !context.public_url.contains(['"', '\'', '<', '>', '&', '?', '#'])
        && context.public_url.len() <= 200;
    if !is_clean {
        let message = format!("public_url {:?} cannot stand in a message", context.public_url);
        problems.field(
            "bad_public_url",
            "public_url",
            message,
            "give http(s)://host[:port][/path] without a slash at the end",
        );
    }
}

/// The local part in front of a return path token; 64 octets are allowed (RFC 5321 4.5.3.1.1).
pub const RETURN_PATH_PREFIX: &str = "bounce+";
const _: () = assert!(RETURN_PATH_PREFIX.len() + crate::content::tokens::RETURN_PATH_CHARS <= 64, "fits a local part");

fn return_path(context: &CompileContext, problems: &mut Problems) {
    let domain = context.return_path_domain.iter().map(|d| format!("{RETURN_PATH_PREFIX}@{d}"));
    for (field, address) in domain
        .map(|a| ("return_path_domain", a))
        .chain(context.unsubscribe_mailbox.iter().map(|m| ("unsubscribe_mailbox", m.clone())))
    {
        if !headers::is_safe_address(&address) || !address.is_ascii() {
            problems.field("bad_address", field, format!("{address:?} is not an address"), "correct the configuration");
        }
    }
}

/// Splits `name <address>`; the name may hold expressions.
fn sender(from: &str, problems: &mut Problems) -> Option<Sender> {
    let from = from.trim();
    let (name, address) = match from.strip_suffix('>').and_then(|f| f.rsplit_once('<')) {
        Some((name, address)) => (name.trim(), address.trim()),
        None => ("", from),
    };
    let (name, address) = match Mailbox::from_str(from) {
        Ok(mailbox) if !from.contains("{{") => (mailbox.name.unwrap_or_default(), mailbox.email.to_string()),
        _ => (name.trim_matches('"').to_owned(), address.to_owned()),
    };
    let is_address =
        lettre::Address::from_str(&address).is_ok() && headers::is_safe_address(&address) && address.is_ascii();
    let help = "write an address, or: Name <name@example.org>; only the name may hold expressions";
    if from.is_empty() {
        problems.field("bad_sender", "from", "the sender is missing", help);
        return None;
    }
    if !is_address {
        problems.field("bad_sender", "from", format!("{address:?} is not an address that can send"), help);
        return None;
    }
    Some(Sender { name, address })
}

fn header_name(name: &str, problems: &mut Problems) {
    let field = format!("headers.{name}");
    let is_token = !name.is_empty()
        && name.len() <= 70
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !is_token {
        problems.field("bad_header", &field, format!("{name:?} is not a header name"), "use letters, digits and '-'");
    } else if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        problems.field(
            "own_header",
            &field,
            format!("{name} is written by the engine"),
            "use the message's own key for it",
        );
    }
}

fn reply_to(source: &MessageSource, problems: &mut Problems, out: &mut Vec<u8>) {
    let Some(reply_to) = &source.reply_to else { return };
    match Mailbox::from_str(reply_to.trim()) {
        Ok(mailbox) if headers::is_safe_address(mailbox.email.as_ref()) && mailbox.email.to_string().is_ascii() => {
            headers::mailbox(out, "Reply-To", mailbox.name.as_deref().unwrap_or(""), mailbox.email.as_ref());
        }
        _ => {
            let message = format!("{reply_to:?} is not an address");
            problems.field("bad_reply_to", "reply_to", message, "write an address, or: Name <name@example.org>");
        }
    }
}

fn lists(source: &MessageSource, problems: &mut Problems, out: &mut Vec<u8>) {
    if let Some(list_id) = &source.list_id {
        let (name, id) = match list_id.trim().strip_suffix('>').and_then(|l| l.rsplit_once('<')) {
            Some((name, id)) => (name.trim().trim_matches('"'), id),
            None => ("", list_id.trim()),
        };
        let is_label =
            |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if id.contains('.') && id.split('.').all(is_label) && id.len() <= 255 {
            if name.is_empty() {
                out.extend_from_slice(format!("List-Id: <{id}>\r\n").as_bytes());
            } else {
                headers::mailbox(out, "List-Id", name, id);
            }
        } else {
            let message = format!("{list_id:?} is not a list id");
            problems.field(
                "bad_list_id",
                "list_id",
                message,
                "write news.example.org, or: Our news <news.example.org>",
            );
        }
    }
    if let Some(feedback) = &source.feedback_id {
        let is_field = |f: &str| f.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        let fields: Vec<&str> = feedback.split(':').collect();
        let sender = fields.last().copied().unwrap_or("");
        if fields.len() <= 4
            && fields.iter().all(|f| is_field(f))
            && (5..=15).contains(&sender.len())
            && feedback.len() <= 120
        {
            out.extend_from_slice(format!("Feedback-ID: {feedback}\r\n").as_bytes());
        } else {
            let help = "write up to four fields joined with ':', the last one a sender id of 5 to 15 characters";
            problems.field("bad_feedback_id", "feedback_id", format!("{feedback:?} is not a feedback id"), help);
        }
    }
}

fn attachment(index: usize, source: &AttachmentSource, problems: &mut Problems) -> Option<File> {
    let field = format!("attachments[{index}]");
    let name = headers::collapse(&source.name);
    if name.is_empty() || name.contains(['/', '\\']) || name.len() > 200 {
        problems.field(
            "bad_attachment",
            &field,
            format!("{:?} is not a file name", source.name),
            "give a name without a path",
        );
        return None;
    }
    let media_type = ContentType::parse(&source.media_type);
    if media_type.is_err() || source.media_type.contains(['\r', '\n', '\0']) {
        let message = format!("{:?} is not a media type", source.media_type);
        problems.field("bad_attachment", &field, message, "write one such as application/pdf");
        return None;
    }
    let clean: String = source.base64.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    match (STANDARD.decode(clean), media_type) {
        (Ok(bytes), Ok(media_type)) => Some(File { name, media_type, bytes }),
        _ => {
            problems.field(
                "bad_attachment",
                &field,
                "the content is not base64",
                "encode the file with base64, padding included",
            );
            None
        }
    }
}
