//! Where predictive scaling is impossible. Rule: a unit that is asked for on the last word of a forecast must be there
//! before what was forecast is over; equal is in time.

use prescale_domain::Span;

/// Why a target can't be scaled ahead of its load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Units come later than the furthest that can be forecast: physically impossible.
    Provisioning,
    /// Units alone would come in time, but not after the data's age, the decision interval and the warm-up.
    LeadTime { lead_time: Span, horizon: Span },
}

/// Compares what it takes with the confident horizon: how far ahead the forecast's error stays within its bound.
pub fn refusal(provisioning_latency: Span, lead_time: Span, confident_horizon: Span) -> Option<Refusal> {
    if provisioning_latency > confident_horizon {
        Some(Refusal::Provisioning)
    } else if lead_time > confident_horizon {
        Some(Refusal::LeadTime { lead_time, horizon: confident_horizon })
    } else {
        None
    }
}

impl Refusal {
    /// The answer as JSON, alone and whole.
    pub fn json(&self, service: &str) -> String {
        match self {
            Self::Provisioning => {
                let error = "Forecasting horizon SLA violation: Node provisioning exceeds predictive lead time";
                serde_json::json!({ "error": error }).to_string()
            }
            Self::LeadTime { lead_time, horizon } => {
                let error = format!(
                    "lead time of `{service}` (data age, decision interval, provisioning, warm-up: {lead_time}) exceeds the \
                     forecasting horizon {horizon}"
                );
                serde_json::json!({ "error": error, "code": "lead-time-beyond-horizon" }).to_string()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_is_in_time_and_a_second_more_is_not() {
        let [below, equal, above] = [299, 300, 301].map(Span::from_secs);
        assert_eq!(refusal(below, below, equal), None);
        assert_eq!(refusal(equal, equal, equal), None);
        assert_eq!(refusal(equal, above, equal), Some(Refusal::LeadTime { lead_time: above, horizon: equal }));
        assert_eq!(refusal(above, above, equal), Some(Refusal::Provisioning));
    }

    /// The answer, to the letter.
    const EXACT: &str =
        r#"{"error":"Forecasting horizon SLA violation: Node provisioning exceeds predictive lead time"}"#;

    #[test]
    fn units_that_come_in_twenty_minutes_are_refused_where_five_minutes_are_forecast_with_confidence() {
        // With the data's age, the decision interval and the warm-up a unit is there after 1266 s.
        let answer = |horizon: i64| {
            let refused = refusal(Span::from_minutes(20), Span::from_secs(1266), Span::from_secs(horizon));
            refused.map(|refusal| refusal.json("front"))
        };
        let late = |horizon: &str| {
            let text = "lead time of `front` (data age, decision interval, provisioning, warm-up: 1266s) exceeds the";
            Some(format!(r#"{{"error":"{text} forecasting horizon {horizon}","code":"lead-time-beyond-horizon"}}"#))
        };
        assert_eq!(answer(300).as_deref(), Some(EXACT));
        assert_eq!(answer(1199).as_deref(), Some(EXACT));
        assert_eq!(answer(1200), late("20m"));
        assert_eq!(answer(1201), late("1201s"));
        // The whole lead time has a bound of its own.
        assert_eq!(answer(1265), late("1265s"));
        assert_eq!(answer(1266), None);
        assert_eq!(answer(1267), None);
    }

    #[test]
    fn the_same_second_decides_whether_a_forecast_is_heeded() {
        let heeded = |provisioning: i64| {
            let inputs = crate::tests::moment(Span::from_secs(provisioning), Some(Span::from_minutes(5)));
            (inputs.forecast.is_some(), inputs.forecast_missing)
        };
        assert_eq!(heeded(299), (true, String::new()));
        assert_eq!(heeded(300), (true, String::new()));
        assert_eq!(heeded(301), (false, "horizon-short".to_owned()));
    }
}
