//! The models of one service beside the LSTM, which is of all services together. Rules: fitted whole or left out; a fit
//! that takes long is a training, never on the way of a decision.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prescale_domain::{Series, ServiceName, Span};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::models::{DAY, Forecaster, Lesson, ModelKind};
use crate::past::no_covariates;

/// Fitted models of one service; what they have learnt does not change until they are fitted again.
#[derive(Clone, Default)]
pub(super) struct Experts(BTreeMap<ModelKind, Expert>);

#[derive(Clone)]
struct Expert {
    model: Arc<dyn Forecaster>,
    /// As it saves itself, which is text.
    saved: Arc<str>,
}

impl Expert {
    fn new(model: Box<dyn Forecaster>) -> Self {
        let saved = String::from_utf8_lossy(&model.save()).into();
        Self { model: Arc::from(model), saved }
    }
}

impl Experts {
    /// Fits `kinds` on a history, which anomalies were taken from. One that can't be fitted is left out.
    pub(super) fn fit(
        kinds: impl Iterator<Item = ModelKind>,
        histories: &BTreeMap<ServiceName, Series>,
        (horizon_steps, levels, seed): (usize, &[f64], u64),
    ) -> Self {
        let Some((start, end, step)) = histories.values().map(|own| (own.start, own.end(), own.step)).next() else {
            return Self::default();
        };
        let length = end.since(start);
        let measured = Span::from_millis((length.millis() / 3).min(2 * DAY.millis()));
        let train_until = (end - measured).floor_to(step);
        let covariates = no_covariates();
        let lesson = Lesson { histories, covariates, events: &[], train_until, end, horizon_steps, levels };
        // Yesterday is unknown on the first day.
        let has_day = |kind: &ModelKind| *kind != ModelKind::SeasonalNaive || length >= DAY;
        let fitted = kinds.filter(has_day).filter_map(|kind| {
            let mut model = kind.build(seed);
            model.fit(&lesson).ok()?;
            // The newest days are where a change of the load is.
            model.choose_again(&lesson);
            Some((kind, Expert::new(model)))
        });
        Self(fitted.collect())
    }

    /// The models that are there, by kind.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ModelKind, &dyn Forecaster)> {
        self.0.iter().map(|(kind, own)| (*kind, &*own.model))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the place of those of the same kind.
    pub(super) fn replace(&mut self, newer: Self) {
        self.0.extend(newer.0);
    }

    /// Those that are no longer asked for go.
    pub(super) fn keep(&mut self, kinds: &[ModelKind]) {
        self.0.retain(|kind, _| kinds.contains(kind));
    }
}

impl fmt::Debug for Experts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Serialize for Experts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(kind, own)| (kind, &*own.saved)))
    }
}

/// One that this build does not read is left out, and fitted again when that is due.
impl<'de> Deserialize<'de> for Experts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let saved = BTreeMap::<ModelKind, String>::deserialize(deserializer)?;
        let read = |(kind, text): (ModelKind, String)| {
            let model = Arc::from(kind.load(text.as_bytes()).ok()?);
            Some((kind, Expert { model, saved: text.into() }))
        };
        Ok(Self(saved.into_iter().filter_map(read).collect()))
    }
}
