//! Content: a message is compiled once and spliced per contact.
//!
//! [`compile`] turns a [`MessageSource`] into a [`CompiledMessage`] or into the list of all its problems. A [`Renderer`],
//! one per lane, writes that message for one contact after the other: static spans are copied as they were encoded,
//! attributes written directly, everything else rendered by minijinja in one small template, tokens put into slots of
//! fixed length. [`TokenKeys`] makes and verifies what links, pixels, unsubscribe and view addresses and return paths carry.
//!
//! # What a template knows
//!
//! `{{ contact.first_name }}` and every other attribute by name; `{{ unsubscribe_url }}`, `{{ view_url }}`,
//! `{{ campaign.name }}`; `if`, `for`, `set`, `with`, `macro`, `call`, `filter`, `raw` of Jinja; `range()`. Of filters, minijinja's
//! abs bool capitalize escape first float int last length list lower max min reverse round safe sort split string title trim
//! upper; and our own: `default` (for empty text too), `date`, `number`, `join`, `replace`, `truncate`. Values are escaped
//! in HTML, as they are in text and headers, and percent-encoded in links.
//!
//! # Addresses of the public listener
//!
//! `PUBLIC_URL` + [`LINK_PATH`] token `/` index · [`LINK_URL_PATH`] token `/` index `/` base64url(URL) ·
//! [`OPEN_PATH`] token [`OPEN_SUFFIX`] · [`UNSUBSCRIBE_PATH`] token · [`VIEW_PATH`] token.
//!
//! What this folder must not know: channels, campaigns, actors, HTTP.

mod compile;
mod context;
mod env;
mod fields;
mod fuzz;
mod guard;
mod headers;
mod html_text;
mod linker;
mod links;
mod locale;
mod markup;
mod native;
mod pieces;
mod preview;
mod probe;
mod problem;
mod program;
mod qp;
mod render;
mod shared;
mod skeleton;
mod source;
mod splice;
pub mod tokens;

pub use compile::{CompiledMessage, SlowRegion, compile};
pub use fields::RETURN_PATH_PREFIX;
pub use fuzz::{fuzz_template, fuzz_token};
pub use links::{LinkKind, TrackedLink, UntrackedLink};
pub use preview::{Preview, preview};
pub use problem::ContentProblem;
pub use render::{NOBODY, Recipient, RenderSkip, Rendered, Renderer, SkipReason};
pub use shared::SharedSpans;
pub use source::{AttachmentSource, CompileContext, Footer, MessageSource, Missing, Track};
pub use tokens::{Refused, TokenId, TokenKeys};

/// Path of a click: token, `/`, index of the link.
pub const LINK_PATH: &str = "/c/";
/// Path of a click on a link with expressions: token, `/`, index, `/`, the URL in base64url.
pub const LINK_URL_PATH: &str = "/r/";
/// Path of the open pixel: token and [`OPEN_SUFFIX`].
pub const OPEN_PATH: &str = "/o/";
pub const OPEN_SUFFIX: &str = ".gif";
pub const UNSUBSCRIBE_PATH: &str = "/u/";
pub const VIEW_PATH: &str = "/v/";

#[cfg(test)]
mod tests;
