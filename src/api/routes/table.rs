//! Sets and lists as files: CSV and newline-delimited JSON, streamed page by page.
//!
//! Owns no state. Invariants: TA-1 memory does not grow with the set; TA-2 no cell of a CSV file starts a formula in a
//! spreadsheet: those that would get a leading quote mark.

use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{HttpResponse, web};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::port::{PortError, PortResult};
use crate::api::reply::{ApiResult, blocking};
use crate::limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Json,
    Csv,
    Ndjson,
}

/// Items of one page, and where the next one starts.
pub type Fetched<T> = PortResult<(Vec<T>, Option<String>)>;

/// Streams rows as CSV. `page` may block.
pub async fn stream_csv(
    name: &str,
    header_row: &[&str],
    mut page: impl FnMut(Option<String>, usize) -> Fetched<Vec<String>> + Send + 'static,
) -> ApiResult<HttpResponse> {
    let mut head = csv_rows(&[header_row.iter().map(|h| (*h).to_owned()).collect()]);
    let pages = move |after| {
        let (rows, next) = page(after, limits::PAGE_MAX)?;
        let mut text = std::mem::take(&mut head);
        text.extend(csv_rows(&rows));
        Ok((text, next))
    };
    stream_pages(name, "csv", "text/csv; charset=utf-8", pages).await
}

/// Streams values as one JSON document a line. `page` may block.
pub async fn stream_ndjson<T: Serialize>(
    name: &str,
    mut page: impl FnMut(Option<String>, usize) -> Fetched<T> + Send + 'static,
) -> ApiResult<HttpResponse> {
    let pages = move |after| {
        let (items, next) = page(after, limits::PAGE_MAX)?;
        let mut text = Vec::new();
        for item in items {
            if let Ok(line) = serde_json::to_vec(&item) {
                text.extend(line);
                text.push(b'\n');
            }
        }
        Ok((text, next))
    };
    stream_pages(name, "ndjson", "application/x-ndjson", pages).await
}

/// The first page is fetched before the head of the answer goes out, so that a refusal is a proper error.
async fn stream_pages(
    name: &str,
    extension: &str,
    content_type: &'static str,
    mut page: impl FnMut(Option<String>) -> PortResult<(Vec<u8>, Option<String>)> + Send + 'static,
) -> ApiResult<HttpResponse> {
    let (page, first, next) = blocking(move || page(None).map(|(first, next)| (page, first, next))).await?;
    let rest = stream::try_unfold((page, next), |(mut page, next)| async move {
        let Some(after) = next else { return Ok(None) };
        let fetched = web::block(move || {
            let chunk = page(Some(after));
            (page, chunk)
        });
        match fetched.await {
            Ok((page, Ok((text, next)))) => Ok(Some((Bytes::from(text), (page, next)))),
            Ok((_, Err(error))) => Err(broken(&error)),
            Err(error) => Err(std::io::Error::other(error)),
        }
    });
    let whole = stream::iter([Ok::<_, std::io::Error>(Bytes::from(first))]).chain(rest);
    Ok(HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.{extension}\"")))
        .streaming(whole))
}

/// A failure after the head went out can only cut the answer short.
fn broken(error: &PortError) -> std::io::Error {
    tracing::error!(%error, "an export ended early");
    std::io::Error::other(error.clone())
}

fn csv_rows(rows: &[Vec<String>]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        let cells = row.iter().map(|cell| safe_cell(cell));
        if let Err(error) = writer.write_record(cells) {
            tracing::error!(%error, "a row could not be written as CSV");
        }
    }
    writer.into_inner().unwrap_or_default()
}

/// Spreadsheets run cells that begin with these as formulas; see OWASP, "CSV Injection".
fn safe_cell(cell: &str) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_do_not_start_formulas() {
        let rows = csv_rows(&[vec!["=1+1".into(), "a,b".into(), "plain".into(), "-2".into()]]);
        assert_eq!(String::from_utf8(rows).unwrap(), "'=1+1,\"a,b\",plain,'-2\n");
    }

    #[actix_web::test]
    async fn all_pages_are_streamed() {
        let response = stream_csv("x", &["n"], |after, _| {
            let n: u32 = after.map_or(0, |a| a.parse().unwrap());
            Ok((vec![vec![n.to_string()]], (n < 3).then(|| (n + 1).to_string())))
        })
        .await
        .unwrap();
        let body = actix_web::body::to_bytes(response.into_body()).await.unwrap_or_default();
        assert_eq!(body, "n\n0\n1\n2\n3\n");
    }
}
