//! E-mail by SMTP to a relay: a session of our own, because no published crate pipelines across messages.
//!
//! Reading order: `reply` (bytes to replies), `classify` (what a reply means), `session` (the dialogue as a plain state
//! machine), `wire` (buffers and gathered writes), `transport` and `connect` (TCP, TLS, AUTH), `dkim`, `lane` (the loop over
//! a feed), `connector` (lanes that reconnect).
//!
//! Why one round trip per message: the body of message N and MAIL, RCPT, DATA of N+1 leave in one write and are answered
//! in one read. In DATA the message is handed over only when the final dot may have left: a relay must not deliver what
//! has no end of data (RFC 5321 4.1.1.4), so whatever breaks before it is a definite non-delivery and the message goes back
//! to pending. Only what was marked and written to the end without an answer is unknown: one message per connection.

pub mod classify;
pub mod connect;
pub mod connector;
pub mod dkim;
pub mod lane;
pub mod reply;
pub mod session;
pub mod transport;
pub mod wire;

pub use connector::{SmtpConnector, SmtpConnectorError, TestReport};
