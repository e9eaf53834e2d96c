//! The first render of a message, when it is compiled: what fails for a sample contact fails for everyone.
//!
//! Owns no state.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::contacts::{AttributeType, Record, RecordBuilder, Schema, Value};
use crate::content::compile::CompiledMessage;
use crate::content::problem::Problems;
use crate::content::render::{Recipient, Rendered, Renderer, SkipReason};
use crate::content::tokens::TokenKeys;
use crate::ids::{AttributeId, ContactRow, MessageId, RowSpace, RunId};

/// A contact with a value for every attribute.
pub(super) fn sample_record(schema: &Schema) -> Vec<u8> {
    let mut builder = RecordBuilder::new();
    for attribute in schema.attributes() {
        match attribute.kind {
            AttributeType::Text => builder.set(attribute.id, Value::Text("Sample")),
            AttributeType::Number => builder.set(attribute.id, Value::Number(42.0)),
            AttributeType::Boolean => builder.set(attribute.id, Value::Bool(true)),
            AttributeType::DateTime => builder.set(attribute.id, Value::Time(Timestamp(1_780_000_000_000))),
            AttributeType::List => builder.set_list(attribute.id, ["one", "two"]),
        }
    }
    for (id, text) in [
        (AttributeId::EMAIL, "sample@example.test"),
        (AttributeId::EMAIL_DOMAIN, "example.test"),
        (AttributeId::LANGUAGE, "en"),
        (AttributeId::ZONE, "UTC"),
    ] {
        builder.set(id, Value::Text(text));
    }
    builder.to_bytes()
}

fn bare_record() -> Vec<u8> {
    let mut builder = RecordBuilder::new();
    builder.set(AttributeId::EMAIL, Value::Text("sample@example.test"));
    builder.to_bytes()
}

pub(super) fn probe(message: &Arc<CompiledMessage>, problems: &mut Problems) {
    let has_html = message.html.is_some();
    let mut renderer = Renderer::new(message.clone(), TokenKeys::new(&[0; 32]));
    let who = Recipient {
        space: RowSpace::BASE,
        run: RunId(0),
        message: MessageId(0),
        row: ContactRow(0),
        sent_at: Timestamp(1_780_000_000_000),
    };
    for (bytes, is_bare) in [(sample_record(&message.schema), false), (bare_record(), true)] {
        let Ok(record) = Record::parse(&bytes) else { continue };
        let (mut body, mut return_path) = (Vec::new(), String::new());
        let mut out = Rendered::new(&mut body, &mut return_path);
        let Err(skip) = renderer.render(&record, &who, &mut out) else {
            continue;
        };
        // A contact without attributes may fail for want of them; never for size or time.
        if is_bare && !matches!(skip.reason, SkipReason::TooLarge | SkipReason::OutOfFuel) {
            continue;
        }
        let (code, help) = match skip.reason {
            SkipReason::TooLarge => ("output_too_large", "print less: look for a loop that repeats too often"),
            SkipReason::OutOfFuel => ("endless", "look for a loop that does not end, or that repeats too often"),
            SkipReason::UrlTooLong => ("url_too_long", "shorten the link"),
            _ => ("render_failed", "correct the expression"),
        };
        let message = format!("rendering for a sample contact fails: {}", skip.sample);
        // The sample does not say which part failed; without HTML it can only be the text.
        let field = if has_html { "html" } else { "text" };
        problems.field(code, field, message, help);
        return;
    }
}
