//! The account, call by call, as a client sees it. Rule: expectations are what AWS documents, worked by hand.

mod eks;
mod faults;
mod groups;
mod laws;
mod split;
mod spot;
mod waits;

use prescale_actuate::wire::{WireAnswer, WireRequest};
use prescale_domain::{Span, Timestamp};
use serde_json::Value;

use super::{Aws, AwsSettings, Rate};

/// A client at a desk, with a clock that it moves itself.
struct Desk {
    aws: Aws,
    now: Timestamp,
}

/// What a service answered: its body, or status and code.
type Answered = Result<String, (u16, String)>;

impl Desk {
    /// An account whose launches take 100 s sharp and whose buckets never empty.
    fn new() -> Self {
        let plenty = Rate { burst: 1e9, per_second: 1e9 };
        Self::of(AwsSettings {
            launch_latency: Span::from_secs(100),
            launch_latency_p90: Span::from_secs(100),
            autoscaling_rate: plenty,
            ec2_rate: plenty,
            eks_rate: plenty,
            ..AwsSettings::default()
        })
    }

    fn of(settings: AwsSettings) -> Self {
        let now = settings.start;
        Self { aws: Aws::new(settings).unwrap(), now }
    }

    fn wait(&mut self, secs: i64) {
        self.now = self.now + Span::from_secs(secs);
        self.aws.advance(self.now);
    }

    fn send(&mut self, request: &WireRequest) -> WireAnswer {
        self.aws.call(self.now, request)
    }

    #[track_caller]
    fn answered(&mut self, request: &WireRequest) -> Answered {
        match self.send(request) {
            WireAnswer::Reply { status: 200, body, .. } => Ok(String::from_utf8(body).unwrap()),
            WireAnswer::Reply { status, .. } => {
                Err((status, self.aws.log().last().and_then(|call| call.error.clone()).unwrap_or_default()))
            }
            other => panic!("{other:?}"),
        }
    }

    /// A call of Auto Scaling with parameters as in a URL.
    #[track_caller]
    fn asg(&mut self, operation: &str, parameters: &str) -> Answered {
        self.answered(&query("2011-01-01", operation, parameters))
    }

    #[track_caller]
    fn ec2(&mut self, operation: &str, parameters: &str) -> Answered {
        self.answered(&query("2016-11-15", operation, parameters))
    }

    /// Status and message of a refusal of Auto Scaling.
    #[track_caller]
    fn refusal(&mut self, operation: &str, parameters: &str) -> String {
        match self.send(&query("2011-01-01", operation, parameters)) {
            WireAnswer::Reply { status, body, .. } if status != 200 => {
                let body = String::from_utf8(body).unwrap();
                format!("{status} {}: {}", all(&body, "Code")[0], all(&body, "Message")[0])
            }
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn rest(&mut self, method: &str, path: &str, body: &Value) -> Result<Value, (u16, Value)> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let request = WireRequest {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
        };
        match self.send(&request) {
            WireAnswer::Reply { status, body, .. } => {
                let body = serde_json::from_slice(&body).unwrap();
                if status == 200 { Ok(body) } else { Err((status, body)) }
            }
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn sqs(&mut self, operation: &str, body: &Value) -> Value {
        let request = WireRequest {
            method: "POST".to_owned(),
            path: "/".to_owned(),
            query: String::new(),
            headers: vec![("x-amz-target".to_owned(), format!("AmazonSQS.{operation}"))],
            body: body.to_string().into_bytes(),
        };
        serde_json::from_str(&self.answered(&request).unwrap()).unwrap()
    }

    /// Events of that kind that came since the last look: the instances they are about.
    #[track_caller]
    fn events(&mut self, kind: &str) -> Vec<String> {
        let url = "https://sqs.eu-west-1.amazonaws.com/123456789012/events";
        let mut found = Vec::new();
        loop {
            let input = serde_json::json!({"QueueUrl": url, "MaxNumberOfMessages": 10});
            let answer = self.sqs("ReceiveMessage", &input);
            let Some(messages) = answer["Messages"].as_array() else { return found };
            for message in messages {
                let event: Value = serde_json::from_str(message["Body"].as_str().unwrap()).unwrap();
                if event["detail-type"] == kind {
                    let detail = &event["detail"];
                    let id = detail["instance-id"].as_str().or(detail["EC2InstanceId"].as_str());
                    found.push(id.unwrap().to_owned());
                }
                let delete = serde_json::json!({"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]});
                self.sqs("DeleteMessage", &delete);
            }
        }
    }

    #[track_caller]
    fn create(&mut self, name: &str, (min, max, desired): (u32, u32, u32), more: &str) {
        let launches =
            if more.contains("MixedInstancesPolicy") { "" } else { "&LaunchTemplate.LaunchTemplateName=default" };
        let parameters = format!(
            "AutoScalingGroupName={name}&MinSize={min}&MaxSize={max}&DesiredCapacity={desired}{launches}{ZONES}&{more}"
        );
        self.asg("CreateAutoScalingGroup", &parameters).unwrap();
    }

    #[track_caller]
    fn set_desired(&mut self, name: &str, desired: u32) {
        self.asg("SetDesiredCapacity", &format!("AutoScalingGroupName={name}&DesiredCapacity={desired}")).unwrap();
    }

    #[track_caller]
    fn describe(&mut self, name: &str) -> String {
        self.asg("DescribeAutoScalingGroups", &format!("AutoScalingGroupNames.member.1={name}")).unwrap()
    }

    /// Lifecycle states of a group's instances, counted.
    #[track_caller]
    fn states(&mut self, name: &str) -> std::collections::BTreeMap<String, usize> {
        counted(all(&self.describe(name), "LifecycleState"))
    }

    /// Ids of the group's instances in service.
    #[track_caller]
    fn serving(&mut self, name: &str) -> Vec<String> {
        let described = self.describe(name);
        let states = all(&described, "LifecycleState");
        let ids = all(&described, "InstanceId");
        ids.into_iter().zip(states).filter(|(_, state)| state == "InService").map(|(id, _)| id).collect()
    }

    /// Instances that EC2 runs: on demand, spot.
    #[track_caller]
    fn bought(&mut self) -> (usize, usize) {
        let body = self.ec2(
            "DescribeInstances",
            "Filter.1.Name=instance-state-name&Filter.1.Value.1=running&Filter.1.Value.2=pending",
        );
        let body = body.unwrap();
        let spot = all(&body, "instanceLifecycle").len();
        (all(&body, "instanceId").len() - spot, spot)
    }
}

const ZONES: &str = "&AvailabilityZones.member.1=eu-west-1a&AvailabilityZones.member.2=eu-west-1b\
                     &AvailabilityZones.member.3=eu-west-1c";

/// Four types, so much on demand, at the recommended strategy.
fn mixed(base: u32, percent_above: u32) -> String {
    let kinds = ["m5.large", "m5a.large", "m6i.large", "c5.large"].iter().enumerate();
    let overrides: String = kinds
        .map(|(number, kind)| {
            format!("&MixedInstancesPolicy.LaunchTemplate.Overrides.member.{}.InstanceType={kind}", number + 1)
        })
        .collect();
    format!(
        "MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification.LaunchTemplateName=default{overrides}\
         &MixedInstancesPolicy.InstancesDistribution.OnDemandBaseCapacity={base}\
         &MixedInstancesPolicy.InstancesDistribution.OnDemandPercentageAboveBaseCapacity={percent_above}\
         &MixedInstancesPolicy.InstancesDistribution.SpotAllocationStrategy=price-capacity-optimized"
    )
}

fn query(version: &str, operation: &str, parameters: &str) -> WireRequest {
    WireRequest {
        method: "POST".to_owned(),
        path: "/".to_owned(),
        query: String::new(),
        headers: Vec::new(),
        body: format!("Action={operation}&Version={version}&{parameters}").into_bytes(),
    }
}

/// The contents of all elements of a name, in order.
fn all(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let parts = xml.split(open.as_str()).skip(1);
    parts.filter_map(|part| part.split_once(close.as_str()).map(|(text, _)| text.to_owned())).collect()
}

fn counted(words: Vec<String>) -> std::collections::BTreeMap<String, usize> {
    let mut counts = std::collections::BTreeMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

/// Counts by name, for comparisons.
fn counts<const N: usize>(expected: [(&str, usize); N]) -> std::collections::BTreeMap<String, usize> {
    expected.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}
