//! Interruptions, rebalancing and prices.

use super::*;

/// A spot group of four that serves.
fn spot_group(more: &str, sizes: (u32, u32, u32)) -> Desk {
    let mut desk = Desk::new();
    // No word of the market but the scripted ones.
    desk.aws = {
        let mut settings = (*desk.aws.world.settings).clone();
        settings.market.rebalance.false_per_day = 0.0;
        Aws::new(settings).unwrap()
    };
    desk.create("web", sizes, &(mixed(0, 0) + more));
    desk.wait(200);
    desk
}

#[test]
fn without_rebalancing_a_lost_instance_is_missed_and_then_replaced() {
    let mut desk = spot_group("", (0, 4, 4));
    let ids = desk.serving("web");
    let notice = desk.now + Span::from_secs(10);
    assert!(desk.aws.interrupt(&ids[1], None, notice));
    desk.wait(10);
    assert_eq!(desk.events("EC2 Spot Instance Interruption Warning"), [ids[1].clone()]);
    assert_eq!(desk.serving("web"), ids);
    desk.wait(120);
    // It is gone, and the group does not know yet.
    assert_eq!((desk.serving("web"), desk.bought()), (ids.clone(), (0, 3)));
    desk.wait(31);
    assert_eq!(desk.states("web"), counts([("InService", 3), ("Pending", 1)]));
    desk.wait(101);
    assert_eq!(desk.serving("web").len(), 4);
    assert_eq!(desk.aws.tally().interrupted, 1);
}

#[test]
fn rebalancing_launches_first_and_may_exceed_the_maximum() {
    let mut desk = spot_group("&CapacityRebalance=true", (0, 4, 4));
    let ids = desk.serving("web");
    let (recommended, notice) = (desk.now + Span::from_secs(10), desk.now + Span::from_secs(600));
    assert!(desk.aws.interrupt(&ids[2], Some(recommended), notice));
    desk.wait(12);
    assert_eq!(desk.events("EC2 Instance Rebalance Recommendation"), [ids[2].clone()]);
    // Five where four are the maximum, as AWS documents.
    assert_eq!(desk.states("web"), counts([("InService", 4), ("Pending", 1)]));
    let mut least = 4;
    for _ in 0..30 {
        desk.wait(10);
        least = least.min(desk.serving("web").len());
    }
    assert_eq!(least, 4);
    assert_eq!(desk.states("web"), counts([("InService", 4)]));
    assert!(!desk.serving("web").contains(&ids[2]));
    desk.wait(600);
    assert_eq!(desk.aws.tally().interrupted, 0);
}

#[test]
fn with_rebalancing_a_notice_out_of_the_blue_is_answered_at_once() {
    let mut desk = spot_group("&CapacityRebalance=true", (0, 8, 4));
    let ids = desk.serving("web");
    assert!(desk.aws.interrupt(&ids[0], None, desk.now));
    desk.wait(3);
    assert_eq!(desk.states("web"), counts([("InService", 3), ("Pending", 1), ("Terminating", 1)]));
    desk.wait(120);
    assert_eq!(desk.states("web"), counts([("InService", 4)]));
}

#[test]
fn the_market_interrupts_by_itself() {
    let mut settings = AwsSettings { launch_latency: Span::from_secs(60), ..AwsSettings::default() };
    let mut market = settings.market();
    for pool in &mut market.pools {
        let hazard = crate::market::Hazard {
            per_hour: 0.5,
            bursts_per_day: 0.0,
            burst_share: 0.0,
            outage: Span::ZERO,
            units_max: None,
        };
        pool.supply = crate::market::Supply::Generated(hazard);
    }
    settings.market = market;
    let mut desk = Desk::of(settings);
    desk.create("web", (0, 40, 30), &(mixed(0, 0) + "&CapacityRebalance=true"));
    for _ in 0..360 {
        desk.wait(60);
    }
    let tally = desk.aws.tally();
    // Thirty instances for six hours at a loss every two: 90 are expected; half of them are recommended and leave before.
    let warned = desk.events("EC2 Instance Rebalance Recommendation").len();
    assert!((50..150).contains(&(tally.ended as usize)), "{tally:?}");
    assert!(warned > 20, "{warned} of {tally:?}");
    assert!((27..=34).contains(&desk.serving("web").len()));
}

#[test]
fn prices_are_told_with_the_last_change_before_the_start() {
    let mut desk = Desk::new();
    desk.wait(5 * 3600);
    let (start, end) = (desk.now - Span::from_secs(2 * 3600 + 1800), desk.now);
    let call = format!("InstanceType.1=m5.large&AvailabilityZone=eu-west-1b&StartTime={start}&EndTime={end}");
    let body = desk.ec2("DescribeSpotPriceHistory", &call).unwrap();
    // Changes by the hour: at 2:00, which holds at 2:30, and at 3:00, 4:00 and 5:00.
    let expected: Vec<String> = [5, 4, 3, 2].iter().map(|hour| format!("2026-01-01T0{hour}:00:00Z")).collect();
    assert_eq!(all(&body, "timestamp"), expected);
    assert!(all(&body, "spotPrice").iter().all(|price| (0.01..0.107).contains(&price.parse::<f64>().unwrap())));
}

#[test]
fn few_types_score_low() {
    let mut desk = Desk::new();
    let score = |desk: &mut Desk, types: &str| {
        let body = desk.ec2("GetSpotPlacementScores", &format!("TargetCapacity=50&{types}")).unwrap();
        all(&body, "score")[0].parse::<u32>().unwrap()
    };
    assert_eq!(score(&mut desk, "InstanceType.1=m5.large"), 3);
    assert_eq!(score(&mut desk, "InstanceType.1=m5.large&InstanceType.2=m5a.large&InstanceType.3=c5.large"), 10);
    let body = desk.ec2("DescribeInstanceTypes", "InstanceType.1=m6i.xlarge").unwrap();
    assert_eq!((all(&body, "defaultVCpus"), all(&body, "sizeInMiB")), (vec!["4".into()], vec!["16384".into()]));
}
