//! What the encoder sees beside the load: one channel for each measure, shared by the services that have it. Rule: as the
//! load, each is relative to its own recent level; what is not known is zero and says so.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::inputs::{BUCKETS, ENCODER_STEPS, REACH, bounded};
use crate::past::{Measured, Past};

/// Inputs of a channel at each step of the encoder: the value, and whether it is known.
pub(super) const CHANNEL_INPUTS: usize = 2;
/// A network has no more of them.
pub(super) const CHANNELS_MAX: usize = 32;
/// A measure needs this many known windows, and this share of all, to be worth a channel.
const KNOWN_MIN: usize = 60;
const KNOWN_SHARE: f64 = 0.1;
/// Values beyond this are none.
const VALUE_MAX: f64 = 1e30;
/// Names of the loads of other services begin with this. Their channels are told apart by their place in the list of the
/// service: one for the first of each service, one for the second, so that there are few in a fleet of many.
const LOAD_OF: &str = "service:";

/// What is kept of one measure of one service to make its values comparable with those of others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Gauge {
    name: String,
    form: Form,
}

/// How a value is told against the recent level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Form {
    /// Of counts, times and rates: as a quotient, in logarithms, this being added to both.
    Log { offset: f64 },
    /// Of shares and of what may be negative: as a difference, in this unit.
    Linear { unit: f64 },
}

impl Gauge {
    /// Measures a training history; `None` where too little is known, or where nothing ever changes.
    fn measure(past: Past<'_>, name: &str) -> Option<Self> {
        let values = past.measured(name)?.between(0, past.values.len() as isize);
        let known = || values.iter().filter_map(|value| sound(*value));
        let count = known().count();
        if count < KNOWN_MIN || (count as f64) < KNOWN_SHARE * past.values.len() as f64 {
            return None;
        }
        let mean = known().sum::<f64>() / count as f64;
        let deviation = (known().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count as f64).sqrt();
        let (low, high) = known().fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        if low >= high || !deviation.is_finite() {
            return None;
        }
        let is_linear = low < 0.0 || high <= 1.0;
        let form = if is_linear {
            Form::Linear { unit: deviation.max(f64::MIN_POSITIVE) }
        } else {
            Form::Log { offset: 0.1 * mean }
        };
        Some(Self { name: name.to_owned(), form })
    }

    /// Whether it can be reckoned with: for what was read from bytes.
    pub(super) fn is_sound(&self) -> bool {
        let (Form::Log { offset: number } | Form::Linear { unit: number }) = self.form;
        number.is_finite() && number > 0.0
    }

    /// A value that counts.
    fn valid(&self, value: Option<f64>) -> Option<f64> {
        sound(value).filter(|value| matches!(self.form, Form::Linear { .. }) || *value >= 0.0)
    }

    /// The mean over `[from, to)`.
    fn mean(&self, measured: &Measured<'_>, from: isize, to: isize) -> Option<f64> {
        let known = measured.between(from, to).iter().filter_map(|value| self.valid(*value));
        let (sum, count) = known.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
        (count > 0).then(|| sum / f64::from(count))
    }

    fn relative(&self, value: f64, level: f64) -> f64 {
        match self.form {
            Form::Log { offset } => (value + offset).ln() - (level + offset).ln(),
            Form::Linear { unit } => (value - level) / unit,
        }
    }
}

/// The channels that are worth having for these training histories.
pub(super) fn channels<'a>(pasts: impl Iterator<Item = Past<'a>>) -> Vec<String> {
    let worth = |past: Past<'a>| named(past).into_iter().filter(move |(_, name)| Gauge::measure(past, name).is_some());
    let found: BTreeSet<String> = pasts.flat_map(worth).map(|(channel, _)| channel).collect();
    found.into_iter().take(CHANNELS_MAX).collect()
}

/// What a service has for each of `channels`.
pub(super) fn gauges(past: Past<'_>, channels: &[String]) -> Vec<Option<Gauge>> {
    let own = named(past);
    let gauge = |channel: &String| {
        let (_, name) = own.iter().find(|(found, _)| found == channel)?;
        Gauge::measure(past, name)
    };
    channels.iter().map(gauge).collect()
}

/// Channel and name of each covariate.
fn named(past: Past<'_>) -> Vec<(String, &str)> {
    let mut loads = 0;
    let mut channel = |name: &str| {
        if !name.starts_with(LOAD_OF) {
            return name.to_owned();
        }
        loads += 1;
        format!("{LOAD_OF}{loads}")
    };
    past.covariates.iter().map(|covariate| (channel(covariate.name), covariate.name)).collect()
}

/// Inputs at the end of `past`: `[step][channel][value, known]`; nothing without channels.
pub(super) fn inputs(past: Past<'_>, gauges: &[Option<Gauge>]) -> Vec<f32> {
    let width = CHANNEL_INPUTS * gauges.len();
    let mut inputs = vec![0.0; ENCODER_STEPS * width];
    let now = past.values.len() as isize;
    for (channel, gauge) in gauges.iter().enumerate() {
        let Some(gauge) = gauge else { continue };
        let Some(measured) = past.measured(&gauge.name) else { continue };
        let reach = now - REACH as isize;
        let Some(level) = gauge.mean(&measured, reach, now) else { continue };
        let mut from = reach;
        for (step, buckets) in BUCKETS.into_iter().enumerate() {
            let to = from + buckets as isize;
            if let Some(value) = gauge.mean(&measured, from, to) {
                let place = step * width + CHANNEL_INPUTS * channel;
                inputs[place] = bounded(gauge.relative(value, level));
                inputs[place + 1] = 1.0;
            }
            from = to;
        }
    }
    inputs
}

fn sound(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.abs() <= VALUE_MAX)
}
