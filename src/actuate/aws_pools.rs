//! What EC2 says of split groups: which of their instances are spot, and what spot costs. Rule: an instance is asked about once,
//! since it never changes; where EC2 does not answer, what is not known stays so, and the groups are seen all the same.

use std::collections::{BTreeMap, BTreeSet};

use aws_smithy_xml::decode::XmlDecodeError;
use prescale_domain::{PoolId, Span, Timestamp};
use prescale_telemetry::actuate::CloudCall;

use crate::aws::Account;
use crate::aws_error::from_sdk;
use crate::aws_group::Group;
use crate::aws_spot::SplitSettings;
use crate::ec2_xml::{self, Page};
use crate::{ActuateError, Failure};

/// Spot prices move by the hour.
const PRICES_EVERY: Span = Span::from_minutes(5);
/// Prices that changed since then are told, and for each pool the one that held before.
const PRICES_SINCE: Span = Span::from_minutes(10);
/// EC2 is left alone for so long after it failed.
const PAUSE: Span = Span::from_minutes(1);
/// Values of one filter: the most that AWS takes.
const IDS_PER_CALL: usize = 200;
const ROWS_PER_PAGE: usize = 1000;

/// What was learnt.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    /// Instance → whether it is a spot instance.
    pub(crate) spot: BTreeMap<String, bool>,
    /// Last known, in USD an hour.
    pub(crate) prices: BTreeMap<PoolId, f64>,
    /// Instances that EC2 was asked about at a tick.
    asked: Option<(Timestamp, BTreeSet<String>)>,
    priced: Option<Timestamp>,
    failed: Option<Timestamp>,
}

impl Pools {
    fn is_open(&self, now: Timestamp) -> bool {
        self.failed.is_none_or(|failed| now.since(failed) >= PAUSE)
    }

    /// Last known prices of the types that are configured, in these zones.
    pub(crate) fn prices_in(&self, zones: &[String], spot: &SplitSettings) -> Vec<(PoolId, f64)> {
        let offers =
            |pool: &PoolId| zones.contains(&pool.zone) && spot.types.iter().any(|one| one.name == pool.instance_type);
        self.prices.iter().filter(|(pool, _)| offers(pool)).map(|(pool, price)| (pool.clone(), *price)).collect()
    }

    /// The instances that EC2 is to be asked about now; those that are gone are forgotten.
    fn unknown<'a>(&mut self, groups: impl Iterator<Item = &'a Group>, now: Timestamp) -> BTreeSet<String> {
        let there: BTreeSet<&String> =
            groups.flat_map(Group::live).map(|member| &member.id).filter(|id| !id.is_empty()).collect();
        self.spot.retain(|id, _| there.contains(id));
        let mut unknown: BTreeSet<String> = there.into_iter().cloned().collect();
        unknown.retain(|id| !self.spot.contains_key(id));
        // One that EC2 does not know yet is asked about again at the next tick.
        if let Some((_, asked)) = self.asked.as_ref().filter(|(at, _)| *at == now) {
            unknown.retain(|id| !asked.contains(id));
        }
        unknown
    }
}

impl Account {
    /// Asks EC2 what is not known of the split groups that the last look has seen: one tick's first target asks for all.
    pub(crate) async fn survey(&self, target: &str, now: Timestamp) {
        let split = self.split_groups();
        let groups = self.seen_of(split.keys()).await;
        let mut pools = self.pools.lock().await;
        let mixed = groups.iter().filter(|(name, _)| split.get(*name).is_some_and(|group| group.is_mixed));
        let unknown = pools.unknown(mixed.map(|(_, group)| group), now);
        if !unknown.is_empty() && pools.is_open(now) {
            let found = self.lifecycles(&unknown, target).await;
            match &mut pools.asked {
                Some((at, asked)) if *at == now => asked.extend(unknown),
                asked => *asked = Some((now, unknown)),
            }
            match found {
                Ok(found) => pools.spot.extend(found),
                Err(_) => pools.failed = Some(now),
            }
        }
        let due = pools.priced.is_none_or(|priced| now.since(priced) >= PRICES_EVERY);
        if due && pools.is_open(now) && !groups.is_empty() {
            let zones: BTreeSet<String> = groups.values().flat_map(|group| group.zones.iter().cloned()).collect();
            let types: BTreeSet<String> = split.into_values().flat_map(|group| group.types).collect();
            match self.spot_prices(&types, &zones, now, target).await {
                Ok(found) => {
                    pools.prices.extend(found);
                    pools.priced = Some(now);
                }
                Err(_) => pools.failed = Some(now),
            }
        }
    }

    async fn lifecycles(&self, ids: &BTreeSet<String>, target: &str) -> Result<Vec<(String, bool)>, ActuateError> {
        let ids: Vec<&String> = ids.iter().collect();
        let mut found = Vec::new();
        for ids in ids.chunks(IDS_PER_CALL) {
            // By filter and not by name: one that EC2 does not know yet would be an error.
            let filter = filter("instance-id", ids.iter().map(|id| id.as_str()));
            found.extend(self.pages("DescribeInstances", filter, ec2_xml::instances, target).await?);
        }
        Ok(found)
    }

    async fn spot_prices(
        &self,
        types: &BTreeSet<String>,
        zones: &BTreeSet<String>,
        now: Timestamp,
        target: &str,
    ) -> Result<BTreeMap<PoolId, f64>, ActuateError> {
        let mut parameters = filter("availability-zone", zones.iter().map(String::as_str));
        parameters
            .extend(types.iter().enumerate().map(|(at, name)| (format!("InstanceType.{}", at + 1), name.clone())));
        parameters.push(("ProductDescription.1".to_owned(), "Linux/UNIX".to_owned()));
        parameters.push(("StartTime".to_owned(), (now - PRICES_SINCE).to_string()));
        let mut rows = self.pages("DescribeSpotPriceHistory", parameters, ec2_xml::spot_prices, target).await?;
        rows.retain(|row| zones.contains(&row.pool.zone));
        // The last of a pool is the one that holds.
        rows.sort_by(|a, b| a.since.cmp(&b.since));
        Ok(rows.into_iter().map(|row| (row.pool, row.usd_hour)).collect())
    }

    /// All pages of one call, each in its turn.
    async fn pages<T>(
        &self,
        name: &'static str,
        parameters: Vec<(String, String)>,
        read: fn(&str) -> Result<Page<T>, XmlDecodeError>,
        target: &str,
    ) -> Result<Vec<T>, ActuateError> {
        let operation = if name == "DescribeInstances" { "describe instances" } else { "describe spot prices" };
        let failure = |detail: String| Failure { operation, target: target.to_owned(), detail };
        let (mut items, mut next) = (Vec::new(), None);
        loop {
            let mut parameters = parameters.clone();
            parameters.push(("MaxResults".to_owned(), ROWS_PER_PAGE.to_string()));
            parameters.extend(next.map(|token| ("NextToken".to_owned(), token)));
            self.turn_in_ec2(operation, target).await?;
            let answer = match self.ec2(target).await?.call(name, &parameters).await {
                Ok(xml) => read(&xml).map_err(|error| {
                    ActuateError::Other(failure(format!("the answer to {name} can't be read: {error}")))
                }),
                Err(error) => Err(from_sdk(&error, failure(String::new()))),
            };
            CloudCall { operation: name, failure: answer.as_ref().err().map(ActuateError::code) }.emit();
            let page = answer?;
            items.extend(page.items);
            next = page.next;
            if next.is_none() {
                return Ok(items);
            }
        }
    }
}

/// The first filter of a call.
fn filter<'a>(name: &str, values: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let mut parameters = vec![("Filter.1.Name".to_owned(), name.to_owned())];
    parameters.extend(values.enumerate().map(|(at, value)| (format!("Filter.1.Value.{}", at + 1), value.to_owned())));
    parameters
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::aws_group::Member;
    use crate::wire::{Wire, WireAnswer, WireRequest};
    use crate::{AsgSettings, Connections};

    fn groups(ids: &[&str]) -> BTreeMap<String, Group> {
        let pool = || PoolId { instance_type: "m5.large".to_owned(), zone: "a".to_owned() };
        let member = |id: &&str| Member {
            id: (*id).to_owned(),
            pool: pool(),
            serves: true,
            leaves: false,
            protected: false,
            weight: 1,
        };
        BTreeMap::from([("web".to_owned(), Group { members: ids.iter().map(member).collect(), ..Group::default() })])
    }

    #[test]
    fn each_instance_is_asked_about_once_and_forgotten_when_it_is_gone() {
        let (first, second) = (Timestamp::from_millis(0), Timestamp::from_millis(15_000));
        let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<String>>();
        let mut pools = Pools::default();
        assert_eq!(pools.unknown(groups(&["i-1", "i-2", "i-3"]).values(), first), set(&["i-1", "i-2", "i-3"]));
        // EC2 knows two of the three.
        pools.asked = Some((first, set(&["i-1", "i-2", "i-3"])));
        pools.spot = BTreeMap::from([("i-1".to_owned(), true), ("i-2".to_owned(), false)]);
        assert_eq!(pools.unknown(groups(&["i-1", "i-2", "i-3"]).values(), first), set(&[]), "no second time at a tick");
        assert_eq!(pools.unknown(groups(&["i-2", "i-3"]).values(), second), set(&["i-3"]));
        assert_eq!(pools.spot, BTreeMap::from([("i-2".to_owned(), false)]));
        assert_eq!(pools.unknown(groups(&[]).values(), second), set(&[]));
        assert!(pools.spot.is_empty());
    }

    /// Each answer has one instance and names the next page, up to the third.
    #[tokio::test]
    async fn all_pages_are_read_and_each_chunk_is_one_call() {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&calls);
        let wire = Wire::new(move |request: WireRequest| {
            let body = String::from_utf8(request.body.clone()).unwrap();
            let authorization = request.header("authorization").unwrap_or_default();
            assert!(authorization.contains("/us-east-1/ec2/aws4_request"), "{authorization}");
            log.lock().unwrap().push(body.clone());
            let page = ["NextToken=p1", "NextToken=p2"].iter().position(|token| body.ends_with(token));
            let next = match page {
                None => "p1",
                Some(0) => "p2",
                Some(_) => "",
            };
            let xml = format!(
                "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-{}</instanceId>\
                 <instanceLifecycle>spot</instanceLifecycle></item></instancesSet></item></reservationSet>\
                 <nextToken>{next}</nextToken></DescribeInstancesResponse>",
                page.map_or(0, |page| page + 1)
            );
            let (headers, body) = (Vec::new(), xml.into_bytes());
            std::future::ready(WireAnswer::Reply { status: 200, headers, body, after: Span::ZERO })
        });
        let place = AsgSettings::new("web", 0, 1).place();
        let account = Connections::over(&wire).account(place);
        let ids: BTreeSet<String> = (0..250).map(|number| format!("i-{number:03}")).collect();
        let found = account.lifecycles(&ids, "asg `web`").await.unwrap();
        assert_eq!(found[..3], [("i-0".to_owned(), true), ("i-1".to_owned(), true), ("i-2".to_owned(), true)]);
        let calls = calls.lock().unwrap();
        assert_eq!((found.len(), calls.len()), (6, 6));
        assert!(calls[0].starts_with(
            "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=instance-id&Filter.1.Value.1=i-000&"
        ));
        assert!(calls[0].contains("Filter.1.Value.200=i-199&MaxResults=1000") && !calls[0].contains("Value.201"));
        assert!(calls[3].contains("Filter.1.Value.50=i-249&MaxResults=1000"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_cannot_be_read_is_an_error_that_names_the_call() {
        let wire = Wire::new(|_| {
            let body = b"<html>hello</html>".to_vec();
            std::future::ready(WireAnswer::Reply { status: 200, headers: Vec::new(), body, after: Span::ZERO })
        });
        let account = Connections::over(&wire).account(AsgSettings::new("web", 0, 1).place());
        let error = account.lifecycles(&BTreeSet::from(["i-1".to_owned()]), "asg `web`").await.unwrap_err();
        assert_eq!(error.code(), "other");
        let text = error.to_string();
        assert!(
            text.contains("describe instances of asg `web`: the answer to DescribeInstances can't be read"),
            "{text}"
        );
    }

    #[test]
    fn ec2_is_left_alone_after_a_failure() {
        let pools = Pools { failed: Some(Timestamp::from_millis(0)), ..Pools::default() };
        assert!(!pools.is_open(Timestamp::from_millis(59_000)) && pools.is_open(Timestamp::from_millis(60_000)));
    }
}
