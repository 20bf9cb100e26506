//! What descriptors mean, what is said to whom, and that only fresh advice limits.

use std::sync::Arc;

use prescale_domain::Timestamp;

use super::*;
use crate::fake::{HandClock, Known, Scripted};
use crate::proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;

struct Fixture {
    answers: Arc<Scripted>,
    clock: Arc<HandClock>,
    service: RateLimits,
}

fn fixture(share: f64, rate: Option<f64>) -> Fixture {
    let known = |admission| Known { at: Timestamp::from_millis(0), admission, ..Known::default() };
    let advised = known(Some(Admission { share, rate }));
    let answers = Arc::new(Scripted::new([("web", advised.clone()), ("api", advised), ("new", known(None))]));
    let clock = Arc::new(HandClock::new(Timestamp::from_millis(0)));
    let desk = Desk::new(answers.clone(), clock.clone(), Span::from_minutes(3));
    Fixture { answers, clock, service: RateLimits::new(desk, RateLimitSettings::default()) }
}

fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let entry = |(key, value): &(&str, &str)| Entry { key: (*key).to_owned(), value: (*value).to_owned() };
    RateLimitDescriptor { entries: entries.iter().map(entry).collect(), hits_addend: None }
}

fn of(descriptors: Vec<RateLimitDescriptor>) -> RateLimitRequest {
    RateLimitRequest { domain: "edge".to_owned(), descriptors, hits_addend: 0 }
}

impl Fixture {
    fn over(&self, entries: &[(&str, &str)]) -> bool {
        self.service.answer(&of(vec![descriptor(entries)])).overall_code() == Code::OverLimit
    }

    /// Of a hundred requests, those over the limit.
    fn over_of_100(&self, entries: &[(&str, &str)]) -> usize {
        (0..100).filter(|_| self.over(entries)).count()
    }
}

#[test]
fn the_advised_share_goes_on() {
    let fixture = fixture(0.7, None);
    let over = fixture.over_of_100(&[("service", "web"), ("priority", "low")]);
    assert!((25..=35).contains(&over), "{over}");
    // Each service has its own limiter.
    let over = fixture.over_of_100(&[("service", "api"), ("priority", "low")]);
    assert!((25..=35).contains(&over), "{over}");
}

#[test]
fn lower_classes_give_way_and_an_unknown_class_is_the_default() {
    let fixture = fixture(0.7, None);
    let mut over = [0; 3];
    for _ in 0..300 {
        for (over, priority) in over.iter_mut().zip(["high", "vip", "low"]) {
            *over += usize::from(fixture.over(&[("service", "web"), ("priority", priority)]));
        }
    }
    // Nine tenths of the lowest third are over: 0.3 of all.
    assert_eq!(over[..2], [0, 0]);
    assert!((255..=285).contains(&over[2]), "{over:?}");
}

#[test]
fn what_is_not_known_or_too_old_does_not_limit() {
    let fixture = fixture(0.1, None);
    for entries in [&[][..], &[("path", "/")], &[("service", "none")], &[("service", "new")], &[("service", "")]] {
        assert_eq!(fixture.over_of_100(entries), 0, "{entries:?}");
    }
    assert!(fixture.over_of_100(&[("service", "web")]) > 50);
    fixture.clock.set(Timestamp::from_millis(180_001));
    assert_eq!(fixture.over_of_100(&[("service", "web")]), 0);
    // And it limits again once it is fresh, until all may go on.
    fixture.answers.set("web", |known| known.at = Timestamp::from_millis(180_000));
    assert!(fixture.over_of_100(&[("service", "web")]) > 50);
    fixture.answers.set("web", |known| known.admission = Some(Admission { share: 1.0, rate: None }));
    assert_eq!(fixture.over_of_100(&[("service", "web")]), 0);
}

#[test]
fn one_descriptor_over_its_limit_stops_the_request_and_the_others_are_not_charged() {
    let fixture = fixture(0.0, None);
    fixture.answers.set("api", |known| known.admission = Some(Admission { share: 0.5, rate: Some(10.0) }));
    let request = of(vec![
        descriptor(&[("service", "api"), ("priority", "critical")]),
        descriptor(&[("service", "web"), ("priority", "low")]),
    ]);
    let first = fixture.service.answer(&request);
    assert_eq!(first.overall_code(), Code::OverLimit);
    let codes: Vec<Code> = first.statuses.iter().map(DescriptorStatus::code).collect();
    assert_eq!(codes, [Code::Ok, Code::OverLimit]);
    let remaining = |answer: &RateLimitResponse| answer.statuses[0].limit_remaining;
    for _ in 0..50 {
        assert_eq!(remaining(&fixture.service.answer(&request)), remaining(&first));
    }
}

#[test]
fn hits_count_as_the_descriptor_or_else_the_request_says() {
    let used = |hits_addend: u32, of_descriptor: Option<u64>| {
        let fixture = fixture(0.5, Some(10.0));
        let mut descriptor = descriptor(&[("service", "web"), ("priority", "critical")]);
        let request = of(vec![descriptor.clone()]);
        let before = fixture.service.answer(&request).statuses[0].limit_remaining;
        descriptor.hits_addend = of_descriptor;
        let request = RateLimitRequest { hits_addend, ..of(vec![descriptor]) };
        before - fixture.service.answer(&request).statuses[0].limit_remaining
    };
    assert_eq!(used(0, None), 1);
    assert_eq!(used(3, None), 3);
    assert_eq!(used(3, Some(5)), 5);
    assert_eq!(used(3, Some(0)), 0);
}

#[test]
fn whoever_is_over_the_limit_is_told_when_to_come_back() {
    let headers = |share: f64, rate: Option<f64>, priority: &str| {
        let fixture = fixture(share, rate);
        let request = of(vec![descriptor(&[("service", "web"), ("priority", priority)])]);
        let answer = fixture.service.answer(&request);
        let headers = answer.response_headers_to_add.iter().map(|header| format!("{}: {}", header.key, header.value));
        (answer.overall_code(), headers.collect::<Vec<_>>(), answer.statuses[0].current_limit.clone())
    };
    assert_eq!(headers(0.0, None, "low"), (Code::OverLimit, vec!["retry-after: 5".to_owned()], None));
    assert_eq!(headers(0.5, None, "critical"), (Code::Ok, vec![], None));
    let (code, told, limit) = headers(0.5, Some(0.5), "low");
    assert_eq!(code, Code::OverLimit);
    assert_eq!(told, ["retry-after: 10", "x-ratelimit-limit: 1", "x-ratelimit-remaining: 0", "x-ratelimit-reset: 10"]);
    assert_eq!((limit.as_ref().unwrap().requests_per_unit, limit.unwrap().unit()), (1, rate_limit::Unit::Second));
    let (code, told, _) = headers(0.5, Some(100.0), "critical");
    assert_eq!(code, Code::Ok);
    assert_eq!(told, ["x-ratelimit-limit: 100", "x-ratelimit-remaining: 23", "x-ratelimit-reset: 1"]);
}
