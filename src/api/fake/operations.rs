//! What [`Fake`] answers beside contacts, audiences and campaigns.

use tokio::sync::oneshot;

use super::*;

impl SequencesPort for Fake {
    fn publish(&self, campaign: &Ref, request: PublishRequest) -> PortResult<PublishDone> {
        if !request.confirm {
            return Err(PortError::new(Code::ConfirmationNeeded, "say confirm"));
        }
        self.called(format!("publish {campaign}"));
        Ok(PublishDone::default())
    }

    fn edit(&self, campaign: &Ref) -> PortResult<SequenceView> {
        self.called(format!("edit {campaign}"));
        Ok(SequenceView::default())
    }

    fn release_step(&self, campaign: &Ref, request: ReleaseRequest) -> PortResult<SequenceView> {
        self.called(format!("release {} of {campaign}", request.step));
        Ok(SequenceView::default())
    }

    fn extend(&self, campaign: &Ref) -> PortResult<SequenceView> {
        self.called(format!("extend {campaign}"));
        Ok(SequenceView::default())
    }

    fn enter(&self, campaign: &Ref, contacts: &[String], _name: &str) -> PortResult<EnterDone> {
        self.called(format!("enter {campaign} {contacts:?}"));
        Ok(EnterDone { entered: contacts.len() as u64, ..EnterDone::default() })
    }

    fn test_start(&self, _campaign: &Ref) -> PortResult<StartTestDone> {
        Ok(StartTestDone::default())
    }
}

impl EventsPort for Fake {
    fn take_events(&self, events: Vec<NewEvent>) -> PortResult<Vec<PortResult<bool>>> {
        Ok(events.iter().map(|_| Ok(true)).collect())
    }

    fn event_types(&self) -> PortResult<Vec<EventTypeView>> {
        Ok(Vec::new())
    }
}

impl TrackingPort for Fake {
    /// `good` is a token of every purpose; its message has the links 0, 1, 2, and 7 with a signed URL.
    fn resolve(&self, purpose: TokenPurpose, token: &str, link: Option<LinkAsked<'_>>) -> Option<Tracked> {
        if token != "good" {
            return None;
        }
        let destination = match (purpose, link) {
            (TokenPurpose::Click, Some(asked)) => {
                let url = match (asked.index, asked.signed_url) {
                    (0..=2, None) => format!("https://shop.example.test/{}", asked.index),
                    (7, Some(url)) if url.starts_with("https://shop.example.test/") => url.to_owned(),
                    _ => return None,
                };
                Some(Destination { link: asked.index, url, hidden: false })
            }
            _ => None,
        };
        Some(Tracked {
            space: RowSpace::BASE,
            run: RunId(1),
            message: MessageId(0),
            row: ContactRow(5),
            accepted_at: Some(Timestamp(0)),
            destination,
        })
    }

    fn record(&self, event: TrackingEvent) -> PortResult<oneshot::Receiver<()>> {
        if *self.full.lock() {
            return Err(PortError::new(Code::Busy, "full"));
        }
        self.events.lock().push(event);
        let (written, wait) = oneshot::channel();
        // The asker has `wait` still.
        written.send(()).ok();
        Ok(wait)
    }

    fn unsubscribe(&self, request: UnsubscribeRequest) -> BoxFuture<'static, PortResult<()>> {
        let full = *self.full.lock();
        if !full {
            self.unsubscribed.lock().push(request);
        }
        Box::pin(async move { if full { Err(PortError::new(Code::StorageFull, "full")) } else { Ok(()) } })
    }

    fn web_view(&self, _tracked: &Tracked) -> PortResult<String> {
        Ok("<p>the mail</p>".into())
    }
}

impl OperationsPort for Fake {
    fn connectors(&self) -> PortResult<Vec<ConnectorView>> {
        Ok(Vec::new())
    }

    fn test_connector(&self, name: &str) -> PortResult<ConnectorTest> {
        Ok(ConnectorTest { name: name.to_owned(), ok: true, took_ms: 1.0, steps: Vec::new(), error: None })
    }

    fn health(&self) -> Health {
        let relay = HealthCheck { subject: Some("relay".into()), ..HealthCheck::ok("connector", "it works") };
        let state = if *self.ready.lock() { HealthState::Ready } else { HealthState::Draining };
        Health { version: "test".into(), uptime_seconds: 1.0, ..Health::of(state, vec![relay]) }
    }

    fn live_figures(&self) -> crate::metrics::Live {
        let mut live = crate::metrics::Live::default();
        live.number(&crate::metrics::CONNECTIONS, &["relay"], 1.0);
        live
    }

    fn campaign_series(&self) -> Vec<crate::metrics::CampaignSeries> {
        vec![crate::metrics::CampaignSeries { id: 1, name: "spring".into(), audience: 3, ..Default::default() }]
    }
}

impl BackupsPort for Fake {
    fn start_backup(&self, folder: &std::path::Path) -> PortResult<BackupView> {
        self.called(format!("backup {}", folder.display()));
        Ok(BackupView { id: 1, folder: folder.display().to_string(), ..BackupView::default() })
    }

    fn backups(&self) -> PortResult<Vec<BackupView>> {
        Ok(Vec::new())
    }

    fn backup(&self, _id: u32) -> PortResult<BackupView> {
        not_here("the backup", Code::BackupNotFound)
    }
}

impl HistoryPort for Fake {
    fn resend(&self, campaign: &Ref, request: ResendRequest) -> PortResult<ResendDone> {
        self.called(format!("resend {campaign} {}", request.set));
        Ok(ResendDone::default())
    }

    fn messages(&self, page: &PageRequest) -> PortResult<Page<SavedMessageSummary>> {
        Ok(Page::cut(Vec::<SavedMessageSummary>::new(), page, |message| message.name.clone()))
    }

    fn message(&self, _name: &str) -> PortResult<SavedMessageView> {
        not_here("the message", Code::MessageNotFound)
    }

    fn put_message(&self, name: &str, _message: SpecText) -> PortResult<(SavedMessageView, bool)> {
        self.called(format!("save {name}"));
        Ok((SavedMessageView::default(), true))
    }

    fn delete_message(&self, _name: &str) -> PortResult<()> {
        not_here("a message that nothing uses", Code::MessageInUse)
    }
}
