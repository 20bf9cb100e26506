//! Envoy's rate-limit service. Rule: only fresh advice limits; whatever is not known is admitted, and counted as such.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use prescale_domain::{ServiceName, Span};
use prescale_telemetry::adapter::{Asked, Protocol, RateLimitAnswered, RateLimitOutcome};
use tonic::{Request, Response, Status};

use crate::limiter::{Limiter, Verdict};
use crate::proto::envoy::config::core::v3::HeaderValue;
use crate::proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus, RateLimit, rate_limit};
use crate::proto::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;
use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use crate::{Absent, Admission, Desk, RateLimitSettings};

/// The service.
pub(crate) struct RateLimits {
    desk: Desk,
    settings: RateLimitSettings,
    /// Of the services that are throttled now.
    limiters: Mutex<BTreeMap<ServiceName, Limiter>>,
}

/// What is said of one descriptor.
struct Answer {
    class: usize,
    outcome: RateLimitOutcome,
    /// `None` = nothing was counted.
    limited: Option<Limited>,
}

struct Limited {
    service: ServiceName,
    advised: Admission,
    hits: u64,
    verdict: Verdict,
}

impl RateLimits {
    pub(crate) fn new(desk: Desk, settings: RateLimitSettings) -> Self {
        Self { desk, settings, limiters: Mutex::default() }
    }

    fn answer(&self, request: &RateLimitRequest) -> RateLimitResponse {
        let descriptors = request.descriptors.iter();
        let answers: Vec<Answer> =
            descriptors.map(|descriptor| self.descriptor(descriptor, request.hits_addend)).collect();
        let over = answers.iter().any(|answer| answer.outcome == RateLimitOutcome::OverLimit);
        if over {
            // The request goes nowhere, so it has used nothing elsewhere.
            self.give_back(&answers);
        }
        for answer in &answers {
            let class = self.settings.classes.get(answer.class).map_or("", String::as_str);
            RateLimitAnswered { class, outcome: answer.outcome }.emit();
        }
        let code = if over { Code::OverLimit } else { Code::Ok };
        RateLimitResponse {
            overall_code: code.into(),
            statuses: answers.iter().map(Answer::status).collect(),
            response_headers_to_add: self.headers(&answers),
        }
    }

    fn descriptor(&self, descriptor: &RateLimitDescriptor, hits_addend: u32) -> Answer {
        let entry = |key: &str| {
            let entry = descriptor.entries.iter().find(|entry| entry.key == key);
            entry.map(|entry| entry.value.as_str())
        };
        let class = self.settings.class(entry(&self.settings.priority_key));
        let open = |outcome| Answer { class, outcome, limited: None };
        let Some(name) = entry(&self.settings.service_key) else { return open(RateLimitOutcome::Unknown) };
        // Not looked up first: it is asked for every request, and who is not known has no advice.
        let service = ServiceName::new(name);
        let advised = match self.desk.admission(&service) {
            Ok(advised) => advised.value,
            Err(Absent::Stale { .. }) => return open(RateLimitOutcome::Stale),
            Err(Absent::Service { .. } | Absent::Value { .. }) => return open(RateLimitOutcome::Unknown),
        };
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        if advised.share >= 1.0 {
            limiters.remove(&service);
            return open(RateLimitOutcome::Admitted);
        }
        let hits = descriptor.hits_addend.unwrap_or_else(|| u64::from(hits_addend.max(1)));
        let limiter = limiters.entry(service.clone()).or_insert_with(|| Limiter::new(self.settings.classes.len()));
        let verdict = limiter.ask(self.desk.now(), advised, class, hits);
        let outcome = if verdict.admitted { RateLimitOutcome::Admitted } else { RateLimitOutcome::OverLimit };
        Answer { class, outcome, limited: Some(Limited { service, advised, hits, verdict }) }
    }

    fn give_back(&self, answers: &[Answer]) {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        for limited in answers.iter().filter_map(|answer| answer.limited.as_ref()) {
            if limited.verdict.admitted
                && let Some(limiter) = limiters.get_mut(&limited.service)
            {
                limiter.give_back(limited.hits);
            }
        }
    }

    /// Of the descriptor that is over its limit for longest; where none is, of the one with the least left.
    fn headers(&self, answers: &[Answer]) -> Vec<HeaderValue> {
        let limited = || answers.iter().filter_map(|answer| answer.limited.as_ref());
        let header = |key: &str, value: String| HeaderValue { key: key.to_owned(), value };
        let mut headers = Vec::new();
        let waits = limited().filter(|limited| !limited.verdict.admitted);
        if let Some(wait) = waits.map(|limited| self.wait(limited)).max() {
            headers.push(header("retry-after", seconds_up(wait).to_string()));
        }
        let rated = limited().filter_map(|limited| Some((limited, limited.advised.rate?)));
        if let Some((limited, rate)) = rated.min_by_key(|(limited, _)| limited.verdict.remaining) {
            let wait = if limited.verdict.admitted { Span::from_secs(1) } else { self.wait(limited) };
            headers.push(header("x-ratelimit-limit", per_second(rate).to_string()));
            headers.push(header("x-ratelimit-remaining", limited.verdict.remaining.to_string()));
            headers.push(header("x-ratelimit-reset", seconds_up(wait).to_string()));
        }
        headers
    }

    fn wait(&self, limited: &Limited) -> Span {
        limited.verdict.retry_after.unwrap_or(self.settings.retry_after)
    }
}

impl Answer {
    fn status(&self) -> DescriptorStatus {
        let code = if self.outcome == RateLimitOutcome::OverLimit { Code::OverLimit } else { Code::Ok };
        let rate = self.limited.as_ref().and_then(|limited| limited.advised.rate);
        let verdict = self.limited.as_ref().map(|limited| limited.verdict);
        DescriptorStatus {
            code: code.into(),
            current_limit: rate.map(|rate| RateLimit {
                requests_per_unit: per_second(rate),
                unit: rate_limit::Unit::Second.into(),
                name: String::new(),
            }),
            limit_remaining: verdict.map_or(0, |verdict| u32::try_from(verdict.remaining).unwrap_or(u32::MAX)),
            duration_until_reset: verdict.and_then(|verdict| verdict.retry_after).map(duration),
        }
    }
}

/// The protocol has whole requests only: up, so that a limit is never told as lower than it is.
fn per_second(rate: f64) -> u32 {
    rate.ceil() as u32
}

fn seconds_up(span: Span) -> i64 {
    span.steps_up(Span::from_secs(1)).max(1).try_into().unwrap_or(i64::MAX)
}

fn duration(span: Span) -> prost_types::Duration {
    let (seconds, millis) = (span.millis() / 1000, span.millis() % 1000);
    prost_types::Duration { seconds, nanos: millis as i32 * 1_000_000 }
}

#[tonic::async_trait]
impl RateLimitService for RateLimits {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let answer = self.answer(request.get_ref());
        let over = answer.overall_code == i32::from(Code::OverLimit);
        let result = if over { "over-limit" } else { "ok" };
        Asked { protocol: Protocol::RateLimit, call: "ShouldRateLimit", result }.emit();
        Ok(Response::new(answer))
    }
}
