//! Bodies of the API, made from the controller's view. Rule: unknown is null; a decision and an actuation are the
//! domain's own types, which are the contract.

use prescale_controller::view::{ModelEvent, ModelsView, ServiceView, View};
use prescale_domain::{Actuation, Decision, DecisionKind, Mode, Outcome, Pause, QuantileForecast, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

/// `/healthz`: the process answers.
#[derive(Serialize, JsonSchema)]
pub(crate) struct HealthBody {
    pub(crate) status: &'static str,
}

/// `/readyz`: whether everything needed to serve is there, else why not.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ReadyBody {
    pub(crate) ready: bool,
    pub(crate) reason: Option<String>,
}

/// The controller as a whole.
#[derive(Serialize, JsonSchema)]
pub(crate) struct StatusBody {
    /// `wall`, or `event` for a replay that follows the data.
    pub(crate) clock: &'static str,
    pub(crate) now: Timestamp,
    pub(crate) step_seconds: f64,
    pub(crate) ready: bool,
    pub(crate) not_ready: Option<String>,
    /// Things that work worse than they should, as sentences.
    pub(crate) degradations: Vec<String>,
    /// Grows with each change of the view.
    pub(crate) version: u64,
}

/// What state a service is in, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Condition {
    /// The last actuation failed.
    Failing,
    /// No data for too long: capacity is held.
    Blind,
    /// Nothing has been seen yet.
    Waiting,
    /// The last closed window is missing.
    Gap,
    /// There is no forecast: the reactive rule decides.
    Reactive,
    Ok,
}

/// One service in a list.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ServiceSummary {
    pub(crate) name: String,
    pub(crate) mode: Mode,
    pub(crate) condition: Condition,
    /// What is wrong, as sentences; empty when nothing is.
    pub(crate) degradations: Vec<String>,
    /// Somebody has stopped its changes, or those of all services.
    pub(crate) paused: Option<Pause>,
    /// The features column that is forecast.
    pub(crate) signal: String,
    pub(crate) target: String,
    /// Load that one unit carries, in the unit of the signal.
    pub(crate) unit_capacity: f64,
    /// The last closed window.
    pub(crate) load: Option<LoadPoint>,
    /// What capacity asked for now will meet.
    pub(crate) forecast_at_lead: Option<LeadForecast>,
    pub(crate) desired: Option<u32>,
    pub(crate) ready: Option<u32>,
    /// Load per capacity in service.
    pub(crate) utilization: Option<f64>,
    /// The model whose forecast is in use.
    pub(crate) model: Option<String>,
    /// Why this model, or why there is none, as a code.
    pub(crate) model_reason: Option<String>,
    pub(crate) last_decision: Option<DecisionBrief>,
}

/// Load of the window that starts at a moment; null = gap.
#[derive(Clone, Copy, Serialize, JsonSchema)]
pub(crate) struct LoadPoint {
    pub(crate) window_start: Timestamp,
    pub(crate) value: Option<f64>,
}

/// The forecast for the first window in which capacity asked for now carries load.
#[derive(Serialize, JsonSchema)]
pub(crate) struct LeadForecast {
    pub(crate) window_start: Timestamp,
    /// Level of `upper`.
    pub(crate) quantile: f64,
    pub(crate) upper: f64,
    pub(crate) median: f64,
}

/// A decision without its inputs.
#[derive(Serialize, JsonSchema)]
pub(crate) struct DecisionBrief {
    pub(crate) id: String,
    pub(crate) at: Timestamp,
    pub(crate) kind: DecisionKind,
    pub(crate) desired: u32,
    pub(crate) need: Option<u32>,
    /// Units asked for before the decision, where the target could be observed.
    pub(crate) desired_before: Option<u32>,
    /// What each rule said, in order.
    pub(crate) reasons: Vec<String>,
}

/// `/api/v1/services`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ServicesBody {
    pub(crate) status: StatusBody,
    pub(crate) services: Vec<ServiceSummary>,
}

/// `/api/v1/services/{service}`: a day of load and capacity.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ServiceBody {
    pub(crate) summary: ServiceSummary,
    pub(crate) load: Vec<LoadPoint>,
    pub(crate) capacity: Vec<CapacityBody>,
    /// Newest first.
    pub(crate) actuations: Vec<Actuation>,
    /// Drift, training, promotion: newest first.
    pub(crate) model_events: Vec<ModelEventBody>,
}

/// Capacity at one moment, in units.
#[derive(Serialize, JsonSchema)]
pub(crate) struct CapacityBody {
    pub(crate) at: Timestamp,
    pub(crate) desired: u32,
    pub(crate) ready: Option<u32>,
}

/// Something that happened to the models of a service.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ModelEventBody {
    pub(crate) at: Timestamp,
    /// `drift`, `training-started`, `training-failed`, `refitted`, `updated`, `kept`, `challenger`, `promoted`, `rejected`,
    /// `confirmed`, `rolled-back`, `demoted`, `readmitted`, `model-unreadable`.
    pub(crate) kind: String,
    pub(crate) text: String,
}

/// `/api/v1/services/{service}/forecast`: the present forecast, or why there is none.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ForecastBody {
    pub(crate) service: String,
    /// Why there is no forecast, as a code.
    pub(crate) missing: Option<String>,
    pub(crate) forecast: Option<ForecastDetail>,
}

/// `/api/v1/services/{service}/models`: what serves, how well, and what is known of the load.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ModelsBody {
    pub(crate) service: String,
    /// Null until the first window is closed.
    pub(crate) models: Option<ModelsView>,
}

/// A forecast with the time of each step.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ForecastDetail {
    pub(crate) model: String,
    pub(crate) reason: String,
    /// Start of the last closed window that it has seen.
    pub(crate) origin: Timestamp,
    pub(crate) step_seconds: f64,
    /// Quantile levels, ascending.
    pub(crate) levels: Vec<f64>,
    pub(crate) steps: Vec<ForecastStep>,
}

/// The forecast for one window.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ForecastStep {
    pub(crate) window_start: Timestamp,
    /// One value for each level.
    pub(crate) values: Vec<f64>,
}

/// `/api/v1/decisions`: newest first.
#[derive(Serialize, JsonSchema)]
pub(crate) struct DecisionsBody {
    pub(crate) decisions: Vec<Decision>,
    /// `before` of the next page; null = this was the last.
    pub(crate) next: Option<String>,
}

impl StatusBody {
    pub(crate) fn new(view: &View) -> Self {
        Self {
            clock: view.clock,
            now: view.now,
            step_seconds: view.step.seconds(),
            ready: view.ready.is_ok(),
            not_ready: view.ready.as_ref().err().cloned(),
            degradations: view.degradations.clone(),
            version: view.version,
        }
    }
}

impl ServiceSummary {
    pub(crate) fn new(service: &ServiceView) -> Self {
        let load = service.load.back().map(|&(window_start, value)| LoadPoint { window_start, value });
        let decision = service.decisions.back();
        let capacity = service.capacity.back();
        let target = decision.and_then(|decision| decision.inputs.target);
        let ready = capacity.and_then(|point| point.ready).or(target.and_then(|target| target.ready));
        let supply = ready.map(|units| f64::from(units) * service.unit_capacity).filter(|supply| *supply > 0.0);
        let model = service.forecast.as_ref().map(|forecast| forecast.model.clone());
        let model_reason = match &service.forecast {
            Some(forecast) => Some(forecast.reason.clone()),
            None => Some(service.forecast_missing.clone()).filter(|code| !code.is_empty()),
        };
        let (condition, degradations) = condition(service);
        Self {
            name: service.service.to_string(),
            mode: service.mode,
            condition,
            degradations,
            paused: service.paused.clone(),
            signal: service.signal.clone(),
            target: service.target.clone(),
            unit_capacity: service.unit_capacity,
            load,
            forecast_at_lead: decision.and_then(|decision| LeadForecast::new(decision)),
            desired: capacity.map(|point| point.desired).or(decision.map(|decision| decision.desired)),
            ready,
            utilization: load.and_then(|point| point.value).zip(supply).map(|(load, supply)| load / supply),
            model,
            model_reason,
            last_decision: decision.map(|decision| DecisionBrief::new(decision)),
        }
    }
}

impl LeadForecast {
    fn new(decision: &Decision) -> Option<Self> {
        let forecast = decision.inputs.forecast.as_ref()?;
        let index = forecast.effective_index;
        let ahead = forecast.step.millis().saturating_mul(i64::try_from(index).ok()?);
        Some(Self {
            window_start: forecast.from + prescale_domain::Span::from_millis(ahead),
            quantile: forecast.quantile,
            upper: *forecast.upper.get(index)?,
            median: *forecast.median.get(index)?,
        })
    }
}

impl DecisionBrief {
    pub(crate) fn new(decision: &Decision) -> Self {
        Self {
            id: decision.id.to_string(),
            at: decision.at,
            kind: decision.kind,
            desired: decision.desired,
            need: decision.need,
            desired_before: decision.inputs.target.map(|target| target.desired),
            reasons: decision.reasons.iter().map(|reason| reason.text.clone()).collect(),
        }
    }
}

impl ServiceBody {
    pub(crate) fn new(service: &ServiceView) -> Self {
        Self {
            summary: ServiceSummary::new(service),
            load: service.load.iter().map(|&(window_start, value)| LoadPoint { window_start, value }).collect(),
            capacity: service
                .capacity
                .iter()
                .map(|point| CapacityBody { at: point.at, desired: point.desired, ready: point.ready })
                .collect(),
            actuations: service.actuations.iter().rev().cloned().collect(),
            model_events: service.model_events.iter().rev().map(ModelEventBody::new).collect(),
        }
    }
}

impl ModelEventBody {
    pub(crate) fn new(event: &ModelEvent) -> Self {
        Self { at: event.at, kind: event.kind.clone(), text: event.text.clone() }
    }
}

impl ModelsBody {
    pub(crate) fn new(service: &ServiceView) -> Self {
        Self { service: service.service.to_string(), models: service.models.as_deref().cloned() }
    }
}

impl ForecastBody {
    pub(crate) fn new(service: &ServiceView) -> Self {
        Self {
            service: service.service.to_string(),
            missing: match &service.forecast {
                Some(_) => None,
                None => Some(service.forecast_missing.clone()),
            },
            forecast: service.forecast.as_ref().map(|forecast| ForecastDetail::new(forecast)),
        }
    }
}

impl ForecastDetail {
    fn new(forecast: &QuantileForecast) -> Self {
        let mut window_start = forecast.origin;
        let steps = forecast.values.iter().map(|values| {
            window_start = window_start + forecast.step;
            ForecastStep { window_start, values: values.clone() }
        });
        Self {
            model: forecast.model.clone(),
            reason: forecast.reason.clone(),
            origin: forecast.origin,
            step_seconds: forecast.step.seconds(),
            levels: forecast.levels.clone(),
            steps: steps.collect(),
        }
    }
}

/// The worst that holds, and a sentence for each thing that does.
fn condition(service: &ServiceView) -> (Condition, Vec<String>) {
    let mut found = Vec::new();
    if let Some(Actuation { outcome: Outcome::Failed { code, error }, .. }) = service.actuations.back() {
        found.push((Condition::Failing, format!("the last change of {} failed ({code}): {error}", service.target)));
    }
    let blind = service.decisions.back().and_then(|decision| {
        decision.reasons.iter().find(|reason| reason.code.contains("blind")).map(|reason| reason.text.clone())
    });
    if let Some(text) = blind {
        found.push((Condition::Blind, text));
    }
    match service.load.back() {
        None => found.push((Condition::Waiting, format!("no `{}` has been seen yet", service.signal))),
        Some((start, None)) => found.push((Condition::Gap, format!("the window that starts at {start} is missing"))),
        Some((_, Some(_))) => {}
    }
    if service.forecast.is_none() && !service.load.is_empty() {
        let why = if service.forecast_missing.is_empty() { "not made yet" } else { &service.forecast_missing };
        found.push((Condition::Reactive, format!("no forecast: {why}")));
    }
    let worst = found.first().map_or(Condition::Ok, |(condition, _)| *condition);
    (worst, found.into_iter().map(|(_, text)| text).collect())
}
