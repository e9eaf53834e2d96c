//! Campaigns: what a sender defines, whether it can be sent, what it compiles to, and the life it leads.
//!
//! - [`spec`], [`mod@parse`]: the spec as written in TOML or JSON, and its canonical form.
//! - [`validate`]: everything that is missing or wrong, at once.
//! - [`kinds`]: what each kind compiles to, and the tables that only it has.
//! - [`one_shot`]: audiences from an uploaded file.
//! - [`mod@compile`]: a spec becomes a flow graph and the plans of its deliveries.
//! - [`sequence`]: steps, dates, locks of sequences; [`editing`]: what may be changed in the others while they run.
//! - [`schedule`]: when a campaign starts, once or again and again.
//! - [`languages`]: messages in several languages, and saved ones.
//! - [`resend`]: campaigns to a set of an earlier run.
//! - [`reading`]: a spec from its text with everything that is wrong at once, by `faults` and `places`.
//! - [`restraint`]: caps, pauses between campaigns, control groups.
//! - [`lifecycle`]: the states of a campaign and the table of legal moves.
//! - [`mod@progress`]: rate, time left, and why nothing moves.
//!
//! Who owns the state: the engine holds specs and states; everything here is a function of its arguments.
//! What it must not know: content and templates (the fields of a message are passed through), ledgers, time, actors.

pub mod compile;
pub mod editing;
pub mod faults;
mod instant;
pub mod kinds;
pub mod languages;
pub mod lifecycle;
pub mod one_shot;
pub mod parse;
mod places;
pub mod progress;
pub mod reading;
pub mod resend;
pub mod restraint;
pub mod schedule;
pub mod sequence;
pub mod spec;
mod suggest;
pub mod validate;

pub use compile::{AudiencePlan, CompileError, Compiled, DeliveryPlan, MessagePlan, SendPlan, compile, parts};
pub use lifecycle::{IllegalMove, State, Trigger, next};
pub use parse::{Format, SpecError, merge_patch, parse};
pub use progress::{Progress, ProgressInput, RateRing, StallReason, progress};
pub use reading::{Reading, read};
pub use spec::auto_pause::{self, GuardRule};
pub use spec::{CampaignSpec, Kind, MessageFields, Mode, SameAddress};
pub use validate::{Names, Problem, Severity, problems};
