//! The public listener's questions: what a token stands for, opens, clicks, opt-outs, the web view.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::actors::book::Look;
use crate::actors::tracker::TrackedEvent;
use crate::api::adapter::Adapter;
use crate::api::errors::Code;
use crate::api::port::{
    Destination, EventClass, EventKind, LinkAsked, PortError, PortResult, TokenPurpose, Tracked, TrackingEvent,
    TrackingPort, UnsubscribeRequest, UnsubscribeVia,
};
use crate::clock::Timestamp;
use crate::content::{TokenId, TrackedLink};
use crate::ledger::tracking::{EventClass as LedgerClass, TrackedKind};

fn class(class: EventClass) -> LedgerClass {
    match class {
        EventClass::Human => LedgerClass::Human,
        EventClass::Suspect => LedgerClass::Suspect,
        EventClass::Machine => LedgerClass::Machine,
    }
}

fn kind(kind: EventKind) -> TrackedKind {
    match kind {
        EventKind::Open => TrackedKind::Opened,
        EventKind::Click { link } => TrackedKind::Clicked { link },
    }
}

/// Whether links of a run that ended then are followed no more.
fn has_expired(ended_at: Option<Timestamp>, now: Timestamp, kept: Duration) -> bool {
    ended_at.is_some_and(|ended| now.saturating_since(ended) > kept)
}

impl Adapter {
    fn token(&self, purpose: TokenPurpose, token: &str, link: Option<LinkAsked<'_>>) -> Option<TokenId> {
        let keys = &self.engine.tokens;
        let verified = match (purpose, link) {
            (TokenPurpose::Click, Some(LinkAsked { index, signed_url: Some(url) })) => {
                keys.verify_link_url(token, index, url)
            }
            (TokenPurpose::Click | TokenPurpose::Open, _) => keys.verify_link(token),
            (TokenPurpose::Unsubscribe, _) => keys.verify_unsubscribe(token),
            (TokenPurpose::View, _) => keys.verify_view(token),
        };
        verified.ok()
    }

    fn destination(&self, id: TokenId, asked: LinkAsked<'_>) -> Option<Destination> {
        let message = self.engine.tracked_message(id.run, id.message)?;
        let link: &TrackedLink = message.links().iter().find(|link| link.index == asked.index)?;
        let url = asked.signed_url.unwrap_or(&link.url);
        link.allows(url).then(|| Destination { link: link.index, url: url.to_owned(), hidden: link.hidden })
    }
}

/// Whether the row is nobody's here: of a contact who was created after the backup that this server goes on from, or, for all
/// but opting out, of a run whose details were removed.
fn names_nobody(purpose: TokenPurpose, look: &Look) -> bool {
    look.is_left_out || (look.lacks_details && purpose != TokenPurpose::Unsubscribe)
}

impl TrackingPort for Adapter {
    fn resolve(&self, purpose: TokenPurpose, token: &str, link: Option<LinkAsked<'_>>) -> Option<Tracked> {
        let id = self.token(purpose, token, link)?;
        let (now, kept) = (self.engine.book.now(), self.engine.options.tracking_kept);
        let look = self.engine.book.look(id.run, id.space, id.row.0, now)?;
        if names_nobody(purpose, &look) {
            return None;
        }
        // Links, pixels and views end some time after their run did. Opting out never does: a mail may be read years later.
        if purpose != TokenPurpose::Unsubscribe && has_expired(look.ended_at, now, kept) {
            return None;
        }
        let destination = match (purpose, link) {
            (TokenPurpose::Click, Some(asked)) => Some(self.destination(id, asked)?),
            (TokenPurpose::Click, None) => return None,
            _ => None,
        };
        let accepted_at = look.accepted_at;
        Some(Tracked { space: id.space, run: id.run, message: id.message, row: id.row, accepted_at, destination })
    }

    fn record(&self, event: TrackingEvent) -> PortResult<oneshot::Receiver<()>> {
        let tracked = |kind_of: EventKind, was: Option<EventClass>| TrackedEvent {
            run: event.run,
            message: event.message,
            row: event.row,
            kind: kind(kind_of),
            class: class(event.class),
            was: was.map(class),
            done: None,
        };
        for earlier in &event.reclassified {
            // Counts of earlier events that can't be moved now stay where they are.
            drop(self.engine.record(tracked(earlier.kind, Some(earlier.was))));
        }
        let wait = self.engine.record(tracked(event.kind, None));
        wait.ok_or_else(|| PortError::new(Code::Busy, "too many tracking events at once"))
    }

    fn unsubscribe(&self, request: UnsubscribeRequest) -> BoxFuture<'static, PortResult<()>> {
        let tracked = &request.tracked;
        let id = TokenId { space: tracked.space, run: tracked.run, message: tracked.message, row: tracked.row };
        let source = match request.via {
            UnsubscribeVia::OneClick => "one-click",
            UnsubscribeVia::Page => "unsubscribe page",
        };
        let queued = self.engine.unsubscribe(id, request.everything, source);
        let engine = std::sync::Arc::clone(&self.engine);
        async move {
            let wait = queued.map_err(PortError::from)?;
            let gone = |_| PortError::new(Code::Busy, "the opt-out could not be made durable");
            engine.note_unsubscribe(wait.await.map_err(gone)?);
            Ok(())
        }
        .boxed()
    }

    fn web_view(&self, tracked: &Tracked) -> PortResult<String> {
        let id = TokenId { space: tracked.space, run: tracked.run, message: tracked.message, row: tracked.row };
        Ok(self.engine.web_view(id)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_may_be_anothers_is_nobodys_and_opting_out_needs_no_details() {
        let known = Look { ended_at: None, accepted_at: None, lacks_details: false, is_left_out: false };
        let removed = Look { lacks_details: true, ..known };
        let left_out = Look { is_left_out: true, ..known };
        for purpose in [TokenPurpose::Click, TokenPurpose::Open, TokenPurpose::View, TokenPurpose::Unsubscribe] {
            let opts_out = purpose == TokenPurpose::Unsubscribe;
            let nobodys = [known, removed, left_out].map(|look| names_nobody(purpose, &look));
            assert_eq!(nobodys, [false, !opts_out, true], "{purpose:?}");
        }
    }

    #[test]
    fn links_expire_after_the_end_of_their_run_and_never_before() {
        let (day, ended) = (Duration::from_secs(86_400), Timestamp(1_000));
        assert!(!has_expired(None, Timestamp(i64::MAX), day), "a run that goes on keeps its links");
        assert!(!has_expired(Some(ended), Timestamp(1_000 + 86_400_000), day), "on the last day");
        assert!(has_expired(Some(ended), Timestamp(1_001 + 86_400_000), day), "and then no more");
        assert!(!has_expired(Some(ended), Timestamp(0), day), "a clock that was set back expires nothing");
    }
}
