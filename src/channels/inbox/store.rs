//! The mails that the sink keeps, and how they are shown.
//!
//! Owns the mails. Invariants: IS-1 at most `mails_max` mails and `INBOX_BYTES_MAX` bytes are kept; IS-2 every mail taken
//! is counted, kept or not.

use std::sync::Arc;

use mail_parser::{MessageParser, MimeHeaders};
use serde::Serialize;

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::limits::{INBOX_BYTES_MAX, PAGE_MAX};

#[derive(Debug)]
pub(super) struct Mail {
    pub id: u64,
    pub received: Timestamp,
    pub return_path: String,
    pub recipient: String,
    pub source: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Store {
    mails: Vec<Arc<Mail>>,
    mails_max: usize,
    bytes: usize,
    taken: u64,
    taken_bytes: u64,
    clock: SystemClock,
}

/// What the sink took so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct InboxTotals {
    pub taken: u64,
    pub kept: u64,
    pub taken_bytes: u64,
}

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MailSummary {
    pub id: u64,
    pub received: Timestamp,
    pub recipient: String,
    pub from: String,
    pub subject: String,
    pub bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InboxPage {
    /// Mails that match, of those kept.
    pub matching: usize,
    pub mails: Vec<MailSummary>,
}

/// One mail, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MailView {
    pub summary: MailSummary,
    pub return_path: String,
    pub headers: Vec<(String, String)>,
    pub text: Option<String>,
    pub html: Option<String>,
    pub attachments: Vec<String>,
    pub source: String,
}

impl Store {
    pub fn new(mails_max: usize) -> Store {
        Store { mails: Vec::new(), mails_max, bytes: 0, taken: 0, taken_bytes: 0, clock: SystemClock::new() }
    }

    /// Counts a mail; `true` if there is room to keep it, which [`Store::keep`] then does.
    pub fn count(&mut self, bytes: usize) -> bool {
        self.taken += 1;
        self.taken_bytes += bytes as u64;
        self.mails.len() < self.mails_max && self.bytes + bytes <= INBOX_BYTES_MAX
    }

    pub fn keep(&mut self, return_path: &str, recipient: &str, source: Vec<u8>) {
        self.bytes += source.len();
        self.mails.push(Arc::new(Mail {
            id: self.taken,
            received: self.clock.now(),
            return_path: return_path.to_owned(),
            recipient: recipient.to_owned(),
            source,
        }));
    }

    pub fn totals(&self) -> InboxTotals {
        InboxTotals { taken: self.taken, kept: self.mails.len() as u64, taken_bytes: self.taken_bytes }
    }

    pub fn mails(&self) -> Vec<Arc<Mail>> {
        self.mails.clone()
    }

    pub fn mail(&self, id: u64) -> Option<Arc<Mail>> {
        let at = self.mails.binary_search_by_key(&id, |m| m.id).ok()?;
        self.mails.get(at).cloned()
    }
}

pub(super) fn page(mails: &[Arc<Mail>], offset: usize, n: usize, search: &str) -> InboxPage {
    let n = n.min(PAGE_MAX);
    if search.is_empty() {
        let shown = mails.iter().rev().skip(offset).take(n).map(|m| summary(m)).collect();
        return InboxPage { matching: mails.len(), mails: shown };
    }
    let wanted = search.to_lowercase();
    let matching: Vec<MailSummary> = mails
        .iter()
        .rev()
        .map(|m| summary(m))
        .filter(|s| s.recipient.to_lowercase().contains(&wanted) || s.subject.to_lowercase().contains(&wanted))
        .collect();
    InboxPage { matching: matching.len(), mails: matching.into_iter().skip(offset).take(n).collect() }
}

fn summary(mail: &Mail) -> MailSummary {
    let parsed = MessageParser::default().parse_headers(&mail.source);
    let from = parsed.as_ref().and_then(|p| p.from()).and_then(|f| f.first()).map(|a| match (a.name(), a.address()) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (_, Some(address)) => address.to_owned(),
        (name, None) => name.unwrap_or_default().to_owned(),
    });
    MailSummary {
        id: mail.id,
        received: mail.received,
        recipient: mail.recipient.clone(),
        from: from.unwrap_or_default(),
        subject: parsed.as_ref().and_then(|p| p.subject()).unwrap_or_default().to_owned(),
        bytes: mail.source.len(),
    }
}

pub(super) fn view(mail: &Mail) -> MailView {
    let parsed = MessageParser::default().parse(&mail.source);
    let headers = parsed
        .as_ref()
        .map(|p| p.headers_raw().map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
        .unwrap_or_default();
    let text = parsed.as_ref().filter(|p| p.text_body_count() > 0).and_then(|p| p.body_text(0)).map(|t| t.into_owned());
    let html = parsed.as_ref().filter(|p| p.html_body_count() > 0).and_then(|p| p.body_html(0)).map(|t| t.into_owned());
    let attachments = parsed
        .as_ref()
        .map(|p| p.attachments().map(|a| a.attachment_name().unwrap_or("unnamed").to_owned()).collect())
        .unwrap_or_default();
    MailView {
        summary: summary(mail),
        return_path: mail.return_path.clone(),
        headers,
        text,
        html,
        attachments,
        source: String::from_utf8_lossy(&mail.source).into_owned(),
    }
}
