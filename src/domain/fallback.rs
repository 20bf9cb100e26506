//! What another source than the stream says of a service's load. Rule: it counts only while it is fresh; what was not said is
//! absent, never zero.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Span, Timestamp};

/// What a load counts for that another source has told, where nobody says otherwise: one that is scraped once a minute is
/// asked again before it is over.
pub const FALLBACK_FRESH_FOR: Span = Span::from_secs(120);

/// The load of a service from elsewhere, for when the stream is silent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FallbackLoad {
    /// Who tells it: `prometheus`.
    pub source: String,
    /// In the unit of the signal; `None` = nothing was told yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// The moment that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Why nothing was told when it was last asked, as a reason code: `not-asked`, `unreachable`, `refused`, `no-series`,
    /// `no-load`; empty = it was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub missing: String,
    /// The stream is silent once the end of the last window whose load is known is longer ago than this.
    pub after: Span,
    /// A load that is older is not trusted.
    pub fresh_for: Span,
}

impl FallbackLoad {
    /// The load, if it is one and is fresh at `now`. Clocks may differ by as much as it stays fresh.
    pub fn trusted(&self, now: Timestamp) -> Option<f64> {
        let at = self.at?;
        let fresh = now.since(at).max(at.since(now)) <= self.fresh_for;
        self.load.filter(|load| fresh && load.is_finite() && *load >= 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_trusted_while_it_is_fresh_and_a_load() {
        let at = Timestamp::from_millis(1_790_000_040_000);
        let told = |load: f64| FallbackLoad {
            source: "prometheus".to_owned(),
            load: Some(load),
            at: Some(at),
            missing: String::new(),
            after: Span::from_secs(125),
            fresh_for: Span::from_secs(60),
        };
        assert_eq!(told(5.0).trusted(at + Span::from_secs(60)), Some(5.0));
        assert_eq!(told(5.0).trusted(at + Span::from_secs(61)), None);
        // A clock that is a little ahead, and one that is wrong.
        assert_eq!(told(5.0).trusted(at - Span::from_secs(60)), Some(5.0));
        assert_eq!(told(5.0).trusted(at - Span::from_secs(61)), None);
        assert_eq!(told(0.0).trusted(at), Some(0.0));
        for wrong in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(told(wrong).trusted(at), None, "{wrong}");
        }
        // What failed to be asked later does not make it older than it is.
        assert_eq!(FallbackLoad { missing: "unreachable".to_owned(), ..told(5.0) }.trusted(at), Some(5.0));
        assert_eq!(FallbackLoad { at: None, ..told(5.0) }.trusted(at), None);
        assert_eq!(FallbackLoad { load: None, ..told(5.0) }.trusted(at), None);
    }
}
