//! A configured connector of any kind, behind one set of calls.
//!
//! Owns what a connector of its kind owns. Must not know grants, circuits, or who runs the lanes.

use std::sync::Arc;

use super::Feed;
use super::inbox::{Inbox, InboxError};
use super::null::NullConnector;
use super::simulated::SimulatedConnector;
use super::smtp::connect::ConnectError;
use super::smtp::{SmtpConnector, SmtpConnectorError, TestReport};
use crate::config::connectors::{ConnectorSettings, SmtpSettings};

#[derive(Debug)]
pub enum Connector {
    Smtp(Box<SmtpConnector>),
    Null(NullConnector),
    Simulated(SimulatedConnector),
    /// The embedded sink, and the lanes that lead to it.
    Inbox {
        inbox: Arc<Inbox>,
        smtp: Box<SmtpConnector>,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Smtp(#[from] SmtpConnectorError),
    #[error("embedded inbox")]
    Inbox(#[from] InboxError),
}

impl Connector {
    /// Loads keys and certificates; the embedded inbox starts to listen. Connects to nothing.
    pub fn open(settings: ConnectorSettings) -> Result<Connector, OpenError> {
        Ok(match settings {
            ConnectorSettings::Smtp(settings) => Connector::Smtp(Box::new(SmtpConnector::new(*settings)?)),
            ConnectorSettings::Null(settings) => Connector::Null(NullConnector::new(settings)),
            ConnectorSettings::Simulated(settings) => Connector::Simulated(SimulatedConnector::new(settings)),
            ConnectorSettings::Inbox(settings) => {
                let inbox = Inbox::start(settings.mails_max)?;
                let mut relay = SmtpSettings::loopback(&settings.name, inbox.port(), settings.connections_max);
                relay.rate = settings.rate;
                relay.domains = settings.domains;
                let smtp = Box::new(SmtpConnector::new(relay)?);
                Connector::Inbox { inbox: Arc::new(inbox), smtp }
            }
        })
    }

    /// Whether its lanes write messages whose static text lies apart; for any other the feed puts them together.
    pub fn takes_shared(&self) -> bool {
        match self {
            Connector::Smtp(smtp) | Connector::Inbox { smtp, .. } => smtp.takes_shared(),
            Connector::Null(_) | Connector::Simulated(_) => false,
        }
    }

    /// Serves `feed` as one lane, until the feed closes.
    pub async fn run_lane<F: Feed>(&self, feed: &mut F) {
        match self {
            Connector::Smtp(smtp) | Connector::Inbox { smtp, .. } => smtp.run_lane(feed).await,
            Connector::Null(null) => null.run_lane(feed).await,
            Connector::Simulated(simulated) => simulated.run_lane(feed).await,
        }
    }

    /// Connects and authenticates without sending anything; kinds without a network say so with an empty report.
    pub async fn test(&self) -> Result<TestReport, ConnectError> {
        match self {
            Connector::Smtp(smtp) | Connector::Inbox { smtp, .. } => smtp.test().await,
            Connector::Null(_) | Connector::Simulated(_) => Ok(TestReport {
                greeting: "no network: nothing leaves the machine".to_owned(),
                ..TestReport::default()
            }),
        }
    }

    /// The mails that the embedded sink took, if this is one.
    pub fn inbox(&self) -> Option<&Arc<Inbox>> {
        match self {
            Connector::Inbox { inbox, .. } => Some(inbox),
            Connector::Smtp(_) | Connector::Null(_) | Connector::Simulated(_) => None,
        }
    }
}
