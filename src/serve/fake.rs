//! A made-up controller for tests of readers: four services over a day, each in another state. Rule: a pure function of
//! the minute, so that two readers see the same bytes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use prescale_controller::view::{
    CapacityPoint, DECISIONS_MAX, DecisionArchive, Design, EventLog, Experiment, ExperimentSettings, ExperimentView,
    Guard, Handle, LeadScore, Metric, ModelEvent, ModelKind, ModelsView, POINTS_MAX, PauseChange, Pauses, Readiness,
    ServiceScores, ServiceView, ShadowReports, View, find_patterns,
};
use prescale_domain::{
    Actuation, CalendarEvent, DEFAULT_QUANTILES, Decision, DecisionId, DecisionInputs, DecisionKind, DecisionMemory,
    ForecastInput, LeadTime, Mode, OpeningHours, Outcome, Pause, PauseScope, PlanningSettings, PolicySettings,
    QuantileForecast, Reason, Rows, Saved, Series, ServiceName, ShadowReport, ShadowScore, Span, TargetState,
    Timestamp, Violations, Zone,
};
use tokio::sync::watch;

const MINUTE: Span = Span::from_minutes(1);
const DAY: Span = Span::from_minutes(1440);
/// Monday 2026-11-16, 00:00 UTC: minute 0 of the made-up world.
const EPOCH: i64 = 1_794_787_200_000;
/// Standard normal quantiles of [`DEFAULT_QUANTILES`].
const NORMAL: [f64; 8] = [-1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645, 2.326];
/// From the request for a unit until it is in service.
const PROVISIONING_MINUTES: i64 = 4;

/// What is wrong with a made-up service.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Sound,
    /// Its model has not been trained yet, and its target refuses changes.
    Young,
    /// Its data stopped twelve minutes ago.
    Silent,
    Unseen,
}

struct Made {
    name: &'static str,
    state: State,
    mode: Mode,
    base: f64,
    unit_capacity: f64,
}

static SERVICES: [Made; 4] = [
    Made { name: "catalog", state: State::Young, mode: Mode::Act, base: 140.0, unit_capacity: 25.0 },
    Made { name: "checkout", state: State::Sound, mode: Mode::Act, base: 420.0, unit_capacity: 50.0 },
    Made { name: "media/resize", state: State::Silent, mode: Mode::Recommend, base: 60.0, unit_capacity: 8.0 },
    Made { name: "search", state: State::Unseen, mode: Mode::Observe, base: 0.0, unit_capacity: 40.0 },
];

/// Recorded decisions in memory.
#[derive(Default)]
pub struct MemoryArchive {
    pub decisions: Vec<Decision>,
}

impl DecisionArchive for MemoryArchive {
    fn decision(&self, id: &str) -> Result<Option<Decision>, String> {
        Ok(self.decisions.iter().find(|decision| decision.id.0 == id).cloned())
    }

    fn decisions(
        &self,
        service: Option<&ServiceName>,
        before: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Decision>, String> {
        let mut found: Vec<Decision> = self
            .decisions
            .iter()
            .filter(|decision| service.is_none_or(|service| *service == decision.service))
            .filter(|decision| before.is_none_or(|before| decision.at < before))
            .cloned()
            .collect();
        found.sort_by_key(|decision| std::cmp::Reverse(decision.at));
        found.truncate(limit);
        Ok(found)
    }
}

/// A topic of events that the loop of the made-up world reads at once, in the minute of its view.
pub struct MemoryEvents {
    pub view: watch::Sender<Arc<View>>,
}

impl MemoryEvents {
    fn change(&self, id: &str, event: Option<CalendarEvent>) {
        self.view.send_modify(|view| {
            let view = Arc::make_mut(view);
            view.events.retain(|known| known.id != id);
            view.events.extend(event);
            view.events.sort_by(|one, other| one.id.cmp(&other.id));
        });
    }
}

impl EventLog for MemoryEvents {
    fn tell(&self, event: CalendarEvent) -> Result<CalendarEvent, String> {
        let event = CalendarEvent { known_at: self.view.borrow().now, ..event };
        self.change(&event.id, Some(event.clone()));
        Ok(event)
    }

    fn take_back(&self, id: &str) -> Result<(), String> {
        self.change(id, None);
        Ok(())
    }
}

/// Three days of what would have run.
struct MemoryShadow {
    minute: i64,
}

impl MemoryShadow {
    fn report(&self, made: &Made, day: Option<Timestamp>) -> ShadowReport {
        let first = moment(0).floor_to(DAY);
        let hours = day.map_or(60.0, |day| if day < first + DAY { 24.0 } else { 12.0 });
        let side = |units: f64, short: f64| ShadowScore {
            violations: Violations { time_pct: short, requests_pct: short / 4.0 },
            cost_usd: Some(units * hours * 0.17),
            cost_per_million_good_usd: None,
            unit_hours: units * hours,
            theta_under: short / 5.0,
            theta_over: 20.0,
            tau_under: short,
            tau_over: 60.0,
            instability: Some(11.0),
            reversals: 3,
            actions: 17,
            objective_kept: Some(short <= 1.0),
        };
        let sound = made.state == State::Sound;
        let (actual, prescale) = (side(12.0, 2.5), side(10.0, 0.5));
        let saved = Saved {
            cost_usd: Some(2.0 * hours * 0.17),
            unit_hours: 2.0 * hours,
            short_minutes: 0.02 * hours * 60.0,
            missed: 125.0 * hours,
        };
        ShadowReport {
            service: ServiceName::new(made.name),
            day,
            complete: day.is_some_and(|day| day + DAY <= moment(self.minute)),
            scored_hours: if sound { hours } else { 0.0 },
            gap_hours: if sound { 0.0 } else { hours },
            systems: if sound {
                [("actual".to_owned(), actual), ("prescale".to_owned(), prescale)].into()
            } else {
                BTreeMap::new()
            },
            saved: sound.then_some(saved),
        }
    }
}

impl ShadowReports for MemoryShadow {
    fn totals(&self) -> Vec<ShadowReport> {
        SERVICES.iter().map(|made| self.report(made, None)).collect()
    }

    fn day(&self, day: Timestamp) -> Vec<ShadowReport> {
        let seen = SERVICES.iter().filter(|made| made.state != State::Unseen);
        seen.map(|made| self.report(made, Some(day))).collect()
    }

    fn day_before(&self, service: Option<&ServiceName>, before: Timestamp) -> Option<Timestamp> {
        let is_seen = |service: &ServiceName| {
            SERVICES.iter().any(|made| made.state != State::Unseen && made.name == service.as_str())
        };
        if service.is_some_and(|service| !is_seen(service)) {
            return None;
        }
        let last = before.min(moment(self.minute) + Span::from_millis(1)) - Span::from_millis(1);
        Some(last.floor_to(DAY)).filter(|day| moment(0).floor_to(DAY) <= *day)
    }
}

/// A handle on the world at `minute`, and the sender that moves it on.
pub fn handle(minute: i64) -> (watch::Sender<Arc<View>>, Handle) {
    let (sender, view) = watch::channel(Arc::new(view(minute)));
    let past = minute - DECISIONS_MAX as i64;
    let decisions = (past - 200..=minute)
        .flat_map(|at| SERVICES.iter().filter(|made| made.state != State::Unseen).map(move |made| made.decision(at)));
    let archive = Arc::new(MemoryArchive { decisions: decisions.collect() });
    (sender, Handle { view, archive, event_log: None, pause: None, shadow: Some(Arc::new(MemoryShadow { minute })) })
}

/// The world at the end of `minute`, counted from Monday midnight.
pub fn view(minute: i64) -> View {
    View {
        clock: "event",
        now: moment(minute + 1),
        step: MINUTE,
        ready: Ok(()),
        degradations: vec!["media/resize: no data since 12 minutes; capacity is held".to_owned()],
        services: SERVICES
            .iter()
            .map(|made| (ServiceName::new(made.name), Arc::new(made.view(minute))))
            .collect::<BTreeMap<_, _>>(),
        events: vec![CalendarEvent {
            id: "autumn-sale".to_owned(),
            kind: "campaign".to_owned(),
            services: vec![ServiceName::new("checkout")],
            start: moment(minute + 12),
            end: moment(minute + 42),
            expected_uplift: Some(1.6),
            known_at: moment(minute - 600),
        }],
        pauses: Pauses {
            all: None,
            services: [("media/resize".into(), paused(minute))].into(),
            changes: vec![PauseChange {
                at: paused(minute).since,
                service: Some("media/resize".into()),
                paused: true,
                by: paused(minute).by,
            }],
        },
        experiments: vec![Arc::new(experiment(minute))],
        version: minute.unsigned_abs(),
    }
}

/// An experiment that has shown nothing yet.
fn experiment(minute: i64) -> ExperimentView {
    let settings = ExperimentSettings {
        name: "more-risk".to_owned(),
        seed: 1,
        start: moment(0),
        end: moment(14 * 1440),
        control: "configured".to_owned(),
        treatment: "treatment".to_owned(),
        services: vec!["checkout".into()],
        design: Design::Switchback { period: DAY, washout: Span::from_minutes(60) },
        objective: Metric::CostUsdHour,
        alpha: 0.05,
        guard: Guard { metric: Metric::TimePct, margin: 1.0, alpha: 0.05 },
        tuned_at: 20,
    };
    let mut experiment = Experiment::new(settings.clone());
    let arms = [("checkout".into(), experiment.arm(&"checkout".into(), moment(minute)))].into();
    ExperimentView { settings, report: experiment.judge(moment(minute)), arms }
}

/// Somebody has stopped changes of the service whose data have stopped.
fn paused(minute: i64) -> Pause {
    Pause { scope: PauseScope::Service, by: "127.0.0.1".to_owned(), since: moment(minute - 5) }
}

fn moment(minute: i64) -> Timestamp {
    Timestamp::from_millis(EPOCH + minute * MINUTE.millis())
}

/// A number in [-1, 1) that depends on the seed alone.
fn noise(seed: u64) -> f64 {
    let mut bits = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

impl Made {
    fn mean(&self, minute: i64) -> f64 {
        let day = minute as f64 / 1440.0 * std::f64::consts::TAU;
        self.base * (1.0 + 0.55 * (day - 2.2).sin() + 0.18 * (2.0 * day).sin())
    }

    fn load(&self, minute: i64, last: i64) -> Option<f64> {
        let gap = self.state == State::Silent && (last - 12 < minute || (last - 95..last - 80).contains(&minute));
        let mean = self.mean(minute);
        let spike = if (minute - 700).rem_euclid(480) < 9 { 1.35 } else { 1.0 };
        let shake = noise(minute as u64 ^ (self.base as u64) << 32) * 0.09;
        (!gap).then(|| ((mean * spike * (1.0 + shake)) * 100.0).round() / 100.0)
    }

    fn need(&self, minute: i64) -> u32 {
        (self.mean(minute + PROVISIONING_MINUTES + 1) * 1.16 / self.unit_capacity).ceil().max(2.0) as u32
    }

    /// Units wanted: the need, coming down only once it has been lower for ten minutes.
    fn desired(&self, minute: i64) -> u32 {
        (minute - 10..=minute).map(|at| self.need(at)).max().unwrap_or(2)
    }

    fn ready(&self, minute: i64) -> u32 {
        self.desired(minute - PROVISIONING_MINUTES)
    }

    fn forecast(&self, minute: i64) -> QuantileForecast {
        let row = |ahead: i64| {
            let mean = self.mean(minute + ahead);
            let spread = mean * (0.035 + 0.012 * (ahead as f64).sqrt());
            NORMAL.iter().map(|normal| ((mean + normal * spread).max(0.0) * 100.0).round() / 100.0).collect()
        };
        QuantileForecast {
            service: ServiceName::new(self.name),
            origin: moment(minute),
            step: MINUTE,
            model: "lstm".to_owned(),
            reason: "champion".to_owned(),
            levels: DEFAULT_QUANTILES.to_vec(),
            values: (1..=60).map(row).collect(),
        }
    }

    fn inputs(&self, minute: i64) -> DecisionInputs {
        let forecast = (self.state == State::Sound).then(|| {
            let forecast = self.forecast(minute);
            let values = |level: usize| forecast.values.iter().take(8).map(|values| values[level]).collect();
            ForecastInput {
                model: forecast.model.clone(),
                reason: forecast.reason.clone(),
                origin: forecast.origin,
                step: MINUTE,
                quantile: 0.95,
                from: moment(minute + 1),
                upper: values(6),
                median: values(3),
                effective_index: 4,
                levels: Vec::new(),
                values: Rows::default(),
            }
        });
        let silent = self.state == State::Silent;
        DecisionInputs {
            service: ServiceName::new(self.name),
            at: moment(minute + 1),
            mode: self.mode,
            settings: PolicySettings {
                unit_capacity: self.unit_capacity,
                min_units: 2,
                max_units: 40,
                quantile: 0.95,
                step_up_units: 10,
                step_down_units: 2,
                cooldown_up: Span::ZERO,
                cooldown_down: Span::from_minutes(5),
                stabilization_down: Span::from_minutes(10),
                hysteresis: 0.1,
                reactive_utilization: 0.6,
                stale_after: Span::from_minutes(5),
                blind_after: Span::from_minutes(10),
                planning: PlanningSettings::default(),
            },
            load: self.load(minute, if silent { minute } else { i64::MAX }),
            load_window_end: Some(moment(minute + 1 - if silent { 12 } else { 0 })),
            signals: BTreeMap::new(),
            forecast,
            forecast_missing: if self.state == State::Sound { String::new() } else { "cold-start".to_owned() },
            lead_time: LeadTime {
                data_age: Span::ZERO,
                decision_interval: MINUTE,
                provisioning_latency: Span::from_minutes(3),
                warm_up: MINUTE,
                provisioning_median: None,
            },
            target: Some(TargetState {
                desired: self.desired(minute - 1),
                ready: Some(self.ready(minute)),
                min: Some(2),
                max: Some(40),
                observed_at: moment(minute + 1),
            }),
            memory: DecisionMemory { needs: vec![(moment(minute), self.need(minute - 1))], ..Default::default() },
            circumstances: Default::default(),
        }
    }

    fn decision(&self, minute: i64) -> Decision {
        let inputs = self.inputs(minute);
        let (need, desired) = (self.need(minute), self.desired(minute));
        let before = self.desired(minute - 1);
        let reasons = match self.state {
            State::Silent => vec![(
                "hold-blind",
                before,
                format!("no data since 12m, more than 10m: {before} units are held, none removed"),
            )],
            State::Young => vec![(
                "reactive-need",
                need,
                format!(
                    "no forecast (cold-start): {:.0} now at utilization 0.60 needs {need} units",
                    self.mean(minute)
                ),
            )],
            _ => {
                let ahead = self.mean(minute + PROVISIONING_MINUTES + 1) * 1.16;
                let text = format!(
                    "0.95-quantile {ahead:.0} from {} on ÷ {:.0} per unit = {need} units",
                    moment(minute + 5),
                    self.unit_capacity
                );
                let hold = format!("{desired} were needed within 10m: scaling in waits");
                let mut reasons = vec![("forecast-need", need, text)];
                if desired > need {
                    reasons.push(("stabilization-down", desired, hold));
                }
                reasons
            }
        };
        let desired = if self.state == State::Silent { before } else { desired };
        Decision {
            id: DecisionId::new(&inputs),
            service: inputs.service.clone(),
            at: inputs.at,
            kind: match desired.cmp(&before) {
                std::cmp::Ordering::Greater => DecisionKind::ScaleUp,
                std::cmp::Ordering::Less => DecisionKind::ScaleDown,
                std::cmp::Ordering::Equal => DecisionKind::None,
            },
            desired,
            need: (self.state != State::Silent).then_some(need),
            reasons: reasons
                .into_iter()
                .map(|(code, units, text)| Reason { code: code.to_owned(), units, text })
                .collect(),
            binding: String::new(),
            alternatives: Vec::new(),
            victims: Vec::new(),
            split: None,
            memory: inputs.memory.clone(),
            inputs,
        }
    }

    fn view(&self, minute: i64) -> ServiceView {
        let seen = self.state != State::Unseen;
        let minutes = || (minute + 1 - POINTS_MAX as i64..=minute).filter(move |_| seen);
        let decisions: VecDeque<Arc<Decision>> =
            minutes().skip(POINTS_MAX - DECISIONS_MAX).map(|at| Arc::new(self.decision(at))).collect();
        ServiceView {
            service: ServiceName::new(self.name),
            mode: self.mode,
            signal: "requests_per_second".to_owned(),
            unit_capacity: self.unit_capacity,
            target: format!("asg/{}", self.name.replace('/', "-")),
            paused: (self.state == State::Silent).then(|| paused(minute)),
            load: minutes().map(|at| (moment(at), self.load(at, minute))).collect(),
            capacity: minutes()
                .map(|at| CapacityPoint { at: moment(at + 1), desired: self.desired(at), ready: Some(self.ready(at)) })
                .collect(),
            forecast: (self.state == State::Sound).then(|| Arc::new(self.forecast(minute))),
            forecast_missing: if self.state == State::Sound { String::new() } else { "cold-start".to_owned() },
            models: seen.then(|| Arc::new(self.models(minute))),
            actuations: decisions.back().map(|decision| self.actuation(decision)).into_iter().collect(),
            decisions,
            model_events: if self.state == State::Sound { model_events(minute) } else { VecDeque::new() },
        }
    }

    /// Two weeks of its load, by the hour.
    fn models(&self, minute: i64) -> ModelsView {
        let start = moment(minute + 1 - 14 * 1440).floor_to(Span::from_minutes(60));
        let hours = 0..14 * 24;
        let values = hours.map(|hour| self.load(minute + 1 - 14 * 1440 + 60 * hour, i64::MAX)).collect();
        let series = Series { start, step: Span::from_minutes(60), values };
        let sound = self.state == State::Sound;
        let model_in = if sound { Span::ZERO } else { Span::from_minutes(430) };
        let readiness = Readiness {
            reason: if sound { "champion" } else { "cold-start" }.to_owned(),
            forecast_in: Some(Span::ZERO),
            model_in: Some(model_in),
        };
        let score = LeadScore {
            mase: Some(0.82),
            pinball_p90: Some(0.031 * self.base),
            coverage_p90_pct: Some(90.4),
            outcomes: 1440,
        };
        let weights = [(ModelKind::Holt, 0.15), (ModelKind::Regression, 0.3), (ModelKind::Lstm, 0.55)];
        let scores = ServiceScores {
            leads: [(1, score), (5, score), (30, score)].into(),
            forecasts: [("ensemble".to_owned(), 1440)].into(),
            weights: weights.into(),
        };
        ModelsView { readiness, scores, patterns: Some(find_patterns(&series, &OpeningHours::usual(Zone::UTC))) }
    }

    fn actuation(&self, decision: &Decision) -> Actuation {
        let outcome = if self.state == State::Young {
            Outcome::Failed {
                code: "denied".to_owned(),
                error: "autoscaling:SetDesiredCapacity is not allowed".to_owned(),
            }
        } else {
            Outcome::Unchanged { units: decision.desired }
        };
        Actuation {
            decision: decision.id.clone(),
            service: decision.service.clone(),
            at: decision.at,
            target: format!("asg/{}", self.name.replace('/', "-")),
            outcome,
        }
    }
}

fn model_events(minute: i64) -> VecDeque<ModelEvent> {
    let event = |ago: i64, kind: &str, text: &str| ModelEvent {
        at: moment(minute - ago),
        kind: kind.to_owned(),
        text: text.to_owned(),
    };
    VecDeque::from([
        event(171, "drift", "Page–Hinkley on the scaled error of `lstm`: 0.41 above its mean of 0.18, limit 0.35"),
        event(170, "training-started", "refit on the last 7 days in the background"),
        event(158, "promoted", "pinball loss 0.112 against 0.131 of the champion over 60 windows"),
    ])
}
