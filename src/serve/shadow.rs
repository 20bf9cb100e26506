//! What would have run beside what really ran. Rule: newest day first, then by name; following `next` gives each report once.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use prescale_controller::view::ShadowReports;
use prescale_domain::{ServiceName, ShadowReport, Span, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::App;
use crate::api::{archived, find, text};
use crate::problem::Problem;

/// Reports of days in a page, unless asked for and at most.
const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 500;

/// `/api/v1/shadow`: what would have been saved.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ShadowBody {
    /// Since the start, by name; on the first page only.
    totals: Vec<ShadowReport>,
    /// Newest first, then by name.
    days: Vec<ShadowReport>,
    /// `after` of the next page; null = this was the last.
    next: Option<String>,
}

/// Parameters of `/api/v1/shadow`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShadowQuery {
    limit: Option<usize>,
    after: Option<String>,
}

/// What is asked for.
struct Page {
    service: Option<ServiceName>,
    after: Option<(Timestamp, String)>,
    limit: usize,
}

/// What would have run if every decision had been carried out, beside what really ran: each service since the start, and by
/// day (UTC), newest first.
#[utoipa::path(get, path = "/api/v1/shadow", tag = "shadow", params(
    ("limit" = Option<usize>, Query, minimum = 1, maximum = 500, description = "reports in the page; 50 unless given"),
    ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses(
    (status = 200, description = "a page of reports", body = ref("#/components/schemas/ShadowBody")),
    (status = 400, description = "a parameter can't be understood", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 404, description = "shadow mode is off", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 503, description = "the reports can't be had now", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem"))))]
pub(crate) async fn shadow(
    State(app): State<App>,
    query: Result<Query<ShadowQuery>, QueryRejection>,
) -> Result<Json<ShadowBody>, Problem> {
    answer(&app, None, query).await
}

/// The same of one service.
#[utoipa::path(get, path = "/api/v1/services/{service}/shadow", tag = "shadow", params(
    ("service" = String, Path, description = "name of the service"),
    ("limit" = Option<usize>, Query, minimum = 1, maximum = 500, description = "reports in the page; 50 unless given"),
    ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses(
    (status = 200, description = "a page of reports", body = ref("#/components/schemas/ShadowBody")),
    (status = 400, description = "a parameter can't be understood", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 404, description = "no such service, or shadow mode is off", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 503, description = "the reports can't be had now", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem"))))]
pub(crate) async fn service_shadow(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<ShadowQuery>, QueryRejection>,
) -> Result<Json<ShadowBody>, Problem> {
    let service = find(&app.view(), &text(name)?)?.service.clone();
    answer(&app, Some(service), query).await
}

async fn answer(
    app: &App,
    service: Option<ServiceName>,
    query: Result<Query<ShadowQuery>, QueryRejection>,
) -> Result<Json<ShadowBody>, Problem> {
    let Query(query) = query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit {limit} is not in 1..{PAGE_MAX}")));
    }
    let after = query.after.as_deref().map(cursor).transpose()?;
    let reports: Arc<dyn ShadowReports> = app.handle.shadow.clone().ok_or_else(Problem::shadow_off)?;
    let page = Page { service, after, limit };
    archived(move || Ok(body(&*reports, &page))).await.map(Json)
}

/// The day and the service of the last report of a page.
fn cursor(text: &str) -> Result<(Timestamp, String), Problem> {
    let parts = text.split_once('#').and_then(|(day, service)| Some((day.parse().ok()?, service.to_owned())));
    parts.ok_or_else(|| Problem::bad_request(format!("after `{text}` is not the `next` of a page; # is written %23")))
}

fn body(reports: &dyn ShadowReports, page: &Page) -> ShadowBody {
    let is_wanted = |report: &ShadowReport| page.service.as_ref().is_none_or(|service| *service == report.service);
    let totals = if page.after.is_none() { reports.totals() } else { Vec::new() };
    let totals = totals.into_iter().filter(is_wanted).collect();
    // The day of the cursor may have more services after its own.
    let mut before = page.after.as_ref().map_or(Timestamp::MAX, |(day, _)| *day + Span::from_millis(1));
    let mut days = Vec::new();
    while days.len() <= page.limit
        && let Some(day) = reports.day_before(page.service.as_ref(), before)
    {
        let is_new = |report: &ShadowReport| match &page.after {
            Some((last, service)) => day < *last || report.service.as_str() > service.as_str(),
            None => true,
        };
        days.extend(reports.day(day).into_iter().filter(|report| is_wanted(report) && is_new(report)));
        before = day;
    }
    let more = days.len() > page.limit;
    days.truncate(page.limit);
    let last = days.last().filter(|_| more);
    let next = last.and_then(|report| Some(format!("{}#{}", report.day?, report.service)));
    ShadowBody { totals, days, next }
}
