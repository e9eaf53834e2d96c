//! The embedded sink: an SMTP server on loopback that keeps mails in memory, for trying everything without a mail server.
//!
//! Owns its thread, its listener and the mails. Invariants: IN-1 nothing leaves the machine: it listens on loopback only
//! and relays nothing; IN-2 memory is bounded: the first mails are kept whole up to a number and a sum of bytes, of later
//! ones only counters; IN-3 it ends when it is dropped.
//!
//! Must not know campaigns or HTTP: the pages that show it are the API's.

mod server;
mod store;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use store::Store;
pub use store::{InboxPage, InboxTotals, MailSummary, MailView};

#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    #[error("cannot listen on loopback")]
    Listen(#[source] io::Error),
    #[error("cannot start the thread of the sink")]
    Thread(#[source] io::Error),
}

/// See the module's docs.
#[derive(Debug)]
pub struct Inbox {
    store: Arc<Mutex<Store>>,
    address: SocketAddr,
    /// Dropping it ends the server.
    _stop: oneshot::Sender<()>,
}

impl Inbox {
    /// Listens on a free loopback port and serves on a thread of its own.
    pub fn start(mails_max: usize) -> Result<Inbox, InboxError> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(InboxError::Listen)?;
        listener.set_nonblocking(true).map_err(InboxError::Listen)?;
        let address = listener.local_addr().map_err(InboxError::Listen)?;
        let store = Arc::new(Mutex::new(Store::new(mails_max)));
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(InboxError::Thread)?;
        let served = Arc::clone(&store);
        std::thread::Builder::new()
            .name("inbox".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    tokio::select! {
                        _ = stopped => {}
                        ended = server::serve(listener, served) => {
                            if let Err(error) = ended {
                                tracing::error!(%error, "embedded inbox stopped");
                            }
                        }
                    }
                });
            })
            .map_err(InboxError::Thread)?;
        Ok(Inbox { store, address, _stop: stop })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn totals(&self) -> InboxTotals {
        self.store.lock().totals()
    }

    /// A kept mail as it came over the wire.
    pub fn source(&self, id: u64) -> Option<Vec<u8>> {
        self.store.lock().mail(id).map(|mail| mail.source.clone())
    }

    /// The kept mails, newest first, of which `search` (if not empty) is part of recipient or subject.
    pub fn list(&self, offset: usize, n: usize, search: &str) -> InboxPage {
        // Parsed outside of the lock: a page must not hold up the sink.
        let mails = self.store.lock().mails();
        store::page(&mails, offset, n, search)
    }

    pub fn get(&self, id: u64) -> Option<MailView> {
        let mail = self.store.lock().mail(id)?;
        Some(store::view(&mail))
    }
}

#[cfg(test)]
mod tests;
