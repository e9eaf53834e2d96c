//! The engine of this program, from a validated configuration: connectors, embedded inbox, data directory.
//!
//! Owns no state; what it starts belongs to the answer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::host::{Host, OpenRequest, Opened};
use crate::api::adapter::Adapter;
use crate::api::inbox::{InboxLine, InboxView};
use crate::channels::connector::Connector;
use crate::channels::inbox::Inbox;
use crate::config::Config;
use crate::engine::backup::{self, Manifest};
use crate::engine::check::{Checked, check, check_journal};
use crate::engine::{Engine, EngineOptions};
use crate::journal::Status;

/// How often the journal is asked whether it failed.
const WATCH: Duration = Duration::from_millis(250);

/// The engine in this process.
pub(super) struct Local;

impl Host for Local {
    fn open(&self, request: OpenRequest<'_>) -> anyhow::Result<Opened> {
        let (connectors, inbox) = connectors(&request.config)?;
        let engine = Engine::open(options(&request), connectors)
            .with_context(|| format!("the data directory {} was not opened", request.data.display()))?;
        engine
            .uploads
            .keep_for(request.config.data.one_shot_kept)
            .context("one-shot audiences can't be looked after")?;
        engine.retention.keep_for(request.config.retention.clone()).context("old details can't be looked after")?;
        let (watched, drained) = (Arc::clone(&engine), Arc::clone(&engine));
        Ok(Opened {
            port: Arc::new(Adapter::new(engine)),
            inbox,
            failed: Box::pin(async move {
                loop {
                    if matches!(watched.book.journal().status(), Status::Failed) {
                        return anyhow::anyhow!("the journal failed: start again, it recovers as after a power loss");
                    }
                    tokio::time::sleep(WATCH).await;
                }
            }),
            drain: Box::new(|longest| {
                Box::pin(async move {
                    let drained = tokio::task::spawn_blocking(move || drained.drain(longest)).await;
                    Ok(drained.context("draining")??)
                })
            }),
        })
    }

    fn check(&self, data: &Path) -> anyhow::Result<Checked> {
        Ok(check(data))
    }

    fn check_journal(&self, data: &Path) -> anyhow::Result<Checked> {
        Ok(check_journal(data))
    }

    fn backup(&self, data: &Path, folder: &Path) -> anyhow::Result<Manifest> {
        Ok(backup::make_stopped(data, folder)?)
    }

    fn restore(&self, backup: &Path, data: &Path, each: &dyn Fn(u64)) -> anyhow::Result<Manifest> {
        Ok(backup::restore(backup, data, each)?)
    }
}

fn options(request: &OpenRequest<'_>) -> EngineOptions {
    let config = &request.config;
    EngineOptions {
        directory: request.data.to_owned(),
        connectors: config.connectors.clone(),
        public_url: config.server.public_url.clone(),
        return_path_domain: config.mail.return_path_domain.clone(),
        unsubscribe_mailbox: config.mail.unsubscribe_mailbox.clone(),
        lane_threads: config.lane_threads,
        aggregate_only: config.tracking.aggregate_only,
        soft_bounces: config.soft_bounces,
        caps: config.caps.clone(),
        tracking_kept: config.data.tracking_kept,
        publish_grace: config.server.publish_grace,
        restored: request.restored,
        rejected_rows_kept: config.data.rejected_rows_kept,
    }
}

/// The built connectors, and the embedded sink if one of them leads to it.
type Built = (Vec<Connector>, Option<Arc<dyn InboxView>>);

/// Opens every connector, in the order of the configuration; the first embedded inbox is the one that is shown.
fn connectors(config: &Config) -> anyhow::Result<Built> {
    let mut opened = Vec::with_capacity(config.connectors.len());
    let mut shown: Option<Arc<dyn InboxView>> = None;
    for settings in &config.connectors {
        let connector =
            Connector::open(settings.clone()).with_context(|| format!("connector {:?}", settings.name()))?;
        if let (None, Some(inbox)) = (&shown, connector.inbox()) {
            shown = Some(Arc::new(Sink(Arc::clone(inbox))));
        }
        opened.push(connector);
    }
    Ok((opened, shown))
}

/// The embedded sink as the inbox page sees it.
struct Sink(Arc<Inbox>);

impl InboxView for Sink {
    fn received(&self) -> u64 {
        self.0.totals().taken
    }

    fn list(&self, offset: usize, count: usize, search: &str) -> Vec<InboxLine> {
        let lines = self.0.list(offset, count, search).mails.into_iter().map(|mail| InboxLine {
            id: mail.id,
            received_at: mail.received.into(),
            from: mail.from,
            to: mail.recipient,
            subject: mail.subject,
            bytes: mail.bytes as u64,
        });
        lines.collect()
    }

    fn source(&self, id: u64) -> Option<Vec<u8>> {
        self.0.source(id)
    }
}
