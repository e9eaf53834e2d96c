//! The public listener's questions: what a token stands for, opens, clicks, opt-outs, the web view.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

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

    /// Whether the row is nobody's here: of a contact who was created after the backup that this server goes on from, or,
    /// for all but opting out, of a run whose details were removed.
    fn names_nobody(&self, purpose: TokenPurpose, id: TokenId) -> bool {
        let state = self.engine.book.read();
        let counts_nobody = purpose != TokenPurpose::Unsubscribe && state.lacks_details(id.run);
        counts_nobody || state.is_left_out(id.space, id.row.0)
    }
}

impl TrackingPort for Adapter {
    fn resolve(&self, purpose: TokenPurpose, token: &str, link: Option<LinkAsked<'_>>) -> Option<Tracked> {
        let id = self.token(purpose, token, link)?;
        if self.names_nobody(purpose, id) {
            return None;
        }
        let (now, kept) = (self.engine.book.now(), self.engine.options.tracking_kept);
        let look = self.engine.book.look(id.run, id.row.0, now)?;
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

    fn record(&self, event: TrackingEvent) -> BoxFuture<'static, PortResult<()>> {
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
        async move {
            let busy = || PortError::new(Code::Busy, "too many tracking events at once");
            let wait = wait.ok_or_else(busy)?;
            wait.await.map_err(|_| busy())
        }
        .boxed()
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
    fn links_expire_after_the_end_of_their_run_and_never_before() {
        let (day, ended) = (Duration::from_secs(86_400), Timestamp(1_000));
        assert!(!has_expired(None, Timestamp(i64::MAX), day), "a run that goes on keeps its links");
        assert!(!has_expired(Some(ended), Timestamp(1_000 + 86_400_000), day), "on the last day");
        assert!(has_expired(Some(ended), Timestamp(1_001 + 86_400_000), day), "and then no more");
        assert!(!has_expired(Some(ended), Timestamp(0), day), "a clock that was set back expires nothing");
    }
}
