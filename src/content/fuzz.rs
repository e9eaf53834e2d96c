//! Entry points for fuzzing: any text as a template, any text as a token. They must return, whatever the input.
//!
//! Owns no state.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::contacts::{Record, Schema};
use crate::content::{
    CompileContext, MessageSource, Recipient, Rendered, Renderer, TokenKeys, compile, probe::sample_record,
};
use crate::ids::{ContactRow, MessageId, RowSpace, RunId};

/// Compiles `text` as HTML, as text and as subject, and renders what compiles for a sample contact.
pub fn fuzz_template(text: &str) {
    let schema = Schema::built_in();
    let context = CompileContext { public_url: "https://mail.example.test".to_owned(), ..CompileContext::default() };
    let base = MessageSource { from: "a@b.test".to_owned(), subject: "s".to_owned(), ..MessageSource::default() };
    let sources = [
        MessageSource { html: Some(text.to_owned()), ..base.clone() },
        MessageSource { text: Some(text.to_owned()), preheader: Some(text.to_owned()), ..base.clone() },
        MessageSource { mjml: Some(text.to_owned()), ..base.clone() },
        MessageSource { subject: text.to_owned(), from: text.to_owned(), text: Some("t".to_owned()), ..base },
    ];
    let bytes = sample_record(&schema);
    for source in sources {
        let (Ok(message), Ok(record)) = (compile(&source, &schema, &context), Record::parse(&bytes)) else {
            continue;
        };
        let who = Recipient {
            space: RowSpace::BASE,
            run: RunId(1),
            message: MessageId(0),
            row: ContactRow(1),
            sent_at: Timestamp(0),
        };
        let (mut body, mut return_path) = (Vec::new(), String::new());
        let mut out = Rendered::new(&mut body, &mut return_path);
        if Renderer::new(Arc::new(message), TokenKeys::new(&[0; 32])).render(&record, &who, &mut out).is_ok() {
            debug_assert!(
                !body.split(|b| *b == b'\n').any(|line| line.first() == Some(&b'.')),
                "a line starts with a dot"
            );
            debug_assert!(body.is_ascii(), "a message is ASCII");
        }
    }
}

/// Verifies `text` as every kind of token, under keys that it cannot know.
pub fn fuzz_token(text: &str) {
    let keys = TokenKeys::new(&[0x5A; 32]);
    let (token, url) = text.split_once('\n').unwrap_or((text, ""));
    let accepted = [
        keys.verify_link(token),
        keys.verify_link_url(token, 0, url),
        keys.verify_unsubscribe(token),
        keys.verify_view(token),
        keys.verify_return_path(token),
    ];
    debug_assert!(accepted.iter().all(Result::is_err), "a token was forged");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn no_text_breaks_the_compiler(parts in prop::collection::vec(prop_oneof![
            Just("{{"), Just("}}"), Just("{%"), Just("%}"), Just("-%}"), Just("{#"), Just("#}"), Just(" if "), Just(" endif "),
            Just(" for x in "), Just(" endfor "), Just(" set "), Just(" endset "), Just(" macro m(x) "), Just(" endmacro "),
            Just(" raw "), Just(" endraw "), Just(" filter "), Just(" call m(1) "), Just(" else "), Just(" x "), Just(" = "),
            Just("contact"), Just(".email"), Just("|upper"), Just("('"), Just("\""), Just(")"), Just("<a href=\"https://a.test/"),
            Just("\">"), Just("</a>"), Just("<style>"), Just("</style>"), Just("<!--"), Just("-->"), Just("https://b.test/"),
            Just("é"), Just("\n"), Just("\r\n"), Just("&amp;"), Just("&#"), Just("unsubscribe_url"), Just("<"), Just("\u{1}"),
            Just("{{ contact.email }}"), Just("{% if contact.email %}"), Just("{% endif %}"), Just("<mjml><mj-body>"),
        ], 0..24)) {
            fuzz_template(&parts.concat());
        }

        #[test]
        fn no_text_is_a_token(text in ".{0,80}|[a-z2-7]{49}|[A-Za-z0-9_-]{41}") {
            fuzz_token(&text);
        }
    }
}
