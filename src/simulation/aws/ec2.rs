//! EC2 (Query, 2016-11-15). Rule: it tells of every instance of the account, those that ended lately included.

use prescale_domain::{Span, Timestamp};

use super::answer::Refusal;
use super::autoscaling::template_id;
use super::form::Form;
use super::instance::Instance;
use super::settings::{CATALOGUE, instance_type};
use super::world::World;
use super::xml::Xml;

/// AWS tells of 90 days.
const HISTORY: Span = Span::from_minutes(90 * 24 * 60);

impl World {
    /// The content of the answer to one call.
    pub(super) fn ec2(&mut self, operation: &str, form: &Form) -> Result<String, Refusal> {
        match operation {
            "DescribeInstances" => self.describe_instances(form),
            "TerminateInstances" => self.terminate_instances(form),
            "DescribeSpotPriceHistory" => self.spot_prices(form),
            "DescribeInstanceTypes" => describe_types(form),
            "GetSpotPlacementScores" => self.placement_scores(form),
            "CreateLaunchTemplate" => self.create_template(form),
            other => {
                let message = format!("The action {other} is not valid for this web service.");
                Err(Refusal::new(400, "InvalidAction", message))
            }
        }
    }

    fn describe_instances(&self, form: &Form) -> Result<String, Refusal> {
        let ids = form.list("InstanceId");
        if let Some(unknown) = ids.iter().find(|id| self.instance(id).is_none()) {
            return Err(no_instance(unknown));
        }
        let filters = form.structures("Filter");
        let chosen = self.instances.values().filter(|one| {
            (ids.is_empty() || ids.contains(&one.id.as_str())) && filters.iter().all(|filter| self.fits(filter, one))
        });
        let (shown, next) = page(chosen.collect(), form)?;
        let mut xml = Xml::default();
        xml.list("reservationSet", "item", shown, |xml, instance| {
            xml.leaf("reservationId", instance.id.replacen("i-", "r-", 1)).leaf("ownerId", &self.settings.account);
            xml.list("instancesSet", "item", [instance], |xml, instance| self.write_instance(xml, instance));
        });
        xml.maybe("nextToken", next);
        Ok(xml.finish())
    }

    fn write_instance(&self, xml: &mut Xml, instance: &Instance) {
        xml.leaf("instanceId", &instance.id).leaf("instanceType", &instance.kind);
        write_state(xml, "instanceState", instance.ec2_state());
        xml.leaf("launchTime", instance.launched_at);
        xml.within("placement", |xml| {
            xml.leaf("availabilityZone", &instance.zone);
        });
        let [.., high, middle, low] = instance.number.to_be_bytes();
        let host = format!("ip-10-{high}-{middle}-{low}.{}.compute.internal", self.settings.region);
        xml.leaf("privateDnsName", host).leaf("privateIpAddress", format!("10.{high}.{middle}.{low}"));
        if instance.is_spot() {
            xml.leaf("instanceLifecycle", "spot");
        }
        xml.list("tagSet", "item", self.tags_of(instance), |xml, (key, value)| {
            xml.leaf("key", key).leaf("value", value);
        });
    }

    fn tags_of(&self, instance: &Instance) -> Vec<(String, String)> {
        let mut tags = vec![("aws:autoscaling:groupName".to_owned(), instance.group.clone())];
        let own = self.groups.get(&instance.group).into_iter().flat_map(|group| &group.tags);
        tags.extend(own.filter(|tag| tag.propagate).map(|tag| (tag.key.clone(), tag.value.clone())));
        tags
    }

    fn fits(&self, filter: &Form, instance: &Instance) -> bool {
        let values = filter.list("Value");
        let wanted = |text: &str| values.contains(&text);
        match filter.get("Name").unwrap_or_default() {
            "instance-id" => wanted(&instance.id),
            "instance-state-name" => wanted(instance.ec2_state().1),
            "instance-type" => wanted(&instance.kind),
            "instance-lifecycle" => wanted(if instance.is_spot() { "spot" } else { "" }),
            "availability-zone" => wanted(&instance.zone),
            "tag-key" => self.tags_of(instance).iter().any(|(key, _)| wanted(key)),
            name => name
                .strip_prefix("tag:")
                .is_some_and(|key| self.tags_of(instance).iter().any(|(known, value)| known == key && wanted(value))),
        }
    }

    fn terminate_instances(&mut self, form: &Form) -> Result<String, Refusal> {
        let ids = form.list("InstanceId");
        let mut numbers = Vec::new();
        for id in &ids {
            numbers.push(self.numbers.get(*id).copied().ok_or_else(|| no_instance(id))?);
        }
        let mut xml = Xml::default();
        let before: Vec<_> = numbers.iter().filter_map(|number| self.instances.get(number)).cloned().collect();
        for instance in before.iter().filter(|one| one.ended_at.is_none()) {
            self.end_past_group(instance.number);
        }
        xml.list("instancesSet", "item", &before, |xml, instance| {
            xml.leaf("instanceId", &instance.id);
            let gone = instance.ended_at.is_some();
            write_state(xml, "currentState", if gone { (48, "terminated") } else { (32, "shutting-down") });
            write_state(xml, "previousState", instance.ec2_state());
        });
        Ok(xml.finish())
    }

    fn spot_prices(&self, form: &Form) -> Result<String, Refusal> {
        let (types, only) = (form.list("InstanceType"), form.get("AvailabilityZone"));
        let filters = form.structures("Filter");
        let zones: Vec<&str> = filters
            .iter()
            .filter(|filter| filter.get("Name") == Some("availability-zone"))
            .flat_map(|filter| filter.list("Value"))
            .collect();
        let end = form.moment("EndTime")?.unwrap_or(self.now).min(self.now);
        let start = form.moment("StartTime")?.unwrap_or(self.now).max(self.now - HISTORY).min(end);
        let mut rows: Vec<(Timestamp, &str, &str, f64)> = Vec::new();
        for (index, pool) in self.market.pools().iter().enumerate() {
            let wanted = (types.is_empty() || types.contains(&pool.instance_type.as_str()))
                && only.is_none_or(|only| only == pool.zone)
                && (zones.is_empty() || zones.contains(&pool.zone.as_str()));
            if wanted {
                let changes = self.market.price_changes(index, start, end);
                rows.extend(
                    changes.into_iter().map(|(at, price)| (at, pool.instance_type.as_str(), pool.zone.as_str(), price)),
                );
            }
        }
        // The newest first, as AWS does.
        rows.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)).then(a.2.cmp(b.2)));
        let (shown, next) = page(rows, form)?;
        let mut xml = Xml::default();
        xml.list("spotPriceHistorySet", "item", shown, |xml, (at, kind, zone, price)| {
            xml.leaf("instanceType", kind).leaf("productDescription", "Linux/UNIX");
            xml.leaf("spotPrice", format!("{price:.6}")).leaf("timestamp", at).leaf("availabilityZone", zone);
        });
        xml.leaf("nextToken", next.unwrap_or_default());
        Ok(xml.finish())
    }

    /// 10 where three types and more have three times the room that is asked for, less with less, and low for fewer types.
    fn placement_scores(&self, form: &Form) -> Result<String, Refusal> {
        let types = form.list("InstanceType");
        let capacity = form.count("TargetCapacity")?.filter(|capacity| *capacity > 0);
        let capacity = capacity.ok_or_else(|| {
            Refusal::new(400, "MissingParameter", "The request must contain the parameter TargetCapacity")
        })?;
        let by_zone = form.flag("SingleAvailabilityZone")?.unwrap_or(false);
        let score = |zones: &[String]| {
            let pairs = types.iter().flat_map(|kind| zones.iter().map(move |zone| (*kind, zone)));
            let room: u64 = pairs.map(|(kind, zone)| u64::from(self.room(kind, zone, true))).sum();
            let score = (room * 10 / (u64::from(capacity) * 3)).clamp(1, 10);
            if types.len() < 3 { score.min(3) } else { score }
        };
        let zones = self.settings.zone_names();
        let mut scores: Vec<(Option<String>, u64)> = if by_zone {
            let each = zones.iter().enumerate();
            each.map(|(number, zone)| (Some(format!("euw1-az{}", number + 1)), score(std::slice::from_ref(zone))))
                .collect()
        } else {
            vec![(None, score(&zones))]
        };
        scores.sort_by_key(|(_, score)| std::cmp::Reverse(*score));
        let mut xml = Xml::default();
        xml.list("spotPlacementScoreSet", "item", scores, |xml, (zone, score)| {
            xml.leaf("region", &self.settings.region).maybe("availabilityZoneId", zone).leaf("score", score);
        });
        Ok(xml.finish())
    }

    fn create_template(&mut self, form: &Form) -> Result<String, Refusal> {
        let name = form.required("LaunchTemplateName")?.to_owned();
        if self.templates.contains_key(&name) {
            let message = "Launch template name already in use.";
            return Err(Refusal::new(400, "InvalidLaunchTemplateName.AlreadyExistsException", message));
        }
        let kind = form.get("LaunchTemplateData.InstanceType").unwrap_or("m5.large").to_owned();
        self.templates.insert(name.clone(), kind);
        let mut xml = Xml::default();
        xml.within("launchTemplate", |xml| {
            xml.leaf("launchTemplateId", template_id(&name)).leaf("launchTemplateName", &name);
            xml.leaf("createTime", self.now).leaf("defaultVersionNumber", 1).leaf("latestVersionNumber", 1);
        });
        Ok(xml.finish())
    }
}

fn describe_types(form: &Form) -> Result<String, Refusal> {
    let asked = form.list("InstanceType");
    if let Some(unknown) = asked.iter().find(|name| instance_type(name).is_none()) {
        let message = format!("The following supplied instance types do not exist: [{unknown}]");
        return Err(Refusal::new(400, "InvalidInstanceType", message));
    }
    let chosen = CATALOGUE.iter().filter(|known| asked.is_empty() || asked.contains(&known.name));
    let (shown, next) = page(chosen.collect(), form)?;
    let mut xml = Xml::default();
    xml.list("instanceTypeSet", "item", shown, |xml, known| {
        xml.leaf("instanceType", known.name).leaf("currentGeneration", true);
        xml.within("supportedUsageClasses", |xml| {
            xml.leaf("item", "on-demand").leaf("item", "spot");
        });
        xml.within("vCpuInfo", |xml| {
            xml.leaf("defaultVCpus", known.vcpus);
        });
        xml.within("memoryInfo", |xml| {
            xml.leaf("sizeInMiB", known.memory_mib);
        });
    });
    xml.maybe("nextToken", next);
    Ok(xml.finish())
}

fn write_state(xml: &mut Xml, name: &str, (code, text): (u32, &str)) {
    xml.within(name, |xml| {
        xml.leaf("code", code).leaf("name", text);
    });
}

fn no_instance(id: &str) -> Refusal {
    Refusal::new(400, "InvalidInstanceID.NotFound", format!("The instance ID '{id}' does not exist"))
}

/// One page of what there is, and the token of the next.
fn page<T>(all: Vec<T>, form: &Form) -> Result<(Vec<T>, Option<String>), Refusal> {
    let size = form.count("MaxResults")?.map_or(1000, |size| size.clamp(1, 1000)) as usize;
    let start = match form.get("NextToken").filter(|token| !token.is_empty()) {
        None => 0,
        Some(token) => token
            .strip_prefix("page-")
            .and_then(|start| start.parse::<usize>().ok())
            .ok_or_else(|| Refusal::new(400, "InvalidNextToken", "The token is not valid."))?,
    };
    let next = start.saturating_add(size);
    let more = (next < all.len()).then(|| format!("page-{next}"));
    Ok((all.into_iter().skip(start).take(size).collect(), more))
}
