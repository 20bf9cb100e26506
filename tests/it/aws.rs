//! Auto Scaling groups through a real AWS-protocol server. Rule: boto3 has the last word on what became of a group.

use std::time::{Duration, Instant};

use prescale_actuate::{Actuator, AsgSettings, Target, TargetSettings};
use prescale_domain::{
    Decision, DecisionId, DecisionInputs, DecisionKind, DecisionMemory, LeadTime, Mode, Outcome, PolicySettings, Span,
    Timestamp,
};
use serde_json::json;

use crate::kit;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn decision(desired: u32) -> Decision {
    let settings = PolicySettings {
        unit_capacity: 50.0,
        min_units: 1,
        max_units: 1000,
        quantile: 0.95,
        step_up_units: 1000,
        step_down_units: 1000,
        cooldown_up: Span::ZERO,
        cooldown_down: Span::ZERO,
        stabilization_down: Span::ZERO,
        hysteresis: 0.0,
        reactive_utilization: 0.7,
        stale_after: Span::from_minutes(5),
        blind_after: Span::from_minutes(10),
    };
    let lead_time = LeadTime {
        data_age: Span::ZERO,
        decision_interval: Span::from_minutes(1),
        provisioning_latency: Span::from_minutes(3),
        warm_up: Span::ZERO,
    };
    let inputs = DecisionInputs {
        service: "web".into(),
        at: NOW,
        mode: Mode::Act,
        settings,
        load: None,
        load_window_end: None,
        forecast: None,
        forecast_missing: "test".to_owned(),
        lead_time,
        target: None,
        memory: DecisionMemory::default(),
    };
    Decision {
        id: DecisionId::new(&inputs),
        service: inputs.service.clone(),
        at: NOW,
        kind: DecisionKind::None,
        desired,
        need: None,
        reasons: Vec::new(),
        memory: DecisionMemory::default(),
        inputs,
    }
}

/// A target with time to spare: the machine may be busy with other tests.
fn target(group: &str, endpoint: &str) -> Target {
    target_within(group, endpoint, Span::from_secs(30))
}

fn target_within(group: &str, endpoint: &str, timeout: Span) -> Target {
    let settings = AsgSettings {
        endpoint_url: Some(endpoint.to_owned()),
        timeout,
        attempt_timeout: Span::from_millis(timeout.millis() / 3),
        ..AsgSettings::new(group, 1, 100)
    };
    TargetSettings::AwsAsg(settings).build().unwrap()
}

#[tokio::test]
async fn capacity_changes_and_everything_else_of_the_group_stays() {
    let (Some(_), Some(proxy)) = (kit::moto(), kit::aws_proxy()) else { return };
    let name = kit::unique("web");
    kit::create_group(&name, 2, 20, 4);
    let before = kit::group(&name);
    assert!(before["MixedInstancesPolicy"]["InstancesDistribution"].is_object(), "{before}");
    let target = target(&name, &proxy);

    assert_eq!(target.observe(NOW).await.unwrap().desired, 4);
    let mut outcomes = Vec::new();
    for desired in [9, 9, 500, 6] {
        outcomes.push(target.apply(&decision(desired), NOW).await.unwrap());
    }
    assert_eq!(
        outcomes,
        [
            Outcome::Applied { units: 9, clamped: false },
            Outcome::Unchanged { units: 9 },
            Outcome::Applied { units: 20, clamped: true },
            Outcome::Applied { units: 6, clamped: false },
        ]
    );
    assert_eq!(kit::granted_capacities(&proxy, &name), [9, 20, 6]);
    let after = kit::group(&name);
    assert_eq!(after["DesiredCapacity"], 6);
    for setting in ["MixedInstancesPolicy", "MinSize", "MaxSize", "AvailabilityZones", "Tags", "DefaultCooldown"] {
        assert_eq!(after[setting], before[setting], "{setting}");
    }
    // The policy is what keeps the fleet on spot: nothing but the one call may ever write.
    let written: Vec<_> = kit::proxy_log(&proxy, &name).iter().map(|call| call["operation"].clone()).collect();
    assert!(written.iter().all(|call| call == "SetDesiredCapacity" || call == "DescribeAutoScalingGroups"));
}

#[tokio::test]
async fn a_missing_group_is_named() {
    let Some(moto) = kit::moto() else { return };
    let name = kit::unique("missing");
    let error = target(&name, &moto).apply(&decision(5), NOW).await.unwrap_err();
    assert_eq!(error.code(), "not-found", "{error}");
    assert!(error.to_string().contains(&name), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_unreachable() {
    if kit::moto().is_none() {
        return;
    }
    let endpoint = format!("http://127.0.0.1:{}", kit::free_port());
    let error = target("web", &endpoint).observe(NOW).await.unwrap_err();
    assert_eq!(error.code(), "unreachable", "{error}");
}

#[tokio::test]
async fn an_endpoint_that_hangs_costs_seconds() {
    let (Some(_), Some(proxy)) = (kit::moto(), kit::aws_proxy()) else { return };
    let name = kit::unique("hanging");
    kit::proxy_rule(
        &proxy,
        &json!({"operation": "DescribeAutoScalingGroups", "group": name, "mode": "hang", "count": 9, "seconds": 30}),
    );
    let start = Instant::now();
    let error = target_within(&name, &proxy, Span::from_secs(4)).observe(NOW).await.unwrap_err();
    assert_eq!(error.code(), "timeout", "{error}");
    assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
}

#[tokio::test]
async fn a_call_that_is_throttled_twice_goes_through() {
    let (Some(_), Some(proxy)) = (kit::moto(), kit::aws_proxy()) else { return };
    let name = kit::unique("throttled");
    kit::create_group(&name, 1, 10, 2);
    kit::proxy_rule(&proxy, &json!({"operation": "SetDesiredCapacity", "group": name, "mode": "throttle", "count": 2}));
    let outcome = target(&name, &proxy).apply(&decision(7), NOW).await.unwrap();
    assert_eq!(outcome, Outcome::Applied { units: 7, clamped: false });
    let calls = kit::proxy_log(&proxy, &name);
    let faults: Vec<_> =
        calls.iter().filter(|call| call["operation"] == "SetDesiredCapacity").map(|call| &call["fault"]).collect();
    assert_eq!(faults, [&json!("throttle"), &json!("throttle"), &json!(null)]);
    assert_eq!(kit::group(&name)["DesiredCapacity"], 7);
}

#[tokio::test]
async fn refused_credentials_are_denied() {
    let (Some(_), Some(proxy)) = (kit::moto(), kit::aws_proxy()) else { return };
    let name = kit::unique("denied");
    kit::proxy_rule(
        &proxy,
        &json!({"operation": "DescribeAutoScalingGroups", "group": name, "mode": "denied", "count": 1}),
    );
    let error = target(&name, &proxy).observe(NOW).await.unwrap_err();
    assert_eq!(error.code(), "denied", "{error}");
}
