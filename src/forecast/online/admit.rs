//! Whether the LSTM takes part in what is served. Rule: where it does clearly worse than a simple model, or than yesterday,
//! or its quantiles do not cover, it is demoted by itself, and admitted again by a smaller difference.

use prescale_domain::{ServiceName, Timestamp};
use prescale_telemetry::forecast as happenings;

use super::{Online, OnlineEvent};
use crate::ensemble::Said;
use crate::models::ModelKind;

/// The LSTM is demoted where its recent loss exceeds the best simple model's by this factor, and admitted again below the
/// second.
const DEMOTE_ABOVE: f64 = 1.3;
const READMIT_BELOW: f64 = 1.1;
/// Outcomes before models are compared by their recent loss.
const COMPARE_MIN: f64 = 600.0;
/// The LSTM is demoted where its recent loss exceeds the seasonal naive's (MASE above 1), and admitted again below this
/// share of it.
const READMIT_NAIVE: f64 = 0.95;
/// The LSTM is demoted where less of the recent outcomes than the first lie below its calibrated 90 % quantile, if another
/// model does better, and admitted again above the second.
const COVERED_MIN: f64 = 0.80;
const COVERED_AGAIN: f64 = 0.85;

impl Online {
    /// `champion` where the LSTM takes part, else the reason why it does not.
    pub(super) fn admit(&mut self, service: &ServiceName, said: &Said, now: Timestamp) -> &'static str {
        let Some(own) = self.state.services.get_mut(service) else { return "unknown-service" };
        let loss = |kind: ModelKind| own.scores.recent.get(&kind).and_then(|recent| recent.mean(COMPARE_MIN));
        let simple = [ModelKind::Holt, ModelKind::SeasonalNaive].into_iter().filter(|kind| said.contains_key(kind));
        let best = simple.min_by(|a, b| match (loss(*a), loss(*b)) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => std::cmp::Ordering::Equal,
        });
        if said.contains_key(&ModelKind::Lstm) {
            let before = own.demoted;
            if let (Some(lstm), Some(best)) = (loss(ModelKind::Lstm), best)
                && let Some(simple) = loss(best)
            {
                let naive = loss(ModelKind::SeasonalNaive).filter(|_| said.contains_key(&ModelKind::SeasonalNaive));
                let covered = |kind| own.scores.covered.get(&kind).and_then(|recent| recent.mean(COMPARE_MIN));
                let limit = if before { READMIT_BELOW } else { DEMOTE_ABOVE };
                let naive_limit = if before { READMIT_NAIVE } else { 1.0 };
                let covered_limit = if before { COVERED_AGAIN } else { COVERED_MIN };
                let uncovered = match (covered(ModelKind::Lstm), covered(best)) {
                    (Some(lstm), Some(simple)) => lstm < covered_limit && simple > lstm,
                    _ => false,
                };
                let code = if lstm > limit * simple {
                    Some("lstm-demoted")
                } else if naive.is_some_and(|naive| lstm > naive_limit * naive) {
                    Some("lstm-worse-than-naive")
                } else if uncovered {
                    Some("lstm-out-of-coverage")
                } else {
                    None
                };
                own.demoted = code.is_some();
                // While it lasts, the reason is the first.
                if own.demoted != before {
                    own.demotion = code.map(str::to_owned);
                }
                if own.demoted != before {
                    let kind = if before { "readmitted" } else { "demoted" };
                    let text = format!(
                        "the LSTM {}: recent loss {lstm:.3}, {best} has {simple:.3}{}{}",
                        code.unwrap_or("serves again"),
                        naive.map(|naive| format!(", seasonal naive {naive:.3}")).unwrap_or_default(),
                        covered(ModelKind::Lstm)
                            .map(|c| format!(", {:.1} % covered at 0.9", 100.0 * c))
                            .unwrap_or_default()
                    );
                    happenings::Demoted { service, reason: code.unwrap_or("readmitted") }.emit();
                    let service = Some(service.clone());
                    self.state.notices.push(OnlineEvent { at: now, service, kind: kind.into(), text });
                }
            }
            if !own.demoted || best.is_none() {
                return "champion";
            }
        }
        match (&self.lstm, self.settings.uses(ModelKind::Lstm)) {
            (_, false) => "configured",
            (None, true) => "cold-start",
            (Some(_), true) if own.demoted => match own.demotion.as_deref() {
                Some("lstm-worse-than-naive") => "lstm-worse-than-naive",
                Some("lstm-out-of-coverage") => "lstm-out-of-coverage",
                _ => "lstm-demoted",
            },
            (Some(lstm), true) if lstm.knows(service) => "lstm-failed",
            (Some(_), true) => "cold-start",
        }
    }
}
