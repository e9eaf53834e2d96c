//! What a contact would get, for people to look at: the spliced message, parsed back.
//!
//! Owns no state. A preview goes through the same path as a send, so that it shows what is sent and not what was meant.

use mail_parser::MessageParser;
use serde::Serialize;

use crate::contacts::Record;
use crate::content::render::{Recipient, RenderSkip, Rendered, Renderer};

/// A rendered message in readable form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Preview {
    pub subject: String,
    pub html: Option<String>,
    pub text: String,
    /// Every header as it would be sent, in order, unfolded.
    pub headers: Vec<(String, String)>,
    /// The whole message, as sent.
    pub source: String,
}

/// Renders a message and takes it apart again.
///
/// # Errors
/// [`RenderSkip`] if this contact would get no message.
pub fn preview(renderer: &mut Renderer, record: &Record<'_>, who: &Recipient) -> Result<Preview, RenderSkip> {
    let (mut body, mut return_path) = (Vec::new(), String::new());
    renderer.render(record, who, &mut Rendered::new(&mut body, &mut return_path))?;
    let source = String::from_utf8_lossy(&body).into_owned();
    let Some(parsed) = MessageParser::default().parse(&body) else {
        return Ok(Preview { source, ..Preview::default() });
    };
    let headers = parsed.headers_raw().map(|(name, value)| (name.to_owned(), unfold(value))).collect();
    let has_html = parsed.html_body.first() != parsed.text_body.first();
    Ok(Preview {
        subject: parsed.subject().unwrap_or("").to_owned(),
        html: parsed.body_html(0).filter(|_| has_html).map(|h| h.into_owned()),
        text: parsed.body_text(0).map(|t| t.into_owned()).unwrap_or_default(),
        headers,
        source: source.clone(),
    })
}

fn unfold(value: &str) -> String {
    value.replace("\r\n", "").trim().to_owned()
}
