//! `…/report/timeline` and `/v1/compare`. Owns no state.

use actix_web::{HttpResponse, get, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::report_csv::{self, TIMELINE_HEADER};
use super::table::{Format, stream_csv};
use super::{State, engine};
use crate::api::errors::Code;
use crate::api::port::{Compared, Comparison, Ref, RunRef, TimelineReport};
use crate::api::reply::{ApiError, ApiResult, blocking};

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(latest_timeline).service(timeline).service(compare);
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TimelineQuery {
    /// Length of each part: `10s`, `5m`, `1h`, `1d`; by default as fine as it is remembered.
    pub bucket: Option<String>,
    /// `json` (default) or `csv`.
    #[param(inline)]
    pub format: Option<Format>,
}

/// `10s`, `5m`, `1h`, `1d`, `1w` in seconds.
fn seconds(text: &str) -> ApiResult<u32> {
    let refused = || {
        let message = format!("bucket is {text:?}: write it as 10s, 5m, 1h or 1d");
        ApiError::new(Code::InvalidParameter, message)
    };
    crate::campaigns::spec::kinds::seconds(text).filter(|seconds| *seconds > 0).ok_or_else(refused)
}

/// The answer as JSON or CSV; other formats have no meaning here.
pub(super) fn json_or_csv(format: Option<Format>) -> ApiResult<bool> {
    match format.unwrap_or(Format::Json) {
        Format::Json => Ok(false),
        Format::Csv => Ok(true),
        Format::Ndjson => Err(ApiError::new(Code::InvalidParameter, "format is ndjson: use json or csv")),
    }
}

async fn timeline_of(state: State, run: RunRef, query: TimelineQuery) -> ApiResult<HttpResponse> {
    let width = query.bucket.as_deref().map(seconds).transpose()?.unwrap_or(0);
    let csv = json_or_csv(query.format)?;
    let port = engine(&state);
    if csv {
        let page = stream_csv("timeline", &TIMELINE_HEADER, move |_, _| {
            port.timeline(&run, width).map(|found| (report_csv::timeline_rows(&found), None))
        });
        return page.await;
    }
    Ok(HttpResponse::Ok().json(blocking(move || port.timeline(&run, width)).await?))
}

/// The latest run over time: what was accepted, opened, clicked in each part of it.
#[utoipa::path(tag = "runs", params(TimelineQuery), responses((status = 200, body = TimelineReport)))]
#[get("/v1/campaigns/{id}/report/timeline")]
async fn latest_timeline(
    state: State,
    id: web::Path<String>,
    query: web::Query<TimelineQuery>,
) -> ApiResult<HttpResponse> {
    timeline_of(state, RunRef::LatestOf(Ref::parse(&id)), query.into_inner()).await
}

/// A run over time.
#[utoipa::path(tag = "runs", params(TimelineQuery), responses((status = 200, body = TimelineReport)))]
#[get("/v1/runs/{id}/report/timeline")]
async fn timeline(state: State, id: web::Path<u32>, query: web::Query<TimelineQuery>) -> ApiResult<HttpResponse> {
    timeline_of(state, RunRef::Run(*id), query.into_inner()).await
}

#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CompareQuery {
    /// Runs, joined by commas: `3,7`; a single delivery of one as `7:1`. The others are held against the first.
    #[param(example = "3,7:0")]
    pub runs: String,
    /// `json` (default) or `csv`.
    #[param(inline)]
    pub format: Option<Format>,
}

fn named(text: &str) -> ApiResult<Compared> {
    let refused = || {
        let message = format!("{text:?} is no run: write its number, or number:delivery");
        ApiError::new(Code::InvalidParameter, message)
    };
    let (run, delivery) = match text.trim().split_once(':') {
        None => (text.trim(), None),
        Some((run, delivery)) => (run, Some(delivery.parse().map_err(|_| refused())?)),
    };
    Ok(Compared { run: run.parse().map_err(|_| refused())?, delivery })
}

/// Two or more deliveries side by side: rates, and how each differs from the first.
#[utoipa::path(tag = "runs", params(CompareQuery), responses((status = 200, body = Comparison)))]
#[get("/v1/compare")]
async fn compare(state: State, query: web::Query<CompareQuery>) -> ApiResult<HttpResponse> {
    let asked = query.runs.split(',').map(named).collect::<ApiResult<Vec<Compared>>>()?;
    let csv = json_or_csv(query.format)?;
    let port = engine(&state);
    let found = blocking(move || port.compare(&asked)).await?;
    if !csv {
        return Ok(HttpResponse::Ok().json(found));
    }
    let titles: Vec<String> = (0..found.deliveries.len()).map(|place| format!("delivery_{place}")).collect();
    let header: Vec<&str> = std::iter::once("measure").chain(titles.iter().map(String::as_str)).collect();
    let rows = report_csv::comparison_rows(&found);
    stream_csv("comparison", &header, move |_, _| Ok((rows.clone(), None))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_deliveries_are_named_or_refused() {
        assert_eq!(named("3").unwrap(), Compared { run: 3, delivery: None }, "a run");
        assert_eq!(named(" 7:1").unwrap(), Compared { run: 7, delivery: Some(1) }, "a delivery");
        for text in ["", "spring", "3:", ":1", "3:x", "-1"] {
            assert_eq!(named(text).unwrap_err().0.code, Code::InvalidParameter, "{text:?}");
        }
    }

    #[test]
    fn lengths_are_read_or_refused() {
        assert_eq!((seconds("10s").unwrap(), seconds("1h").unwrap()), (10, 3_600));
        for text in ["", "0s", "1", "h"] {
            assert_eq!(seconds(text).unwrap_err().0.code, Code::InvalidParameter, "{text:?}");
        }
    }
}
