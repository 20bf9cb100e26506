//! What happens around a service besides its load, from its features; and the advice that follows from it. Rule: a signal whose column is
//! not named, or has no value in the last window, is absent; what is usual is learnt slowly.

use prescale_decide::throttled;
use prescale_domain::{Decision, FeatureRow, QosAdvice, SignalColumns, Signals};
use prescale_features::measure;
use serde::{Deserialize, Serialize};

/// Weight of one window in what is usual: about two hours of minutes.
const USUAL_WEIGHT: f64 = 1.0 / 120.0;

/// What was heard of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Heard {
    /// In the last window.
    last: Signals,
    /// The error rate of all windows, the older the less.
    usual_error_rate: Option<f64>,
    /// Its callers are throttled.
    pub(crate) throttled: bool,
}

impl Heard {
    /// Takes in the last closed window; `None` = it has no row.
    pub(crate) fn hear(&mut self, columns: &SignalColumns, row: Option<&FeatureRow>) {
        let column = |name: &Option<String>| measure(&row?.measures, name.as_ref()?);
        let error_rate = column(&columns.error_rate).map(|rate| rate.clamp(0.0, 1.0));
        self.last = Signals {
            error_rate,
            // What was usual before it.
            usual_error_rate: self.usual_error_rate.filter(|_| error_rate.is_some()),
            api_usage: column(&columns.api_usage),
            queue: column(&columns.queue),
            in_flight: column(&columns.in_flight),
            unit_concurrency: columns.unit_concurrency.filter(|_| columns.in_flight.is_some()),
            ..Signals::default()
        };
        if let Some(rate) = error_rate {
            let usual = self.usual_error_rate.unwrap_or(rate);
            self.usual_error_rate = Some(usual + USUAL_WEIGHT * (rate - usual));
        }
    }

    /// With what it costs now, where that is known and heeded.
    pub(crate) fn signals(&self, cost_usd_hour: Option<f64>) -> Signals {
        Signals { cost_usd_hour, ..self.last.clone() }
    }

    /// What to tell those who send requests, now that `decision` was made: as long as they are to hold back, and once when
    /// they need not any more.
    pub(crate) fn advise(&mut self, decision: &Decision) -> Option<QosAdvice> {
        // Without the signal or a grant there is no advice, and no need to look for one.
        let circumstances = &decision.inputs.circumstances;
        let is_granted = circumstances.limits.is_some_and(|limits| limits.granted.is_some());
        let heard = circumstances.signals.api_usage.is_some() || is_granted;
        let (throttle, why) = heard.then(|| throttled(decision)).flatten().unzip();
        let was = std::mem::replace(&mut self.throttled, throttle.is_some());
        if throttle.is_none() && !was {
            return None;
        }
        Some(QosAdvice {
            service: decision.service.clone(),
            at: decision.at,
            decision: decision.id.clone(),
            level: throttle.map(|throttle| throttle.level),
            admit: throttle.map_or(1.0, |throttle| throttle.admit),
            reason: why.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prescale_domain::Timestamp;

    use super::*;

    fn row(measures: &[(&str, f64)]) -> FeatureRow {
        FeatureRow {
            service: "web".into(),
            window_start: Timestamp::default(),
            window_end: Timestamp::default(),
            labels: BTreeMap::new(),
            measures: measures.iter().map(|(name, value)| ((*name).to_owned(), Some(*value))).collect(),
        }
    }

    fn columns() -> SignalColumns {
        let named = |name: &str| Some(name.to_owned());
        SignalColumns {
            error_rate: named("error_rate"),
            api_usage: named("api_usage_max"),
            queue: named("queue_length_mean"),
            in_flight: None,
            unit_concurrency: Some(8.0),
            ..SignalColumns::default()
        }
    }

    #[test]
    fn signals_are_those_of_the_named_columns_in_the_last_window() {
        let mut heard = Heard::default();
        heard.hear(&columns(), Some(&row(&[("errors", 5.0), ("requests", 50.0), ("queue_length_mean", 3.0)])));
        let expected = Signals { error_rate: Some(0.1), queue: Some(3.0), ..Signals::default() };
        assert_eq!(heard.signals(None), expected);
        // The next window is held against what was usual before it.
        heard.hear(&columns(), Some(&row(&[("errors", 25.0), ("requests", 50.0), ("api_usage_max", 0.8)])));
        let expected = Signals {
            error_rate: Some(0.5),
            usual_error_rate: Some(0.1),
            api_usage: Some(0.8),
            cost_usd_hour: Some(2.0),
            ..Signals::default()
        };
        assert_eq!(heard.signals(Some(2.0)), expected);
        heard.hear(&columns(), None);
        assert_eq!(heard.signals(None), Signals::default());
        // One window in two hours moves what is usual by little.
        heard.hear(&columns(), Some(&row(&[("errors", 0.0), ("requests", 1.0)])));
        let usual = heard.signals(None).usual_error_rate.unwrap();
        assert!((0.1..0.11).contains(&usual), "{usual}");
    }

    #[test]
    fn without_names_nothing_is_heard() {
        let mut heard = Heard::default();
        heard.hear(&SignalColumns::default(), Some(&row(&[("errors", 5.0), ("requests", 50.0), ("queue", 3.0)])));
        assert_eq!(heard, Heard::default());
    }
}
