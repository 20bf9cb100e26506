//! Two policies or two models against each other on live services. Rule: looking as often as one likes costs nothing; a
//! verdict is wrong with at most the probability that was set, whenever it falls.
//!
//! A [`Design`] says which arm a service is in at a moment ([`Roster::assign`]); what came of it is summed per unit of assignment
//! ([`Measured`]); [`Experiment::judge`] says what is known so far:
//!
//! - **switchback**: periods go in pairs, one of each arm in an order drawn by the seed, and the differences of pairs are
//!   what is averaged, so that slow cycles cancel. The interval is that of the mixture sequential t-test ([`anytime`]).
//! - **service split**: one mean per service, Welch's interval. The services stay the same, so more time does not make more
//!   of them: looks fall on doubling times and share the probability of error among them ([`look_alpha`]).
//!
//! Every metric is better when lower. An effect is treatment − control.

pub mod anytime;
pub mod assignment;
pub mod effect;
mod measure;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use prescale_domain::{ServiceName, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use anytime::{look, look_alpha};
pub use assignment::{Arm, Assignment, Design, Roster};
pub use effect::{Estimate, Moments};
pub use measure::{Measured, Metric, Sample};

/// An experiment, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExperimentSettings {
    pub name: String,
    pub seed: u64,
    /// `[start, end)`: nothing is assigned outside.
    pub start: Timestamp,
    pub end: Timestamp,
    /// The policies or models of the arms, by name.
    pub control: String,
    pub treatment: String,
    pub services: Vec<ServiceName>,
    pub design: Design,
    /// What is to become lower.
    pub objective: Metric,
    /// Probability of a verdict on the objective where there is no effect.
    pub alpha: f64,
    pub guard: Guard,
    /// Number of pairs at which the interval of a switchback is to be narrowest; it holds at any.
    pub tuned_at: u32,
}

/// The guard rail: what must not become worse.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Guard {
    pub metric: Metric,
    /// A rise of more than this, in the unit of the metric, is harm.
    pub margin: f64,
    /// Probability of stopping for harm where there is none.
    pub alpha: f64,
}

/// What an experiment has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Running,
    /// The treatment is better on the objective.
    Better,
    /// The treatment is worse on the objective.
    Worse,
    /// The treatment has broken the guard rail: back to control at once.
    Harm,
    /// The end came before a difference could be told.
    Inconclusive,
}

/// What is known at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExperimentReport {
    pub at: Timestamp,
    pub verdict: Verdict,
    /// When the verdict fell; `None` while running.
    pub decided_at: Option<Timestamp>,
    /// Holds whenever one looks; the verdict rests on it.
    pub objective: Option<Estimate>,
    pub guard: Option<Estimate>,
    /// The usual interval, narrower, for an experiment that is looked at once: told at the planned end only.
    pub at_end: Option<Estimate>,
    /// Mean of the objective by arm, over all that was counted.
    pub control: Option<f64>,
    pub treatment: Option<f64>,
    /// Records of pairs of periods that had been closed before.
    pub late: u64,
}

/// An experiment at work; it may be written down and read back at any time. Its size depends on the number of services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    settings: ExperimentSettings,
    roster: Roster,
    /// By arm, over all services: control, treatment.
    totals: [Measured; 2],
    /// Service split: one sum each.
    services: BTreeMap<ServiceName, Measured>,
    /// Switchback: sums of the pairs of periods that are not over, by service and arm.
    open: BTreeMap<u64, BTreeMap<ServiceName, [Measured; 2]>>,
    /// Pairs before this one are closed.
    closed: u64,
    objective: Moments,
    guard: Moments,
    /// The last look at a service split, with what was seen: objective, guard.
    seen: Option<(u32, Option<Estimate>, Option<Estimate>)>,
    verdict: Verdict,
    decided_at: Option<Timestamp>,
    late: u64,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Harm => "harm",
            Self::Inconclusive => "inconclusive",
        }
    }
}

impl ExperimentSettings {
    /// Everything that is wrong with these settings, as sentences.
    pub fn faults(&self) -> Vec<String> {
        let name = &self.name;
        let mut faults = Vec::new();
        let mut fault = |wrong: bool, text: String| {
            if wrong {
                faults.push(format!("experiment `{name}`: {text}"));
            }
        };
        let (start, end) = (self.start, self.end);
        fault(end <= start, format!("end {end} is not after start {start}"));
        fault(self.control == self.treatment, format!("both arms are `{}`", self.control));
        for (what, share) in [("alpha", self.alpha), ("guard.alpha", self.guard.alpha)] {
            fault(!(share > 0.0 && share < 0.5), format!("{what} {share} is not between 0 and 0.5"));
        }
        let margin = self.guard.margin;
        fault(!(margin.is_finite() && margin >= 0.0), format!("guard.margin {margin} is not 0 or more"));
        let count = self.services.len();
        match self.design {
            Design::ServiceSplit { share, first_look } => {
                fault(!(share > 0.0 && share < 1.0), format!("share {share} is not between 0 and 1"));
                fault(count < 4, format!("{count} services can't be split into two groups of two, name at least 4"));
                fault(first_look.millis() <= 0, "first_look is not positive".to_owned());
            }
            Design::Switchback { period, washout } => {
                fault(count == 0, "no services are named".to_owned());
                fault(period <= washout, format!("washout {washout} leaves nothing of a period of {period}"));
                fault(washout.millis() < 0, format!("washout {washout} is negative"));
            }
        }
        faults
    }
}

impl Experiment {
    /// An experiment without any record; `faults` of the settings are the caller's to refuse.
    pub fn new(settings: ExperimentSettings) -> Self {
        Self {
            roster: Roster::draw(&settings),
            settings,
            totals: Default::default(),
            services: BTreeMap::new(),
            open: BTreeMap::new(),
            closed: 0,
            objective: Moments::default(),
            guard: Moments::default(),
            seen: None,
            verdict: Verdict::Running,
            decided_at: None,
            late: 0,
        }
    }

    pub fn settings(&self) -> &ExperimentSettings {
        &self.settings
    }

    /// The arm that `service` is in at `at`; `None` outside the experiment. Once a verdict has fallen everybody is in the
    /// arm that it names: treatment if that is better, otherwise control.
    pub fn arm(&self, service: &ServiceName, at: Timestamp) -> Option<Arm> {
        match self.verdict {
            Verdict::Running => self.roster.assign(&self.settings, service, at).map(|assignment| assignment.arm),
            _ if !self.roster.contains(service) => None,
            Verdict::Better => Some(Arm::Treatment),
            Verdict::Worse | Verdict::Harm | Verdict::Inconclusive => Some(Arm::Control),
        }
    }

    /// Counts what came of `service` in the time that began at `at`. Washout, other services, other times and anything
    /// after the verdict are left out.
    pub fn record(&mut self, service: &ServiceName, at: Timestamp, sample: &Sample) {
        if self.verdict != Verdict::Running {
            return;
        }
        let assigned = self.roster.assign(&self.settings, service, at);
        let Some(assignment) = assigned.filter(|assignment| assignment.counted) else { return };
        let arm = assignment.arm as usize;
        match assignment.pair {
            None => self.services.entry(service.clone()).or_default().add(sample),
            Some(pair) if pair < self.closed => {
                self.late += 1;
                return;
            }
            Some(pair) => self.open.entry(pair).or_default().entry(service.clone()).or_default()[arm].add(sample),
        }
        self.totals[arm].add(sample);
    }

    /// What is known at `now`, and whether that is enough to stop. All records of periods that end by `now` come before.
    pub fn judge(&mut self, now: Timestamp) -> ExperimentReport {
        if self.verdict == Verdict::Running {
            self.take_in(now);
            let (objective, guard) = self.intervals();
            self.verdict = verdict(&self.settings, objective, guard, now);
            self.decided_at = (self.verdict != Verdict::Running).then_some(now);
        }
        let (objective, guard) = self.intervals();
        let mean = |arm: Arm| self.totals[arm as usize].value(self.settings.objective);
        ExperimentReport {
            at: now,
            verdict: self.verdict,
            decided_at: self.decided_at,
            objective,
            guard,
            at_end: if now >= self.settings.end {
                self.fixed(self.settings.objective, self.settings.alpha)
            } else {
                None
            },
            control: mean(Arm::Control),
            treatment: mean(Arm::Treatment),
            late: self.late,
        }
    }

    /// Closes the pairs of periods that are over, or has the look at the services that is due.
    fn take_in(&mut self, now: Timestamp) {
        let (start, end) = (self.settings.start, self.settings.end);
        let now = now.min(end);
        match self.settings.design {
            Design::Switchback { period, .. } => {
                let pairs = now.since(start).millis() / period.millis().saturating_mul(2).max(1);
                self.close(u64::try_from(pairs).unwrap_or(0));
            }
            Design::ServiceSplit { first_look, .. } => {
                let due = look(now.since(start), first_look);
                if due > self.seen.as_ref().map_or(0, |(number, ..)| *number) {
                    let share = look_alpha(due);
                    let objective = self.fixed(self.settings.objective, self.settings.alpha * share);
                    // One-sided: twice the probability is at both sides together.
                    let guard = self.fixed(self.settings.guard.metric, 2.0 * self.settings.guard.alpha * share);
                    self.seen = Some((due, objective, guard));
                }
            }
        }
    }

    /// Takes in the differences of all pairs before `until`: per pair the mean over the services that have both arms.
    fn close(&mut self, until: u64) {
        let left = self.open.split_off(&until);
        for pair in std::mem::replace(&mut self.open, left).into_values() {
            let difference = |metric: Metric| {
                let each = pair
                    .values()
                    .filter_map(|[control, treatment]| Some(treatment.value(metric)? - control.value(metric)?));
                each.collect::<Moments>().mean()
            };
            self.objective.extend(difference(self.settings.objective));
            self.guard.extend(difference(self.settings.guard.metric));
        }
        self.closed = self.closed.max(until);
    }

    /// The intervals that hold at any time: objective, guard.
    fn intervals(&self) -> (Option<Estimate>, Option<Estimate>) {
        let settings = &self.settings;
        match settings.design {
            Design::ServiceSplit { .. } => {
                self.seen.as_ref().map_or((None, None), |(_, objective, guard)| (*objective, *guard))
            }
            Design::Switchback { .. } => (
                anytime::interval(&self.objective, settings.alpha, settings.tuned_at),
                anytime::interval(&self.guard, 2.0 * settings.guard.alpha, settings.tuned_at),
            ),
        }
    }

    /// The interval for one look.
    fn fixed(&self, metric: Metric, alpha: f64) -> Option<Estimate> {
        match self.settings.design {
            Design::Switchback { .. } => effect::student(&self.objective, alpha),
            Design::ServiceSplit { .. } => {
                let mut arms: [Moments; 2] = Default::default();
                for (service, measured) in &self.services {
                    if let Some(arm) = self.roster.arm(service) {
                        arms[arm as usize].extend(measured.value(metric));
                    }
                }
                effect::welch(&arms[0], &arms[1], alpha)
            }
        }
    }
}

/// Harm first, then the objective, then the end.
fn verdict(
    settings: &ExperimentSettings,
    objective: Option<Estimate>,
    guard: Option<Estimate>,
    now: Timestamp,
) -> Verdict {
    if guard.is_some_and(|guard| guard.low > settings.guard.margin) {
        Verdict::Harm
    } else if objective.is_some_and(|objective| objective.high < 0.0) {
        Verdict::Better
    } else if objective.is_some_and(|objective| objective.low > 0.0) {
        Verdict::Worse
    } else if now >= settings.end {
        Verdict::Inconclusive
    } else {
        Verdict::Running
    }
}
