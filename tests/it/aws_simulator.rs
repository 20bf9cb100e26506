//! The simulated AWS account from outside: boto3 through a port, and our own target through the real SDK in virtual time.
//! Rule: boto3 says what AWS documents; where moto is right, both must answer alike.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prescale_actuate::wire::{Wire, WireAnswer, WireRequest};
use prescale_actuate::{Actuator, AsgSettings, AwsAsg, Connections};
use prescale_domain::{Decision, Mode, Outcome, Span, Timestamp};
use prescale_serve::serve_wire;
use prescale_simulation::aws::{Aws, AwsSettings, CallRecord, Fault, FaultKind};

use crate::kit;

/// So much faster than the clock on the wall does the account on the port live.
const SPEED: u32 = 60;

/// The sample of a decision, with another capacity and mode.
fn decision(desired: u32, mode: Mode) -> Decision {
    let samples: Vec<Decision> = serde_json::from_str(include_str!("../../schemas/samples/decisions.json")).unwrap();
    let mut decision = samples.into_iter().next().unwrap();
    (decision.desired, decision.inputs.mode) = (desired, mode);
    decision
}

fn span(duration: Duration) -> Span {
    Span::from_millis(i64::try_from(duration.as_millis()).unwrap())
}

/// Without recommendations out of the blue: a count of instances is to be the same in each run.
fn settings(seed: u64) -> AwsSettings {
    let mut settings = AwsSettings { seed, eks_update: Span::from_minutes(5), ..AwsSettings::default() };
    settings.market.rebalance.false_per_day = 0.0;
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_finds_what_aws_documents() {
    let Some(moto) = kit::moto() else { return };
    let settings = settings(1);
    let (start, begun) = (settings.start, Instant::now());
    let aws = Mutex::new(Aws::new(settings).unwrap());
    let wire = Wire::new(move |request: WireRequest| {
        let now = start + span(begun.elapsed() * SPEED);
        std::future::ready(aws.lock().unwrap().call(now, &request))
    });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(serve_wire(listener, wire.handler()));
    let witness = tokio::task::spawn_blocking(move || kit::aws_witness(&url, &moto)).await.unwrap();
    server.abort();
    assert_eq!(witness.code, Some(0), "{}\n{}", witness.stdout, witness.stderr);
}

/// An account in tokio's time, with the group `web` in service.
struct Account {
    aws: Arc<Mutex<Aws>>,
    wire: Wire,
}

impl Account {
    async fn with_group(seed: u64, sizes: (u32, u32, u32)) -> Self {
        let settings = settings(seed);
        let start = settings.start;
        let aws = Arc::new(Mutex::new(Aws::new(settings).unwrap()));
        let (shared, begun) = (Arc::clone(&aws), tokio::time::Instant::now());
        let wire = Wire::new(move |request: WireRequest| {
            let now = start + span(begun.elapsed());
            std::future::ready(shared.lock().unwrap().call(now, &request))
        });
        let account = Self { aws, wire };
        let (min, max, desired) = sizes;
        let body = format!(
            "Action=CreateAutoScalingGroup&Version=2011-01-01&AutoScalingGroupName=web&MinSize={min}&MaxSize={max}\
             &DesiredCapacity={desired}&AvailabilityZones.member.1=eu-west-1a\
             &LaunchTemplate.LaunchTemplateName=default"
        );
        let request = WireRequest {
            method: "POST".to_owned(),
            path: "/".to_owned(),
            body: body.into_bytes(),
            ..WireRequest::default()
        };
        let made = account.wire.handler()(request).await;
        assert!(matches!(made, WireAnswer::Reply { status: 200, .. }), "{made:?}");
        minutes(10).await;
        account
    }

    fn group(&self) -> AwsAsg {
        AwsAsg::new(
            AsgSettings { region: Some("eu-west-1".to_owned()), ..AsgSettings::new("web", 1, 100) },
            &Connections::over(&self.wire),
        )
    }

    fn script(&self, fault: Fault) {
        self.aws.lock().unwrap().script(fault);
    }

    /// Calls since a number of calls.
    fn calls_since(&self, known: usize) -> Vec<CallRecord> {
        self.aws.lock().unwrap().log()[known..].to_vec()
    }

    fn calls(&self) -> usize {
        self.aws.lock().unwrap().log().len()
    }
}

async fn minutes(count: u64) {
    tokio::time::sleep(Duration::from_secs(60 * count)).await;
}

fn named(calls: &[CallRecord]) -> Vec<&str> {
    calls.iter().map(|call| call.operation.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_real_sdk_sizes_a_group_in_virtual_time() {
    let account = Account::with_group(1, (1, 20, 4)).await;
    let (group, wall) = (account.group(), Instant::now());
    let now = Timestamp::from_millis(0);
    assert_eq!(group.observe(now).await.unwrap().ready, Some(4));

    let known = account.calls();
    assert_eq!(group.apply(&decision(9, Mode::Recommend), now).await.unwrap_err().code(), "invalid");
    assert_eq!(named(&account.calls_since(known)), [""; 0], "what is not to act sends nothing");

    assert_eq!(group.apply(&decision(9, Mode::Act), now).await.unwrap(), Outcome::Applied { units: 9, clamped: false });
    let calls = account.calls_since(known);
    let describes = named(&calls).iter().filter(|name| **name == "DescribeAutoScalingGroups").count();
    let others: Vec<_> = calls.iter().filter(|call| !call.operation.starts_with("Describe")).collect();
    assert!(describes <= 2, "{calls:?}");
    assert_eq!(others.len(), 1, "{calls:?}");
    assert_eq!(
        (others[0].operation.as_str(), others[0].parameters["DesiredCapacity"].as_str()),
        ("SetDesiredCapacity", "9")
    );

    assert_eq!(group.observe(now).await.unwrap().ready, Some(4));
    minutes(10).await;
    assert_eq!(group.observe(now).await.unwrap().ready, Some(9));
    // Twenty minutes by the account's clock.
    assert!(wall.elapsed() < Duration::from_secs(10), "{:?}", wall.elapsed());
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_on_the_way_the_group_is_what_was_decided_in_the_end() {
    let kinds = [
        FaultKind::Throttle,
        FaultKind::Internal,
        FaultKind::Html,
        FaultKind::Hang,
        FaultKind::Drop,
        FaultKind::LostAnswer,
        FaultKind::Delay(Span::from_secs(4)),
        FaultKind::Stale(Span::from_secs(90)),
    ];
    let now = Timestamp::from_millis(0);
    for seed in 0..120_u32 {
        let account = Account::with_group(u64::from(seed), (1, 40, 4)).await;
        let kind = kinds[seed as usize % kinds.len()].clone();
        account.script(Fault { probability: Some(0.6), ..Fault::new("*", kind.clone()) }.times(12));
        let (group, wanted) = (account.group(), 5 + seed % 30);
        let mut outcomes = Vec::new();
        for _ in 0..40 {
            let outcome = group.apply(&decision(wanted, Mode::Act), now).await;
            let done = matches!(outcome, Ok(Outcome::Unchanged { .. }));
            outcomes.push(outcome.map_err(|error| error.code()));
            minutes(1).await;
            if done {
                break;
            }
        }
        assert_eq!(
            outcomes.last(),
            Some(&Ok(Outcome::Unchanged { units: wanted })),
            "{kind:?}, seed {seed}: {outcomes:?}"
        );
        account.aws.lock().unwrap().calm();
        minutes(10).await;
        let state = group.observe(now).await.unwrap();
        assert_eq!((state.desired, state.ready), (wanted, Some(wanted)), "{kind:?}, seed {seed}");
    }
}
