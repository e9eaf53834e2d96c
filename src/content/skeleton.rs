//! The MIME structure of a message, built once with lettre: what stands before, between and after the bodies.
//!
//! Owns no state. Invariant: SK-1 no quoted-printable body can hold a boundary, as every boundary has `=_` in it, which
//! the encoding never writes.

use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Attachment, MultiPart, MultiPartBuilder, SinglePart};

const TEXT_PLACE: &str = "estafette-place-of-the-text";
const HTML_PLACE: &str = "estafette-place-of-the-html";

/// The bytes around the bodies: `head` text `middle` html `tail`, or `head` text `tail`.
#[derive(Clone, Debug, Default)]
pub(super) struct Skeleton {
    /// From the first MIME header to the first byte of the text.
    pub head: Vec<u8>,
    pub middle: Option<Vec<u8>>,
    pub tail: Vec<u8>,
}

/// A file, decoded.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub name: String,
    pub media_type: ContentType,
    pub bytes: Vec<u8>,
}

pub(super) fn build(has_html: bool, files: Vec<File>) -> Option<Skeleton> {
    let text = part(ContentType::TEXT_PLAIN, TEXT_PLACE);
    let formatted = match (has_html, files.is_empty()) {
        (false, true) => text.formatted(),
        (true, true) => alternative(text).formatted(),
        (false, false) => attach(bounded("mixed").singlepart(text), files).formatted(),
        (true, false) => attach(bounded("mixed").multipart(alternative(text)), files).formatted(),
    };
    let mut head = b"MIME-Version: 1.0\r\n".to_vec();
    let (before, rest) = split(&formatted, TEXT_PLACE)?;
    head.extend_from_slice(before);
    if has_html {
        let (middle, tail) = split(rest, HTML_PLACE)?;
        Some(Skeleton { head, middle: Some(middle.to_vec()), tail: tail.to_vec() })
    } else {
        Some(Skeleton { head, middle: None, tail: rest.to_vec() })
    }
}

fn bounded(kind: &str) -> MultiPartBuilder {
    let builder = match kind {
        "mixed" => MultiPart::mixed(),
        _ => MultiPart::alternative(),
    };
    builder.boundary(format!("=_estafette_{kind}"))
}

fn alternative(text: SinglePart) -> MultiPart {
    bounded("alternative").singlepart(text).singlepart(part(ContentType::TEXT_HTML, HTML_PLACE))
}

fn attach(mut mixed: MultiPart, files: Vec<File>) -> MultiPart {
    for file in files {
        mixed = mixed.singlepart(Attachment::new(file.name).body(file.bytes, file.media_type));
    }
    mixed
}

fn part(content_type: ContentType, place: &str) -> SinglePart {
    SinglePart::builder().header(content_type).header(ContentTransferEncoding::QuotedPrintable).body(place.to_owned())
}

fn split<'b>(bytes: &'b [u8], place: &str) -> Option<(&'b [u8], &'b [u8])> {
    let at = bytes.windows(place.len()).position(|w| w == place.as_bytes())?;
    Some((&bytes[..at], &bytes[at + place.len()..]))
}
