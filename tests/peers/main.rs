//! The engine against software that others wrote: Postfix's `smtp-sink`, a whole Postfix, aiosmtpd, dkimpy; Prometheus.
//!
//! Each test starts its own counterpart on a free loopback port, in a directory of its own. A counterpart that is not
//! installed is an error that names the command which installs it; `tests/all` installs them all.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test, and say why"
)]

mod mime;
mod postfix;
mod promtool;
mod python;
mod sink;
mod support;
