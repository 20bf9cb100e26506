//! The contract of all targets, and what each failure of a cloud becomes. What becomes of a real group, and that throttled
//! calls go through in the end, is proven against a real server, in `tests/it/aws.rs`.

use std::future::Future;
use std::time::Duration;

use aws_sdk_autoscaling::config::Credentials;
use prescale_domain::{Decision, Mode, Outcome, Span, Timestamp};

use crate::fake_aws::{FakeAws, FakeGroup, Fault};
use crate::{
    ActuateError, Actuator, AsgSettings, AwsAsg, Connections, FleetSettings, Simulated, Target, TargetSettings,
};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const GROUP: FakeGroup = FakeGroup { desired: 4, min: 2, max: 20 };

/// The sample of a decision, with another capacity and mode.
pub(crate) fn decision(desired: u32, mode: Mode) -> Decision {
    let samples: Vec<Decision> = serde_json::from_str(include_str!("../../schemas/samples/decisions.json")).unwrap();
    let mut decision = samples.into_iter().next().unwrap();
    (decision.desired, decision.inputs.mode) = (desired, mode);
    decision
}

/// Reads nothing of this machine.
fn connections() -> Connections {
    let credentials =
        Credentials::builder().access_key_id("testing").secret_access_key("testing").provider_name("test").build();
    Connections::with(credentials, None)
}

fn asg_settings(url: &str) -> AsgSettings {
    AsgSettings {
        endpoint_url: Some(url.to_owned()),
        timeout: Span::from_millis(2500),
        attempt_timeout: Span::from_millis(300),
        ..AsgSettings::new("web", 1, 100)
    }
}

async fn asg(aws: &FakeAws) -> AwsAsg {
    AwsAsg::new(asg_settings(&aws.url), &connections())
}

async fn both_targets() -> Vec<Target> {
    let fleet = FleetSettings { min: GROUP.min, max: GROUP.max, initial: GROUP.desired, ..FleetSettings::default() };
    let aws = FakeAws::start(GROUP, &[]).await;
    vec![Target::Simulated(Simulated::new(fleet)), Target::AwsAsg(asg(&aws).await)]
}

/// No call may take longer, whatever the other side does: the operation's limit is 2.5 s here.
async fn in_time<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(6), call).await.expect("a target must answer within its own time limit")
}

#[tokio::test]
async fn what_was_applied_is_observed_and_applying_twice_is_applying_once() {
    for target in both_targets().await {
        let name = target.describe();
        assert_eq!(target.observe(NOW).await.unwrap().desired, 4, "{name}");
        let wish = decision(9, Mode::Act);
        let first = target.apply(&wish, NOW).await.unwrap();
        assert_eq!(first, Outcome::Applied { units: 9, clamped: false }, "{name}");
        assert_eq!(target.observe(NOW).await.unwrap().desired, 9, "{name}");
        assert_eq!(target.apply(&wish, NOW).await.unwrap(), Outcome::Unchanged { units: 9 }, "{name}");
        let state = target.observe(NOW).await.unwrap();
        assert_eq!((state.desired, state.min, state.max, state.observed_at), (9, Some(2), Some(20), NOW), "{name}");
    }
}

#[tokio::test]
async fn wishes_outside_the_bounds_are_clamped_and_say_so() {
    for target in both_targets().await {
        let name = target.describe();
        let above = target.apply(&decision(500, Mode::Act), NOW).await.unwrap();
        assert_eq!(above, Outcome::Applied { units: 20, clamped: true }, "{name}");
        let again = target.apply(&decision(600, Mode::Act), NOW).await.unwrap();
        assert_eq!(again, Outcome::Unchanged { units: 20 }, "{name}");
        let below = target.apply(&decision(0, Mode::Act), NOW).await.unwrap();
        assert_eq!(below, Outcome::Applied { units: 2, clamped: true }, "{name}");
    }
}

#[tokio::test]
async fn only_decisions_of_mode_act_are_applied() {
    for target in both_targets().await {
        for mode in [Mode::Observe, Mode::Recommend] {
            let refusal = target.apply(&decision(9, mode), NOW).await.unwrap_err();
            assert_eq!(refusal.code(), "invalid");
        }
        assert_eq!(target.observe(NOW).await.unwrap().desired, 4);
    }
}

#[tokio::test]
async fn warm_pool_and_ill_instances_are_not_ready() {
    let aws = FakeAws::start(GROUP, &[]).await;
    assert_eq!(asg(&aws).await.observe(NOW).await.unwrap().ready, Some(4));
}

#[tokio::test]
async fn each_failure_has_its_kind() {
    let cases = [
        (vec![Fault::Aws(400, "Throttling", "Rate exceeded"); 3], "throttled"),
        (vec![Fault::Aws(403, "AccessDenied", "not authorized to perform it")], "denied"),
        (vec![Fault::Aws(400, "ValidationError", "AutoScalingGroup name not found - no such group")], "not-found"),
        (vec![Fault::Aws(400, "ValidationError", "New SetDesiredCapacity value 50 is above max value 20")], "invalid"),
        (vec![Fault::Aws(400, "ScalingActivityInProgress", "cooldown")], "conflict"),
        (vec![Fault::Aws(500, "ResourceContention", "another update"); 3], "conflict"),
        (vec![Fault::Aws(500, "InternalFailure", "x"); 3], "other"),
        (vec![Fault::Html; 3], "other"),
        (vec![Fault::Hang; 9], "timeout"),
        (vec![Fault::Drop; 9], "unreachable"),
    ];
    for (faults, code) in cases {
        let first = faults[0];
        let aws = FakeAws::start(GROUP, &faults).await;
        let error = in_time(asg(&aws).await.observe(NOW)).await.unwrap_err();
        assert_eq!(error.code(), code, "{first:?} became: {error}");
        assert!(error.to_string().starts_with("describe group of asg `web`: "), "{error}");
    }
}

#[tokio::test]
async fn a_page_that_is_not_aws_is_told_as_such() {
    let aws = FakeAws::start(GROUP, &[Fault::Html; 3]).await;
    let error = in_time(asg(&aws).await.observe(NOW)).await.unwrap_err();
    let ActuateError::Other(failure) = error else { panic!("{error:?}") };
    assert_eq!(failure.detail, "HTTP 500 (text/html) that is not an answer of AWS");
}

#[tokio::test]
async fn nothing_listening_is_unreachable() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let target = AwsAsg::new(asg_settings(&format!("http://{free}")), &connections());
    let error = in_time(target.observe(NOW)).await.unwrap_err();
    assert_eq!(error.code(), "unreachable", "{error}");
}

#[tokio::test]
async fn a_restored_fleet_goes_on_as_the_one_that_was_saved() {
    let settings = FleetSettings { initial: 3, ..FleetSettings::default() };
    let saved = Simulated::new(settings);
    assert_eq!(saved.snapshot(), None);
    saved.apply(&decision(8, Mode::Act), NOW).await.unwrap();
    let restored = Simulated::new(settings);
    restored.restore(&saved.snapshot().unwrap()).unwrap();
    for seconds in [0, 140, 160, 400] {
        let now = NOW + Span::from_secs(seconds);
        assert_eq!(restored.observe(now).await.unwrap(), saved.observe(now).await.unwrap());
    }
    assert!(restored.restore("{}").is_err());
}

#[test]
fn settings_are_read_strictly_and_all_faults_are_told() {
    let read = |text: &str| serde_json::from_str::<TargetSettings>(text);
    let asg = read(r#"{"kind": "aws-asg", "group": "web", "min": 2, "max": 200, "price_usd_hour": 0.17}"#).unwrap();
    assert_eq!((asg.min(), asg.max(), asg.price_usd_hour(), asg.allow_replay()), (2, 200, Some(0.17), false));
    let fleet = read(r#"{"kind": "simulated", "fleet": {"min": 1, "max": 9}, "allow_replay": true}"#).unwrap();
    assert_eq!((fleet.min(), fleet.max(), fleet.allow_replay()), (1, 9, true));
    assert!(read(r#"{"kind": "aws-asg", "group": "web", "min": 2, "max": 200, "colour": "blue"}"#).is_err());
    assert!(read(r#"{"kind": "simulated", "flet": {}}"#).is_err());
    let wrong = read(
        r#"{"kind": "aws-asg", "group": "", "min": 5, "max": 2, "timeout": "1s", "attempt_timeout": "2s",
            "max_attempts": 0, "price_usd_hour": -1.0}"#,
    );
    assert_eq!(
        wrong.unwrap().faults(),
        [
            "min 5 exceeds max 2",
            "price_usd_hour -1 is not a price",
            "group is empty",
            "timeout 1s is below attempt_timeout 2s",
            "max_attempts 0 is below 1",
        ]
    );
}
