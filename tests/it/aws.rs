//! Auto Scaling groups through a real AWS-protocol server. Rule: boto3 has the last word on what became of a group. What
//! each failure of the cloud becomes is proven beside the target, in `src/actuate/tests.rs`.

use prescale_actuate::{Actuator, AsgSettings, Target, TargetSettings};
use prescale_domain::{Decision, Mode, Outcome, Span, Timestamp};
use serde_json::json;

use crate::kit;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// The sample of a decision, to act, with another capacity.
fn decision(desired: u32) -> Decision {
    let samples: Vec<Decision> = serde_json::from_str(include_str!("../../schemas/samples/decisions.json")).unwrap();
    let mut decision = samples.into_iter().next().unwrap();
    (decision.desired, decision.inputs.mode) = (desired, Mode::Act);
    decision
}

/// A target with time to spare: the machine may be busy with other tests.
fn target(group: &str, endpoint: &str) -> Target {
    let settings = AsgSettings {
        endpoint_url: Some(endpoint.to_owned()),
        region: Some("eu-west-1".to_owned()),
        timeout: Span::from_secs(30),
        attempt_timeout: Span::from_secs(10),
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
    assert!(
        written
            .iter()
            .all(|call| call == "SetDesiredCapacity" || call.as_str().is_some_and(|name| name.starts_with("Describe")))
    );
}

#[tokio::test]
async fn a_missing_group_is_named() {
    let Some(moto) = kit::moto() else { return };
    let name = kit::unique("missing");
    let target = target(&name, &moto);
    let expected = format!(
        "describe group of asg `{name}`: no group of this name in eu-west-1\n\
         hint: check the target's name, its region and its account"
    );
    for error in [target.observe(NOW).await.unwrap_err(), target.apply(&decision(5), NOW).await.unwrap_err()] {
        assert_eq!((error.code(), error.to_string()), ("not-found", expected.clone()));
    }
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
