//! Estafette: an actor-based campaign send engine that mails nobody twice, and can prove it.
//!
//! # The path of a message
//!
//! 1. A spec in TOML or JSON is saved as a draft: [`campaigns::parse()`].
//! 2. It compiles to a flow and a plan per delivery: [`campaigns::compile()`].
//! 3. Its content is compiled once: [`content::compile()`].
//! 4. The audience is evaluated to one set of rows, and who cannot be sent to is set apart: [`engine::audience`].
//! 5. The run starts as one durable fact: [`ledger::facts::RunStarted`].
//! 6. The campaign's actor says how many rows wait: [`actors::campaign::CampaignActor`].
//! 7. The connector's fair queue grants some of them, within limits and credits: [`channels::fair::FairQueue`].
//! 8. Rows are taken from pending and numbered as one step: [`actors::book::Book::commit_by`].
//! 9. The claim becomes durable, many with one sync: [`journal::Journal`].
//! 10. A lane thread reads a chunk and looks at consent and suppression for the last time: [`actors::lanes::release`].
//! 11. The message is spliced for its contact: [`content::Renderer`].
//! 12. The envelope goes out, pipelined behind the body before it: [`channels::smtp`].
//! 13. The row is marked before the byte that completes its hand-over: [`channels::Feed::mark`].
//! 14. The answer is read and ruled on: [`channels::smtp::classify`].
//! 15. The outcome is written where a kill cannot lose it: [`journal::Marks`].
//! 16. Outcomes are settled in groups, and the sets of the ledger move: [`ledger::State::apply`].
//! 17. What comes back (opens, clicks, opt-outs) is recorded: [`engine::tracking`].
//! 18. The report counts the sets, and lists any of them contact by contact: [`api::adapter`].
//!
//! # Modules, in reading order
//!
//! Each imports only those before it.
//!
//! - [`ids`], [`clock`], [`limits`]: names of things, the time, every bound.
//! - [`metrics`], [`config`]: the catalogue of series; the settings.
//! - [`contacts`]: records, store, index, CSV import.
//! - [`segments`]: expressions to sets of rows.
//! - [`content`]: templates, MIME, tracked links.
//! - [`flow`]: the graph of a run, and moves of sets over it.
//! - [`campaigns`]: spec, checks, compiling, lifecycle.
//! - [`ledger`]: facts, and the state that is their fold.
//! - [`journal`]: bytes on disk, in order; the mark file.
//! - [`channels`]: the contract of a lane, limits, fairness, SMTP.
//! - [`actors`]: shells with mailboxes and timers; the lanes.
//! - [`engine`]: recovers, wires, starts, drains.
//! - [`api`], [`cli`]: HTTP and the command line.

pub mod clock;
pub mod ids;
pub mod limits;

pub mod config;
pub mod metrics;

pub mod contacts;
pub mod segments;

pub mod content;

pub mod flow;

pub mod campaigns;

pub mod ledger;

pub mod journal;

pub mod channels;

pub mod actors;

pub mod engine;

pub mod api;

pub mod cli;
