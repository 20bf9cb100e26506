//! What policies read and what they hand on. Rule: reading is total; a number that makes no sense counts as absent.

use std::cell::OnceCell;

use prescale_domain::{DecisionInputs, ForecastInput, PlanningRule, Reason, RiskAccount, RiskPrices, Span, Timestamp};

use crate::planner::{Outlook, risk, worth};
use crate::words::number;

/// The inputs of one decision, with the questions that several policies ask of them; what is costly to answer is answered
/// once.
pub struct Context<'a> {
    pub inputs: &'a DecisionInputs,
    forecast: OnceCell<Result<&'a ForecastInput, Missing>>,
    outlook: OnceCell<Option<Outlook<'a>>>,
    prices: OnceCell<Option<Weighed>>,
    allowed: OnceCell<(f64, String)>,
}

/// Why there is no usable forecast: a code and a sentence.
pub(crate) type Missing = (&'static str, String);

/// What each price for an overload risks in this decision, and with it of late.
struct Weighed {
    here: Vec<f64>,
    of_late: RiskPrices,
}

/// Capacity as far as the policies have come.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub units: u32,
    /// What the need alone asks for; `None` while it is unknown.
    pub need: Option<u32>,
    /// Present capacity is held; only bounds that raise it still count.
    pub held: bool,
    pub reasons: Vec<Reason>,
}

impl<'a> Context<'a> {
    pub fn new(inputs: &'a DecisionInputs) -> Self {
        Self {
            inputs,
            forecast: OnceCell::new(),
            outlook: OnceCell::new(),
            prices: OnceCell::new(),
            allowed: OnceCell::new(),
        }
    }

    /// Units that the target wants at present; `None` = it could not be observed.
    pub fn present(&self) -> Option<u32> {
        self.inputs.target.map(|target| target.desired)
    }

    /// The load of the last closed window.
    pub fn load(&self) -> Option<f64> {
        self.inputs.load.filter(|load| load.is_finite() && *load >= 0.0)
    }

    /// The load after exponential smoothing, which dampens noise by the configured weight of the newest value.
    pub fn smoothed_load(&self) -> Option<f64> {
        let load = self.load()?;
        let weight = self.inputs.settings.planning.smoothing;
        match self.inputs.memory.smoothed_load {
            Some(before) if weight > 0.0 && weight < 1.0 && before.is_finite() => {
                Some(before + weight * (load - before))
            }
            _ => Some(load),
        }
    }

    /// The violation budget's account with the last window in it.
    pub fn risk_account(&self) -> RiskAccount {
        risk::accounted(self.inputs)
    }

    /// The whole forecast as probabilities, if it is usable and has quantiles.
    pub fn probabilities(&self) -> Option<&Outlook<'a>> {
        let read = || Outlook::new(self.forecast().ok()?, self.inputs.at, &self.inputs.lead_time);
        self.outlook.get_or_init(read).as_ref()
    }

    /// The same, if it reaches the windows that this decision determines and the capacity of a unit is known.
    pub fn outlook(&self) -> Option<&Outlook<'a>> {
        let capacity = self.inputs.settings.unit_capacity;
        self.probabilities().filter(|outlook| outlook.determines() && capacity.is_finite() && capacity > 0.0)
    }

    /// What prices for an overload would have risked of late, this decision included.
    pub fn risk_prices(&self) -> Option<&RiskPrices> {
        self.weighed().map(|weighed| &weighed.of_late)
    }

    fn weighed(&self) -> Option<&Weighed> {
        let weigh = || {
            let (settings, memory) = (&self.inputs.settings, &self.inputs.memory);
            if settings.planning.rule != PlanningRule::RiskBudget || settings.planning.risk_max <= 0.0 {
                return None;
            }
            let here = worth::risks(self.outlook()?, settings.unit_capacity);
            let interval = self.inputs.lead_time.decision_interval.seconds();
            let of_late = worth::noted(memory.prices.as_ref(), &here, interval);
            Some(Weighed { here, of_late })
        };
        self.prices.get_or_init(weigh).as_ref()
    }

    /// The probability of overload that this decision may take, and why in words.
    pub fn allowed_risk(&self) -> &(f64, String) {
        self.allowed.get_or_init(|| {
            let settings = &self.inputs.settings;
            let (allowed, why) = risk::allowed(&settings.planning, &self.risk_account(), settings.unit_capacity);
            // Prices decide by themselves where risk is worth it, and without a past there is nothing to weigh against.
            let priced = settings.planning.missed_usd_hour.is_some();
            let (Some(_), Some(weighed), false) = (&self.inputs.memory.prices, self.weighed(), priced) else {
                return (allowed, why);
            };
            let taken = worth::taken(&weighed.of_late, &weighed.here, allowed, settings.planning.risk_max);
            (taken, format!("{:.2} % on average: {why}", 100.0 * allowed))
        })
    }

    /// The forecast, if it is fresh, sound and reaches the moment at which capacity asked for now is effective;
    /// otherwise why not, as code and sentence.
    pub fn forecast(&self) -> Result<&'a ForecastInput, &Missing> {
        self.forecast.get_or_init(|| usable(self.inputs)).as_ref().copied()
    }

    /// The upper edge of the forecast band for the window of the last load, or for the nearest window after it.
    pub fn band(&self, forecast: &ForecastInput) -> Option<f64> {
        let step = forecast.step.millis();
        let end = self.inputs.load_window_end?;
        let ahead = (end - forecast.step).since(forecast.from).millis();
        let index = if step > 0 { usize::try_from(ahead / step).ok()? } else { 0 };
        forecast.upper.get(index.min(forecast.upper.len().checked_sub(1)?)).copied()
    }

    /// Whether the last load was above what was forecast for it, and by which edge of the band that is judged.
    pub fn surprise(&self) -> Option<(f64, f64)> {
        let (load, band) = (self.load()?, self.band(self.forecast().ok()?)?);
        (load > band).then_some((load, band))
    }

    /// Units that carry `load` when each is used to `utilization`; the unit capacity must be sound. The rounding error of
    /// the division buys no unit.
    pub fn units_for(&self, load: f64, utilization: f64) -> u32 {
        const ROUNDING: f64 = 1e-12;
        let units = (load / self.inputs.settings.unit_capacity / utilization * (1.0 - ROUNDING)).ceil();
        // The cast saturates; bounds follow.
        units.max(0.0) as u32
    }

    /// Utilization of the reactive rule, 1 where the setting makes no sense.
    pub fn reactive_utilization(&self) -> f64 {
        let utilization = self.inputs.settings.reactive_utilization;
        if utilization > 0.0 && utilization <= 1.0 { utilization } else { 1.0 }
    }

    /// Needs of the stabilization window, oldest first. Where the last known need is long ago (a start, the end of
    /// blindness), the present capacity stands for the past, so that the first decision does not scale in.
    pub fn recent_needs(&self) -> Vec<(Timestamp, u32)> {
        let DecisionInputs { at, settings, memory, .. } = self.inputs;
        let within = |moment: Timestamp, span: Span| moment <= *at && at.since(moment) <= span;
        let remembered = settings.stabilization_down.max(settings.blind_after);
        let mut needs = memory.needs.clone();
        if !needs.iter().any(|(moment, _)| within(*moment, remembered)) {
            needs.extend(self.present().map(|present| (*at, present)));
        }
        needs.retain(|(moment, _)| within(*moment, settings.stabilization_down));
        needs
    }

    /// How the unit capacity reads in a sentence.
    pub fn per_unit(&self) -> String {
        number(self.inputs.settings.unit_capacity)
    }
}

impl Plan {
    /// Keep what is there; nothing is known yet.
    pub fn keep(units: u32) -> Self {
        Self { units, need: None, held: false, reasons: Vec::new() }
    }

    /// The plan with other units and the reason for them.
    pub fn because(mut self, code: &str, units: u32, text: String) -> Self {
        self.units = units;
        self.reasons.push(Reason { code: code.to_owned(), units, text });
        self
    }
}

fn usable(inputs: &DecisionInputs) -> Result<&ForecastInput, Missing> {
    if !inputs.settings.planning.predictive {
        return Err(("not-predictive", "forecasts are not heeded by this policy".to_owned()));
    }
    let Some(forecast) = &inputs.forecast else {
        let why = if inputs.forecast_missing.is_empty() { "no reason given" } else { &inputs.forecast_missing };
        return Err(("forecast-missing", format!("there is no forecast ({why})")));
    };
    let age = inputs.at.since(forecast.origin + forecast.step);
    let limit = inputs.settings.stale_after;
    if age > limit {
        return Err(("forecast-stale", format!("the forecast has seen nothing for {age}, more than {limit}")));
    }
    if forecast.upper.iter().any(|value| !value.is_finite() || *value < 0.0) {
        return Err(("forecast-invalid", "the forecast holds a number that is not a load".to_owned()));
    }
    if forecast.effective_index >= forecast.upper.len() {
        let (reach, needed) = (forecast.upper.len(), forecast.effective_index + 1);
        return Err(("horizon-short", format!("the forecast reaches {reach} windows ahead, {needed} are needed")));
    }
    Ok(forecast)
}
