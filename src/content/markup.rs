//! What the compiler writes into an author's markup: preheader, footer, pixel; and MJML to HTML.
//!
//! Owns no state.

use crate::content::locale::Language;
use crate::content::pieces::{PieceKind, Pieces};
use crate::content::problem::Problems;
use crate::content::program::escape_html;

/// The open pixel, in terms of a built-in that only the compiler uses.
pub(super) const PIXEL: &str =
    "<img src=\"{{ estafette_open_url }}\" width=\"1\" height=\"1\" alt=\"\" style=\"border:0;width:1px;height:1px\">";

pub(super) fn html_footer(language: Language) -> String {
    let label = language.unsubscribe();
    let style = "font-size:12px;color:#666;text-align:center";
    format!("<p style=\"{style}\"><a href=\"{{{{ unsubscribe_url }}}}\" style=\"color:#666\">{label}</a></p>")
}

pub(super) fn text_footer(language: Language) -> String {
    format!("\n\n{}: {{{{ unsubscribe_url }}}}\n", language.unsubscribe())
}

/// A hidden block that inboxes show after the subject.
pub(super) fn preheader(source: &str, pieces: &Pieces) -> String {
    let hidden = "display:none;max-height:0;overflow:hidden;mso-hide:all";
    format!("<div style=\"{hidden}\">{}</div>", rewrite(source, pieces, |text| literal(&escape_html(text))))
}

/// A template whose text pieces went through `text`; comments and trimmed whitespace are gone.
fn rewrite(source: &str, pieces: &Pieces, mut text: impl FnMut(&str) -> String) -> String {
    let mut out = String::with_capacity(source.len());
    for piece in &pieces.pieces {
        let slice = &source[piece.range.clone()];
        match piece.kind {
            PieceKind::Text => out.push_str(&text(slice)),
            PieceKind::Print(_) | PieceKind::Block => out.push_str(slice),
        }
    }
    out
}

/// Text as a template prints it: what would open a tag (it came from a raw block) goes into one again.
fn literal(text: &str) -> String {
    if text.contains("{{") || text.contains("{%") || text.contains("{#") {
        format!("{{% raw %}}{text}{{% endraw %}}")
    } else {
        text.to_owned()
    }
}

fn find_tag(html: &str, tag: &str, last: bool) -> Option<usize> {
    let lower = html.to_ascii_lowercase();
    if last { lower.rfind(tag) } else { lower.find(tag) }
}

/// Inserts before the last `</body>`, or at the end.
pub(super) fn before_body_end(html: &str, what: &str) -> String {
    let at = find_tag(html, "</body", true).unwrap_or(html.len());
    format!("{}{what}{}", &html[..at], &html[at..])
}

/// Inserts after `<body …>`, or at the start.
pub(super) fn after_body_start(html: &str, what: &str) -> String {
    let body = find_tag(html, "<body", false);
    let at = body.and_then(|b| html[b..].find('>').map(|e| b + e + 1)).unwrap_or(0);
    format!("{}{what}{}", &html[..at], &html[at..])
}

/// The library's parser panics on some broken input that is cut inside a character, which a sender can write: the panic is
/// contained here, where no state can be left half changed.
fn mjml_to_html(mjml: &str) -> Result<String, String> {
    let run = || -> Result<String, String> {
        let parsed = mrml::parse(mjml).map_err(|error| format!("the MJML does not parse: {error}"))?;
        let rendered = parsed.element.render(&mrml::prelude::render::RenderOptions::default());
        rendered.map_err(|error| format!("the MJML does not render: {error}"))
    };
    std::panic::catch_unwind(run)
        .unwrap_or_else(|_| Err("the MJML does not parse: it breaks off inside a tag".to_owned()))
}

/// MJML to HTML. Template tags travel as words that MJML does not look into.
pub(super) fn flatten_mjml(source: &str, pieces: &Pieces, problems: &mut Problems) -> Option<String> {
    let mut tags: Vec<String> = Vec::new();
    let mut stand_in = |tag: String| {
        tags.push(tag);
        format!("estafettetag{:05}x", tags.len() - 1)
    };
    let mut mjml = String::with_capacity(source.len());
    for piece in &pieces.pieces {
        let slice = &source[piece.range.clone()];
        let kept = literal(slice);
        if piece.kind == PieceKind::Text && kept == slice {
            mjml.push_str(slice);
        } else {
            mjml.push_str(&stand_in(if piece.kind == PieceKind::Text { kept } else { slice.to_owned() }));
        }
    }
    let html = match mjml_to_html(&mjml) {
        Ok(html) => html,
        Err(error) => {
            let help = "check the MJML elements; block tags between elements go into <mj-raw>";
            problems.at("bad_mjml", ("mjml", source, 0), error, help);
            return None;
        }
    };
    let mut out = String::with_capacity(html.len());
    let mut rest = html.as_str();
    let mut seen = vec![false; tags.len()];
    while let Some(at) = rest.find("estafettetag") {
        out.push_str(&rest[..at]);
        let digits = rest[at + 12..].get(..5).and_then(|d| d.parse::<usize>().ok());
        match digits.and_then(|d| tags.get(d).map(|t| (d, t))) {
            Some((index, tag)) => {
                out.push_str(tag);
                seen[index] = true;
                rest = &rest[at + 18..];
            }
            None => {
                out.push_str("estafettetag");
                rest = &rest[at + 12..];
            }
        }
    }
    out.push_str(rest);
    if let Some(lost) = seen.iter().position(|s| !s) {
        let message = format!("MJML has no place for {:?} where it stands", tags[lost]);
        problems.field("bad_mjml", "mjml", message, "put block tags between elements into <mj-raw>");
        return None;
    }
    Some(out)
}
