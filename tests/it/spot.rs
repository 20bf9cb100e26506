//! Spot first, from end to end: a real service, a simulated account on a port that takes its units away, notices through its
//! queue and a real topic. Rule: what the account counts decides, not what the service says of itself.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prescale_actuate::wire::{Wire, WireAnswer, WireRequest};
use prescale_domain::{CapacityRecord, Clock as _, Span, SystemClock};
use prescale_serve::serve_wire;
use prescale_simulation::aws::{Aws, AwsSettings, Shortage};
use prescale_simulation::market::{Prices, Supply};
use serde_json::Value;

use crate::kit;
use crate::kit::config::Setup;

const UNITS: usize = 10;

const TYPES: [&str; 4] = ["m5.large", "m5a.large", "m6i.large", "m7i.large"];
const CHEAP: [&str; 2] = ["m5.large", "m5a.large"];
/// From the start of the account.
const FALLS: Span = Span::from_secs(145);

/// An account in the time of this machine, whose instances serve after seconds; half of its pools fall.
struct Account {
    aws: Arc<Mutex<Aws>>,
    wire: Wire,
    url: String,
    begun: Instant,
    runtime: tokio::runtime::Runtime,
}

impl Account {
    fn start() -> Self {
        let mut settings = AwsSettings {
            start: SystemClock.now(),
            launch_latency: Span::from_secs(3),
            launch_latency_p90: Span::from_secs(5),
            termination: Span::from_secs(2),
            ..AwsSettings::default()
        };
        settings.end = settings.start + Span::from_minutes(24 * 60);
        let mut settings = settings.with_losses(0.0);
        settings.market.rebalance.false_per_day = 0.0;
        // The cheapest pools have no units any more from then on; two minutes before, each unit in them is told.
        let falls = settings.start + FALLS;
        for pool in &mut settings.market.pools {
            let is_cheap = CHEAP.contains(&pool.instance_type.as_str());
            pool.prices = Prices::Fixed(if is_cheap { 0.03 } else { 0.05 });
            if is_cheap {
                let instances = vec![(settings.start, 1000.0), (falls, 0.0)];
                pool.supply = Supply::Recorded { instances, units: 1 };
            }
        }
        let (start, end, begun) = (settings.start, settings.end, Instant::now());
        let mut aws = Aws::new(settings).unwrap();
        for kind in CHEAP {
            // What is being taken away is not given to others.
            let (instance_type, zone, spot) = (Some(kind.to_owned()), None, Some(true));
            let from = falls - Span::from_secs(120);
            aws.lack(Shortage { instance_type, zone, spot, from, until: end, units: 0 });
        }
        let aws = Arc::new(Mutex::new(aws));
        let shared = Arc::clone(&aws);
        let wire = Wire::new(move |request: WireRequest| {
            let now = start + Span::from_millis(i64::try_from(begun.elapsed().as_millis()).unwrap());
            std::future::ready(shared.lock().unwrap().call(now, &request))
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(serve_wire(listener, wire.handler()));
        Self { aws, wire, url, begun, runtime }
    }

    fn ask(&self, body: &str) -> String {
        let request = WireRequest {
            method: "POST".to_owned(),
            path: "/".to_owned(),
            body: body.as_bytes().to_vec(),
            ..WireRequest::default()
        };
        let answer = self.runtime.block_on(self.wire.handler()(request));
        let WireAnswer::Reply { status: 200, body, .. } = answer else { panic!("{answer:?}") };
        String::from_utf8(body).unwrap()
    }

    fn make_group(&self) {
        let overrides: String = TYPES
            .iter()
            .enumerate()
            .map(|(at, kind)| {
                format!("&MixedInstancesPolicy.LaunchTemplate.Overrides.member.{}.InstanceType={kind}", at + 1)
            })
            .collect();
        self.ask(&format!(
            "Action=CreateAutoScalingGroup&Version=2011-01-01&AutoScalingGroupName=web&MinSize=2&MaxSize=30&DesiredCapacity={UNITS}\
             &AvailabilityZones.member.1=eu-west-1a&AvailabilityZones.member.2=eu-west-1b&AvailabilityZones.member.3=eu-west-1c\
             &MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification.LaunchTemplateName=default{overrides}\
             &MixedInstancesPolicy.InstancesDistribution.OnDemandBaseCapacity=2\
             &MixedInstancesPolicy.InstancesDistribution.OnDemandPercentageAboveBaseCapacity=0"
        ));
    }

    fn in_service(&self) -> usize {
        let groups = self.ask("Action=DescribeAutoScalingGroups&Version=2011-01-01");
        groups.matches("<LifecycleState>InService</LifecycleState>").count()
    }

    fn spot(&self) -> usize {
        let filter = "Filter.1.Name=instance-state-name&Filter.1.Value.1=running";
        let instances = self.ask(&format!("Action=DescribeInstances&Version=2016-11-15&{filter}"));
        instances.matches("<instanceLifecycle>spot</instanceLifecycle>").count()
    }
}

#[test]
fn units_of_pools_that_fall_are_replaced_before_they_are_lost() {
    let Some(kafka) = kit::kafka() else { return };
    let (account, port, input) = (Account::start(), kit::free_port(), kit::unique("spot"));
    account.make_group();
    kit::create_topic(&kafka, &input, 1);
    kit::wait_for("the group", Duration::from_secs(60), || (account.in_service() == UNITS).then_some(()));
    let setup = Setup::new(&kafka, "spot").with(&format!(
        "mode = \"act\"\nserve.listen = \"127.0.0.1:{port}\"\n[policy]\ndecision_interval = \"1s\"\nfast_interval = \"1s\"\n[lead_time]\n\
         provisioning_latency = \"5s\"\nwarm_up = \"0s\"\n[features]\npipelines = [\"{}\"]\nsources = {{ requests = \"{input}\" }}\n\
         [[notices]]\nqueue_url = \"https://sqs.eu-west-1.amazonaws.com/123456789012/events\"\nregion = \"eu-west-1\"\n\
         endpoint_url = \"{}\"\n",
        kit::root().join("pipelines/requests.sql").display(),
        account.url
    ));
    let types: String = TYPES.map(|kind| format!("{{ name = \"{kind}\", usd_hour = 0.1 }}, ")).concat();
    let target = format!(
        r#"{{ kind = "aws-asg", group = "web", min = 2, max = 30, region = "eu-west-1", endpoint_url = "{}", spot = {{ types = [{types}], plan = {{ wish = {{ preference = "require" }}, on_demand_floor = 2 }} }} }}"#,
        account.url
    );
    let setup = setup.service("web", 1.0, &target);
    let mut running = kit::Running::start(&["run", "-c", &setup.config()], &setup.path("log"));
    let decision = || -> Option<Value> {
        let url = format!("http://127.0.0.1:{port}/api/v1/decisions?limit=1&service=web");
        let body = serde_json::from_str::<Value>(&kit::try_http_get(&url)?.1).ok()?;
        let decision = body["decisions"][0].clone();
        decision["split"].is_object().then_some(decision)
    };
    let first = kit::wait_for("a split", Duration::from_secs(60), decision);
    assert_eq!((&first["desired"], &first["split"]["plan"]["on_demand"]), (&UNITS.into(), &2.into()), "{first}");

    let mut least = usize::MAX;
    // Until the pools have fallen, and a little longer.
    while account.begun.elapsed() < (FALLS + Span::from_secs(8)).to_std() {
        least = least.min(account.in_service());
        std::thread::sleep(Duration::from_millis(250));
    }
    let tally = account.aws.lock().unwrap().tally();
    assert!(tally.noticed >= 5, "{tally:?}");
    running.signal("-TERM");
    assert!(running.finish(Duration::from_secs(60)).success(), "{}", running.printed());
    assert_eq!(tally.interrupted, 0, "{tally:?}: each was out of service before it was lost");
    assert!(least >= UNITS, "{least} of {UNITS} units were in service");
    assert!(account.spot() >= UNITS - 2, "{} spot units", account.spot());
    // Each notice went through the topic.
    let told: Vec<CapacityRecord> = kit::consume(&kafka, &setup.topic("capacity"))
        .iter()
        .map(|r| serde_json::from_value(r.json()).unwrap())
        .collect();
    assert!(told.iter().filter(|record| record.notice().is_some()).count() as u64 >= tally.noticed, "{told:?}");
}
