//! The log: on standard error, a line an event, as text for people or as JSON for programs.
//!
//! Owns the process's subscriber, panic hook and the key of [`hidden`]. Invariants: LO-1 no line holds an address in clear, whoever
//! wrote the text in it (a relay that quotes a recipient, a fault that names a contact): every line is looked through
//! before it is written; LO-2 a JSON line is one flat object: `at`, `level`, `target`, `message`, the fields of the event and of the
//! spans around it, `campaign`, `run`, `batch` and `connector` always under these names; LO-3 a panic is a line like any
//! other.

pub(super) mod hidden;

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;

use clap::ValueEnum;
use serde_json::{Map, Value as Json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use super::output;
use crate::clock::{Clock, SystemClock};
use hidden::Hider;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// What the HTTP server says of itself at every start is no news.
const QUIET: &str = "actix_server=warn,actix_web=warn,actix_http=warn";

/// Starts the log; `ESTAFETTE_LOG` says what is in it, as `debug` or `info,estafette=debug`, instead of `default`.
pub(super) fn start(default: &str, format: LogFormat) {
    let filter =
        EnvFilter::try_from_env("ESTAFETTE_LOG").unwrap_or_else(|_| EnvFilter::new(format!("{default},{QUIET}")));
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Lines);
    let started = match format {
        LogFormat::Text => log.with_ansi(colours).try_init(),
        LogFormat::Json => log.with_ansi(false).fmt_fields(JsonFields::new()).event_format(Flat).try_init(),
    };
    match started {
        Ok(()) => log_panics(),
        Err(error) => output::note(&format!("logging could not be started: {error}")),
    }
}

/// Hides addresses under the key of this data directory from here on, so that one address is the same word in all of its logs.
/// Without a key yet they are hidden without a word that tells them apart.
pub(super) fn hide_by(data: &Path) {
    if let Some(hider) = Hider::of(data) {
        hidden::set(hider);
    }
}

fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "?".to_owned(), ToString::to_string);
        let said = panic.payload_as_str().unwrap_or("something that is no text");
        let thread = std::thread::current().name().unwrap_or("?").to_owned();
        let trace = std::backtrace::Backtrace::capture();
        let trace = match trace.status() {
            std::backtrace::BacktraceStatus::Captured => trace.to_string(),
            _ => "run with RUST_BACKTRACE=1 to see where it came from".to_owned(),
        };
        tracing::error!(thread, place, trace, "panicked: {said}");
    }));
}

/// Standard error, a whole line at a time.
struct Lines;

impl MakeWriter<'_> for Lines {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line(Vec::new())
    }
}

/// The bytes of one event, until it is dropped.
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let line = String::from_utf8_lossy(&self.0);
        // nobody is left to tell if standard error is closed
        io::stderr().lock().write_all(hidden::hide(&line).as_bytes()).unwrap_or_default();
    }
}

/// One flat JSON object a line.
struct Flat;

impl<S, N> FormatEvent<S, N> for Flat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Map::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map_or("", |fields| fields.fields.as_str());
            if let Ok(Json::Object(fields)) = serde_json::from_str(fields) {
                line.extend(fields);
            }
        }
        event.record(&mut Fields(&mut line));
        line.insert("at".to_owned(), SystemClock::new().now().to_string().into());
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        line.insert("target".to_owned(), event.metadata().target().into());
        writeln!(writer, "{}", Json::Object(line))
    }
}

struct Fields<'l>(&'l mut Map<String, Json>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Json>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_is_flat_and_has_the_fields_of_its_spans() {
        let kept = Kept::default();
        let writer = kept.clone();
        let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_max_level(tracing::Level::DEBUG);
        let log = log.with_ansi(false).fmt_fields(JsonFields::new()).event_format(Flat).finish();
        tracing::subscriber::with_default(log, || {
            let span = tracing::info_span!("run", campaign = "campaign-3", run = "run-7");
            let _in = span.enter();
            tracing::debug!(batch = "batch-9", rows = 12_u64, share = 0.5, ok = true, "claimed");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let line: Json = serde_json::from_str(&text).unwrap();
        let wanted = serde_json::json!({"campaign": "campaign-3", "run": "run-7", "batch": "batch-9", "rows": 12, "share": 0.5,
            "ok": true, "message": "claimed", "level": "DEBUG"});
        for (name, value) in wanted.as_object().unwrap() {
            assert_eq!(&line[name], value, "{name} in {line}");
        }
        assert!(
            line["at"].as_str().unwrap().ends_with('Z') && line["target"].as_str().unwrap().contains("log"),
            "{line}"
        );
    }
}
