//! Runs, their reports and sets: `/v1/runs/{id}/…`, and `/v1/campaigns/{id}/…` for the latest run. Owns no state.

use actix_web::{HttpResponse, get, post, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::figures::json_or_csv;
use super::table::{Format, stream_csv, stream_ndjson};
use super::{State, engine, report_csv};
use crate::api::errors::Code;
use crate::api::port::{PageRequest, Ref, Report, RunContact, RunRef, RunSummary, SettleRequest, Settled};
use crate::api::reply::{ApiError, ApiResult, Listed, PageQuery, blocking, page_request};

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(runs).service(latest_report).service(latest_contacts).service(latest_settle);
    config.service(report).service(contacts).service(settle);
}

#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SetQuery {
    /// `accepted`, `rejected`, `skipped`, `unknown`, `pending`, `claimed`, `deferred`, `opened`, `clicked`,
    /// `not_opened` (accepted and not opened), `not_clicked`, `unsubscribed`, `skipped:REASON` or `rejected:CLASS`.
    pub set: String,
    /// `json` (default, paged), or `csv` or `ndjson` (the whole set).
    #[param(inline)]
    pub format: Option<Format>,
    pub cursor: Option<String>,
    pub limit: Option<usize>,
}

fn latest(id: &str) -> RunRef {
    RunRef::LatestOf(Ref::parse(id))
}

/// The runs of a campaign, newest first.
#[utoipa::path(tag = "runs", params(PageQuery), responses((status = 200, body = Listed<RunSummary>)))]
#[get("/v1/campaigns/{id}/runs")]
async fn runs(
    state: State,
    id: web::Path<String>,
    page: web::Query<PageQuery>,
) -> ApiResult<web::Json<Listed<RunSummary>>> {
    let list = format!("runs/{id}");
    let request = page_request(&list, page.cursor.as_deref(), page.limit)?;
    let port = engine(&state);
    let page = blocking(move || port.runs(&Ref::parse(&id), &request)).await?;
    Ok(web::Json(Listed::from_page(&list, page)))
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReportQuery {
    /// `json` (default), or `csv`: one measure a line.
    #[param(inline)]
    pub format: Option<Format>,
}

async fn report_of(state: State, run: RunRef, query: &ReportQuery) -> ApiResult<HttpResponse> {
    let port = engine(&state);
    if json_or_csv(query.format)? {
        let page = stream_csv("report", &report_csv::HEADER, move |_, _| {
            port.report(&run).map(|found| (report_csv::rows(&found), None))
        });
        return page.await;
    }
    Ok(HttpResponse::Ok().json(blocking(move || port.report(&run)).await?))
}

/// The report of the latest run: ledger, deliveries, progress, tracking; live while it runs.
#[utoipa::path(tag = "runs", params(ReportQuery), responses((status = 200, body = Report)))]
#[get("/v1/campaigns/{id}/report")]
async fn latest_report(state: State, id: web::Path<String>, query: web::Query<ReportQuery>) -> ApiResult<HttpResponse> {
    report_of(state, latest(&id), &query).await
}

/// The report of a run.
#[utoipa::path(tag = "runs", params(ReportQuery), responses((status = 200, body = Report)))]
#[get("/v1/runs/{id}/report")]
async fn report(state: State, id: web::Path<u32>, query: web::Query<ReportQuery>) -> ApiResult<HttpResponse> {
    report_of(state, RunRef::Run(*id), &query).await
}

async fn contacts_of(state: State, run: RunRef, name: String, query: SetQuery) -> ApiResult<HttpResponse> {
    let set = checked_set(query.set)?;
    let list = format!("{name}/{set}");
    let request = page_request(&list, query.cursor.as_deref(), query.limit)?;
    let port = engine(&state);
    let fetch = move |request: &PageRequest| port.run_contacts(&run, &set, request);
    match query.format.unwrap_or(Format::Json) {
        Format::Json => {
            let page = blocking(move || fetch(&request)).await?;
            Ok(HttpResponse::Ok().json(Listed::from_page(&list, page)))
        }
        Format::Ndjson => {
            let pages = move |after, limit| fetch(&PageRequest { after, limit }).map(|page| (page.items, page.next));
            stream_ndjson("contacts", pages).await
        }
        Format::Csv => {
            let header =
                ["contact", "address", "delivery", "set", "reason", "attempts", "opened", "clicked", "unsubscribed"];
            let pages = move |after, limit| {
                let page = fetch(&PageRequest { after, limit })?;
                Ok((page.items.into_iter().map(cells).collect(), page.next))
            };
            stream_csv("contacts", &header, pages).await
        }
    }
}

fn cells(c: RunContact) -> Vec<String> {
    let flag = |set: bool| if set { "yes" } else { "no" }.to_owned();
    vec![
        c.contact,
        c.address.unwrap_or_default(),
        c.delivery.to_string(),
        c.set,
        c.reason.unwrap_or_default(),
        c.attempts.to_string(),
        flag(c.opened),
        flag(c.clicked),
        flag(c.unsubscribed),
    ]
}

const SETS: [&str; 16] = [
    "accepted",
    "rejected",
    "skipped",
    "unknown",
    "pending",
    "claimed",
    "deferred",
    "opened",
    "clicked",
    "not_opened",
    "not_clicked",
    "unsubscribed",
    "delivered",
    "bounced",
    "complained",
    "converted",
];

/// Refuses what is not the name of a set; reasons and classes are the engine's to know.
fn checked_set(set: String) -> ApiResult<String> {
    let known = match set.split_once(':') {
        None => SETS.contains(&set.as_str()),
        Some((kind, rest)) => matches!(kind, "skipped" | "rejected" | "bounced") && !rest.is_empty(),
    };
    if known {
        return Ok(set);
    }
    let message =
        format!("there is no set {set:?}: use {}, skipped:REASON, rejected:CLASS or bounced:CLASS", SETS.join(", "));
    Err(ApiError::new(Code::InvalidSet, message))
}

/// Contacts of a set of the latest run.
#[utoipa::path(tag = "runs", params(SetQuery), responses((status = 200, body = Listed<RunContact>)))]
#[get("/v1/campaigns/{id}/contacts")]
async fn latest_contacts(state: State, id: web::Path<String>, query: web::Query<SetQuery>) -> ApiResult<HttpResponse> {
    contacts_of(state, latest(&id), format!("campaign/{id}"), query.into_inner()).await
}

/// Contacts of a set of a run.
#[utoipa::path(tag = "runs", params(SetQuery), responses((status = 200, body = Listed<RunContact>)))]
#[get("/v1/runs/{id}/contacts")]
async fn contacts(state: State, id: web::Path<u32>, query: web::Query<SetQuery>) -> ApiResult<HttpResponse> {
    contacts_of(state, RunRef::Run(*id), format!("run/{id}"), query.into_inner()).await
}

async fn settle_of(state: State, run: RunRef, request: SettleRequest) -> ApiResult<web::Json<Settled>> {
    super::lists::bounded(request.contacts.len())?;
    if request.all != request.contacts.is_empty() {
        let message = "say either which contacts (\"contacts\": [keys]) or \"all\": true";
        return Err(ApiError::new(Code::InvalidSettle, message));
    }
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.settle(&run, request)).await?))
}

/// Settles unknown contacts of the latest run as accepted, or as pending (they are sent again).
#[utoipa::path(tag = "runs", request_body = SettleRequest, responses((status = 200, body = Settled)))]
#[post("/v1/campaigns/{id}/settle")]
async fn latest_settle(
    state: State,
    id: web::Path<String>,
    request: web::Json<SettleRequest>,
) -> ApiResult<web::Json<Settled>> {
    settle_of(state, latest(&id), request.into_inner()).await
}

/// Settles unknown contacts of a run.
#[utoipa::path(tag = "runs", request_body = SettleRequest, responses((status = 200, body = Settled)))]
#[post("/v1/runs/{id}/settle")]
async fn settle(state: State, id: web::Path<u32>, request: web::Json<SettleRequest>) -> ApiResult<web::Json<Settled>> {
    settle_of(state, RunRef::Run(*id), request.into_inner()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_named_or_refused() {
        for set in SETS.iter().copied().chain(["skipped:no_address", "rejected:hard_bounce"]) {
            assert!(checked_set(set.to_owned()).is_ok(), "{set}");
        }
        for set in ["", "sent", "skipped:", "accepted:x"] {
            let error = checked_set(set.to_owned()).unwrap_err();
            assert_eq!(error.0.code, Code::InvalidSet, "{set}");
        }
    }
}
