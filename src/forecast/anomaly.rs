//! Values that are not what the service usually does: outliers and declared incidents. Rule: they are kept out of
//! training, and they never lower a forecast; pure.

use prescale_domain::{CalendarEvent, ServiceName, Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::past::Past;

/// Distance from the local median beyond which a value is an outlier, in robust standard deviations (1.4826 × the median
/// absolute deviation, which is the standard deviation of normal values).
pub const SIGMAS: f64 = 5.0;
const MAD_TO_SIGMA: f64 = 1.4826;
/// Windows on either side of the one that is looked at span this much.
const HALF_WINDOW: Span = Span::from_minutes(60);
/// What lasts longer is a new level, or a burst that a model should know.
const OUTLIER_MAX: Span = Span::from_minutes(15);
/// How far from the same time a day or a week before an equal deviation is looked for: what recurs is no outlier.
const RECURS_WITHIN: Span = Span::from_minutes(15);
/// The deviation then, as a share of the one now, from which it counts as the same.
const RECURS_SHARE: f64 = 0.4;
/// A deviation is at least this share of the median: a load that hardly varies is not all outliers.
const SIGMA_MIN: f64 = 0.05;
/// Fewest values around one that is judged.
const AROUND_MIN: usize = 8;
const DAY: Span = Span::from_minutes(24 * 60);
/// At most this much before the origin is mended for a forecast.
const MENDED_MAX: Span = Span::from_minutes(6 * 60);

/// Why a window is kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Anomaly {
    /// Far above what is around it, for a short time.
    High,
    /// Far below what is around it, for a short time.
    Low,
    /// Inside a declared incident or maintenance.
    Declared,
}

/// Whether events of this kind say that the load is not the usual one and nothing to learn from.
pub fn is_incident(kind: &str) -> bool {
    matches!(kind, "incident" | "maintenance" | "outage")
}

/// The Hampel identifier (Hampel 1974; Davies & Gather 1993): for each value its distance from the median of `half` values
/// on either side, in robust standard deviations, signed. `None` for gaps and where too little is known around.
pub fn hampel(values: &[Option<f64>], half: usize) -> Vec<Option<f64>> {
    let mut around: Vec<f64> = Vec::with_capacity(2 * half + 1);
    // Sorted values around each index: one comes, one goes.
    let place = |around: &[f64], value: f64| around.partition_point(|other| other.total_cmp(&value).is_lt());
    let mut result = Vec::with_capacity(values.len());
    let known = |index: usize| values.get(index).copied().flatten().filter(|value| value.is_finite());
    for value in (0..half.min(values.len())).filter_map(known) {
        around.insert(place(&around, value), value);
    }
    for index in 0..values.len() {
        if let Some(value) = known(index + half) {
            around.insert(place(&around, value), value);
        }
        if let Some(value) = index.checked_sub(half + 1).and_then(known) {
            around.remove(place(&around, value));
        }
        let judged = known(index).filter(|_| around.len() >= AROUND_MIN);
        result.push(judged.map(|value| {
            let (median, sigma) = centre(&around);
            (value - median) / sigma
        }));
    }
    result
}

/// Median of sorted values, and their robust standard deviation, which is never nothing.
fn centre(sorted: &[f64]) -> (f64, f64) {
    let median = middle(sorted);
    let mut distances: Vec<f64> = sorted.iter().map(|value| (value - median).abs()).collect();
    let at = distances.len() / 2;
    let mad = if distances.is_empty() { 0.0 } else { *distances.select_nth_unstable_by(at, f64::total_cmp).1 };
    (median, (MAD_TO_SIGMA * mad).max(SIGMA_MIN * median.abs()).max(1e-9))
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[half],
        _ => (sorted[half - 1] + sorted[half]) / 2.0,
    }
}

/// The windows of `past` that nothing should be learnt from, by index: inside declared incidents, or beyond 5 robust
/// standard deviations from the hours around them for at most 15 minutes, unless the same happened a day or a week before
/// or an event was announced. `now` is the moment up to which events are known.
pub fn find(past: Past<'_>, service: &ServiceName, events: &[CalendarEvent], now: Timestamp) -> Vec<(usize, Anomaly)> {
    let half = HALF_WINDOW.steps_up(past.step).max(AROUND_MIN);
    let scores = hampel(past.values, half);
    let mut found = Vec::new();
    let longest = OUTLIER_MAX.steps_up(past.step).max(1);
    let mut index = 0;
    while index < scores.len() {
        let Some(score) = scores[index].filter(|score| score.abs() > SIGMAS) else {
            index += 1;
            continue;
        };
        let run = scores[index..]
            .iter()
            .take_while(|other| other.is_some_and(|other| other.abs() > SIGMAS && other.signum() == score.signum()))
            .count();
        if run <= longest && !recurs(&scores, past, index, run) {
            let kind = if score > 0.0 { Anomaly::High } else { Anomaly::Low };
            let announced = |index: usize| {
                events.iter().any(|e| !is_incident(&e.kind) && e.covers(service, past.moment(index), now))
            };
            found.extend((index..index + run).filter(|index| !announced(*index)).map(|index| (index, kind)));
        }
        index += run;
    }
    let declared = declared(past, service, events, now);
    found.retain(|(index, _)| !declared.contains(index));
    found.extend(declared.into_iter().map(|index| (index, Anomaly::Declared)));
    found.sort_unstable_by_key(|(index, _)| *index);
    found
}

/// Whether the same deviation was there a day or a week before.
fn recurs(scores: &[Option<f64>], past: Past<'_>, start: usize, run: usize) -> bool {
    let near = RECURS_WITHIN.steps_up(past.step);
    let highest = scores[start..start + run]
        .iter()
        .flatten()
        .fold(0.0, |most: f64, s| if s.abs() > most.abs() { *s } else { most });
    [1, 7].into_iter().any(|days| {
        let season = days * DAY.steps_up(past.step);
        let Some(then) = start.checked_sub(season) else { return false };
        let around = scores.get(then.saturating_sub(near)..(then + run + near).min(start)).unwrap_or(&[]);
        around
            .iter()
            .flatten()
            .any(|score| score.signum() == highest.signum() && score.abs() >= RECURS_SHARE * highest.abs())
    })
}

/// Indices of the windows inside declared incidents.
fn declared(past: Past<'_>, service: &ServiceName, events: &[CalendarEvent], now: Timestamp) -> Vec<usize> {
    let mut found = Vec::new();
    let concerns = |event: &&CalendarEvent| {
        is_incident(&event.kind)
            && event.known_at <= now
            && (event.services.is_empty() || event.services.contains(service))
    };
    for event in events.iter().filter(concerns) {
        let from = (event.start - past.step).since(past.start).steps_up(past.step);
        let to = event.end.since(past.start).steps_up(past.step).min(past.values.len());
        // A window that only begins or ends inside is touched by the incident as well.
        let touched = |index: &usize| past.moment(*index) + past.step > event.start && past.moment(*index) < event.end;
        found.extend((from.min(to)..to).filter(touched));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The values with all anomalies as gaps: what models are trained on.
pub fn without(past: Past<'_>, anomalies: &[(usize, Anomaly)]) -> Vec<Option<f64>> {
    let mut values = past.values.to_vec();
    for (index, _) in anomalies {
        if let Some(value) = values.get_mut(*index) {
            *value = None;
        }
    }
    values
}

/// What a forecast would be made from if the load had not been low without reason: the values with recent windows that are
/// far too low, or inside an incident, replaced by what was to be expected there (the day before at the level before, else
/// the level before). `None` when there are no such windows. A fall that lasts longer than a quarter of an hour without
/// having been declared is a new level.
pub fn mended(
    past: Past<'_>,
    service: &ServiceName,
    events: &[CalendarEvent],
    now: Timestamp,
) -> Option<Vec<Option<f64>>> {
    let count = past.values.len();
    let reach = past.steps(MENDED_MAX).min(count);
    let mut bad = vec![false; reach];
    let offset = count - reach;
    let tail = Past { start: past.moment(offset), values: &past.values[offset..], ..past };
    for index in declared(tail, service, events, now) {
        bad[index] = true;
    }
    fallen(past, offset, &mut bad);
    let first = bad.iter().position(|bad| *bad)? + offset;
    let level_steps = past.steps(Span::from_minutes(30));
    let mean = |from: usize, to: usize| {
        let known: Vec<f64> =
            (from..to).filter(|i| *i < offset || !bad[*i - offset]).filter_map(|i| past.at(i as isize)).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    };
    let level = mean(first.saturating_sub(level_steps), first)?;
    let season = past.steps(DAY);
    let level_then = first.checked_sub(season).and_then(|then| mean(then.saturating_sub(level_steps), then));
    let mut values = past.values.to_vec();
    for index in first..count {
        if !bad[index - offset] {
            continue;
        }
        let then = index.checked_sub(season).and_then(|then| past.at(then as isize));
        let usual = match (then, level_then) {
            (Some(then), Some(level_then)) if level_then > 0.0 => then * (level / level_then).clamp(0.1, 10.0),
            _ => level,
        };
        // Only a low value is replaced: one that is high is known to be so.
        values[index] = Some(values[index].unwrap_or(0.0).max(usual));
    }
    Some(values)
}

/// Marks the newest windows, at most a quarter of an hour of them, that are far below the hour before them.
fn fallen(past: Past<'_>, offset: usize, bad: &mut [bool]) {
    let count = past.values.len();
    let longest = past.steps(OUTLIER_MAX).min(count);
    let before = past.steps(HALF_WINDOW).max(AROUND_MIN);
    let Some(first) = count.checked_sub(longest) else { return };
    // The last quarter of an hour may be all low; the hour before it says what is usual.
    let around = |until: usize| {
        let from = until.saturating_sub(before);
        let mut known: Vec<f64> = (from..until).filter_map(|i| past.at(i as isize)).filter(|v| v.is_finite()).collect();
        known.sort_by(f64::total_cmp);
        (known.len() >= AROUND_MIN).then_some(known)
    };
    // What was as low already before the quarter of an hour is a level.
    let low = |index: usize, (median, sigma): (f64, f64)| {
        past.at(index as isize).is_some_and(|value| value < median - SIGMAS * sigma)
    };
    let Some(usual) = around(first).map(|known| centre(&known)) else { return };
    if first > 0 && low(first - 1, usual) {
        return;
    }
    for index in (first..count).rev() {
        if low(index, usual) && index >= offset {
            bad[index - offset] = true;
        }
    }
}

#[cfg(test)]
mod tests;
