//! Throttling and scripted faults.

use super::*;
use crate::aws::{Fault, FaultKind};

fn describe() -> WireRequest {
    query("2011-01-01", "DescribeAutoScalingGroups", "")
}

#[test]
fn one_bucket_holds_for_all_calls_of_a_service() {
    let rate = Rate { burst: 3.0, per_second: 1.0 };
    let settings = AwsSettings { autoscaling_rate: rate, ec2_rate: rate, eks_rate: rate, ..AwsSettings::default() };
    let mut desk = Desk::of(settings);
    let throttled = Err((400, "Throttling".to_owned()));
    assert!(desk.asg("DescribeAutoScalingGroups", "").is_ok());
    assert!(desk.asg("DescribeScalingActivities", "").is_ok());
    assert!(desk.asg("DescribeAutoScalingGroups", "").is_ok());
    assert_eq!(desk.asg("DescribeScalingActivities", ""), throttled);
    assert_eq!(desk.refusal("DescribeAutoScalingGroups", ""), "400 Throttling: Rate exceeded");
    for _ in 0..3 {
        assert!(desk.ec2("DescribeInstances", "").is_ok());
    }
    assert_eq!(desk.ec2("DescribeInstances", ""), Err((503, "RequestLimitExceeded".to_owned())));
    for _ in 0..3 {
        assert_eq!(desk.rest("GET", "/clusters/none", &Value::Null).unwrap_err().0, 404);
    }
    assert_eq!(desk.rest("GET", "/clusters/none", &Value::Null).unwrap_err().0, 429);
    assert_eq!(desk.aws.log().last().unwrap().error.as_deref(), Some("ThrottlingException"));
    desk.wait(1);
    assert!(desk.asg("DescribeAutoScalingGroups", "").is_ok());
    assert_eq!(desk.asg("DescribeAutoScalingGroups", ""), throttled);
}

#[test]
fn each_fault_has_its_form() {
    let mut desk = Desk::new();
    for kind in [FaultKind::Html, FaultKind::Hang, FaultKind::Drop, FaultKind::Delay(Span::from_secs(5))] {
        desk.aws.script(Fault::new("*", kind).times(1));
    }
    let html = desk.send(&describe());
    assert!(matches!(&html, WireAnswer::Reply { status: 500, headers, .. } if headers[0].1 == "text/html"), "{html:?}");
    assert_eq!(desk.send(&describe()), WireAnswer::Hang);
    assert_eq!(desk.send(&describe()), WireAnswer::Dropped { after: Span::from_millis(20) });
    let late = desk.send(&describe());
    assert!(matches!(late, WireAnswer::Reply { status: 200, after, .. } if after == Span::from_millis(5020)));
    for (kind, expected) in [
        (FaultKind::Throttle, (400, "Throttling")),
        (FaultKind::Denied, (403, "AccessDenied")),
        (FaultKind::Internal, (500, "InternalFailure")),
        (
            FaultKind::Error { status: 500, code: "ResourceContention".to_owned(), message: "busy".to_owned() },
            (500, "ResourceContention"),
        ),
    ] {
        desk.aws.script(Fault::new("DescribeAutoScalingGroups", kind).times(1));
        assert!(desk.asg("DescribeScalingActivities", "").is_ok());
        assert_eq!(desk.answered(&describe()), Err((expected.0, expected.1.to_owned())));
        assert!(desk.answered(&describe()).is_ok());
    }
    let statuses: Vec<_> = desk.aws.log().iter().take(4).map(|call| call.status).collect();
    assert_eq!(statuses, [Some(500), None, None, Some(200)]);
}

#[test]
fn a_lost_answer_has_had_its_effect_and_a_dropped_call_has_not() {
    let mut desk = Desk::new();
    desk.create("web", (0, 20, 1), "");
    let set = |desired: u32| {
        query("2011-01-01", "SetDesiredCapacity", &format!("AutoScalingGroupName=web&DesiredCapacity={desired}"))
    };
    for (kind, desired, after) in [(FaultKind::Drop, 5, "1"), (FaultKind::LostAnswer, 6, "6")] {
        desk.aws.script(Fault { about: Some("web".to_owned()), ..Fault::new("SetDesiredCapacity", kind).times(1) });
        assert!(matches!(desk.send(&set(desired)), WireAnswer::Dropped { .. }));
        assert_eq!(all(&desk.describe("web"), "DesiredCapacity"), [after]);
    }
}

#[test]
fn a_stale_read_tells_of_then_and_changes_nothing_now() {
    let mut desk = Desk::new();
    desk.create("web", (0, 20, 1), "");
    desk.aws.script(Fault::new("*", FaultKind::Stale(Span::from_secs(30))));
    desk.wait(60);
    desk.set_desired("web", 7);
    desk.wait(29);
    assert_eq!(all(&desk.describe("web"), "DesiredCapacity"), ["1"]);
    desk.wait(1);
    assert_eq!(all(&desk.describe("web"), "DesiredCapacity"), ["7"]);
    desk.wait(200);
    desk.aws.calm();
    assert_eq!(desk.states("web"), counts([("InService", 7)]));
}

#[test]
fn rules_hold_in_their_time_and_by_their_share() {
    let mut desk = Desk::new();
    let (from, until) = (desk.now + Span::from_secs(10), desk.now + Span::from_secs(20));
    desk.aws.script(Fault { from: Some(from), until: Some(until), ..Fault::new("*", FaultKind::Internal) });
    let mut failed = Vec::new();
    for _ in 0..30 {
        failed.push(desk.answered(&describe()).is_err());
        desk.wait(1);
    }
    assert!(failed.iter().enumerate().all(|(second, failed)| *failed == (10..20).contains(&second)));
    desk.aws.calm();
    desk.aws.script(Fault { probability: Some(0.2), ..Fault::new("*", FaultKind::Throttle) });
    let struck = (0..1000).filter(|_| desk.answered(&describe()).is_err()).count();
    assert!((150..250).contains(&struck), "{struck}");
}

#[test]
fn a_port_may_script_and_read_the_log() {
    let mut desk = Desk::new();
    let rule = serde_json::json!({"operation": "DescribeAutoScalingGroups", "kind": {"delay": "3s"}, "count": 1});
    desk.rest("POST", "/__faults", &rule).unwrap();
    assert!(matches!(desk.send(&describe()), WireAnswer::Reply { after, .. } if after == Span::from_millis(3020)));
    let log = desk.rest("GET", "/__log", &Value::Null).unwrap();
    assert_eq!((&log[0]["operation"], &log[0]["status"]), (&"DescribeAutoScalingGroups".into(), &200.into()));
    assert_eq!(desk.rest("POST", "/__faults", &serde_json::json!({"kind": "hang"})).unwrap_err().0, 400);
}

#[test]
fn what_is_no_call_is_refused_and_never_panics() {
    let mut desk = Desk::new();
    for body in [
        "",
        "Action=",
        "%",
        "Version=2011-01-01",
        "Action=X&Version=1999-01-01",
        "Action=DescribeInstances&Version=2016-11-15&InstanceId.1=",
        "\u{0}=&&&=x",
    ] {
        let request = WireRequest { body: body.as_bytes().to_vec(), ..query("", "", "") };
        assert!(desk.answered(&request).is_err(), "{body:?}");
    }
    for path in ["/clusters", "/clusters/%2F/node-groups", "//", "/clusters//updates"] {
        assert!(desk.rest("GET", path, &Value::Null).is_err(), "{path}");
    }
}
