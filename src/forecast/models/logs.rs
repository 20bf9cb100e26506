//! The log scale of the smoothers that take whole series. Rule: a value that can't be a load (negative, not finite) is a gap.

use crate::log::ln_1p;

/// The logs of `values`.
pub(super) fn logs(values: &[Option<f64>]) -> Vec<Option<f64>> {
    values.iter().map(|value| value.filter(|value| value.is_finite() && *value >= 0.0).map(ln_1p)).collect()
}

/// Without gaps: on the line between the neighbours that are known, at the ends the nearest one; empty without any.
pub(super) fn filled(logs: &[Option<f64>]) -> Vec<f64> {
    let mut whole = Vec::with_capacity(logs.len());
    for (index, log) in logs.iter().enumerate() {
        let Some(log) = *log else { continue };
        let from = whole.len();
        let before = whole.last().copied().unwrap_or(log);
        let steps = (index + 1 - from) as f64;
        whole.extend((from..=index).map(|i| before + (log - before) * ((i + 1 - from) as f64 / steps)));
    }
    if let Some(last) = whole.last().copied() {
        whole.resize(logs.len(), last);
    }
    whole
}

/// The loads of `ahead`, each at most ten times the highest of `recent`: a trend of logs may explode.
pub(super) fn loads(ahead: impl Iterator<Item = f64>, recent: &[Option<f64>]) -> Option<Vec<f64>> {
    let highest =
        recent.iter().flatten().filter(|value| value.is_finite()).fold(0.0_f64, |high, value| high.max(*value));
    let loads: Vec<f64> = ahead.map(|log| log.exp_m1().clamp(0.0, 10.0 * highest)).collect();
    loads.iter().all(|load| load.is_finite()).then_some(loads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_lie_on_the_line_between_their_neighbours() {
        let some = [None, Some(2.0), None, None, Some(5.0), None];
        assert_eq!(filled(&some), [2.0, 2.0, 3.0, 4.0, 5.0, 5.0]);
        assert!(filled(&[None, None]).is_empty());
    }

    #[test]
    fn what_can_not_be_a_load_is_a_gap() {
        let broken = [Some(f64::NAN), Some(f64::INFINITY), Some(-1.0), None];
        assert_eq!(logs(&broken), [None; 4]);
    }
}
