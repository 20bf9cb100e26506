//! Prescale at the helm of a scenario: the loop of the service, in virtual time. Rule: what decides here is what decides in
//! service ([`Moment`], the circumstances of its rules, [`decide`]); a window is seen when it has closed, never before.
//!
//! A decision follows each closed window, as on the event clock; in between the fast loop looks for what does not
//! wait, as on the wall clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use prescale_decide::{Around, Moment, Rules, Timetable, decide, due, turned, urgent};
use prescale_domain::{
    ActuationReport, CadenceSettings, Decision, DecisionMemory, LastTurns, Mode, OpeningHours, PlanningRule,
    PlanningSettings, PolicySettings, QuantileForecast, ResourceLimits, Resources, RuleSettings, ServiceName, Signals,
    Span, TargetState, Timestamp, Zone,
};

use super::Scenario;
use crate::queueing::{Latency, Observation};

/// What is forecast after a window; `Err` = why nothing is, as a reason code.
pub type Made = Result<QuantileForecast, String>;

/// A service as it is configured for a scenario; the fields are called as in the configuration file.
#[derive(Clone, Debug)]
pub struct Configured {
    pub service: ServiceName,
    pub policy: PolicySettings,
    pub rules: Rules,
    /// Width of a window, a whole number of the scenario's ticks.
    pub step: Span,
    /// From the end of a window until it is closed.
    pub lateness: Span,
    pub cadence: CadenceSettings,
    /// How far ahead the forecast can be trusted; `None` = as far as it goes.
    pub confident_horizon: Option<Span>,
    /// Whether the units tell how much they serve and what waits; without it the rules about idle units are silent.
    pub measured: bool,
}

impl Configured {
    /// The defaults of the configuration file.
    pub fn new(service: &str, unit_capacity: f64, max_units: u32) -> Self {
        Self {
            service: service.into(),
            policy: PolicySettings {
                unit_capacity,
                min_units: 1,
                max_units,
                quantile: 0.99,
                step_up_units: 1000,
                step_down_units: 1000,
                cooldown_up: Span::ZERO,
                cooldown_down: Span::from_minutes(1),
                stabilization_down: Span::from_minutes(3),
                hysteresis: 0.05,
                reactive_utilization: 0.7,
                stale_after: Span::from_minutes(5),
                blind_after: Span::from_minutes(10),
                planning: PlanningSettings {
                    rule: PlanningRule::RiskBudget,
                    risk_max: 0.25,
                    ..PlanningSettings::default()
                },
            },
            rules: Rules {
                criticality: 1.0,
                partitions: None,
                settings: RuleSettings::default(),
                timetable: Arc::new(Timetable::default()),
                opening_hours: OpeningHours::usual(Zone::UTC),
                zone: Zone::UTC,
                price_usd_hour: None,
                unit: Resources::default(),
                fleet: ResourceLimits::default(),
            },
            step: Span::from_minutes(1),
            lateness: Span::from_secs(5),
            cadence: CadenceSettings::default(),
            confident_horizon: None,
            measured: false,
        }
    }

    /// Units go to zero while business is closed and nothing waits.
    pub fn to_zero(mut self) -> Self {
        self.policy.min_units = 0;
        self.rules.settings.scale_in.to_zero = true;
        self.measured = true;
        self
    }
}

/// Prescale at work; `forecast` gets the end and the load of each closed window, `take` each decision.
pub(super) struct Helm<'a, F, T> {
    scenario: &'a Scenario,
    configured: &'a Configured,
    forecast: F,
    take: T,
    /// Requests of the window that has not ended, and when it does.
    arrived: u64,
    ends: Timestamp,
    /// Windows that have ended and are not closed yet: end and load.
    ended: VecDeque<(Timestamp, f64)>,
    closed: Option<(Timestamp, f64)>,
    made: Made,
    turns: LastTurns,
    memory: DecisionMemory,
    actuation: Option<ActuationReport>,
}

impl<'a, F, T> Helm<'a, F, T>
where
    F: FnMut(Timestamp, f64) -> Made,
    T: FnMut(&Decision),
{
    /// One that has seen the windows before the run, and nothing else.
    pub(super) fn new(
        scenario: &'a Scenario,
        configured: &'a Configured,
        past: &[(Timestamp, f64)],
        forecast: F,
        take: T,
    ) -> Self {
        let mut helm = Self {
            scenario,
            configured,
            forecast,
            take,
            arrived: 0,
            ends: scenario.run.start + configured.step,
            ended: VecDeque::new(),
            closed: None,
            made: Err("no-history".to_owned()),
            turns: LastTurns::default(),
            memory: DecisionMemory::default(),
            actuation: None,
        };
        past.iter().for_each(|window| helm.close(*window));
        helm
    }

    /// One tick of the scenario.
    pub(super) fn turn(&mut self, seen: &Observation) -> Option<u32> {
        let news = self.advance(seen);
        let mut due = due(seen.now, &self.turns, &self.configured.cadence);
        due.normal = news && due.normal;
        self.turns = turned(&self.turns, due, seen.now);
        if !(due.normal || due.fast) {
            return None;
        }
        let decision = self.decide(seen);
        if !(due.normal || urgent(&decision)) {
            return None;
        }
        self.memory = decision.memory.clone();
        (self.take)(&decision);
        let changed = decision.desired != seen.desired;
        if changed {
            // What the loop would be told of it.
            self.actuation = Some(ActuationReport { at: seen.now, failed: None });
        }
        changed.then_some(decision.desired)
    }

    /// Takes in what has happened since the last tick; whether there is something to decide on that there was not before.
    fn advance(&mut self, seen: &Observation) -> bool {
        let step = self.configured.step;
        self.arrived += seen.arrived;
        if seen.now >= self.ends {
            self.ended.push_back((self.ends, self.arrived as f64 / step.seconds()));
            (self.arrived, self.ends) = (0, self.ends + step);
        }
        let mut news = self.turns.normal.is_none();
        while let Some(window) = self.ended.pop_front_if(|(end, _)| *end + self.configured.lateness <= seen.now) {
            self.close(window);
            news = true;
        }
        news
    }

    fn close(&mut self, window: (Timestamp, f64)) {
        self.made = (self.forecast)(window.0, window.1);
        self.closed = Some(window);
    }

    fn decide(&self, seen: &Observation) -> Decision {
        let Configured { service, policy, rules, .. } = self.configured;
        let fleet = &self.scenario.run.fleet;
        let load = self.closed.map(|(_, load)| load);
        let window_end = self.closed.map(|(end, _)| end);
        let around = Around {
            load,
            forecast: self.made.as_ref().ok(),
            carried: f64::from(seen.desired.max(1)) * policy.unit_capacity,
            quantile: policy.quantile,
            signals: self.signals(seen),
            actuation: self.actuation.clone(),
            ..Around::default()
        };
        let (median, p90) = provisioning(&fleet.provisioning);
        let moment = Moment {
            service,
            at: seen.now,
            mode: Mode::Act,
            settings: policy,
            load,
            load_window_end: window_end,
            window_end,
            signals: BTreeMap::new(),
            forecast: self.made.as_ref().map_err(String::as_str),
            decision_interval: self.configured.cadence.normal.max(self.configured.step),
            provisioning_latency: p90,
            provisioning_median: Some(median),
            warm_up: fleet.warm_up.span,
            confident_horizon: self.configured.confident_horizon,
            target: Some(TargetState {
                desired: seen.desired,
                ready: Some(seen.ready),
                min: Some(fleet.min),
                max: Some(fleet.max),
                observed_at: seen.now,
            }),
            memory: self.memory.clone(),
            circumstances: rules.circumstances(service, seen.now, around),
        };
        decide(&moment.inputs())
    }

    fn signals(&self, seen: &Observation) -> Signals {
        if !self.configured.measured {
            return Signals::default();
        }
        Signals {
            queue: Some(seen.queue as f64),
            in_flight: Some(seen.in_service as f64),
            unit_concurrency: Some(f64::from(self.scenario.run.service.concurrency)),
            ..Signals::default()
        }
    }
}

/// Median and 90th percentile of a provisioning latency, as they would have been learnt.
fn provisioning(latency: &Latency) -> (Span, Span) {
    match latency {
        Latency::Fixed(span) => (*span, *span),
        Latency::LogNormal { median, p90 } => (*median, *p90),
        Latency::Observed(spans) => {
            let mut sorted = spans.clone();
            sorted.sort_unstable();
            let at = |tenths: usize| sorted.get(sorted.len().saturating_sub(1) * tenths / 10).copied();
            (at(5).unwrap_or_default(), at(9).unwrap_or_default())
        }
    }
}
