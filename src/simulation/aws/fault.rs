//! Faults by script. Rule: which call is struck depends on the rules, the seed and the number of the call, and on nothing else.

use prescale_domain::{Span, Timestamp};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::seeded::{Purpose, rng};

/// What happens to calls. The first rule that fits strikes; others are not looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Name of an operation; `*` = each.
    pub operation: String,
    pub kind: FaultKind,
    /// So many times; `None` = without end.
    #[serde(default)]
    pub count: Option<u32>,
    /// Share of the calls that are struck; `None` = each.
    #[serde(default)]
    pub probability: Option<f64>,
    /// From then on, and until then.
    #[serde(default)]
    pub from: Option<Timestamp>,
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// Only calls that name this group, node group, cluster, queue or instance.
    #[serde(default)]
    pub about: Option<String>,
}

/// What a fault is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The service's own way of saying that its bucket is empty.
    Throttle,
    Denied,
    Internal,
    /// Any other error of AWS, in the service's form.
    Error {
        status: u16,
        code: String,
        message: String,
    },
    /// A page that is no answer of AWS.
    Html,
    /// Silence on an open connection.
    Hang,
    /// The connection closes; the call had no effect.
    Drop,
    /// The connection closes; the call had its effect.
    LostAnswer,
    /// The answer takes so much longer.
    Delay(Span),
    /// A read is answered from the state of so long ago; other calls are not struck.
    Stale(Span),
}

impl Fault {
    /// Of that kind, for each call of an operation.
    pub fn new(operation: &str, kind: FaultKind) -> Self {
        let (count, probability, from, until, about) = (None, None, None, None, None);
        Self { operation: operation.to_owned(), kind, count, probability, from, until, about }
    }

    #[must_use]
    pub fn times(self, count: u32) -> Self {
        Self { count: Some(count), ..self }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    rules: Vec<Fault>,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.rules.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    /// How far back a read may have to be answered from.
    pub(super) fn oldest(&self) -> Option<Span> {
        let ages = self.rules.iter().map(|rule| if let FaultKind::Stale(age) = rule.kind { Some(age) } else { None });
        ages.flatten().max()
    }

    /// What happens to the call of that number, counted down.
    pub(super) fn strike(
        &mut self,
        (seed, number): (u64, usize),
        now: Timestamp,
        operation: &str,
        about: &[&str],
        reads: bool,
    ) -> Option<FaultKind> {
        let fits = |place: usize, rule: &Fault| {
            let drawn = || rng(seed, Purpose::Faults, number, Timestamp::from_millis(place as i64)).random::<f64>();
            (rule.operation == "*" || rule.operation == operation)
                && rule.count != Some(0)
                && rule.from.is_none_or(|from| now >= from)
                && rule.until.is_none_or(|until| now < until)
                && rule.about.as_deref().is_none_or(|name| about.contains(&name))
                && (reads || !matches!(rule.kind, FaultKind::Stale(_)))
                && rule.probability.is_none_or(|probability| drawn() < probability)
        };
        let place = (0..self.rules.len()).find(|place| fits(*place, &self.rules[*place]))?;
        let rule = &mut self.rules[place];
        rule.count = rule.count.map(|left| left - 1);
        Some(rule.kind.clone())
    }
}
