//! What a decision is made from, put together. Rule: whoever decides (the loop, a back-test, a plan) does it here, so that
//! the same moment gives the same inputs.

use std::collections::BTreeMap;

use prescale_domain::{
    Circumstances, DecisionInputs, DecisionMemory, LeadTime, Mode, PolicySettings, QuantileForecast, ServiceName, Span,
    TargetState, Timestamp,
};

use crate::window::forecast_input;

/// One service at one moment, as its surroundings know it.
#[derive(Clone, Debug)]
pub struct Moment<'a> {
    pub service: &'a ServiceName,
    pub at: Timestamp,
    pub mode: Mode,
    pub settings: &'a PolicySettings,
    /// Load of the last closed window, and the end of the last one whose load is known.
    pub load: Option<f64>,
    pub load_window_end: Option<Timestamp>,
    /// End of the last closed window, known or not.
    pub window_end: Option<Timestamp>,
    pub signals: BTreeMap<String, f64>,
    /// `Err` = why there is none, as a reason code.
    pub forecast: Result<&'a QuantileForecast, &'a str>,
    pub decision_interval: Span,
    pub provisioning_latency: Span,
    pub provisioning_median: Option<Span>,
    pub warm_up: Span,
    /// How far ahead the forecast can be trusted, where that is not as far as it goes.
    pub confident_horizon: Option<Span>,
    pub target: Option<TargetState>,
    pub memory: DecisionMemory,
    /// What else the rules look at.
    pub circumstances: Circumstances,
}

impl Moment<'_> {
    /// The inputs of the decision at this moment.
    pub fn inputs(self) -> DecisionInputs {
        let lead_time = LeadTime {
            data_age: self.window_end.map_or(Span::ZERO, |end| self.at.since(end)),
            decision_interval: self.decision_interval,
            provisioning_latency: self.provisioning_latency,
            warm_up: self.warm_up,
            provisioning_median: self.provisioning_median,
        };
        let (quantile, churn) = (self.settings.quantile, self.settings.planning.churn);
        let trusted = self.confident_horizon.is_none_or(|horizon| self.provisioning_latency <= horizon);
        let forecast = if trusted { self.forecast } else { Err("horizon-short") };
        let input = forecast.map_err(str::to_owned).and_then(|forecast| {
            forecast_input(forecast, self.at, &lead_time, quantile, churn).map_err(|error| error.code().to_owned())
        });
        let (forecast, forecast_missing) = match input {
            Ok(input) => (Some(input), String::new()),
            Err(code) => (None, code),
        };
        DecisionInputs {
            service: self.service.clone(),
            at: self.at,
            mode: self.mode,
            settings: self.settings.clone(),
            load: self.load,
            load_window_end: self.load_window_end,
            signals: self.signals,
            forecast,
            forecast_missing,
            lead_time,
            target: self.target,
            memory: self.memory,
            circumstances: self.circumstances,
        }
    }
}
