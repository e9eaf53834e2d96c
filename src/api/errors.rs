//! The one table of public errors: code, HTTP status, what it means. Every refusal of the API is a row of it.
//!
//! Invariants: AE-1 a code is never reused or renamed, clients match on it; AE-2 the table names each code once; AE-3 the
//! `link` of an error leads to its row on the docs page. It must not know handlers, actix or the engine.

use serde::{Deserialize, Serialize};

macro_rules! error_table {
    ($($variant:ident, $code:literal, $status:literal, $text:literal;)*) => {
        /// A public error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $(#[doc = $text] $variant,)* }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The name on the wire.
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $code,)* }
            }

            pub fn status(self) -> u16 {
                match self { $(Code::$variant => $status,)* }
            }

            /// What the code means and what to do, for the docs page.
            pub fn text(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }
        }
    };
}

error_table! {
    // the request itself
    InvalidBody, "invalid_body", 400, "The body cannot be read as the media type says: see the line and column in details.";
    InvalidParameter, "invalid_parameter", 400, "A path or query parameter has a value that is not allowed.";
    InvalidCursor, "invalid_cursor", 400, "The cursor is not one that this list gave out. Start again without it.";
    Unauthorized, "unauthorized", 401, "Send the key as Authorization: Bearer KEY.";
    Forbidden, "forbidden", 403, "The key is known and does not allow this.";
    RouteNotFound, "route_not_found", 404, "There is no such path. The docs page lists all.";
    MethodNotAllowed, "method_not_allowed", 405, "The path exists, the method does not.";
    RequestTimeout, "request_timeout", 408, "The request did not arrive, or was not answered, in time.";
    BodyTooLarge, "body_too_large", 413, "The body is larger than the limit named in the message.";
    UnsupportedMediaType, "unsupported_media_type", 415, "Send application/json, or application/toml for a campaign.";
    IdempotencyMismatch, "idempotency_mismatch", 422, "This Idempotency-Key was used with another body. Use a new key.";
    IdempotencyInFlight, "idempotency_in_flight", 409, "The first request with this Idempotency-Key is not answered yet.";
    TooManyRequests, "too_many_requests", 429, "Too much at once. Come back after Retry-After seconds.";
    // contacts
    ContactNotFound, "contact_not_found", 404, "No contact has this key.";
    InvalidContact, "invalid_contact", 422, "A field of the contact is not valid: details name each.";
    AttributeExists, "attribute_exists", 409, "The attribute is there already, with another type or index.";
    InvalidAttribute, "invalid_attribute", 422, "The attribute's name, type or index is not valid.";
    InvalidConsent, "invalid_consent", 422, "Channel, topic or status of a consent is not valid.";
    ImportNotFound, "import_not_found", 404, "No import has this id.";
    InvalidImport, "invalid_import", 422, "The file or its options cannot be imported: details say where and why.";
    UploadIncomplete, "upload_incomplete", 400, "The upload ended early. Nothing was imported: send it again.";
    ListNotFound, "list_not_found", 404, "No list has this name.";
    ListExists, "list_exists", 409, "A list with this name exists.";
    ListInUse, "list_in_use", 409, "A segment or an unfinished campaign uses it: details name them.";
    InvalidList, "invalid_list", 422, "The list's name or its contents are not valid.";
    SegmentNotFound, "segment_not_found", 404, "No segment has this name.";
    SegmentExists, "segment_exists", 409, "A segment with this name exists.";
    SegmentInUse, "segment_in_use", 409, "Another segment or an unfinished campaign uses it: details name them.";
    InvalidSegment, "invalid_segment", 422, "The expression is not valid: details give the exact span.";
    MessageNotFound, "message_not_found", 404, "No saved message has this name.";
    MessageInUse, "message_in_use", 409, "An unfinished campaign uses the saved message: details name them.";
    InvalidMessage, "invalid_message", 422, "The message is not whole, or not in one of its languages: details list the problems.";
    SuppressionNotFound, "suppression_not_found", 404, "No suppression has this id.";
    InvalidSuppression, "invalid_suppression", 422, "The suppression names no valid contact, address or channel.";
    AudienceNotFound, "audience_not_found", 404, "No uploaded audience has this id or name.";
    AudienceExists, "audience_exists", 409, "An uploaded audience with this name exists.";
    AudienceInUse, "audience_in_use", 409, "An unfinished run is sent to this upload: details name it.";
    AudienceGone, "audience_gone", 410, "The rows of this upload were deleted, by a person or because their retention has passed.";
    AudiencesFull, "audiences_full", 409, "As many uploads are kept as there may be: delete one.";
    InvalidAudience, "invalid_audience", 422, "The uploaded file is no audience: details give the reason.";
    // campaigns
    CampaignNotFound, "campaign_not_found", 404, "No campaign has this id or name.";
    CampaignExists, "campaign_exists", 409, "A campaign with this name exists.";
    RunNotFound, "run_not_found", 404, "No run has this id, or the campaign has none yet.";
    InvalidSpec, "invalid_spec", 422, "The spec cannot be read: details give line and column of the first fault, and list all problems.";
    CampaignIncomplete, "campaign_incomplete", 422, "The campaign cannot start: details list everything that is missing or wrong.";
    IllegalMove, "illegal_move", 409, "The campaign's state does not allow this: details name the state and the legal moves.";
    CampaignLocked, "campaign_locked", 409, "The campaign has started and can no longer be edited.";
    InvalidSchedule, "invalid_schedule", 422, "The schedule cannot be published: details list each fault with its code.";
    NoChoice, "no_choice", 409, "There is no test to choose a winner for, or it is decided: the message says which.";
    NotASequence, "not_a_sequence", 409, "The campaign is no sequence, and has no run that could be edited or extended: its draft is started. Only sequences are entered.";
    UsePublish, "use_publish", 409, "A sequence is not started: publish it.";
    ConfirmationNeeded, "confirmation_needed", 409, "Nothing was published: details show planned and effective start of each step, or what would be changed. Publish with confirm = true.";
    NoWorkingCopy, "no_working_copy", 409, "There is nothing to publish or to change: open a working copy with edit, or extend.";
    NothingChanged, "nothing_changed", 409, "The working copy says what is in force: change it first.";
    LaunchesAhead, "launches_ahead", 409, "Launches are still to come, and changes are for them (PATCH). To edit the run that is under way, unschedule first, or wait for the last launch.";
    WorkingCopyClosed, "working_copy_closed", 409, "A step has started by the version that was published before: details name it. Open a new working copy.";
    StepLocked, "step_locked", 409, "The version changes what is locked: details name each step, message or node with its lock, and what to do.";
    NotExtendable, "not_extendable", 409, "The finished campaign cannot go on with this: the message says why, and what can be done.";
    StepNotHeld, "step_not_held", 409, "A person starts or skips only a step that did not start within its limit (too_late): the message says how this one stands.";
    StepNotFound, "step_not_found", 404, "The published version has no step with this id: details list the steps.";
    UseEdit, "use_edit", 409, "The campaign is under way: open a working copy with edit.";
    UseExtend, "use_extend", 409, "The campaign is finished: open a working copy with extend.";
    NoEntry, "no_entry", 409, "The campaign takes no contacts by requests, or no longer: the message says why.";
    RenderFailed, "render_failed", 422, "The message cannot be rendered for this contact: details say why.";
    InvalidSet, "invalid_set", 422, "There is no such set of contacts: details list the sets.";
    ResendRefused, "resend_refused", 409, "The run cannot be continued by a resend: it has not ended, or the message says what is missing.";
    DetailsRemoved, "details_removed", 410, "The details of the run were removed because their retention has passed: its figures are known, and nobody behind them.";
    InvalidSettle, "invalid_settle", 422, "Nothing can be settled this way: details say why.";
    // events
    EventInvalid, "event_invalid", 422, "The event lacks a field, or one is not valid: the message says which.";
    EventNoSubject, "event_no_subject", 422, "The event does not say what it is about: name message_id, or contact (and campaign).";
    EventForeignMessage, "event_foreign_message", 422, "The message_id is forged, damaged or of another server: nothing follows from it.";
    EventOtherCampaign, "event_other_campaign", 422, "The message belongs to another campaign than the event names.";
    EventOtherContact, "event_other_contact", 422, "The message went to another contact than the event names.";
    EventNotSent, "event_not_sent", 422, "No message that the event could be about can have reached the contact when it happened.";
    EventTime, "event_time", 422, "The event is more than a day ahead, or more than 400 days old.";
    EventTypesFull, "event_types_full", 422, "There are as many types of events as can be remembered. Use one of them.";
    // connectors
    ConnectorNotFound, "connector_not_found", 404, "No connector has this name.";
    ConnectorFailed, "connector_failed", 502, "The provider could not be reached or refused: details hold its words.";
    // the engine
    InvalidBackup, "invalid_backup", 422, "No backup can be made there: the message says why.";
    BackupNotFound, "backup_not_found", 404, "This process has made no backup with this number, or not lately.";
    BackupRunning, "backup_running", 409, "A backup is being made: wait for its end.";
    MailNotFound, "mail_not_found", 404, "The inbox does not hold this mail, or no longer.";
    NotReady, "not_ready", 503, "The engine is recovering or shutting down. Try again.";
    StorageFull, "storage_full", 507, "The disk of the data directory is full. Campaigns are paused; nothing is lost.";
    Busy, "busy", 503, "A queue inside the engine is full. Try again.";
    Internal, "internal", 500, "A fault of the engine. The log has the request id.";
}

/// The body of every error answer: `{code, message, link, details}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// A code of the error table.
    #[schema(example = "campaign_not_found")]
    pub code: String,
    /// What is wrong with this request, in words.
    pub message: String,
    /// Where the code is explained.
    #[schema(example = "/docs#campaign_not_found")]
    pub link: String,
    /// What a program can use: fields, spans, legal moves. An empty object if there is nothing to add.
    #[schema(value_type = Object)]
    pub details: serde_json::Value,
}

impl ErrorBody {
    pub fn new(code: Code, message: String, details: serde_json::Value) -> ErrorBody {
        let details = if details.is_null() { serde_json::json!({}) } else { details };
        ErrorBody { code: code.name().to_owned(), message, link: format!("/docs#{}", code.name()), details }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_statuses_are_errors() {
        let mut names: Vec<_> = Code::ALL.iter().map(|c| c.name()).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "a code stands twice in the table");
        for code in Code::ALL {
            assert!((400..600).contains(&code.status()), "{} has a status that is no error", code.name());
            assert!(code.text().ends_with('.'), "{} is not explained in a sentence", code.name());
        }
    }
}
