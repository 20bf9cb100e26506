//! What the metadata of a trigger asks for, and the answer in KEDA's numbers. Rule: what can't be meant is refused, with the
//! key that says it.

use prescale_domain::{ServiceName, Span, Timestamp};
use tonic::Status;

use crate::metrics::{LOAD_METRIC, UNITS_METRIC};
use crate::proto::externalscaler::{MetricSpec, MetricValue, ScaledObjectRef};
use crate::{Absent, Dated, Desk};

/// KEDA hands targets to the HPA in thousandths.
const TARGET_MIN: f64 = 0.001;
/// Beyond it whole numbers are no longer exact.
const TARGET_MAX: f64 = 9_007_199_254_740_992.0;

/// A trigger.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Question {
    /// `service`: the name that the service has here.
    service: String,
    /// `metric`: `units` (default) or `load`.
    metric: Asked,
    /// `target`: how much of it one replica stands for; else 1 unit, or the load that a unit carries.
    target: Option<f64>,
    /// `ahead`: for how far ahead; else now, for a load when units asked for now carry it.
    ahead: Option<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Units,
    Load,
}

impl Question {
    pub(super) fn of(reference: &ScaledObjectRef) -> Result<Self, Status> {
        let metadata = |key: &str| reference.scaler_metadata.get(key).map(|value| value.trim());
        let service = metadata("service").filter(|name| !name.is_empty());
        let service = service.ok_or_else(|| Status::invalid_argument("metadata `service` is missing"))?;
        let metric = match metadata("metric") {
            None | Some("units") => Asked::Units,
            Some("load") => Asked::Load,
            Some(other) => {
                return Err(Status::invalid_argument(format!(
                    "metadata `metric` is `{other}`, neither units nor load"
                )));
            }
        };
        Ok(Self {
            service: service.to_owned(),
            metric,
            target: metadata("target").map(target).transpose()?,
            ahead: metadata("ahead").map(ahead).transpose()?,
        })
    }

    pub(super) fn metric_name(&self) -> &'static str {
        match self.metric {
            Asked::Units => UNITS_METRIC,
            Asked::Load => LOAD_METRIC,
        }
    }

    pub(super) fn spec(&self, desk: &Desk) -> Result<Dated<MetricSpec>, Absent> {
        let service = desk.service(&self.service)?;
        let target = match (self.target, self.metric) {
            // As true as it was configured.
            (Some(target), _) => Dated { value: target, at: Timestamp::MAX },
            (None, Asked::Units) => Dated { value: 1.0, at: Timestamp::MAX },
            (None, Asked::Load) => desk.unit_capacity(&service)?,
        };
        let size = target.value.max(TARGET_MIN);
        let spec = MetricSpec {
            metric_name: self.metric_name().to_owned(),
            // For who reads the integer alone: at least 1, as 0 is no target.
            target_size: size.round().max(1.0) as i64,
            target_size_float: size,
        };
        Ok(Dated { value: spec, at: target.at })
    }

    pub(super) fn value(&self, desk: &Desk) -> Result<Dated<MetricValue>, Absent> {
        let service = desk.service(&self.service)?;
        let Dated { value, at } = self.number(desk, &service)?;
        let value = MetricValue {
            metric_name: self.metric_name().to_owned(),
            // Too much rather than too little.
            metric_value: value.ceil() as i64,
            metric_value_float: value,
        };
        Ok(Dated { value, at })
    }

    pub(super) fn active(&self, desk: &Desk) -> Result<Dated<bool>, Absent> {
        desk.active(&desk.service(&self.service)?)
    }

    fn number(&self, desk: &Desk, service: &ServiceName) -> Result<Dated<f64>, Absent> {
        match self.metric {
            Asked::Units => {
                let Dated { value, at } = desk.units(service, self.ahead)?;
                Ok(Dated { value: f64::from(value), at })
            }
            Asked::Load => desk.load(service, self.ahead),
        }
    }
}

fn target(text: &str) -> Result<f64, Status> {
    let target = text.parse().ok().filter(|target| (TARGET_MIN..=TARGET_MAX).contains(target));
    target.ok_or_else(|| {
        Status::invalid_argument(format!("metadata `target` is `{text}`, not a number of at least {TARGET_MIN}"))
    })
}

fn ahead(text: &str) -> Result<Span, Status> {
    let ahead = text.parse().ok().filter(|ahead| *ahead >= Span::ZERO);
    ahead.ok_or_else(|| {
        Status::invalid_argument(format!("metadata `ahead` is `{text}`, not a length of time such as 10m"))
    })
}
