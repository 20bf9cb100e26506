//! What a group launches, from parameters and back to XML. Rule: read whole and checked whole, then kept as it was given.

use super::super::answer::Refusal;
use super::super::form::Form;
use super::super::group::{Launches, Mixed, Override, Template};
use super::super::world::World;
use super::super::xml::Xml;

/// What a spot or on-demand strategy may be.
const SPOT: [&str; 5] =
    ["lowest-price", "capacity-optimized", "capacity-optimized-prioritized", "price-capacity-optimized", "diversified"];
const ON_DEMAND: [&str; 2] = ["prioritized", "lowest-price"];

impl World {
    /// What is to be launched; `None` = the call does not say.
    pub(super) fn launches(&self, form: &Form) -> Result<Option<Launches>, Refusal> {
        if let Some(mixed) = form.below("MixedInstancesPolicy") {
            return self.mixed(&mixed).map(|mixed| Some(Launches::Mixed(mixed)));
        }
        if let Some(template) = form.below("LaunchTemplate") {
            return self.template(&template).map(|template| Some(Launches::Template(template)));
        }
        if form.get("LaunchConfigurationName").is_some() {
            let message = "The Launch Configuration creation operation is not available in your account. Use launch \
                           templates to create configuration templates for your Auto Scaling groups.";
            return Err(Refusal::new(400, "UnsupportedOperation", message));
        }
        Ok(None)
    }

    fn template(&self, form: &Form) -> Result<Template, Refusal> {
        let by_id = form.get("LaunchTemplateId");
        if by_id.is_some() && form.get("LaunchTemplateName").is_some() {
            // As users report it (aws/aws-cli#7281): an answer to a describe, which has both, can't be sent back as it is.
            let message = "Valid requests must contain either launchTemplateId or LaunchTemplateName";
            return Err(Refusal::validation(message));
        }
        let known = match (by_id, form.get("LaunchTemplateName")) {
            (Some(id), _) => self.templates.keys().find(|name| template_id(name) == id),
            (None, Some(name)) => self.templates.keys().find(|known| *known == name),
            (None, None) => None,
        };
        let Some(name) = known else {
            let asked = form.get("LaunchTemplateName").or(by_id).unwrap_or_default();
            return Err(Refusal::validation(format!(
                "You must use a valid fully-formed launch template. The specified launch template, with template name \
                 {asked}, does not exist."
            )));
        };
        let version = form.get("Version").unwrap_or("$Default").to_owned();
        Ok(Template { id: template_id(name), name: name.clone(), version })
    }

    fn mixed(&self, form: &Form) -> Result<Mixed, Refusal> {
        let launch = form.below("LaunchTemplate").unwrap_or_default();
        let template = self.template(&launch.below("LaunchTemplateSpecification").unwrap_or_default())?;
        let overrides = launch.structures("Overrides.member").iter().map(line).collect::<Result<Vec<_>, _>>()?;
        let distribution = form.below("InstancesDistribution").unwrap_or_default();
        let strategy = |name: &str, default: &str, known: &[&str]| {
            let given = distribution.get(name).unwrap_or(default);
            known.contains(&given).then(|| given.to_owned()).ok_or_else(|| {
                Refusal::validation(format!(
                    "{given} is not a supported value for {name}. Supported values are {known:?}."
                ))
            })
        };
        let by_requirements = overrides.iter().any(|line| line.requirements.is_some());
        let on_demand_default = if by_requirements { "lowest-price" } else { "prioritized" };
        let on_demand_strategy = strategy("OnDemandAllocationStrategy", on_demand_default, &ON_DEMAND)?;
        let spot_strategy = strategy("SpotAllocationStrategy", "lowest-price", &SPOT)?;
        if by_requirements && (on_demand_strategy == "prioritized" || spot_strategy == "capacity-optimized-prioritized")
        {
            let message = "The allocation strategy is not supported when InstanceRequirements are specified.";
            return Err(Refusal::validation(message));
        }
        let percent_above = distribution.count("OnDemandPercentageAboveBaseCapacity")?.unwrap_or(100);
        if percent_above > 100 {
            return Err(Refusal::validation(format!(
                "1 validation error detected: Value '{percent_above}' at 'onDemandPercentageAboveBaseCapacity' failed to \
                 satisfy constraint: Member must have value less than or equal to 100"
            )));
        }
        let spot_pools = distribution.count("SpotInstancePools")?;
        if spot_pools.is_some() && spot_strategy != "lowest-price" {
            let message = "SpotInstancePools option is only available with the lowest-price allocation strategy.";
            return Err(Refusal::validation(message));
        }
        Ok(Mixed {
            template,
            overrides,
            on_demand_strategy,
            base: distribution.count("OnDemandBaseCapacity")?.unwrap_or(0),
            percent_above,
            spot_strategy,
            spot_pools,
            spot_max_price: distribution.get("SpotMaxPrice").map(str::to_owned),
        })
    }
}

fn line(form: &Form) -> Result<Override, Refusal> {
    let kind = form.get("InstanceType").map(str::to_owned);
    let requirements = form.below("InstanceRequirements");
    if kind.is_some() && requirements.is_some() {
        return Err(Refusal::validation("You can specify either InstanceType or InstanceRequirements, but not both."));
    }
    let weight = match form.get("WeightedCapacity") {
        None => None,
        Some(text) => Some(text.parse::<u32>().ok().filter(|weight| (1..=999).contains(weight)).ok_or_else(|| {
            Refusal::validation(format!("Weighted capacity {text} is invalid. Must be between 1 and 999."))
        })?),
    };
    let requirements = match requirements {
        None => None,
        Some(inner) => Some([
            inner.count("VCpuCount.Min")?,
            inner.count("VCpuCount.Max")?,
            inner.count("MemoryMiB.Min")?,
            inner.count("MemoryMiB.Max")?,
        ]),
    };
    Ok(Override { kind, weight, requirements })
}

/// AWS makes them up; here they follow from the name.
pub(in super::super) fn template_id(name: &str) -> String {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("lt-0{hash:016x}")
}

pub(super) fn write_template(xml: &mut Xml, name: &str, template: &Template) {
    xml.within(name, |xml| {
        xml.leaf("LaunchTemplateId", &template.id).leaf("LaunchTemplateName", &template.name);
        xml.leaf("Version", &template.version);
    });
}

pub(super) fn write_mixed(xml: &mut Xml, mixed: &Mixed) {
    xml.within("MixedInstancesPolicy", |xml| {
        xml.within("LaunchTemplate", |xml| {
            write_template(xml, "LaunchTemplateSpecification", &mixed.template);
            xml.list("Overrides", "member", &mixed.overrides, |xml, line| {
                xml.maybe("InstanceType", line.kind.as_ref()).maybe("WeightedCapacity", line.weight);
                if let Some([vcpus_min, vcpus_max, memory_min, memory_max]) = line.requirements {
                    xml.within("InstanceRequirements", |xml| {
                        xml.within("VCpuCount", |xml| {
                            xml.maybe("Min", vcpus_min).maybe("Max", vcpus_max);
                        });
                        xml.within("MemoryMiB", |xml| {
                            xml.maybe("Min", memory_min).maybe("Max", memory_max);
                        });
                    });
                }
            });
        });
        xml.within("InstancesDistribution", |xml| {
            xml.leaf("OnDemandAllocationStrategy", &mixed.on_demand_strategy);
            xml.leaf("OnDemandBaseCapacity", mixed.base);
            xml.leaf("OnDemandPercentageAboveBaseCapacity", mixed.percent_above);
            xml.leaf("SpotAllocationStrategy", &mixed.spot_strategy);
            xml.maybe("SpotInstancePools", mixed.spot_pools).maybe("SpotMaxPrice", mixed.spot_max_price.as_ref());
        });
    });
}
