//! Trainings: when one is due, and what becomes of its result. Rule: only what has proved better serves, and what it
//! replaced stays at hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use prescale_domain::{CalendarEvent, Series, ServiceName, Span, Timestamp};
use prescale_telemetry::forecast as happenings;

use super::experts::Experts;
use super::job::{Outcome, PendingJob, Trained, TrainingJob, TrainingKind, TrainingResult};
use super::state::Lineage;
use super::trial::{Role, Trial, Verdict};
use super::{Online, OnlineEvent};
use crate::error::Result;
use crate::models::{DAY, Lstm, ModelKind};
use crate::past::{Known, Past};

/// The first model of a service is accepted up to this multiple of Holt's loss: online calibration and updates follow.
const ACCEPT_FIRST: f64 = 1.10;
/// A challenger whose loss on the held-out windows exceeds the serving model's by this factor gets no trial: the serving
/// model has seen those windows in its updates, so that a smaller disadvantage means nothing. After drift they are few.
const HOPELESS: f64 = 1.25;
const HOPELESS_AFTER_DRIFT: f64 = 2.0;

/// For this long after a change of the load, challengers are trained at growing intervals.
const FOLLOWED: Span = Span::from_minutes(24 * 60);

/// The model that serves.
#[derive(Clone, Debug)]
pub struct Serving<'a> {
    /// Counts the models that served, but for their small updates.
    pub generation: u64,
    /// As it was when it was promoted.
    pub bytes: Arc<Vec<u8>>,
    /// Where it comes from; `None` for one of a state that was written before that was kept.
    pub lineage: Option<&'a Lineage>,
}

impl Online {
    /// Reads the models that the state holds: the serving one, else as it was when it was promoted, else the one that
    /// served before. What can't be read is told, and never stops the loop.
    pub(super) fn read_models(&mut self) {
        let at = self.state.last_update.or(self.state.last_fit).unwrap_or(Timestamp::MIN);
        let former = self.state.trial.as_ref().filter(|trial| trial.role == Role::Former);
        let candidates = [
            ("the serving model", self.state.lstm.clone()),
            ("the model as it was promoted", self.state.promoted.clone()),
            ("the model that served before", former.map(|trial| Arc::clone(&trial.model))),
        ];
        let mut wrong = Vec::new();
        for (name, bytes) in candidates {
            let Some(bytes) = bytes else { continue };
            match Lstm::load(&bytes) {
                Ok(lstm) => {
                    self.lstm = Some(lstm);
                    if former.is_some_and(|trial| Arc::ptr_eq(&trial.model, &bytes)) {
                        self.state.lineage.clone_from(&former.and_then(|trial| trial.lineage.clone()));
                    }
                    self.state.lstm = Some(bytes);
                    break;
                }
                Err(error) => wrong.push(format!("{name} can't be read: {error}")),
            }
        }
        if self.lstm.is_none() {
            self.state.lstm = None;
        }
        self.shadow = None;
        if let Some(trial) = &self.state.trial {
            match Lstm::load(&trial.model) {
                Ok(shadow) => self.shadow = Some(shadow),
                Err(error) => wrong.push(format!("the model in the shadow can't be read: {error}")),
            }
        }
        if !wrong.is_empty() {
            // A training that was under way started from something else, and a trial was of something else.
            self.state.generation += 1;
            (self.state.trial, self.shadow) = (None, None);
            self.state.promoted.clone_from(&self.state.lstm);
            let serves = if self.lstm.is_some() { "the last good model serves" } else { "the simple models serve" };
            let text = format!("{}; {serves}", wrong.join("; "));
            happenings::ModelUnreadable { error: &text }.emit();
            self.state.notices.push(OnlineEvent { at, service: None, kind: "model-unreadable".into(), text });
        }
    }

    /// A training that should start now, if any; only one at a time. What is known is of all services up to the last closed
    /// window.
    pub fn due<'a>(
        &mut self,
        now: Timestamp,
        known: impl Into<Known<'a>>,
        events: &[CalendarEvent],
    ) -> Option<TrainingJob> {
        if self.state.pending.is_some() {
            return None;
        }
        let known = known.into();
        let length = |series: &Series| series.end().since(series.start);
        let ready: BTreeMap<&ServiceName, &Series> = known
            .histories
            .iter()
            .filter(|(service, series)| self.state.services.contains_key(*service) && series.step == self.settings.step)
            .filter(|(_, series)| length(series) >= self.settings.min_history)
            .filter(|(_, series)| Past::all(series).known() * 2 >= series.values.len())
            .collect();
        let longest = ready.values().map(|series| length(series)).max()?;
        let until = ready.values().map(|series| series.end()).max()?;
        let kind = self.kind_due(now, &ready, longest)?;
        let services = ready.keys().map(|service| (*service).clone()).collect();
        self.state.jobs += 1;
        let effective = now + self.settings.training_delay;
        let generation = self.state.generation;
        let pending = PendingJob { id: self.state.jobs, kind, started: now, effective, until, services, generation };
        if kind == TrainingKind::Experts {
            (self.state.experts_at, self.state.experts_due) = (Some(now), false);
        } else if kind == TrainingKind::Update {
            self.state.last_update = Some(now);
        } else {
            self.state.last_fit = Some(now);
            self.state.attempted = pending.services.clone();
            self.state.next_fit = Some(now + longest.max(self.settings.min_history).min(self.settings.refit_every));
            self.state.last_update = Some(now);
            if kind == TrainingKind::Drift {
                self.state.experts_due = true;
                // What came after the change is little at first: again when there is twice as much of it.
                let gap = match self.state.follow_up {
                    Some((_, gap)) if !self.state.drift_due => gap + gap,
                    _ => self.settings.drift.cooldown,
                };
                self.state.follow_up = Some((now + gap, gap)).filter(|_| gap <= FOLLOWED);
            }
            self.state.drift_due = false;
        }
        self.state.pending = Some(pending);
        happenings::TrainingStarted { kind: kind.name() }.emit();
        self.resume(known, events)
    }

    fn kind_due(&self, now: Timestamp, ready: &BTreeMap<&ServiceName, &Series>, longest: Span) -> Option<TrainingKind> {
        let own = self.settings.uses(ModelKind::Lstm).then(|| self.lstm_due(now, ready, longest)).flatten();
        match own {
            Some(TrainingKind::Update) | None if self.experts_due(now, longest) => Some(TrainingKind::Experts),
            own => own,
        }
    }

    /// Whether the models of the services are to be fitted: daily, and after a change of the load. Those with less than a
    /// day of history are fitted as it grows.
    fn experts_due(&self, now: Timestamp, longest: Span) -> bool {
        let asked = self.settings.models.iter().any(|kind| *kind != ModelKind::Lstm);
        let drift = self.state.experts_due.then_some(self.settings.drift.cooldown);
        let gap = drift.map_or(self.settings.refit_every, |cooldown| cooldown.min(self.settings.refit_every));
        asked && longest >= DAY && self.state.experts_at.is_none_or(|at| now >= at + gap)
    }

    fn lstm_due(&self, now: Timestamp, ready: &BTreeMap<&ServiceName, &Series>, longest: Span) -> Option<TrainingKind> {
        let (Some(last_fit), Some(next_fit)) = (self.state.last_fit, self.state.next_fit) else {
            return Some(TrainingKind::Initial);
        };
        let Some(lstm) = &self.lstm else {
            // The first training failed or was refused: again with more history.
            let again = last_fit + Span::from_millis(longest.millis() / 4).min(self.settings.refit_every);
            return (now >= again).then_some(TrainingKind::Initial);
        };
        let new = |service: &ServiceName| !lstm.knows(service) && !self.state.attempted.contains(service);
        if ready.keys().any(|service| new(service)) && now >= last_fit + self.settings.update_every {
            return Some(TrainingKind::Initial);
        }
        let followed = self.state.follow_up.is_some_and(|(at, _)| now >= at);
        let leads = self.state.trial.as_ref().is_some_and(|trial| trial.role == Role::Challenger && trial.leads());
        // A challenger that leads is on its way; a newer one would have to begin anew.
        if !leads && (followed || (self.state.drift_due && now >= last_fit + self.settings.drift.cooldown)) {
            return Some(TrainingKind::Drift);
        }
        // One challenger at a time, but for one that was trained before the load changed.
        let challenged = self.state.trial.as_ref().is_some_and(|trial| trial.role == Role::Challenger);
        if now >= next_fit && !challenged {
            return Some(TrainingKind::Scheduled);
        }
        let since = self.state.last_update.unwrap_or(last_fit);
        (now >= since + self.settings.update_every).then_some(TrainingKind::Update)
    }

    /// The training that has not come back.
    pub fn pending(&self) -> Option<&PendingJob> {
        self.state.pending.as_ref()
    }

    /// When the training that has not come back was started.
    pub fn pending_since(&self) -> Option<Timestamp> {
        self.state.pending.as_ref().map(|pending| pending.started)
    }

    /// The pending training once more, from the same inputs: for after a restart.
    pub fn resume<'a>(&self, known: impl Into<Known<'a>>, events: &[CalendarEvent]) -> Option<TrainingJob> {
        let pending = self.state.pending.as_ref()?;
        let base = self.state.lstm.clone();
        Some(TrainingJob::new(pending, &self.settings, known.into(), events, base, self.state.trial.as_ref()))
    }

    /// The start of the pending training, as an event.
    pub fn started_event(&self) -> Option<OnlineEvent> {
        let pending = self.state.pending.as_ref()?;
        let what = if pending.kind == TrainingKind::Experts { "the simple models" } else { "the LSTM" };
        let text = format!(
            "{} training of {what} on {} services, data until {}",
            pending.kind.name(),
            pending.services.len(),
            pending.until
        );
        Some(OnlineEvent { at: pending.started, service: None, kind: "training-started".into(), text })
    }

    /// Takes the result of the pending training. Small steps replace the serving model if they are better on the newest
    /// windows; a fully trained model goes into the shadow of the serving one, and replaces it once it has proved better.
    /// A result that is not awaited changes nothing.
    pub fn finish(&mut self, now: Timestamp, result: TrainingResult) -> Vec<OnlineEvent> {
        if self.state.pending.as_ref().is_none_or(|pending| pending.id != result.id) {
            return Vec::new();
        }
        match result.outcome {
            Err(error) => self.failed(now, &error),
            Ok(trained) => {
                let stale = self.state.pending.take().is_some_and(|job| job.generation != self.state.generation);
                match (result.kind, trained) {
                    (_, Outcome::Experts(fitted)) => vec![self.refit(now, fitted)],
                    (kind, Outcome::Lstm(_)) if stale => {
                        vec![kept(now, kind, "the model that it started from has been replaced meanwhile")]
                    }
                    (TrainingKind::Update, Outcome::Lstm(trained)) => self.judge_update(now, trained),
                    (kind, Outcome::Lstm(trained)) => self.judge(now, kind, result.id, trained),
                }
            }
        }
    }

    /// The pending training crashed: the last good model goes on.
    pub fn failed(&mut self, now: Timestamp, error: &str) -> Vec<OnlineEvent> {
        let pending = self.state.pending.take();
        pending.map(|pending| failure(now, pending.kind, error)).into_iter().collect()
    }

    /// Newly fitted models of the services take part at once: their weights follow from what they say.
    fn refit(&mut self, now: Timestamp, fitted: BTreeMap<ServiceName, Experts>) -> OnlineEvent {
        let services = fitted.len();
        for (service, experts) in fitted {
            if let Some(own) = self.state.services.get_mut(&service) {
                own.experts.replace(experts);
            }
        }
        let text = format!("the simple models of {services} services are fitted to their newest history");
        OnlineEvent { at: now, service: None, kind: "refitted".into(), text }
    }

    fn judge_update(&mut self, now: Timestamp, trained: Trained) -> Vec<OnlineEvent> {
        let kind = TrainingKind::Update;
        let figures = trained.figures;
        let limit = figures.champion.unwrap_or(f64::NAN);
        let better = figures.forecasts > 0 && figures.challenger < limit;
        let text = format!(
            "update training: loss {:.3} of the serving model's on {} later forecasts, limit {limit:.3}",
            figures.challenger, figures.forecasts
        );
        happenings::Judged { kind: kind.name(), promoted: better, loss: figures.challenger, limit }.emit();
        if let (Some((number, bytes)), Some(trial)) = (trained.shadow, &mut self.state.trial)
            && trial.job == number
            && trial.role == Role::Challenger
            && let Ok(stepped) = Lstm::load(&bytes)
        {
            trial.model = Arc::new(bytes);
            self.shadow = Some(stepped);
        }
        if better {
            match Lstm::load(&trained.model) {
                Ok(lstm) => self.lstm = Some(lstm),
                Err(error) => return vec![failure(now, kind, &error.to_string())],
            }
            self.state.lstm = Some(Arc::new(trained.model));
        }
        let word = if better { "updated" } else { "kept" };
        vec![OnlineEvent { at: now, service: None, kind: word.into(), text }]
    }

    fn judge(&mut self, now: Timestamp, kind: TrainingKind, job: u64, trained: Trained) -> Vec<OnlineEvent> {
        let figures = trained.figures;
        let (limit, against) = match figures.champion {
            Some(champion) if kind == TrainingKind::Drift => {
                (HOPELESS_AFTER_DRIFT * champion, "the limit for a trial against the serving model")
            }
            Some(champion) => (HOPELESS * champion, "the limit for a trial against the serving model"),
            None => (ACCEPT_FIRST, "the limit for a first model"),
        };
        // Without a holdout there is nothing to say against a model, nor for one that nobody will try.
        let accepted = if figures.forecasts == 0 {
            figures.champion.is_some() || self.lstm.is_none()
        } else {
            figures.challenger.is_finite() && figures.challenger < limit
        };
        let text = format!(
            "{} training: loss {:.3} of damped Holt's on {} later forecasts, {against} is {limit:.3}",
            kind.name(),
            figures.challenger,
            figures.forecasts
        );
        let loaded = if accepted { Lstm::load(&trained.model) } else { Ok(Lstm::default()) };
        let lstm = match loaded {
            Ok(lstm) => lstm,
            Err(error) => return vec![failure(now, kind, &error.to_string())],
        };
        let loss = figures.challenger;
        happenings::Judged { kind: kind.name(), promoted: accepted && figures.champion.is_none(), loss, limit }.emit();
        if !accepted {
            return vec![kept(now, kind, &text)];
        }
        let lineage = Lineage {
            reason: kind.name().to_owned(),
            training: trained.training,
            metrics: figures.metrics(),
            // A first model is trained from scratch.
            parent: self.state.lineage.as_ref().and_then(|own| own.number).filter(|_| kind != TrainingKind::Initial),
            number: None,
        };
        let bytes = Arc::new(trained.model);
        if figures.champion.is_none() {
            // Nothing that serves can be compared with it on all services.
            self.promote(now, kind, job, (lstm, bytes, Some(lineage)));
            return vec![OnlineEvent { at: now, service: None, kind: "promoted".into(), text }];
        }
        let mut events = Vec::new();
        if let Some(trial) = self.state.trial.take_if(|trial| trial.role == Role::Challenger) {
            let text = format!("superseded by a newer challenger; {}", trial.evidence());
            events.push(OnlineEvent { at: now, service: None, kind: "rejected".into(), text });
        }
        let trial = Trial::new(Role::Challenger, kind, job, now, bytes, &self.settings.trial);
        let mut trial = trial.of(Some(lineage));
        trial.replay(&figures.blocks);
        let text = format!("{text}; in the shadow of the serving model until {}: {}", trial.deadline, trial.evidence());
        self.forget_shadow();
        (self.state.trial, self.shadow) = (Some(trial), Some(lstm));
        events.push(OnlineEvent { at: now, service: None, kind: "challenger".into(), text });
        events.extend(self.settle(now));
        events
    }

    /// Ends the trial under way, if there is a verdict.
    pub(super) fn settle(&mut self, now: Timestamp) -> Option<OnlineEvent> {
        let verdict = self.state.trial.as_ref()?.verdict(now)?;
        let trial = self.state.trial.take()?;
        let shadow = self.shadow.take();
        self.forget_shadow();
        let evidence = trial.evidence();
        let what = trial.kind.name();
        let (word, text) = match (trial.role, verdict, shadow) {
            (Role::Challenger, Verdict::Shadow, Some(lstm)) => {
                self.promote(now, trial.kind, trial.job, (lstm, trial.model, trial.lineage));
                ("promoted", format!("{what} challenger has proved better: {evidence}"))
            }
            (Role::Former, Verdict::Shadow, Some(lstm)) => {
                self.replace(lstm, trial.model, trial.lineage);
                ("rolled-back", format!("the model before the {what} training is better and serves again: {evidence}"))
            }
            (Role::Challenger, Verdict::Neither, _) => {
                ("rejected", format!("{what} challenger has not proved better by its deadline: {evidence}"))
            }
            (Role::Challenger, ..) => ("rejected", format!("{what} challenger is worse: {evidence}")),
            (Role::Former, ..) => ("confirmed", format!("the model of the {what} training stays: {evidence}")),
        };
        happenings::TrialEnded { kind: what, verdict: word, evidence: &evidence }.emit();
        Some(OnlineEvent { at: now, service: None, kind: word.into(), text })
    }

    /// Lets a model serve and puts the one that served into its shadow.
    fn promote(
        &mut self,
        now: Timestamp,
        kind: TrainingKind,
        job: u64,
        (lstm, bytes, lineage): (Lstm, Arc<Vec<u8>>, Option<Lineage>),
    ) {
        let former = self.lstm.take().zip(self.state.lstm.take());
        let origin = self.state.lineage.take();
        self.replace(lstm, bytes, lineage);
        self.forget_shadow();
        let watched = former.map(|(former, bytes)| {
            let trial = Trial::new(Role::Former, kind, job, now, bytes, &self.settings.trial);
            (trial.of(origin), former)
        });
        (self.state.trial, self.shadow) = watched.unzip();
    }

    fn replace(&mut self, lstm: Lstm, bytes: Arc<Vec<u8>>, lineage: Option<Lineage>) {
        self.state.generation += 1;
        self.state.lineage = lineage;
        self.lstm = Some(lstm);
        self.state.promoted = Some(Arc::clone(&bytes));
        self.state.lstm = Some(bytes);
        for own in self.state.services.values_mut() {
            own.scores.restart_drift();
            own.mix.renew(ModelKind::Lstm);
        }
    }

    /// Takes a version of the registry that somebody has made the champion there: it serves, and the model that it replaces
    /// is scored in its shadow, and comes back if it proves better.
    ///
    /// # Errors
    /// Bytes that this build does not read; everything is then as before.
    pub fn adopt(&mut self, now: Timestamp, bytes: Vec<u8>, lineage: Lineage) -> Result<Vec<OnlineEvent>> {
        let lstm = Lstm::load(&bytes)?;
        let version = lineage.number.map_or_else(|| "a version".to_owned(), |number| format!("version {number}"));
        let text = format!("{version} of the registry serves, as its champion there");
        self.state.jobs += 1;
        let kind = TrainingKind::Manual;
        happenings::TrialEnded { kind: kind.name(), verdict: "promoted", evidence: &text }.emit();
        self.promote(now, kind, self.state.jobs, (lstm, Arc::new(bytes), Some(lineage)));
        Ok(vec![OnlineEvent { at: now, service: None, kind: "promoted".into(), text }])
    }

    /// The LSTM that serves, where there is one.
    pub fn serving(&self) -> Option<Serving<'_>> {
        let bytes = Arc::clone(self.state.promoted.as_ref().or(self.state.lstm.as_ref())?);
        Some(Serving { generation: self.state.generation, bytes, lineage: self.state.lineage.as_ref() })
    }

    /// The registry has given the model of that generation a number.
    pub fn registered(&mut self, generation: u64, number: u64) {
        if self.state.generation == generation
            && let Some(lineage) = &mut self.state.lineage
        {
            lineage.number = Some(number);
        }
    }

    fn forget_shadow(&mut self) {
        self.state.services.values_mut().for_each(|own| own.scores.forget_shadow());
    }
}

fn kept(at: Timestamp, kind: TrainingKind, why: &str) -> OnlineEvent {
    let text = if why.starts_with(kind.name()) { why.to_owned() } else { format!("{} training: {why}", kind.name()) };
    OnlineEvent { at, service: None, kind: "kept".into(), text }
}

fn failure(at: Timestamp, kind: TrainingKind, error: &str) -> OnlineEvent {
    happenings::TrainingFailed { kind: kind.name(), error }.emit();
    let text = format!("{} training failed, the serving model stays: {error}", kind.name());
    OnlineEvent { at, service: None, kind: "training-failed".into(), text }
}
