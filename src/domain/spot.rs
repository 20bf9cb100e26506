//! Spot capacity: pools, what a workload wants of them, and what is told of their units. Rule: what is not known is absent;
//! a price is in USD an hour, a discount and a share are in [0, 1].

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{ServiceName, Span, Timestamp};

/// What spot capacity is cheaper by where no price is known, as a share of the on-demand price.
pub const SPOT_DISCOUNT: f64 = 0.7;
/// From an interruption notice to the loss at AWS (EC2 user guide, spot instance interruption notices).
pub const SPOT_NOTICE: Span = Span::from_secs(120);
/// Annotations of a workload.
pub const SPOT_ANNOTATION: &str = "prescale.io/spot";
pub const SPOT_MAX_SHARE_ANNOTATION: &str = "prescale.io/spot-max-share";
pub const SPOT_DISCOUNT_ANNOTATION: &str = "prescale.io/spot-discount";

/// An instance type in a zone: units of a pool cost the same and are often lost together. Written as `m7i.large/us-east-1a`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct PoolId {
    pub instance_type: String,
    pub zone: String,
}

/// A text that names no pool.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not a pool: write an instance type and a zone, such as `m7i.large/us-east-1a`")]
pub struct PoolIdError(String);

/// Whether a workload may run on units that can be taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SpotPreference {
    Never,
    /// Where it pays and its risk fits.
    #[default]
    Prefer,
    /// All units above the floor, as long as there are any, whatever their risk.
    Require,
}

/// What a workload says of spot capacity in its annotations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SpotWish {
    pub preference: SpotPreference,
    /// Most of its units that may be spot, as a share; `None` = no bound of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_share: Option<f64>,
    /// The discount to reckon with where no price is known; `None` = [`SPOT_DISCOUNT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discount: Option<f64>,
}

/// An annotation that says nothing that can be followed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("annotation `{annotation}`: `{value}` is not {expected}")]
pub struct SpotAnnotationError {
    pub annotation: &'static str,
    pub value: String,
    pub expected: &'static str,
}

/// How sure it is that a unit is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SpotNoticeKind {
    /// More likely than usual: EC2 Instance Rebalance Recommendation.
    Rebalance,
    /// Sure: EC2 Spot Instance Interruption Warning.
    Interruption,
}

/// A unit that is going to be lost, or may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpotNotice {
    pub instance: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolId>,
    pub kind: SpotNoticeKind,
    pub at: Timestamp,
    /// When it is lost, where that is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<Timestamp>,
}

/// What a record of the topic `capacity` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CapacityKind {
    /// A unit is recommended to be replaced.
    Rebalance,
    /// A unit is going to be taken away.
    Interruption,
    /// A pool had no units to give.
    Refused,
    /// The price of a pool.
    Price,
}

/// A notice of the fleet or of the spot market: a record of the capacity topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CapacityRecord {
    pub at: Timestamp,
    pub kind: CapacityKind,
    /// The service that it concerns, where the sender knows.
    #[serde(default)]
    pub service: Option<ServiceName>,
    /// The unit, of the kinds `rebalance` and `interruption`.
    #[serde(default)]
    pub instance: Option<String>,
    #[serde(default)]
    pub instance_type: Option<String>,
    #[serde(default)]
    pub zone: Option<String>,
    /// When the unit is lost, where that is known.
    #[serde(default)]
    pub lost_at: Option<Timestamp>,
    /// Units that were refused, of the kind `refused`.
    #[serde(default)]
    pub units: Option<u32>,
    /// In USD, of the kind `price`.
    #[serde(default)]
    pub usd_hour: Option<f64>,
}

/// Something that teaches how a pool behaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpotEvent {
    pub at: Timestamp,
    pub pool: PoolId,
    pub what: SpotHappening,
}

/// What happened in a pool, in instances.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SpotHappening {
    /// So many run from now on.
    Running(u32),
    /// So many got their interruption notice, or were lost without one.
    Lost(u32),
    /// So many could be launched.
    Granted(u32),
    /// So many could not.
    Refused(u32),
    /// What an instance costs, in USD an hour.
    Price(f64),
}

impl PoolId {
    pub fn new(instance_type: &str, zone: &str) -> Self {
        Self { instance_type: instance_type.to_owned(), zone: zone.to_owned() }
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.instance_type, self.zone)
    }
}

impl FromStr for PoolId {
    type Err = PoolIdError;

    fn from_str(text: &str) -> Result<Self, PoolIdError> {
        match text.split_once('/') {
            Some((instance_type, zone)) if !instance_type.is_empty() && !zone.is_empty() && !zone.contains('/') => {
                Ok(Self::new(instance_type, zone))
            }
            _ => Err(PoolIdError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for PoolId {
    type Error = PoolIdError;

    fn try_from(text: String) -> Result<Self, PoolIdError> {
        text.parse()
    }
}

impl From<PoolId> for String {
    fn from(pool: PoolId) -> Self {
        pool.to_string()
    }
}

/// Whether an annotation is one of those that say something of spot.
pub fn is_spot_annotation(name: &str) -> bool {
    [SPOT_ANNOTATION, SPOT_MAX_SHARE_ANNOTATION, SPOT_DISCOUNT_ANNOTATION].contains(&name)
}

impl SpotWish {
    /// This wish, with what annotations (a workload's, or the tags of a group) say in its place; those that are not of spot are
    /// passed over.
    ///
    /// # Errors
    /// Every annotation of spot that cannot be followed, with its value.
    pub fn annotated(self, annotations: &BTreeMap<String, String>) -> Result<Self, Vec<SpotAnnotationError>> {
        let mut wish = self;
        let mut faults = Vec::new();
        let mut fault = |annotation, value: &str, expected| {
            faults.push(SpotAnnotationError { annotation, value: value.to_owned(), expected });
        };
        if let Some(value) = annotations.get(SPOT_ANNOTATION) {
            match value.trim() {
                "never" => wish.preference = SpotPreference::Never,
                "prefer" => wish.preference = SpotPreference::Prefer,
                "require" => wish.preference = SpotPreference::Require,
                _ => fault(SPOT_ANNOTATION, value, "one of never, prefer, require"),
            }
        }
        let mut share = |annotation: &'static str, found: &mut Option<f64>| {
            let Some(value) = annotations.get(annotation) else { return };
            match share_of(value) {
                Some(share) => *found = Some(share),
                None => fault(annotation, value, "a share such as `0.7` or `70%`"),
            }
        };
        share(SPOT_MAX_SHARE_ANNOTATION, &mut wish.max_share);
        share(SPOT_DISCOUNT_ANNOTATION, &mut wish.discount);
        if faults.is_empty() { Ok(wish) } else { Err(faults) }
    }

    /// The discount to reckon with where no price is known.
    pub fn discount(&self) -> f64 {
        self.discount.filter(|share| (0.0..=1.0).contains(share)).unwrap_or(SPOT_DISCOUNT)
    }
}

/// `0.7` and `70%` are the same.
fn share_of(text: &str) -> Option<f64> {
    let text = text.trim();
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok()? / 100.0,
        None => text.parse::<f64>().ok()?,
    };
    (0.0..=1.0).contains(&share).then_some(share)
}

impl CapacityRecord {
    /// The pool, where type and zone are known.
    pub fn pool(&self) -> Option<PoolId> {
        let known = |text: &Option<String>| text.clone().filter(|text| !text.is_empty() && !text.contains('/'));
        Some(PoolId { instance_type: known(&self.instance_type)?, zone: known(&self.zone)? })
    }

    /// The notice that it is; `None` for the kinds that concern no unit, and where the unit is not named.
    pub fn notice(&self) -> Option<SpotNotice> {
        let kind = match self.kind {
            CapacityKind::Rebalance => SpotNoticeKind::Rebalance,
            CapacityKind::Interruption => SpotNoticeKind::Interruption,
            CapacityKind::Refused | CapacityKind::Price => return None,
        };
        let instance = self.instance.clone().filter(|instance| !instance.is_empty())?;
        Some(SpotNotice { instance, pool: self.pool(), kind, at: self.at, lost_at: self.lost_at })
    }

    /// What it teaches of its pool; `None` where that is not named, or nothing is said. A recommendation is no loss.
    pub fn event(&self) -> Option<SpotEvent> {
        let what = match self.kind {
            CapacityKind::Rebalance => return None,
            CapacityKind::Interruption => SpotHappening::Lost(1),
            CapacityKind::Refused => SpotHappening::Refused(self.units.unwrap_or(1)),
            CapacityKind::Price => {
                SpotHappening::Price(self.usd_hour.filter(|price| price.is_finite() && *price >= 0.0)?)
            }
        };
        Some(SpotEvent { at: self.at, pool: self.pool()?, what })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop where it fails")]

    use super::*;

    fn wish(annotations: &[(&str, &str)]) -> Result<SpotWish, String> {
        let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        SpotWish::default()
            .annotated(&annotations)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn annotations_say_how_much_spot_a_workload_wants() {
        assert_eq!(wish(&[("app", "checkout")]), Ok(SpotWish::default()));
        let said = [("prescale.io/spot", "require"), ("prescale.io/spot-max-share", "80%")];
        let expected = SpotWish { preference: SpotPreference::Require, max_share: Some(0.8), discount: None };
        assert_eq!(wish(&said), Ok(expected));
        assert_eq!(wish(&[("prescale.io/spot-discount", "0.6")]).unwrap().discount(), 0.6);
        assert_eq!(SpotWish::default().discount(), 0.7);
        // What they do not say stays as it is configured.
        let configured = SpotWish { max_share: Some(0.5), discount: Some(0.3), ..SpotWish::default() };
        let said = BTreeMap::from([("prescale.io/spot".to_owned(), "never".to_owned())]);
        let expected = SpotWish { preference: SpotPreference::Never, ..configured };
        assert_eq!(configured.annotated(&said), Ok(expected));
    }

    #[test]
    fn all_wrong_annotations_are_told_at_once() {
        let said = [("prescale.io/spot", "yes"), ("prescale.io/spot-max-share", "120%")];
        let expected = "annotation `prescale.io/spot`: `yes` is not one of never, prefer, require; \
             annotation `prescale.io/spot-max-share`: `120%` is not a share such as `0.7` or `70%`";
        assert_eq!(wish(&said), Err(expected.to_owned()));
    }

    #[test]
    fn a_pool_is_written_as_type_and_zone() {
        let pool: PoolId = serde_json::from_str("\"m7i.large/us-east-1a\"").unwrap();
        assert_eq!(pool, PoolId::new("m7i.large", "us-east-1a"));
        assert_eq!(serde_json::to_string(&pool).unwrap(), "\"m7i.large/us-east-1a\"");
        for wrong in ["", "m7i.large", "/a", "m7i.large/", "a/b/c"] {
            assert!(wrong.parse::<PoolId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_capacity_record_is_a_notice_or_a_lesson_or_both() {
        let text = r#"{"at": "2026-11-23T08:00:00Z", "kind": "interruption", "instance": "i-1", "zone": "a",
            "instance_type": "m7i.large", "lost_at": "2026-11-23T08:02:00Z"}"#;
        let record: CapacityRecord = serde_json::from_str(text).unwrap();
        let notice = record.notice().unwrap();
        assert_eq!((notice.kind, notice.lost_at), (SpotNoticeKind::Interruption, record.lost_at));
        assert_eq!(record.event().unwrap().what, SpotHappening::Lost(1));
        let nameless = CapacityRecord { instance: None, zone: None, ..record.clone() };
        assert_eq!((nameless.notice(), nameless.event()), (None, None));
        let price = CapacityRecord { kind: CapacityKind::Price, usd_hour: Some(f64::NAN), ..record };
        assert_eq!((price.notice(), price.event()), (None, None));
    }
}
