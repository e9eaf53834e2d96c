//! The figures of the public listener, each series looked up once and not at each request.
//!
//! Owns handles of series. Invariant: FI-1 series of a closed set of labels are known with 0 from the start, so that a rate is
//! right from the first event on; those of requests appear with their first.

use std::sync::OnceLock;
use std::time::Instant;

use ::metrics::{Counter, Histogram, counter, histogram};
use actix_web::http::{Method, StatusCode};

use super::asked::Endpoint;
use super::machine;
use crate::api::guard::{self, CODES, METHODS, code_label, method_label};
use crate::api::port::{EventClass, EventKind};
use crate::metrics;

const CLASSES: [EventClass; 3] = [EventClass::Human, EventClass::Suspect, EventClass::Machine];
const EVENTS: [&str; 2] = ["open", "click"];

/// Endpoints of which refusals are counted.
#[derive(Clone, Copy)]
pub(super) enum Refused {
    Click,
    Open,
    Unsubscribe,
    View,
}

pub(super) struct Figures {
    /// By endpoint, method and class of status.
    requests: Vec<OnceLock<Counter>>,
    seconds: Histogram,
    /// By event and class.
    events: [[Counter; CLASSES.len()]; EVENTS.len()],
    dropped: [Counter; EVENTS.len()],
    refused: [Counter; 4],
}

fn event(kind: EventKind) -> usize {
    match kind {
        EventKind::Open => 0,
        EventKind::Click { .. } => 1,
    }
}

fn class(class: EventClass) -> usize {
    match class {
        EventClass::Human => 0,
        EventClass::Suspect => 1,
        EventClass::Machine => 2,
    }
}

fn known(counter: Counter) -> Counter {
    counter.increment(0);
    counter
}

impl Figures {
    /// Call when the recorder is there: what is made before goes nowhere.
    pub(super) fn new() -> Figures {
        for rule in machine::rules() {
            counter!(metrics::TRACKING_MACHINE_TOTAL.name, "rule" => rule).increment(0);
        }
        guard::announce("public");
        for via in ["one_click", "page"] {
            counter!(metrics::UNSUBSCRIBES_TOTAL.name, "via" => via).increment(0);
        }
        let refused = |endpoint| known(counter!(metrics::TRACKING_REFUSED_TOTAL.name, "endpoint" => endpoint));
        let events = |event| {
            CLASSES.map(|class| {
                known(counter!(metrics::TRACKING_EVENTS_TOTAL.name, "event" => event, "class" => class.name()))
            })
        };
        Figures {
            requests: (0..Endpoint::ALL.len() * METHODS.len() * CODES.len()).map(|_| OnceLock::new()).collect(),
            seconds: histogram!(metrics::HTTP_REQUEST_SECONDS.name, "listener" => "public"),
            events: EVENTS.map(events),
            dropped: EVENTS.map(|event| known(counter!(metrics::TRACKING_DROPPED_TOTAL.name, "event" => event))),
            refused: ["click", "open", "unsubscribe", "view"].map(refused),
        }
    }

    pub(super) fn answered(&self, endpoint: Endpoint, method: &Method, status: StatusCode, started: Instant) {
        let (method, code) = (method_label(method), code_label(status));
        let at = (endpoint as usize * METHODS.len() + method) * CODES.len() + code;
        if let Some(series) = self.requests.get(at) {
            let make = || {
                counter!(metrics::HTTP_REQUESTS_TOTAL.name, "listener" => "public", "route" => endpoint.route(),
                    "method" => METHODS[method], "code" => CODES[code])
            };
            series.get_or_init(make).increment(1);
        }
        self.seconds.record(started.elapsed().as_secs_f64());
    }

    pub(super) fn recorded(&self, kind: EventKind, of: EventClass) {
        self.events[event(kind)][class(of)].increment(1);
    }

    pub(super) fn dropped(&self, kind: EventKind) {
        self.dropped[event(kind)].increment(1);
    }

    pub(super) fn refused(&self, endpoint: Refused) {
        self.refused[endpoint as usize].increment(1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn requests_are_counted_under_their_labels() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let shown = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || {
            let figures = Figures::new();
            let long_ago = Instant::now().checked_sub(Duration::from_millis(1)).unwrap_or_else(Instant::now);
            for endpoint in Endpoint::ALL {
                for method in [Method::GET, Method::POST, Method::TRACE] {
                    for status in [StatusCode::OK, StatusCode::FOUND, StatusCode::NOT_FOUND] {
                        figures.answered(endpoint, &method, status, long_ago);
                    }
                }
            }
            figures.answered(Endpoint::Click, &Method::GET, StatusCode::FOUND, long_ago);
            figures.recorded(EventKind::Click { link: 3 }, EventClass::Machine);
            figures.dropped(EventKind::Open);
            figures.refused(Refused::View);
        });
        let text = shown.render();
        let value = |labels: &[&str]| {
            let line = text.lines().find(|l| labels.iter().all(|label| l.contains(label)));
            line.and_then(|l| l.rsplit(' ').next()).unwrap_or("none").to_owned()
        };
        let click = "route=\"/c/{token}/{link}\"";
        assert_eq!(value(&[click, "method=\"GET\"", "code=\"3xx\""]), "2", "{text}");
        assert_eq!(value(&["route=\"none\"", "method=\"other\"", "code=\"4xx\""]), "1", "{text}");
        assert_eq!(value(&["event=\"click\"", "class=\"machine\""]), "1", "{text}");
        assert_eq!(value(&["event=\"click\"", "class=\"human\""]), "0", "known from the start: {text}");
        assert_eq!(value(&["tracking_dropped", "event=\"open\""]), "1", "{text}");
        assert_eq!(value(&["endpoint=\"view\""]), "1", "{text}");
        let requests = text.lines().filter(|l| l.starts_with(metrics::HTTP_REQUESTS_TOTAL.name)).count();
        assert_eq!(
            requests,
            Endpoint::ALL.len() * 9 + 1,
            "one series for each, and failures, known from the start: {text}"
        );
    }
}
