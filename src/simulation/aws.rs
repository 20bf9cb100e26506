//! An AWS account in one region, simulated: Auto Scaling groups, EC2 instances, EKS node groups and SQS queues, spoken to in
//! AWS's own protocols. Rule: pure; time is an argument, and the same calls at the same times give the same bytes.
//!
//! ```text
//! aws         one call: fault, bucket, operation, log        world      state, and what happens at its time
//! autoscaling the Query API of 2011-01-01                    reconcile  what a group does about what it lacks
//! ec2         the Query API of 2016-11-15                    lifecycle  how an instance comes and goes
//! eks         REST and JSON                                  pools, mix where an instance comes from
//! sqs         JSON 1.0                                       notify     events, as EventBridge would send them
//! ```
//!
//! What is simulated and what is not is in `docs/designs/0033-aws-simulator.md`.

mod answer;
mod autoscaling;
mod bucket;
mod ec2;
mod eks;
mod fault;
mod form;
mod group;
mod instance;
mod lifecycle;
mod log;
mod mix;
mod notify;
mod pools;
mod reconcile;
mod settings;
mod sqs;
#[cfg(test)]
mod tests;
mod world;
mod xml;

use std::collections::VecDeque;

use prescale_actuate::wire::{WireAnswer, WireRequest};
use prescale_domain::{Span, Timestamp};
use serde_json::{Value, json};

pub use bucket::Rate;
pub use fault::{Fault, FaultKind};
pub use log::CallRecord;
pub use pools::Shortage;
pub use settings::{AwsSettings, CATALOGUE, InstanceType};
pub use world::Tally;

use crate::market::MarketError;
use answer::{Answer, Refusal};
use bucket::Bucket;
use fault::Faults;
use instance::Lifecycle;
use log::Call;
use world::{Happening, World, request_id};

/// A service of AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    AutoScaling,
    Ec2,
    Eks,
    Sqs,
}

impl Service {
    /// As endpoints and policies name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AutoScaling => "autoscaling",
            Self::Ec2 => "ec2",
            Self::Eks => "eks",
            Self::Sqs => "sqs",
        }
    }

    fn namespace(self) -> &'static str {
        match self {
            Self::Ec2 => "http://ec2.amazonaws.com/doc/2016-11-15/",
            _ => "http://autoscaling.amazonaws.com/doc/2011-01-01/",
        }
    }
}

/// An account at work.
#[derive(Clone, Debug)]
pub struct Aws {
    world: World,
    faults: Faults,
    buckets: [Option<Bucket>; 4],
    log: Vec<CallRecord>,
    /// The state after each change, where a rule asks for stale reads.
    past: VecDeque<(Timestamp, World)>,
}

impl Aws {
    /// An account without groups, at the start of its settings.
    ///
    /// # Errors
    /// A spot market that cannot be.
    pub fn new(settings: AwsSettings) -> Result<Self, MarketError> {
        let start = settings.start;
        let bucket = |rate| Some(Bucket::new(rate, start));
        let buckets = [bucket(settings.autoscaling_rate), bucket(settings.ec2_rate), bucket(settings.eks_rate), None];
        let world = World::new(settings)?;
        Ok(Self { world, faults: Faults::default(), buckets, log: Vec::new(), past: VecDeque::new() })
    }

    /// Lets happen what happens up to `now`; an earlier moment changes nothing.
    pub fn advance(&mut self, now: Timestamp) {
        while self.world.step(now) {
            self.remember();
        }
    }

    /// The answer to one request that arrives at `now`.
    pub fn call(&mut self, now: Timestamp, request: &WireRequest) -> WireAnswer {
        self.advance(now);
        if request.path.starts_with("/__") {
            return self.control(request);
        }
        let request_id = request_id(self.world.settings.seed, self.log.len());
        let now = self.world.now;
        let Some(call) = Call::of(request) else {
            let body = json!({"message": "Missing Authentication Token"}).to_string().into_bytes();
            let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
            return WireAnswer::Reply { status: 403, headers, body, after: self.world.settings.answer };
        };
        let place = (self.world.settings.seed, self.log.len());
        let fault = self.faults.strike(place, now, &call.operation, &call.about(), call.reads());
        let (answer, wait) = self.outcome(now, &call, fault.as_ref(), &request_id);
        let wait = wait + self.world.settings.answer;
        self.log.push(call.record(now, &answer, fault.clone()));
        self.remember();
        match fault {
            Some(FaultKind::Hang) => WireAnswer::Hang,
            Some(FaultKind::Drop | FaultKind::LostAnswer) => WireAnswer::Dropped { after: wait },
            fault => {
                let more = if let Some(FaultKind::Delay(span)) = fault { span } else { Span::ZERO };
                let Answer { status, headers, body } = answer;
                WireAnswer::Reply { status, headers, body: body.into_bytes(), after: wait + more }
            }
        }
    }

    fn outcome(&mut self, now: Timestamp, call: &Call, fault: Option<&FaultKind>, id: &str) -> (Answer, Span) {
        let service = call.service;
        let refusal = match fault {
            Some(FaultKind::Throttle) => Some(Refusal::throttled(service)),
            Some(FaultKind::Denied) => Some(Refusal::denied(service, &call.operation)),
            Some(FaultKind::Internal) => Some(Refusal::internal(service)),
            Some(FaultKind::Error { status, code, message }) => Some(Refusal::new(*status, code, message.as_str())),
            Some(FaultKind::Html) => {
                let headers = vec![("content-type".to_owned(), "text/html".to_owned())];
                let body = "<!doctype html><title>500 Internal Server Error</title>".to_owned();
                return (Answer { status: 500, headers, body }, Span::ZERO);
            }
            Some(FaultKind::Hang | FaultKind::Drop) => {
                return (Answer { status: 0, headers: Vec::new(), body: String::new() }, Span::ZERO);
            }
            _ => {
                let granted = self.buckets[service as usize].as_mut().is_none_or(|bucket| bucket.take(now));
                (!granted).then(|| Refusal::throttled(service))
            }
        };
        if let Some(refusal) = refusal {
            return (refusal.answer(service, id), Span::ZERO);
        }
        match fault {
            Some(FaultKind::Stale(age)) => self.as_of(now - *age).carry_out(call, id),
            _ => self.world.carry_out(call, id),
        }
    }

    /// The state of a moment, or the oldest that is known.
    fn as_of(&self, moment: Timestamp) -> World {
        let before = self.past.iter().rev().find(|(at, _)| *at <= moment).or(self.past.front());
        before.map_or_else(|| self.world.clone(), |(_, world)| world.clone())
    }

    fn remember(&mut self) {
        let Some(age) = self.faults.oldest() else { return };
        let now = self.world.now;
        self.past.push_back((now, self.world.clone()));
        while self.past.get(1).is_some_and(|(at, _)| *at < now - age) {
            self.past.pop_front();
        }
    }

    /// Adds a rule behind those that there are.
    pub fn script(&mut self, fault: Fault) {
        self.faults.add(fault);
        self.remember();
    }

    /// Drops all rules.
    pub fn calm(&mut self) {
        self.faults.clear();
        self.past.clear();
    }

    /// Capacity that cannot be had for a time.
    pub fn lack(&mut self, shortage: Shortage) {
        self.world.shortages.push(shortage);
    }

    /// Lets the spot market take an instance: a recommendation and a notice at their times, the loss two minutes after the
    /// notice. `false` = no spot instance of that id.
    pub fn interrupt(&mut self, id: &str, recommended_at: Option<Timestamp>, noticed_at: Timestamp) -> bool {
        let lost_at = noticed_at + self.world.settings.market.notice;
        let Some(number) = self.world.numbers.get(id).copied() else { return false };
        let tenancy = self.world.instances.get_mut(&number).and_then(|one| one.tenancy.as_mut());
        let Some(tenancy) = tenancy else { return false };
        (tenancy.recommended_at, tenancy.noticed_at, tenancy.lost_at) =
            (recommended_at, Some(noticed_at), Some(lost_at));
        if let Some(moment) = recommended_at {
            self.world.plan(moment, Happening::Recommended(number));
        }
        self.world.plan(noticed_at, Happening::Noticed(number));
        self.world.plan(lost_at, Happening::Lost(number));
        true
    }

    /// All calls so far, the oldest first.
    pub fn log(&self) -> &[CallRecord] {
        &self.log
    }

    /// Ids of the instances that there are, in the order of their launch.
    pub fn instance_ids(&self) -> Vec<String> {
        self.world.instances.values().map(|one| one.id.clone()).collect()
    }

    /// Instances of a group that are in service.
    pub fn in_service(&self, group: &str) -> u32 {
        let serving =
            self.world.instances.values().filter(|one| one.group == group && one.lifecycle == Lifecycle::InService);
        u32::try_from(serving.count()).unwrap_or(u32::MAX)
    }

    /// The present time of the account.
    pub fn now(&self) -> Timestamp {
        self.world.now
    }

    pub fn tally(&self) -> Tally {
        self.world.tally
    }

    /// For tests that reach it through a port: `GET /__log`, `POST /__faults` with one rule, `DELETE /__faults`.
    fn control(&mut self, request: &WireRequest) -> WireAnswer {
        let (status, body) = match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/__log") => (200, serde_json::to_value(&self.log).unwrap_or_default()),
            ("DELETE", "/__faults") => {
                self.calm();
                (200, json!({}))
            }
            ("POST", "/__faults") => match serde_json::from_slice::<Fault>(&request.body) {
                Ok(fault) => {
                    self.script(fault);
                    (200, json!({}))
                }
                Err(error) => (400, json!({"message": error.to_string()})),
            },
            _ => (404, json!({"message": "no such control"})),
        };
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        WireAnswer::Reply { status, headers, body: body.to_string().into_bytes(), after: Span::ZERO }
    }
}

impl World {
    /// Carries out a call that nothing kept away, and says how much longer its answer takes.
    fn carry_out(&mut self, call: &Call, request_id: &str) -> (Answer, Span) {
        let service = call.service;
        let operation = call.operation.as_str();
        let done: Result<(Answer, Span), Refusal> = match service {
            Service::AutoScaling => self
                .autoscaling(operation, &call.form)
                .map(|inner| (inner, Span::ZERO))
                .map(|(inner, wait)| (answer::query(service, operation, &inner, request_id), wait)),
            Service::Ec2 => self
                .ec2(operation, &call.form)
                .map(|inner| (answer::query(service, operation, &inner, request_id), Span::ZERO)),
            Service::Eks => self
                .eks(operation, &call.path, &call.form, &call.json)
                .map(|body: Value| (answer::json(service, &body, request_id), Span::ZERO)),
            Service::Sqs => {
                self.sqs(operation, &call.json).map(|(body, wait)| (answer::json(service, &body, request_id), wait))
            }
        };
        done.unwrap_or_else(|refusal| (refusal.answer(service, request_id), Span::ZERO))
    }
}
