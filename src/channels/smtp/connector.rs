//! A configured relay: lanes that connect when there is something to send, and reconnect with growing pauses.
//!
//! Owns the settings, the TLS configuration and the DKIM keys, shared by all lanes. Invariants: SC-1 an unreachable relay
//! costs no message anything, and is asked ever more seldom, up to `RECONNECT_WAIT_MAX`; SC-2 a lane ends soon after its
//! feed closes, wherever it is.
//!
//! Must not know circuits or grants: it reports, the caller decides.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::connect::{ConnectError, Protection, TlsError, connect};
use super::dkim::{DkimError, Signer};
use super::lane::{Hand, Lane, LaneError};
use crate::channels::{Feed, HandBack, LaneEvent};
use crate::config::connectors::SmtpSettings;
use crate::limits::{DATA_HOLD_MAX, LANE_TICK, RECONNECT_WAIT_MAX, RECONNECT_WAIT_MIN};

#[derive(Debug, thiserror::Error)]
pub enum SmtpConnectorError {
    #[error("connector {connector:?}")]
    Tls {
        connector: String,
        #[source]
        source: TlsError,
    },
    #[error("connector {connector:?}")]
    Dkim {
        connector: String,
        #[source]
        source: DkimError,
    },
}

/// What a connection test found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct TestReport {
    pub greeting: String,
    pub tls: bool,
    pub authenticated: bool,
    pub pipelining: bool,
    pub chunking: bool,
    pub smtputf8: bool,
    pub size_max_bytes: Option<u64>,
    pub dkim: bool,
    pub elapsed_millis: u64,
}

impl TestReport {
    /// What was found, one line each, for people.
    pub fn steps(&self) -> Vec<String> {
        let mut steps = vec![format!("greeting: {}", self.greeting)];
        let mut found = |name: &str, is: bool| steps.push(format!("{name}: {}", if is { "yes" } else { "no" }));
        found("TLS", self.tls);
        found("authenticated", self.authenticated);
        found("PIPELINING", self.pipelining);
        found("CHUNKING", self.chunking);
        found("SMTPUTF8", self.smtputf8);
        found("DKIM", self.dkim);
        if let Some(max) = self.size_max_bytes {
            steps.push(format!("SIZE: {max} bytes"));
        }
        steps
    }
}

/// See the module's docs.
#[derive(Debug)]
pub struct SmtpConnector {
    settings: SmtpSettings,
    protection: Option<Protection>,
    signer: Option<Signer>,
}

impl SmtpConnector {
    pub fn new(settings: SmtpSettings) -> Result<SmtpConnector, SmtpConnectorError> {
        let name = || settings.name.clone();
        let protection =
            Protection::new(&settings).map_err(|source| SmtpConnectorError::Tls { connector: name(), source })?;
        let signer =
            Signer::load(&settings.dkim).map_err(|source| SmtpConnectorError::Dkim { connector: name(), source })?;
        Ok(SmtpConnector { settings, protection, signer })
    }

    pub fn settings(&self) -> &SmtpSettings {
        &self.settings
    }

    /// Connects, greets, authenticates, and says what it found; sends nothing.
    pub async fn test(&self) -> Result<TestReport, ConnectError> {
        let begun = Instant::now();
        let connection = connect(&self.settings, self.protection.as_ref()).await?;
        Ok(TestReport {
            greeting: connection.greeting,
            tls: connection.transport.is_tls(),
            authenticated: self.settings.username.is_some(),
            pipelining: connection.caps.pipelining,
            chunking: connection.caps.chunking,
            smtputf8: connection.caps.smtputf8,
            size_max_bytes: connection.caps.size_max,
            dkim: self.signer.is_some(),
            elapsed_millis: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Messages are written as they are rendered, unless they are signed: what signs them reads all of their bytes.
    pub fn takes_shared(&self) -> bool {
        self.signer.is_none()
    }

    /// Serves `feed` until it closes. One lane is one connection at a time.
    pub async fn run_lane<F: Feed>(&self, feed: &mut F) {
        let mut hand = Hand::default();
        let mut pipelining = true;
        let mut pause = RECONNECT_WAIT_MIN;
        while !feed.closing() {
            // Nobody connects for nothing.
            if let Err(until) = hand.pull(feed) {
                feed.wait(until).await;
                continue;
            }
            match self.open(feed, &mut hand).await {
                Ok(Some(connection)) => {
                    feed.report(LaneEvent::Opened);
                    let lane = Lane::new(connection, &self.settings, self.signer.as_ref(), feed, &mut hand, pipelining);
                    let ended = lane.run().await;
                    pipelining &= !ended.avoid_pipelining;
                    let reason = ended.error.as_ref().map_or_else(|| "done".to_owned(), |e| describe(e));
                    feed.report(LaneEvent::Closed { reason });
                    let harmless = matches!(ended.error, None | Some(LaneError::Withdrawn | LaneError::Eof));
                    if ended.answered > 0 || ended.error.is_none() {
                        pause = RECONNECT_WAIT_MIN;
                        if harmless {
                            continue;
                        }
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    hand.give_back(feed, HandBack::ConnectionLost);
                    report_failure(feed, &error);
                }
            }
            rest(feed, pause).await;
            pause = (pause * 2).min(RECONNECT_WAIT_MAX);
        }
        hand.give_back(feed, HandBack::Closing);
    }

    /// Connects while watching the feed; a message in hand goes back if it takes long. `None` if the feed closed.
    async fn open<F: Feed>(
        &self,
        feed: &mut F,
        hand: &mut Hand,
    ) -> Result<Option<super::connect::Connection>, ConnectError> {
        let begun = Instant::now();
        let mut connecting = Box::pin(connect(&self.settings, self.protection.as_ref()));
        loop {
            if let Ok(done) = timeout(LANE_TICK, &mut connecting).await {
                return done.map(Some);
            }
            if feed.closing() {
                return Ok(None);
            }
            if begun.elapsed() >= DATA_HOLD_MAX {
                hand.give_back(feed, HandBack::ConnectionLost);
            }
        }
    }
}

fn report_failure<F: Feed>(feed: &mut F, error: &ConnectError) {
    let reason = describe(error);
    if error.is_senders_fault() {
        feed.report(LaneEvent::SenderRefused { reply: reason.clone() });
    } else if error.is_too_many() {
        // The relay is there, and other lanes may be at work: this is no failure to reach it.
        feed.report(LaneEvent::TooManyConnections { reply: reason });
        return;
    }
    feed.report(LaneEvent::ConnectFailed { reason });
}

/// An error with its causes in one line.
pub fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) && write!(text, ": {cause_text}").is_err() {
            break;
        }
        source = cause.source();
    }
    text
}

/// A pause that a closing feed cuts short.
async fn rest<F: Feed>(feed: &F, pause: Duration) {
    let until = Instant::now() + pause;
    while !feed.closing() && Instant::now() < until {
        sleep(LANE_TICK.min(until.saturating_duration_since(Instant::now()))).await;
    }
}
