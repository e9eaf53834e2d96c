//! Engine errors as public errors.

use serde_json::json;

use crate::actors::book::CommitError;
use crate::api::adapter::schedules;
use crate::api::errors::Code;
use crate::api::port::PortError;
use crate::campaigns::{IllegalMove, Problem};
use crate::engine::EngineError;
use crate::engine::messages::MessageError;
use crate::engine::resend::ResendError;
use crate::segments::{EvaluateError, SegmentError};

impl From<EngineError> for PortError {
    fn from(error: EngineError) -> PortError {
        let message = error.to_string();
        match error {
            EngineError::NoCampaign { .. } => PortError::new(Code::CampaignNotFound, message),
            EngineError::NoRun { .. } => PortError::new(Code::RunNotFound, message),
            EngineError::DetailsRemoved { run, at } => {
                PortError::new(Code::DetailsRemoved, message).with(json!({"run": run.0, "removed_at": at.to_string()}))
            }
            EngineError::ChangedMeanwhile { .. } => PortError::new(Code::Busy, message),
            EngineError::NoConnector { .. } => PortError::new(Code::ConnectorNotFound, message),
            EngineError::NoList { .. } => PortError::new(Code::ListNotFound, message),
            EngineError::Uploads(refused) => refused.into(),
            EngineError::NotEditable { .. } => PortError::new(Code::CampaignLocked, message),
            EngineError::NotResendable { .. } => PortError::new(
                Code::InvalidSettle,
                format!("{message}; settle them as accepted, or send to them by a linked run: resend with the set \"unknown\""),
            )
            .with(json!({"resend": {"set": "unknown"}})),
            EngineError::Message(refused) => saved_message(refused, message),
            EngineError::Resend(refused) => {
                let details = json!({"sets": crate::ledger::links::Resent::names()});
                match refused {
                    ResendError::NoSet { .. } => PortError::new(Code::InvalidSet, message).with(details),
                    _ => PortError::new(Code::ResendRefused, message),
                }
            }
            EngineError::Sequence(error) => super::sequences::refused(error),
            EngineError::Move(refused) => illegal(&refused),
            EngineError::Schedule(faults) => schedules::unpublished(&faults),
            EngineError::Spec(spec) => {
                let details = json!({"line": spec.line, "column": spec.column});
                PortError::new(Code::InvalidSpec, message).with(details)
            }
            EngineError::Compile(_) | EngineError::MessageFields { .. } | EngineError::NoMessage { .. } => {
                PortError::new(Code::CampaignIncomplete, message)
            }
            EngineError::Content(problems) => {
                let details = json!({"problems": problems});
                PortError::new(Code::CampaignIncomplete, message).with(details)
            }
            EngineError::Segment { text, source } => segment(&text, &source),
            EngineError::Evaluate { text, source: EvaluateError::Segment(source) } => segment(&text, &source),
            EngineError::Render { .. } => PortError::new(Code::RenderFailed, message),
            EngineError::TestAddresses { .. } | EngineError::TestAddress { .. } => {
                PortError::new(Code::InvalidParameter, message)
            }
            EngineError::Commit(CommitError::NoSpace) => PortError::new(Code::StorageFull, message),
            other => {
                tracing::error!(error = ?other, "an operation failed");
                PortError::new(Code::Internal, message)
            }
        }
    }
}

fn saved_message(refused: MessageError, message: String) -> PortError {
    match refused {
        MessageError::Unknown { .. } => PortError::new(Code::MessageNotFound, message),
        MessageError::InUse { by, .. } => PortError::new(Code::MessageInUse, message).with(json!({"used_by": by})),
        MessageError::Wrong(problems) => {
            let first = problems.first().map_or(String::new(), |p| format!(": {}: {}", p.path, p.message));
            let details = json!({"problems": problems});
            PortError::new(Code::InvalidMessage, format!("{message}{first}")).with(details)
        }
        MessageError::BadName { .. } | MessageError::TooMany | MessageError::Damaged { .. } => {
            PortError::new(Code::InvalidMessage, message)
        }
    }
}

fn illegal(refused: &IllegalMove) -> PortError {
    let legal: Vec<&str> = refused.legal().iter().map(|t| t.name()).collect();
    let details = json!({"state": refused.state.name(), "legal_moves": legal});
    PortError::new(Code::IllegalMove, refused.to_string()).with(details)
}

/// A segment that can't be read, with the exact span.
pub fn segment(text: &str, error: &SegmentError) -> PortError {
    let details = json!({"start": error.span.start, "end": error.span.end, "code": error.code()});
    PortError::new(Code::InvalidSegment, error.render(text)).with(details)
}

/// A problem as refusals list it.
pub fn problem(problem: &Problem) -> serde_json::Value {
    serde_json::to_value(super::specs::problem_view(problem)).unwrap_or_default()
}

/// Everything that stops a start.
pub fn incomplete(problems: &[Problem]) -> PortError {
    let list: Vec<_> = problems.iter().map(self::problem).collect();
    let first = problems.first().map_or(String::new(), |p| format!(": {}: {}", p.path, p.message));
    let message = format!("the campaign can't start, {} problem(s){first}", problems.len());
    PortError::new(Code::CampaignIncomplete, message).with(json!({"problems": list}))
}
