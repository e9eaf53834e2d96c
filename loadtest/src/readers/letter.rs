//! A mail as a mail program sees it: subject, pixel, links, and the header's way out.
//!
//! Owns no state. Invariant: what is found was read by an independent parser from the bytes that the relay took; nothing is
//! known from the sender's side but the paths of its tracking endpoints.

use std::borrow::Cow;

use mail_parser::MessageParser;

/// Paths of the tracking endpoints.
const CLICK: [&str; 2] = ["/c/", "/r/"];
const OPEN: &str = "/o/";

/// What a reader needs of a mail. URLs are whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) subject: String,
    /// With its angle brackets.
    pub(super) message_id: String,
    pub(super) pixel: Option<String>,
    /// Tracked links of the HTML part, in order, each once.
    pub(super) links: Vec<String>,
    /// Target of the one-click unsubscribe (RFC 8058).
    pub(super) unsubscribe: Option<String>,
}

impl Letter {
    /// Reads a mail; none if it cannot be read as one.
    pub(super) fn read(source: &[u8]) -> Option<Letter> {
        let mail = MessageParser::default().parse(source)?;
        let html = mail.body_html(0).unwrap_or(Cow::Borrowed(""));
        let mut letter = Letter {
            subject: mail.subject().unwrap_or_default().to_owned(),
            message_id: mail.message_id().map(|id| format!("<{id}>")).unwrap_or_default(),
            ..Letter::default()
        };
        for url in attributes(&html, "src=\"") {
            if path(&url).starts_with(OPEN) && letter.pixel.is_none() {
                letter.pixel = Some(url);
            }
        }
        for url in attributes(&html, "href=\"") {
            if CLICK.iter().any(|start| path(&url).starts_with(start)) && !letter.links.contains(&url) {
                letter.links.push(url);
            }
        }
        let one_click = mail.header("List-Unsubscribe-Post").is_some();
        letter.unsubscribe = mail.header_raw("List-Unsubscribe").filter(|_| one_click).and_then(https_target);
        Some(letter)
    }
}

/// The first http(s) target of a `List-Unsubscribe` header (RFC 2369): `<mailto:…>, <https://…>`.
fn https_target(raw: &str) -> Option<String> {
    let folded: String = raw.split(['\r', '\n']).map(str::trim_start).collect();
    let mut targets = folded.split('<').skip(1).filter_map(|part| part.split_once('>'));
    targets.find(|(target, _)| target.starts_with("http")).map(|(target, _)| target.to_owned())
}

/// Values of an attribute written in double quotes.
fn attributes<'h>(html: &'h str, start: &'h str) -> impl Iterator<Item = String> + 'h {
    html.match_indices(start).filter_map(move |(at, _)| {
        let value = html[at + start.len()..].split('"').next()?;
        Some(value.replace("&amp;", "&"))
    })
}

/// The path and what follows, of a whole URL.
pub(super) fn path(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find('/').map_or("", |at| &url[host + at..])
}

/// The link's number in its campaign's table: `/c/TOKEN/3`, `/r/TOKEN/3/URL`.
pub(super) fn index(url: &str) -> u64 {
    let number = path(url).split('/').nth(3).unwrap_or_default();
    number.bytes().take_while(u8::is_ascii_digit).fold(0, |n, digit| n * 10 + u64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &str = "From: a@b.test\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <x.1@b.test>\r\n\
        List-Unsubscribe: <mailto:u@b.test>,\r\n <http://t.test/u/TOKEN>\r\n\
        List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/alternative; boundary=\"q\"\r\n\r\n--q\r\nContent-Type: text/plain\r\n\r\nhttp://t.test/c/P/0\r\n\
        --q\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        <a href=3D\"http://t.test/c/TO=\r\nKEN/0\">x</a><a href=3D\"http://t.test/r/T/1/aGk?a=3D1&amp;b=3D2\">y</a>\
        <a href=3D\"http://t.test/c/TOKEN/0\">again</a><a href=3D\"https://shop.test/c\">theirs</a>\
        <a href=3D\"http://t.test/u/TOKEN\">out</a><img src=3D\"http://t.test/o/PIX.gif\">\r\n--q--\r\n";

    #[test]
    fn a_mail_is_read_through_its_encodings() {
        let letter = Letter::read(MAIL.as_bytes()).unwrap();
        assert_eq!(letter.subject, "Grüße");
        assert_eq!(letter.message_id, "<x.1@b.test>");
        assert_eq!(letter.pixel.as_deref(), Some("http://t.test/o/PIX.gif"));
        assert_eq!(letter.links, ["http://t.test/c/TOKEN/0", "http://t.test/r/T/1/aGk?a=1&b=2"], "tracked, each once");
        assert_eq!(letter.unsubscribe.as_deref(), Some("http://t.test/u/TOKEN"), "the web form of several");
    }

    #[test]
    fn without_the_second_header_there_is_no_one_click() {
        let mail = MAIL.replace("List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", "");
        assert_eq!(Letter::read(mail.as_bytes()).unwrap().unsubscribe, None);
    }

    #[test]
    fn paths_are_what_follows_the_host() {
        assert_eq!(path("http://h:80/c/T/0"), "/c/T/0");
        assert_eq!(path("http://h"), "");
        assert_eq!((index("http://h/c/T/12"), index("http://h/r/T/3/aGk"), index("http://h/c/T")), (12, 3, 0));
    }
}
