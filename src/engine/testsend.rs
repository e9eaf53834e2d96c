//! Test sends: a message to seed addresses, outside the ledger, marked as a test, within the connector's limits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::actors::line::Line;
use crate::campaigns::{CampaignSpec, Compiled, languages};
use crate::channels::{Feed, HandBack, LaneEvent, Mark, OutMessage, Outcome, Pull, Ticket};
use crate::clock::{Clock, Monotonic};
use crate::contacts::addresses::normalise_email;
use crate::content::{NOBODY, Recipient, Rendered, Renderer};
use crate::engine::{Engine, EngineError};
use crate::ids::{AttributeId, ContactRow, MessageId, RunId};
use crate::limits::{TEST_ADDRESSES_MAX, TEST_SEND_WAIT};

/// Address, outcome in a word, the provider's reply.
pub type TestResult = (String, &'static str, Option<String>);

impl Engine {
    /// Sends the first message of a campaign, rendered for one contact in its language, to seed addresses. Blocks until
    /// answered.
    pub fn test_send(
        &self,
        spec: &CampaignSpec,
        compiled: &Compiled,
        row: ContactRow,
        to: &[String],
    ) -> Result<Vec<TestResult>, EngineError> {
        if to.is_empty() || to.len() > TEST_ADDRESSES_MAX {
            return Err(EngineError::TestAddresses { given: to.len(), max: TEST_ADDRESSES_MAX });
        }
        let first = languages::shown_to(spec, compiled, None);
        let plan = compiled.message(first).ok_or(EngineError::NoMessage { message: first })?;
        let missing = || EngineError::NoConnector { name: plan.connector.clone() };
        let line = Arc::clone(&self.lines.get(&plan.connector).ok_or_else(missing)?.line);
        let messages = self.test_messages(spec, compiled, row, to)?;
        let mut feed = TestFeed { line: Arc::clone(&line), waiting: messages, results: Vec::new(), total: to.len() };
        let (done, wait) = oneshot::channel();
        let body = move || -> std::io::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let served = line.connector.run_lane(&mut feed);
                let timed_out = tokio::time::timeout(TEST_SEND_WAIT, served).await.is_err();
                let unanswered = if timed_out { "no answer in time" } else { "the connection ended" };
                for message in std::mem::take(&mut feed.waiting) {
                    feed.results.push((message.recipient, "deferred", Some(unanswered.to_owned())));
                }
                done.send(feed.results).ok();
            });
            Ok(())
        };
        let thread = std::thread::Builder::new().name("test-send".to_owned()).spawn(body);
        thread.map_err(crate::actors::lanes::threads::ThreadError::from)?;
        wait.blocking_recv().map_err(|_| EngineError::ArbiterGone)
    }

    fn test_messages(
        &self,
        spec: &CampaignSpec,
        compiled: &Compiled,
        row: ContactRow,
        to: &[String],
    ) -> Result<Vec<OutMessage>, EngineError> {
        let space = self.space_of(compiled)?;
        let reader = self.store_of(space)?.reader()?;
        let record = reader.record(row)?.ok_or(EngineError::NoMessage { message: MessageId(0) })?;
        let message = languages::shown_to(spec, compiled, record.text(AttributeId::LANGUAGE));
        let mut renderer = Renderer::new(self.message(compiled, message)?, self.tokens.clone());
        let who = Recipient { space, run: RunId(0), message: MessageId(0), row: NOBODY, sent_at: self.book.now() };
        let mut messages = Vec::with_capacity(to.len());
        for (number, address) in to.iter().enumerate() {
            let address = normalise_email(address)
                .map_err(|source| EngineError::TestAddress { address: address.clone(), reason: source.to_string() })?;
            let mut out = OutMessage { ticket: Ticket(number as u64), ..OutMessage::default() };
            let mut rendered = Rendered::new(&mut out.body, &mut out.return_path);
            renderer
                .render(&record, &who, &mut rendered)
                .map_err(|skip| EngineError::Render { sample: skip.sample })?;
            let flags = (rendered.needs_8bit, rendered.needs_smtputf8, rendered.needs_dot_stuffing);
            (out.needs_8bit, out.needs_smtputf8, out.needs_dot_stuffing) = flags;
            out.recipient = address.into_owned();
            mark_as_test(&mut out.body);
            messages.push(out);
        }
        messages.reverse();
        Ok(messages)
    }
}

/// A header says so, and the subject begins with it.
fn mark_as_test(body: &mut Vec<u8>) {
    let head = body.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(0);
    let subject = body[..head].windows(10).position(|w| w.eq_ignore_ascii_case(b"\r\nSubject:"));
    if let Some(at) = subject {
        let text_at = at + 10;
        body.splice(text_at..text_at, b" [TEST]".iter().copied());
    }
    body.splice(0..0, b"X-Estafette-Test: true\r\n".iter().copied());
}

struct TestFeed {
    line: Arc<Line>,
    waiting: Vec<OutMessage>,
    results: Vec<TestResult>,
    total: usize,
}

impl Feed for TestFeed {
    fn pull(&mut self, into: &mut OutMessage, _: Monotonic) -> Pull {
        match self.waiting.last() {
            None => Pull::Idle { until: None },
            Some(next) => {
                into.clear();
                into.ticket = next.ticket;
                into.return_path.push_str(&next.return_path);
                into.recipient.push_str(&next.recipient);
                into.body.extend_from_slice(&next.body);
                into.needs_8bit = next.needs_8bit;
                into.needs_smtputf8 = next.needs_smtputf8;
                into.needs_dot_stuffing = next.needs_dot_stuffing;
                self.waiting.pop();
                Pull::Filled
            }
        }
    }

    async fn wait(&mut self, _: Option<Monotonic>) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    fn may_attach(&mut self, _: &OutMessage, _: Monotonic) -> bool {
        false
    }

    fn mark(&mut self, message: &OutMessage, now: Monotonic) -> Mark {
        match self.line.permit_test(&message.recipient, now) {
            Ok(()) => Mark::Marked,
            Err(blocked) => Mark::Hold { until: blocked.until },
        }
    }

    fn answer(&mut self, message: &OutMessage, outcome: Outcome) {
        let (word, reply) = match outcome {
            Outcome::Accepted => ("accepted", None),
            Outcome::Rejected { reply, .. } => ("rejected", Some(reply)),
            Outcome::Deferred { reply, .. } => ("deferred", Some(reply)),
            Outcome::Unknown => ("unknown", None),
        };
        self.results.push((message.recipient.clone(), word, reply));
    }

    fn hand_back(&mut self, message: &OutMessage, _: HandBack) {
        self.results.push((message.recipient.clone(), "deferred", Some("the connection was lost".to_owned())));
    }

    fn report(&mut self, event: LaneEvent) {
        if let LaneEvent::ConnectFailed { reason } | LaneEvent::SenderRefused { reply: reason } = event {
            for message in std::mem::take(&mut self.waiting) {
                self.results.push((message.recipient, "deferred", Some(reason.clone())));
            }
        }
    }

    fn closing(&self) -> bool {
        self.results.len() >= self.total
    }

    fn now(&self) -> Monotonic {
        self.line.clock.monotonic()
    }
}
