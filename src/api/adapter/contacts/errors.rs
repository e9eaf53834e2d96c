//! Refusals of the base → rows of the error table.

use serde_json::json;

use crate::actors::book::CommitError;
use crate::api::errors::Code;
use crate::api::port::PortError;
use crate::contacts::ContactsError;
use crate::contacts::csv_import::ImportError;
use crate::contacts::schema::SchemaError;
use crate::engine::base::BaseError;
use crate::engine::imports::ImportsError;
use crate::journal::JournalError;
use crate::segments::SegmentError;

/// An error with its causes, as one line.
pub(super) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

impl From<BaseError> for PortError {
    fn from(error: BaseError) -> PortError {
        let text = error.to_string();
        let refuse = |code| PortError::new(code, text.clone());
        match error {
            BaseError::Commit(error) => error.into(),
            BaseError::Contacts(error) => error.into(),
            BaseError::Imports(error) => error.into(),
            BaseError::FullDisk => refuse(Code::StorageFull),
            BaseError::Input(input) => {
                let fields = json!({"fields": [{"field": input.field, "reason": input.reason.to_string()}]});
                refuse(Code::InvalidContact).with(fields)
            }
            BaseError::NoContact { .. } => refuse(Code::ContactNotFound),
            BaseError::BadName { what: "segment", .. } => refuse(Code::InvalidSegment),
            BaseError::BadName { .. } => refuse(Code::InvalidList),
            BaseError::NoList { .. } => refuse(Code::ListNotFound),
            BaseError::ListExists { .. } => refuse(Code::ListExists),
            BaseError::ListInUse { by, .. } => refuse(Code::ListInUse).with(json!({"used_by": by})),
            BaseError::UnknownKeys { keys } => refuse(Code::InvalidList).with(json!({"unknown_keys": keys})),
            BaseError::NoSegment { .. } => refuse(Code::SegmentNotFound),
            BaseError::SegmentExists { .. } => refuse(Code::SegmentExists),
            BaseError::SegmentInUse { by, .. } => refuse(Code::SegmentInUse).with(json!({"used_by": by})),
            BaseError::Segment { text, faults } => segment_refused(&text, &faults),
            BaseError::NoSuppression { .. } => refuse(Code::SuppressionNotFound),
            BaseError::AmbiguousSuppression { .. } => refuse(Code::InvalidSuppression),
            BaseError::BadSuppression { index, .. } => refuse(Code::InvalidSuppression).with(json!({"entry": index})),
        }
    }
}

/// The first fault in words with the place below it; all of them with their spans in the details.
pub(super) fn segment_refused(text: &str, faults: &[SegmentError]) -> PortError {
    let message = faults.first().map_or_else(|| "the expression is not valid".to_owned(), |fault| fault.render(text));
    let faults: Vec<_> = faults
        .iter()
        .map(|fault| {
            json!({
                "code": fault.code(), "message": fault.problem.to_string(),
                "start": fault.span.start, "end": fault.span.end, "shown": fault.render(text),
            })
        })
        .collect();
    let first = faults.first().cloned().unwrap_or_default();
    let place = json!({"start": first["start"], "end": first["end"], "code": first["code"], "faults": faults});
    PortError::new(Code::InvalidSegment, message).with(place)
}

impl From<CommitError> for PortError {
    fn from(error: CommitError) -> PortError {
        match error {
            CommitError::NoSpace => PortError::new(Code::StorageFull, error.to_string()),
            CommitError::Journal(JournalError::Closed) => {
                PortError::new(Code::NotReady, "the engine is shutting down: try again when it is back")
            }
            error => internal(&error),
        }
    }
}

impl From<ContactsError> for PortError {
    fn from(error: ContactsError) -> PortError {
        match &error {
            ContactsError::Input(_) => PortError::new(Code::InvalidContact, error.to_string()),
            ContactsError::Schema(SchemaError::Exists { .. }) => {
                PortError::new(Code::AttributeExists, error.to_string())
            }
            ContactsError::Schema(_) => PortError::new(Code::InvalidAttribute, error.to_string()),
            _ => internal(&error),
        }
    }
}

impl From<ImportsError> for PortError {
    fn from(error: ImportsError) -> PortError {
        let text = explain(&error);
        match error {
            ImportsError::Busy { .. } => PortError::new(Code::Busy, text),
            ImportsError::Stopping => PortError::new(Code::NotReady, text),
            ImportsError::Unknown { .. } => PortError::new(Code::ImportNotFound, text),
            ImportsError::NothingToOptOutOf { .. } => PortError::new(Code::InvalidImport, text),
            ImportsError::Folder { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                PortError::new(Code::StorageFull, text)
            }
            ImportsError::Folder { .. } => internal(&error),
            ImportsError::Import(ImportError::Store(ContactsError::Schema(_))) => {
                PortError::new(Code::InvalidImport, text)
            }
            ImportsError::Import(ImportError::Store(source)) => BaseError::from(source).into(),
            ImportsError::Import(ImportError::File { .. } | ImportError::ParserLost) => internal(&error),
            ImportsError::Import(_) => PortError::new(Code::InvalidImport, text),
        }
    }
}

/// A fault of ours: told to the log in full, to the client in a sentence.
pub(super) fn internal(error: &dyn std::error::Error) -> PortError {
    let text = explain(error);
    tracing::error!(error = %text, "an operation on the contact base failed");
    PortError::new(
        Code::Internal,
        "the operation failed by a fault of the engine, which its log describes; nothing was changed",
    )
}
