//! Single instances of a group: ended, protected, launched at once. Rule: what is named must belong to the group.

use std::collections::BTreeMap;

use super::super::answer::Refusal;
use super::super::form::Form;
use super::super::world::World;
use super::super::xml::Xml;

impl World {
    pub(super) fn terminate_in_group(&mut self, form: &Form) -> Result<String, Refusal> {
        let id = form.required("InstanceId")?;
        let decrement = form
            .flag("ShouldDecrementDesiredCapacity")?
            .ok_or_else(|| super::super::form::missing("ShouldDecrementDesiredCapacity"))?;
        let unknown =
            || Refusal::validation(format!("Instance Id not found - No managed instance found for instance ID: {id}"));
        let instance = self.instance(id).ok_or_else(unknown)?;
        let (number, weight, name) = (instance.number, instance.weight, instance.group.clone());
        let live = instance.lifecycle.is_live();
        let group = self.groups.get(&name).ok_or_else(unknown)?;
        if !group.members.contains(&number) {
            return Err(unknown());
        }
        if decrement && live {
            let left = group.desired.saturating_sub(weight);
            if left < group.min {
                return Err(Refusal::validation(format!(
                    "Currently, desiredSize equals minSize ({}). Terminating instance without replacement will violate \
                     group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower group's \
                     min size.",
                    group.min
                )));
            }
            self.set_desired(&name, left, "a user request terminated an instance, which set group");
        }
        let activity = self.terminate(number, "a user request").unwrap_or_default();
        let mut xml = Xml::default();
        if let Some(activity) = self.activity(&name, &activity) {
            xml.within("Activity", |xml| self.write_activity(xml, &name, activity));
        }
        Ok(xml.finish())
    }

    pub(super) fn set_protection(&mut self, form: &Form) -> Result<String, Refusal> {
        let protects =
            form.flag("ProtectedFromScaleIn")?.ok_or_else(|| super::super::form::missing("ProtectedFromScaleIn"))?;
        let group = self.named(form)?;
        let mut numbers = Vec::new();
        for id in form.list("InstanceIds.member") {
            let member = self.numbers.get(id).filter(|number| group.members.contains(number));
            numbers.push(*member.ok_or_else(|| {
                Refusal::validation(format!("The instance {id} is not part of Auto Scaling group {}.", group.name))
            })?);
        }
        let name = group.name.clone();
        for number in numbers {
            if let Some(instance) = self.instances.get_mut(&number) {
                instance.protected = protects;
            }
        }
        self.wake(&name);
        Ok(String::new())
    }

    /// Launches at once and tells what came of it; desired capacity rises by what was launched.
    pub(super) fn launch_instances(&mut self, form: &Form) -> Result<String, Refusal> {
        let group = self.named(form)?.clone();
        let capacity =
            form.count("RequestedCapacity")?.ok_or_else(|| super::super::form::missing("RequestedCapacity"))?;
        let token = form.required("ClientToken")?.to_owned();
        if let Some((before, answer)) = group.launched_by_token.get(&token) {
            if *before == capacity {
                return Ok(answer.clone());
            }
            let message = "The client token was used with other parameters.";
            return Err(Refusal::new(400, "IdempotentParameterMismatch", message));
        }
        let zones: Vec<String> = form.list("AvailabilityZones.member").into_iter().map(str::to_owned).collect();
        if let Some(wrong) = zones.iter().find(|zone| !group.zones.contains(zone)) {
            return Err(Refusal::validation(format!("Availability Zone {wrong} is not one of the group's.")));
        }
        if zones.is_empty() && group.zones.len() > 1 && form.list("SubnetIds.member").is_empty() {
            let message = "Either AvailabilityZones or SubnetIds must be specified for a group with several zones.";
            return Err(Refusal::validation(message));
        }
        let wanted = group.desired.saturating_add(capacity);
        if capacity == 0 || capacity > 100 || wanted > group.max {
            return Err(Refusal::validation(format!(
                "Requested capacity {capacity} is not between 1 and 100, or exceeds the group's max size {}.",
                group.max
            )));
        }
        if group.suspends("Launch") {
            let message = format!("The Launch process of group {} is suspended.", group.name);
            return Err(Refusal::validation(message));
        }
        let zones = if zones.is_empty() { group.zones.clone() } else { zones };
        let retries = form.get("RetryStrategy") == Some("RETRY_WITH_GROUP_CONFIGURATION");
        let (launched, errors) = self.launch_now(&group.name, capacity, &zones);
        let desired = if retries { wanted } else { group.desired + launched.values().map(|(sum, _)| sum).sum::<u32>() };
        let desired = desired.min(group.max);
        self.set_desired(&group.name, desired, "a user request launched instances, which set group");
        let mut xml = Xml::default();
        xml.leaf("AutoScalingGroupName", &group.name).leaf("ClientToken", &token);
        xml.list("Instances", "member", launched, |xml, ((kind, market, zone), (_, ids))| {
            xml.leaf("InstanceType", kind).leaf("MarketType", market).leaf("AvailabilityZone", zone);
            xml.texts("InstanceIds", ids);
        });
        xml.list("Errors", "member", errors, |xml, (kind, market, zone, message)| {
            xml.leaf("InstanceType", kind).leaf("MarketType", market).leaf("AvailabilityZone", zone);
            xml.leaf("ErrorCode", "InsufficientInstanceCapacity").leaf("ErrorMessage", message);
        });
        let answer = xml.finish();
        if let Some(group) = self.groups.get_mut(&group.name) {
            group.launched_by_token.insert(token, (capacity, answer.clone()));
        }
        Ok(answer)
    }

    #[expect(clippy::type_complexity, reason = "said once, and taken apart by its only caller")]
    fn launch_now(
        &mut self,
        name: &str,
        capacity: u32,
        zones: &[String],
    ) -> (BTreeMap<(String, &'static str, String), (u32, Vec<String>)>, Vec<(String, &'static str, String, String)>)
    {
        let market = |spot: bool| if spot { "spot" } else { "on-demand" };
        let (mut launched, mut errors, mut done) = (BTreeMap::new(), Vec::new(), 0);
        while done < capacity {
            let Some(group) = self.groups.get(name).cloned() else { break };
            let held = self.held(&group);
            let spot = held.on_demand >= group.mix().on_demand(group.desired.saturating_add(capacity));
            let place = self.place(&group, spot, zones);
            let cause = "a user request to launch instances";
            let number = place.as_ref().and_then(|place| self.launch(&group, place, false, cause));
            let (Some(place), Some(number)) = (place, number) else {
                let kind = self.candidates(&group).into_iter().next().map(|one| one.kind).unwrap_or_default();
                let zone = zones.first().cloned().unwrap_or_default();
                errors.push((kind, market(spot), zone, self.no_capacity(&group, spot)));
                break;
            };
            let id = self.instances.get(&number).map(|one| one.id.clone()).unwrap_or_default();
            let key = (place.candidate.kind.clone(), market(spot), place.zone);
            let entry: &mut (u32, Vec<String>) = launched.entry(key).or_default();
            entry.0 += place.candidate.weight;
            entry.1.push(id);
            done += place.candidate.weight;
        }
        (launched, errors)
    }
}
