//! The autoscalers that Prescale is compared with, as published. Rule: none sees more than it would in reality, and none is
//! weakened: published defaults, the reading in its favour where a source is silent, the best target in hindsight.

mod aws_predictive;
mod aws_target_tracking;
mod crane;
mod cron;
mod hpa;
mod keda;
mod kpa;
mod oracle;
mod phpa;
mod static_p95;
mod static_peak;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::str::FromStr;

use prescale_domain::Span;
use thiserror::Error;

use crate::arena::{Bout, Demand, Gauge, Tick};

pub use aws_predictive::{AwsPredictive, HourlyForecast};
pub use aws_target_tracking::{AwsTargetTracking, Datapoint, TargetTrackingSettings};
pub use crane::Crane;
pub use cron::{Cron, Timetable};
pub use hpa::{Hpa, HpaMetric, HpaSettings, Observation, ScalingRules};
pub use keda::{Keda, KedaSettings};
pub use kpa::{Kpa, KpaSettings};
pub use oracle::Oracle;
pub use phpa::{HoltWinters, HoltWintersSettings, Linear, Phpa, PhpaSettings};
pub use static_p95::static_p95;
pub use static_peak::static_peak;

/// One service as a baseline meets it.
#[derive(Clone, Debug)]
pub struct Course {
    /// The load before the scored part: all that may be learned from. May be empty; ends where the bout begins.
    pub training: Demand,
    pub bout: Bout,
}

/// What a baseline is flown with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knobs {
    /// Load per unit to aim at, as a share of the unit's capacity.
    pub target: f64,
    /// One of [`Contender::variants`].
    pub variant: &'static str,
}

/// A baseline that has learned what it may learn of a course; what it knows depends on the load alone, so that one serves
/// all targets, lead times and seeds.
pub trait Contender: Send + Sync {
    /// Ways to configure it apart from its target, of which the best counts; `""` if there is one way only.
    fn variants(&self) -> &'static [&'static str] {
        &[""]
    }

    /// A variant that knows the future, reported as a bracket and never chosen.
    fn bracket(&self) -> Option<&'static str> {
        None
    }

    /// One autoscaler for one flight of `bout`, which is the course's but for its fleet.
    fn enter<'a>(&'a self, bout: &'a Bout, knobs: Knobs) -> Box<dyn Autoscaler + 'a>;
}

/// An autoscaler at work on one fleet.
pub trait Autoscaler {
    /// Units that are there from the start, where the system does not begin with what it finds.
    fn initial(&self) -> Option<u32> {
        None
    }

    /// What to ask for at this tick; `None` changes nothing.
    fn decide(&mut self, tick: Tick) -> Option<u32>;
}

/// Everything that a score card may have a line of. The names are those of reports and configuration, once and for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum System {
    Prescale,
    Hpa,
    StaticPeak,
    StaticP95,
    Cron,
    AwsTargetTracking,
    AwsPredictive,
    Keda,
    Phpa,
    PhpaChronological,
    Kpa,
    Crane,
    Oracle,
}

/// A name that no system has.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("unknown system `{0}`, expected one of {names}", names = System::ALL.map(System::name).join(", "))]
pub struct UnknownSystem(String);

impl System {
    pub const ALL: [Self; 13] = [
        Self::Prescale,
        Self::Hpa,
        Self::StaticPeak,
        Self::StaticP95,
        Self::Cron,
        Self::AwsTargetTracking,
        Self::AwsPredictive,
        Self::Keda,
        Self::Phpa,
        Self::PhpaChronological,
        Self::Kpa,
        Self::Crane,
        Self::Oracle,
    ];

    /// All but Prescale, in the order of a report.
    pub fn baselines() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|system| *system != Self::Prescale)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Prescale => "prescale",
            Self::Hpa => "hpa",
            Self::StaticPeak => "static-peak",
            Self::StaticP95 => "static-p95",
            Self::Cron => "cron",
            Self::AwsTargetTracking => "aws-target-tracking",
            Self::AwsPredictive => "aws-predictive",
            Self::Keda => "keda",
            Self::Phpa => "phpa",
            Self::PhpaChronological => "phpa-chronological",
            Self::Kpa => "kpa",
            Self::Crane => "crane",
            Self::Oracle => "oracle",
        }
    }

    /// Whether it aims at a load per unit, so that it is judged at the best of [`crate::sweep::targets`].
    pub const fn has_target(self) -> bool {
        !matches!(self, Self::Prescale | Self::StaticPeak | Self::StaticP95 | Self::Oracle)
    }

    /// Fits the baseline on a course; `None` for Prescale, whose decisions come from its own code.
    pub fn build(self, course: &Course) -> Option<Box<dyn Contender + '_>> {
        let gauge = |age| Gauge { training: &course.training, live: &course.bout.demand, age };
        Some(match self {
            Self::Prescale => return None,
            Self::Hpa => Box::new(hpa::Entry { gauge: gauge(METRIC_AGE) }),
            Self::StaticPeak => {
                Box::new(Fixed(static_peak(course.training.load.iter().copied(), course.bout.unit_capacity)))
            }
            Self::StaticP95 => Box::new(Fixed(static_p95(&course.training.load, course.bout.unit_capacity))),
            Self::Cron => Box::new(cron::Entry::new(course)),
            Self::AwsTargetTracking => Box::new(aws_target_tracking::Entry::new(course)),
            Self::AwsPredictive => Box::new(aws_predictive::Entry::new(course)),
            Self::Keda => Box::new(keda::Entry { gauge: gauge(METRIC_AGE) }),
            Self::Phpa => Box::new(phpa::Entry { gauge: gauge(METRIC_AGE), chronological: false }),
            Self::PhpaChronological => Box::new(phpa::Entry { gauge: gauge(METRIC_AGE), chronological: true }),
            Self::Kpa => Box::new(kpa::Entry { gauge: gauge(kpa::METRIC_AGE) }),
            Self::Crane => Box::new(crane::Entry::new(course)),
            Self::Oracle => Box::new(oracle::Entry),
        })
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for System {
    type Err = UnknownSystem;

    fn from_str(text: &str) -> Result<Self, UnknownSystem> {
        Self::ALL.into_iter().find(|system| system.name() == text).ok_or_else(|| UnknownSystem(text.to_owned()))
    }
}

/// Age of the metric that Kubernetes' autoscalers see: scrape interval and aggregation of a usual metrics pipeline.
pub const METRIC_AGE: Span = Span::from_secs(30);

/// A fleet of fixed size.
struct Fixed(u32);

impl Contender for Fixed {
    fn enter<'a>(&'a self, bout: &'a Bout, _: Knobs) -> Box<dyn Autoscaler + 'a> {
        Box::new(Self(self.0.min(bout.fleet.max)))
    }
}

impl Autoscaler for Fixed {
    fn initial(&self) -> Option<u32> {
        Some(self.0)
    }

    fn decide(&mut self, _: Tick) -> Option<u32> {
        None
    }
}

/// A fleet that stays what it is.
struct Hold;

impl Autoscaler for Hold {
    fn decide(&mut self, _: Tick) -> Option<u32> {
        None
    }
}

/// Units that carry `load` at a share of `target` of their capacity.
fn units_for(load: f64, target: f64, unit_capacity: f64) -> u32 {
    crate::arena::needed_units(load, target * unit_capacity)
}
