//! The contract of targets (`tests/it/contract.rs` of the workspace) for this client, against the simulated account on a port.
//! Rule: the account's own log says what was called, and its state what came of it.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop where it fails")]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use prescale_actuate::wire::{WireAnswer, WireRequest};
use prescale_actuate::{
    Actuator, AsgScaleIn, AsgSettings, SplitSettings, AsgWrites, InstanceTypeSettings, Order, TenureWatch,
    WarmPoolSettings, carry_out, settle,
};
use prescale_domain::{Actuation, Decision, Mode, Outcome, Span, SpotSettings, Timestamp};
use prescale_rusoto::RusotoAsg;
use prescale_simulation::aws::{Aws, AwsSettings, CallRecord, Fault, FaultKind, Rate};
use rusoto_core::credential::StaticProvider;
use tokio::net::{TcpListener, TcpStream};

/// An account on a port, whose clock is moved by hand.
#[derive(Clone)]
struct Account {
    aws: Arc<Mutex<Aws>>,
    now: Arc<Mutex<Timestamp>>,
    url: String,
}

impl Account {
    /// With a group `web` of 4 between 2 and 20, which is warm already.
    async fn start() -> Self {
        let settings = AwsSettings {
            launch_latency: Span::from_secs(20),
            launch_latency_p90: Span::from_secs(20),
            autoscaling_rate: Rate { burst: 500.0, per_second: 50.0 },
            ..AwsSettings::default()
        };
        let now = Arc::new(Mutex::new(settings.start));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let account = Self { aws: Arc::new(Mutex::new(Aws::new(settings).unwrap())), now, url };
        let served = account.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, served.clone()));
            }
        });
        account.by_hand(
            "CreateAutoScalingGroup",
            "AutoScalingGroupName=web&MinSize=2&MaxSize=20&DesiredCapacity=4&LaunchTemplate.LaunchTemplateName=default\
             &AvailabilityZones.member.1=eu-west-1a&AvailabilityZones.member.2=eu-west-1b",
        );
        account.after(600);
        account
    }

    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    fn after(&self, seconds: i64) -> Timestamp {
        let mut now = self.now.lock().unwrap();
        *now = *now + Span::from_secs(seconds);
        *now
    }

    fn call(&self, request: &WireRequest) -> WireAnswer {
        self.aws.lock().unwrap().call(self.now(), request)
    }

    /// One call that this client does not make; it must work.
    #[track_caller]
    fn by_hand(&self, action: &str, parameters: &str) {
        let body = format!("Action={action}&Version=2011-01-01&{parameters}").into_bytes();
        let request = WireRequest { method: "POST".into(), path: "/".into(), body, ..WireRequest::default() };
        let answer = self.call(&request);
        let WireAnswer::Reply { status, body, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(status, 200, "{action}: {}", String::from_utf8_lossy(&body));
    }

    fn target(&self) -> RusotoAsg {
        self.group("web")
    }

    fn group(&self, name: &str) -> RusotoAsg {
        build(AsgSettings { endpoint_url: Some(self.url.clone()), ..settings(name) }).unwrap()
    }

    fn calls(&self) -> usize {
        self.aws.lock().unwrap().log().len()
    }

    /// Calls since the `from`-th, with their parameters.
    fn log(&self, from: usize) -> Vec<CallRecord> {
        self.aws.lock().unwrap().log()[from..].to_vec()
    }

    fn operations(&self, from: usize) -> Vec<String> {
        self.log(from).into_iter().map(|call| call.operation).collect()
    }

    fn fault(&self, fault: Fault) {
        self.aws.lock().unwrap().script(fault);
    }

    fn calm(&self) {
        self.aws.lock().unwrap().calm();
    }
}

/// One connection; an answer that is an error closes it.
async fn converse(stream: TcpStream, account: Account) {
    let service = service_fn(|request| answer(request, &account));
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // It ends with an error where it was to be dropped, or where the client leaves.
    drop(connection.await);
}

async fn answer(request: Request<Incoming>, account: &Account) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let headers =
        head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let request = WireRequest {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers,
        body: body.collect().await.map_err(io::Error::other)?.to_bytes().to_vec(),
    };
    match account.call(&request) {
        WireAnswer::Reply { status, headers, body, after } => {
            tokio::time::sleep(after.to_std()).await;
            let mut head = Response::builder().status(status);
            for (name, value) in headers {
                head = head.header(name, value);
            }
            head.body(Full::new(Bytes::from(body))).map_err(io::Error::other)
        }
        WireAnswer::Dropped { after } => {
            tokio::time::sleep(after.to_std()).await;
            Err(io::ErrorKind::ConnectionReset.into())
        }
        WireAnswer::Hang => std::future::pending().await,
    }
}

fn settings(name: &str) -> AsgSettings {
    AsgSettings {
        region: Some("eu-west-1".to_owned()),
        timeout: Span::from_secs(5),
        attempt_timeout: Span::from_secs(1),
        max_attempts: 2,
        ..AsgSettings::new(name, 0, 100)
    }
}

fn build(settings: AsgSettings) -> Result<RusotoAsg, prescale_actuate::ActuateError> {
    RusotoAsg::new(settings, StaticProvider::new_minimal("AKIDWIRE".to_owned(), "wire".to_owned()))
}

fn decision(desired: u32, mode: Mode) -> Decision {
    let samples: Vec<Decision> = serde_json::from_str(include_str!("../../../schemas/samples/decisions.json")).unwrap();
    let mut decision = samples.into_iter().next().unwrap();
    (decision.desired, decision.inputs.mode) = (desired, mode);
    decision
}

fn wish(desired: u32) -> Decision {
    decision(desired, Mode::Act)
}

fn applied(units: u32) -> Outcome {
    Outcome::Applied { units, clamped: false }
}

#[tokio::test]
async fn what_was_applied_is_observed_and_applying_twice_is_applying_once() {
    let account = Account::start().await;
    let target = account.target();
    let before = target.observe(account.now()).await.unwrap();
    assert_eq!((before.desired, before.ready, before.min, before.max), (4, Some(4), Some(2), Some(20)));
    let calls = account.calls();
    assert_eq!(target.apply(&wish(9), account.now()).await.unwrap(), applied(9));
    let log = account.log(calls);
    let changes: Vec<_> = log.iter().filter(|call| !call.operation.starts_with("Describe")).collect();
    assert_eq!(changes.len(), 1, "{log:?}");
    let parameters: Vec<_> = changes[0].parameters.iter().map(|(name, value)| (&**name, &**value)).collect();
    let expected = [("AutoScalingGroupName", "web"), ("DesiredCapacity", "9"), ("HonorCooldown", "false")];
    assert_eq!((changes[0].operation.as_str(), parameters), ("SetDesiredCapacity", expected.to_vec()));

    let calls = account.calls();
    assert_eq!(target.apply(&wish(9), account.after(90)).await.unwrap(), Outcome::Unchanged { units: 9 });
    assert_eq!(account.operations(calls), ["DescribeAutoScalingGroups"]);
    let after = target.observe(account.after(60)).await.unwrap();
    assert_eq!((after.desired, after.ready), (9, Some(9)));
    let outcome = target.apply(&wish(500), account.now()).await.unwrap();
    assert_eq!(outcome, Outcome::Applied { units: 20, clamped: true });
    let outcome = target.apply(&wish(0), account.after(90)).await.unwrap();
    assert_eq!(outcome, Outcome::Applied { units: 2, clamped: true });
    assert_eq!(target.observe(account.after(90)).await.unwrap().desired, 2);
}

#[tokio::test]
async fn a_dry_run_sends_nothing() {
    let account = Account::start().await;
    let (target, calls) = (account.target(), account.calls());
    for mode in [Mode::Observe, Mode::Recommend] {
        assert_eq!(target.apply(&decision(9, mode), account.now()).await.unwrap_err().code(), "invalid");
    }
    assert_eq!(account.operations(calls), Vec::<String>::new());
}

#[tokio::test]
async fn each_failure_has_its_kind_and_ends_in_time() {
    let error = |status, code: &str, message: &str| FaultKind::Error {
        status,
        code: code.to_owned(),
        message: message.to_owned(),
    };
    let cases = [
        (FaultKind::Throttle, "throttled"),
        (FaultKind::Denied, "denied"),
        (FaultKind::Internal, "other"),
        (FaultKind::Html, "other"),
        (FaultKind::Hang, "timeout"),
        (FaultKind::Drop, "unreachable"),
        (FaultKind::Delay(Span::from_secs(30)), "timeout"),
        (error(403, "ExpiredToken", "The security token included in the request is expired"), "denied"),
        (error(400, "ValidationError", "AutoScalingGroup name not found - null"), "not-found"),
        (error(400, "ValidationError", "New SetDesiredCapacity value 50 is above max value 20"), "invalid"),
        (error(400, "ScalingActivityInProgress", "You cannot update while an activity is in progress"), "conflict"),
        (error(500, "ResourceContention", "You already have a pending update"), "conflict"),
        (error(400, "SomethingNew", "of a later day"), "other"),
    ];
    for (kind, code) in cases {
        let account = Account::start().await;
        let target = account.target();
        account.fault(Fault::new("*", kind.clone()));
        let began = Instant::now();
        let failure = target.observe(account.now()).await.unwrap_err();
        assert_eq!(failure.code(), code, "{kind:?} became {failure}");
        assert!(began.elapsed() < Duration::from_secs(7), "{kind:?} took {:?}", began.elapsed());
        // The same where the change itself fails, and afterwards all goes on.
        account.calm();
        account.fault(Fault::new("SetDesiredCapacity", kind.clone()));
        let failure = target.apply(&wish(9), account.after(60)).await.unwrap_err();
        assert_eq!(failure.code(), code, "{kind:?} became {failure}");
        account.calm();
        let outcome = target.apply(&wish(9), account.after(60)).await.unwrap();
        // Only a call that was merely slow has had its effect.
        let expected = if matches!(kind, FaultKind::Delay(_)) { Outcome::Unchanged { units: 9 } } else { applied(9) };
        assert_eq!(outcome, expected, "{kind:?}");
    }
}

#[tokio::test]
async fn a_group_that_is_not_there_is_not_found_and_a_port_that_is_closed_is_unreachable() {
    let account = Account::start().await;
    let failure = account.group("other").observe(account.now()).await.unwrap_err();
    assert_eq!(failure.code(), "not-found", "{failure}");
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let nowhere = AsgSettings { endpoint_url: Some(format!("http://127.0.0.1:{port}")), ..settings("web") };
    let failure = build(nowhere).unwrap().observe(account.now()).await.unwrap_err();
    assert_eq!(failure.code(), "unreachable", "{failure}");
}

#[tokio::test]
async fn a_call_that_was_refused_for_its_rate_goes_through_in_the_end() {
    let account = Account::start().await;
    let target = account.target();
    for operation in ["DescribeAutoScalingGroups", "SetDesiredCapacity"] {
        account.fault(Fault::new(operation, FaultKind::Throttle).times(1));
    }
    assert_eq!(target.apply(&wish(9), account.after(30)).await.unwrap(), applied(9));
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_is_not_sent_again_and_the_next_look_settles_it() {
    for kind in [FaultKind::LostAnswer, FaultKind::Internal, FaultKind::Hang, FaultKind::Drop] {
        let account = Account::start().await;
        let target = account.target();
        account.fault(Fault::new("SetDesiredCapacity", kind.clone()));
        let calls = account.calls();
        target.apply(&wish(9), account.now()).await.unwrap_err();
        let sent = account.operations(calls).iter().filter(|operation| *operation == "SetDesiredCapacity").count();
        assert_eq!(sent, 1, "{kind:?}");
        account.calm();
        // As after a crash between the call and its record: who comes next looks first, and does nothing twice.
        let (next, calls) = (account.target(), account.calls());
        let had_effect = kind == FaultKind::LostAnswer;
        let expected = if had_effect { Outcome::Unchanged { units: 9 } } else { applied(9) };
        assert_eq!(next.apply(&wish(9), account.after(60)).await.unwrap(), expected, "{kind:?}");
        let changes = account.operations(calls).iter().filter(|operation| !operation.starts_with("Describe")).count();
        assert_eq!(changes, usize::from(!had_effect), "{kind:?}");
    }
}

#[tokio::test]
async fn a_crash_between_call_and_record_is_settled_by_looking() {
    let account = Account::start().await;
    let target = account.target();
    let (at, decided) = (account.after(30), wish(9));
    let mut journal: Vec<Actuation> = Vec::new();
    // The record of the end fails, as when the process dies between call and record.
    let mut records = 0;
    let (due, alone) = ([(&decided, &target)], TenureWatch::default());
    let crashed = carry_out(&due, at, &alone, Order::Together, |batch| {
        records += 1;
        if records == 2 {
            return Err("killed");
        }
        journal.extend(batch.iter().cloned());
        Ok(())
    });
    assert_eq!(crashed.await.unwrap_err(), "killed");
    let [begun] = &journal[..] else { panic!("{journal:?}") };
    assert_eq!(begun.outcome, Outcome::Started);
    // The next life looks, and does nothing twice.
    let next = account.target();
    let found = next.observe(account.after(90)).await.unwrap();
    assert_eq!(settle(begun, decided.desired, &found).outcome, applied(9));
    let calls = account.calls();
    assert_eq!(next.apply(&decided, account.after(30)).await.unwrap(), Outcome::Unchanged { units: 9 });
    assert_eq!(account.operations(calls), ["DescribeAutoScalingGroups"]);
}

#[tokio::test]
async fn suspended_processes_are_respected() {
    let account = Account::start().await;
    let target = account.target();
    let held =
        |process: &str| Outcome::Held { units: 4, reason: format!("the group's process {process} is suspended") };
    account.by_hand("SuspendProcesses", "AutoScalingGroupName=web&ScalingProcesses.member.1=Launch");
    assert_eq!(target.apply(&wish(9), account.after(30)).await.unwrap(), held("Launch"));
    assert_eq!(target.apply(&wish(3), account.after(30)).await.unwrap(), applied(3));
    account.by_hand("ResumeProcesses", "AutoScalingGroupName=web");
    assert_eq!(target.apply(&wish(4), account.after(30)).await.unwrap(), applied(4));
    account.by_hand("SuspendProcesses", "AutoScalingGroupName=web&ScalingProcesses.member.1=Terminate");
    assert_eq!(target.apply(&wish(2), account.after(30)).await.unwrap(), held("Terminate"));
    assert_eq!(target.apply(&wish(6), account.after(30)).await.unwrap(), applied(6));
}

#[test]
fn what_it_cannot_do_is_refused_when_it_is_built() {
    let pool = WarmPoolSettings { reserve: 0.1, max: None };
    let kind = InstanceTypeSettings { name: "m5.large".to_owned(), usd_hour: 0.1, weight: 1 };
    let spot = SplitSettings {
        types: vec![kind],
        commitments: Vec::new(),
        plan: SpotSettings::default(),
        capacity_rebalance: false,
    };
    let refused = [
        AsgSettings { writes: AsgWrites::Floor, ..settings("web") },
        AsgSettings { writes: AsgWrites::DesiredAndBounds, ..settings("web") },
        AsgSettings { scale_in: AsgScaleIn::Targeted, ..settings("web") },
        AsgSettings { warm_pool: Some(pool), ..settings("web") },
        AsgSettings { spot: Some(spot), ..settings("web") },
        AsgSettings { region: None, ..settings("web") },
        AsgSettings { min: 9, max: 3, ..settings("web") },
        settings(" "),
    ];
    for settings in refused {
        let Err(error) = build(settings.clone()) else { panic!("{settings:?}") };
        assert_eq!(error.code(), "invalid", "{error}");
    }
    // A region that is younger than this client.
    assert!(build(AsgSettings { region: Some("ap-south-2".to_owned()), ..settings("web") }).is_ok());
}
