//! What we wrote against what others wrote: the SMTP lane against Postfix's `smtp-sink`, a whole Postfix, aiosmtpd and dkimpy;
//! the metrics against Prometheus;
//! the dashboards and rules of `grafana/` against Grafana's SDK and Prometheus;
//! the statistics of winners against scipy and statsmodels.
//!
//! Each test starts its own counterpart on a free loopback port, in a directory of its own. A counterpart that is not
//! installed is an error that names the command which installs it; `tests/all` installs them all.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test, and say why"
)]

mod grafana;
mod inbound;
mod mime;
mod packaging;
mod postfix;
mod promtool;
mod python;
#[allow(dead_code, reason = "the tests of the program use all of it")]
#[path = "../it/served.rs"]
mod served;
mod sink;
mod statistics;
mod support;
