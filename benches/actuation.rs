//! From a decision to the call at the cloud's door: what Prescale itself adds. The real SDK signs and sends into a wire that
//! answers at once, so that no network is in it; the record before the call goes to a redb file, as in `prescale run`.
//!
//! Prints, for one group and for a tick of 200, how long after the decision was made its call arrives (median and p99 of all
//! calls, over several runs), beside a bare call of the SDK through the same wire. Ends with an error where the p99 of one
//! decision is 20 ms or more, or a tick of 200 groups takes more than two describe calls.

#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]
#![allow(clippy::unwrap_used, reason = "a bench that fails should stop where it fails")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prescale_actuate::wire::{Wire, WireAnswer, WireRequest};
use prescale_actuate::{Actuator, AsgSettings, AwsAsg, Connections, Order, TenureWatch, carry_out};
use prescale_domain::{Actuation, Decision, Mode, Span, Timestamp};
use prescale_store::{RedbStore, Store, Table, Write};

const RUNS: usize = 5;
const ROUNDS: usize = 200;
const GROUPS: usize = 200;
const BOUND: Duration = Duration::from_millis(20);

/// What arrives: the operation, and when.
type Arrivals = Arc<Mutex<Vec<(String, Instant)>>>;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let one = runtime.block_on(measure(1, ROUNDS));
    let tick = runtime.block_on(measure(GROUPS, 5));
    println!("one decision:    {one}");
    println!("tick of {GROUPS}:     {tick}");
    assert!(one.p99 < BOUND, "p99 of one decision is {:?}, not below {BOUND:?}", one.p99);
    assert!(tick.describes <= 2, "a tick of {GROUPS} groups takes {} describe calls", tick.describes);
}

struct Figures {
    median: Duration,
    p99: Duration,
    /// Of a bare call, the median.
    bare: Duration,
    describes: usize,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |span: Duration| span.as_secs_f64() * 1000.0;
        write!(
            f,
            "median {:.2} ms, p99 {:.2} ms, {:.1} x a bare call of the SDK ({:.2} ms); {} describe calls a tick",
            ms(self.median),
            ms(self.p99),
            ms(self.median) / ms(self.bare),
            ms(self.bare),
            self.describes
        )
    }
}

/// Medians over the runs.
async fn measure(groups: usize, rounds: usize) -> Figures {
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(run(groups, rounds).await);
    }
    let median = |of: fn(&Figures) -> Duration| {
        let mut all: Vec<Duration> = runs.iter().map(of).collect();
        all.sort();
        all[all.len() / 2]
    };
    Figures {
        median: median(|run| run.median),
        p99: median(|run| run.p99),
        bare: median(|run| run.bare),
        describes: runs.iter().map(|run| run.describes).max().unwrap(),
    }
}

async fn run(groups: usize, rounds: usize) -> Figures {
    let folder = tempfile::tempdir().unwrap();
    let store = RedbStore::open(folder.path()).unwrap();
    let arrivals = Arrivals::default();
    let names: Vec<String> = (0..groups).map(|number| format!("web-{number:03}")).collect();
    // Rounds follow each other without the seconds that lie between ticks, in which the rate of calls recovers.
    let connections = Connections::over(&wire(&names, Arc::clone(&arrivals))).in_event_time();
    let targets: Vec<AwsAsg> =
        names.iter().map(|name| AwsAsg::new(AsgSettings::new(name, 0, 10_000), &connections)).collect();
    let (mut latencies, mut bare, mut describes) = (Vec::new(), Vec::new(), 0);
    for round in 0..rounds {
        let now = Timestamp::from_millis(1_700_000_000_000) + Span::from_secs(15 * i64::try_from(round).unwrap());
        arrivals.lock().unwrap().clear();
        for target in &targets {
            target.observe(now).await.unwrap();
        }
        let wishes: Vec<Decision> = (0..groups).map(|_| decision(5 + u32::try_from(round % 2).unwrap())).collect();
        let due: Vec<(&Decision, &AwsAsg)> = wishes.iter().zip(&targets).collect();
        let decided = Instant::now();
        let record = |batch: &[Actuation]| store.write(&batch.iter().map(written).collect::<Vec<Write>>());
        carry_out(&due, now, &TenureWatch::default(), Order::Together, record).await.unwrap();
        let arrived = arrivals.lock().unwrap().clone();
        describes = describes.max(arrived.iter().filter(|(operation, _)| operation.starts_with("Describe")).count());
        let calls = arrived.iter().filter(|(operation, _)| operation == "SetDesiredCapacity");
        latencies.extend(calls.map(|(_, at)| at.duration_since(decided)));
        // The reference beside it: a look at one group, which is one call of the SDK and nothing else.
        let began = Instant::now();
        targets[0].observe(now).await.unwrap();
        bare.push(began.elapsed() / u32::try_from(groups.div_ceil(100)).unwrap());
    }
    assert_eq!(latencies.len(), groups * rounds);
    latencies.sort();
    bare.sort();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    Figures { median: at(0.5), p99: at(0.99), bare: bare[bare.len() / 2], describes }
}

fn written(actuation: &Actuation) -> Write {
    let key = format!("{}{}", actuation.target, actuation.at).into_bytes();
    Write { table: Table::Actuations, key, value: serde_json::to_vec(actuation).ok() }
}

fn decision(desired: u32) -> Decision {
    let samples: Vec<Decision> = serde_json::from_str(include_str!("../schemas/samples/decisions.json")).unwrap();
    let mut decision = samples.into_iter().next().unwrap();
    (decision.desired, decision.inputs.mode) = (desired, Mode::Act);
    decision
}

/// Groups that want 4 whatever was asked for, described in one page for those that are named.
fn wire(names: &[String], arrivals: Arrivals) -> Wire {
    let names = names.to_vec();
    Wire::new(move |request: WireRequest| {
        let body = String::from_utf8(request.body).unwrap();
        let field = |name: &str| body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let operation = field("Action").unwrap_or_default().to_owned();
        arrivals.lock().unwrap().push((operation.clone(), Instant::now()));
        let inner = if operation == "DescribeAutoScalingGroups" {
            let asked = |name: &&String| body.contains(&format!("={name}"));
            let groups: String = names.iter().filter(asked).map(|name| group(name)).collect();
            format!(
                "<DescribeAutoScalingGroupsResult><AutoScalingGroups>{groups}</AutoScalingGroups></DescribeAutoScalingGroupsResult>"
            )
        } else {
            String::new()
        };
        let xml = "http://autoscaling.amazonaws.com/doc/2011-01-01/";
        let answer = format!("<{operation}Response xmlns=\"{xml}\">{inner}</{operation}Response>");
        async move {
            let headers = vec![("content-type".to_owned(), "text/xml".to_owned())];
            WireAnswer::Reply { status: 200, headers, body: answer.into_bytes(), after: Span::ZERO }
        }
    })
}

fn group(name: &str) -> String {
    let instance = "<member><InstanceId>i-0</InstanceId><AvailabilityZone>a</AvailabilityZone>\
                    <LifecycleState>InService</LifecycleState><HealthStatus>Healthy</HealthStatus>\
                    <ProtectedFromScaleIn>false</ProtectedFromScaleIn></member>";
    format!(
        "<member><AutoScalingGroupName>{name}</AutoScalingGroupName><MinSize>0</MinSize><MaxSize>10000</MaxSize>\
         <DesiredCapacity>4</DesiredCapacity><DefaultCooldown>300</DefaultCooldown>\
         <HealthCheckType>EC2</HealthCheckType><CreatedTime>2026-01-01T00:00:00Z</CreatedTime>\
         <AvailabilityZones><member>a</member></AvailabilityZones><Instances>{}</Instances></member>",
        instance.repeat(4)
    )
}
